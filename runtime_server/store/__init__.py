"""Durable records: SQLAlchemy Core on SQLite."""
