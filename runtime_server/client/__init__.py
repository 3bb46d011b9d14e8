"""The synchronous client SDK."""
