"""Kernels of the project's own, in Triton; torch's operations do the same where these do not run."""
