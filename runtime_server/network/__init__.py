"""The runtimes' own network: which addresses are theirs, and what packets of theirs may reach."""
