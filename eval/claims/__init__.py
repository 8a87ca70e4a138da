"""claim.json: what a run claims, in one file that whoever has the weights can check."""
