"""The gateway for real: Debian's nginx, gunicorn, and containers behind it."""
