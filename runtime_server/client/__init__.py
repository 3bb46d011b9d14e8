"""The client: calls over requests, repeated by tenacity where that is safe."""

from runtime_server.client.client import RuntimeServerClient
from runtime_server.client.listing import RuntimeListing
from runtime_server.client.retry import RetryPolicy

__all__ = ["RetryPolicy", "RuntimeListing", "RuntimeServerClient"]
