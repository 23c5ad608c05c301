"""What mends: each remedy changes a copy of the program in place, and says so in words and as code."""

from levelhead.doctor.remedies.base import *  # noqa: F403
from levelhead.doctor.remedies.loop import *  # noqa: F403
from levelhead.doctor.remedies.loss import *  # noqa: F403
from levelhead.doctor.remedies.network import *  # noqa: F403
