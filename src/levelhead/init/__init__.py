"""How the weights of a network begin: drawn by a scheme, calibrated by a batch, and audited."""

from levelhead.init.calibration import Calibrated, calibrate_
from levelhead.init.gains import gain

__all__ = ["Calibrated", "calibrate_", "gain"]
