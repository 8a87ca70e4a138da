"""What is measured on a run, one file per metric."""
