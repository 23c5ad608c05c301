"""Noise over time: rates that follow a schedule, and predictions that keep the noise on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from levelhead import kinds
from levelhead.evaluation import evaluation
from levelhead.moments import Moments
from levelhead.regularizers import schedules
from levelhead.regularizers.attachment import Attachment
from levelhead.regularizers.noise import Noise
from levelhead.regularizers.schedules import Schedule

#: PyTorch's family, of which levelhead's is a part, and ours.
_FAMILY = (kinds.Dropout, Noise)


def noise_modules(model: nn.Module, types: type[nn.Module] | tuple[type[nn.Module], ...] = _FAMILY) -> list[nn.Module]:
    """The modules of a model that make noise in training.

    Raises:
        ValueError: there is none.
    """
    found = [module for module in model.modules() if isinstance(module, types)]
    if not found:
        names = types.__name__ if isinstance(types, type) else "dropout or other noise"
        raise ValueError(
            f"the model has no module of {names}; noise that is made by a function, as F.dropout, is not to be found: "
            "use the module"
        )
    return found


def schedule_rates(
    model: nn.Module,
    optimizer: Optimizer,
    rate: Schedule,
    types: type[nn.Module] | tuple[type[nn.Module], ...] = _FAMILY,
) -> Attachment:
    """Let the rates of noise modules follow a schedule over the steps of an optimizer.

    Args:
        model: whose modules.
        optimizer: whose steps count; the count is kept in its state_dict.
        rate: of every such module: a number, a function of the step, or one number a step.
        types: which modules; by default dropout of every kind and ``lh.regularizers``' noise.

    Returns:
        What takes it off again; see ``Attachment``.

    Raises:
        ValueError: no module has such a type, or the rate is out of range or has come to an end.

    Source: Morerio et al. 2017, "Curriculum dropout".
    """
    modules = noise_modules(model, types)
    limit = min(getattr(module, "below", 1.0) for module in modules)

    def put(step: int) -> None:
        value = schedules.value(rate, step, "the rate", limit)
        for module in modules:
            module.p = value  # type: ignore[assignment]

    schedules.check(rate, "the rate", limit)
    attached = Attachment(
        optimizer,
        lambda weights, learning_rate, step: None,
        lambda name, parameter: True,
        None,
        "rates",
        needs_rate=False,
        counted=put,
    )
    put(attached.steps)
    return attached


def mc_predict(model: nn.Module, inputs: Any, passes: int = 20) -> tuple[Tensor, Tensor]:
    """Mean and spread of a model's outputs over passes with the noise on: Monte Carlo dropout.

    All else is in evaluation mode, and every mode is put back.

    Args:
        model: gives a tensor.
        inputs: what it takes; a tuple is its arguments.
        passes: how many, at least 2.

    Returns:
        Mean and standard deviation (of the passes, with n - 1), of the output's shape.

    Raises:
        ValueError: the model has no noise modules, or there are fewer than 2 passes.

    Source: Gal & Ghahramani 2016, "Dropout as a Bayesian approximation", section 4.
    """
    if passes < 2:
        raise ValueError(f"a spread needs at least 2 passes, got {passes}")
    noisy = noise_modules(model)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad(), evaluation(model, noisy):
        first = model(*arguments)
        found = sum((Moments.of(model(*arguments)[None], 0) for _ in range(1, passes)), Moments.of(first[None], 0))
    return found.mean.to(first.dtype), found.std(correction=1).to(first.dtype)
