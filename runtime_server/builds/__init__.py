"""Image builds: their contexts, their names, their queue, and what runs them."""
