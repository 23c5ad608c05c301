"""Data: loading, splitting, standardizing."""
