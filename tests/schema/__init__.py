"""Schemathesis on the whole API: thousands of generated requests, and chains of them along the links."""
