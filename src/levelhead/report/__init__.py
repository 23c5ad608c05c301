"""From a study's records to one HTML page that needs nothing else."""

from levelhead.report.claims import render_claims
from levelhead.report.examination import render_examination
from levelhead.report.folders import write
from levelhead.report.page import render

__all__ = ["render", "render_claims", "render_examination", "write"]
