"""How the weights of a network begin: drawn by a scheme, calibrated by a batch, and audited."""

from levelhead.init.auditing import Audit, Layer, audit
from levelhead.init.calibration import Calibrated, calibrate_
from levelhead.init.gains import gain
from levelhead.init.schemes import SCHEMES, Drawn, initialize_

__all__ = ["SCHEMES", "Audit", "Calibrated", "Drawn", "Layer", "audit", "calibrate_", "gain", "initialize_"]
