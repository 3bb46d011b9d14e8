"""The API behind nginx: Debian's nginx, gunicorn on a socket, and the engine in memory."""
