"""How fast the service is, beside what it can be compared with: ``python -m benchmarks``."""
