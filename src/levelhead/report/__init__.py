"""From a study's records to one HTML page that needs nothing else."""

from levelhead.report.examination import render_examination
from levelhead.report.page import render, write

__all__ = ["render", "render_examination", "write"]
