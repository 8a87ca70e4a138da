"""What a draft learns from: the target as the teacher, and the images that it samples."""
