"""Features of images: the networks, their features of a set of images, and the reference's, which are kept."""
