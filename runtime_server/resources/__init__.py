"""Falcon resources: one class per lifecycle action, each responder a few lines."""
