"""HTTP habits that every resource shares."""
