"""What is measured on a run, one file a metric."""
