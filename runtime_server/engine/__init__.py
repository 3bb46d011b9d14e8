"""The container engine: one protocol, a real one over docker-py, and one in memory."""
