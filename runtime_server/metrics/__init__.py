"""What is counted and timed: by each part where it happens, put together where somebody asks."""
