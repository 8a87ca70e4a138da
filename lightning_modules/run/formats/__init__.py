"""What is in the files of a run: tables, records, tokens, images."""
