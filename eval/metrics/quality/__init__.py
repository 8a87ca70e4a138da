"""Metrics of a set of images, from their features."""
