"""Independent random streams from one seed."""

from __future__ import annotations

import numpy as np
import torch

WEIGHTS, ORDER, NOISE, AUGMENTATION, LOOK = range(5)  # what a stream is for


def derive(seed: int, purpose: int, part: int = 0) -> int:
    """A 63-bit seed of its own for each purpose and part (an epoch, a rank), so that no two streams are alike."""
    return int(np.random.SeedSequence([seed, purpose, part]).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: int, part: int = 0) -> torch.Generator:
    """A generator that was seeded with ``derive``."""
    return torch.Generator().manual_seed(derive(seed, purpose, part))
