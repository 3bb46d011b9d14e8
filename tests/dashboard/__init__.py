"""The dashboard in a real Chromium, on the service as gunicorn serves it."""
