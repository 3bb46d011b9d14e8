"""Start, pause, resume and stop container runtimes over HTTP: the server and its client SDK."""

from runtime_server._version import __version__

__all__ = ["__version__"]
