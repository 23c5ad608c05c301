"""Studies: one question each, answered by runs."""
