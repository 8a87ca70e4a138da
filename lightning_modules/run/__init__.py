"""A run on disk: folder, tables, images, lock."""
