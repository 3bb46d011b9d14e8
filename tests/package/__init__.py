"""What is shipped: the distributions and the container image."""
