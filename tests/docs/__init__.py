"""What the project says of itself: documents, examples, alerts and dashboards, held to what it does."""
