"""Runs and answers as one HTML page."""
