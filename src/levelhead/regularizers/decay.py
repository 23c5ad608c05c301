"""Parameter groups for an optimizer's own weight decay."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from levelhead.regularizers.selection import Where, select
from levelhead.weights import weights


def decay_groups(model: nn.Module, weight_decay: float, where: Where = None) -> list[dict[str, Any]]:
    """A model's trainable parameters in two groups: those that are decayed, and those that are not.

    Args:
        model: whose parameters; a shared one is in one group, once.
        weight_decay: of the first group, at least 0.
        where: what is decayed; by default the weights, without biases, normalizers and other scales. See ``select``.

    Returns:
        Groups for any ``torch.optim.Optimizer``, with ``weight_decay`` set; an empty one is left out.

    Raises:
        ValueError: ``weight_decay`` is negative or not finite, or ``where`` chooses nothing.

    Source: Goodfellow et al. 2016, "Deep learning", section 7.1, on leaving biases out.
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be at least 0 and finite, got {weight_decay}")
    decayed = {id(parameter) for parameter in select(model, where).values()}
    parameters = [p for one in weights(model) for p in one.parameters.values() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
