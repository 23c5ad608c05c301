"""Any training script, unchanged: watched as it runs, or run again with one change at a time."""

from levelhead.doctor.script.run import Script
from levelhead.doctor.script.watched import report, watch_script

__all__ = ["Script", "report", "watch_script"]
