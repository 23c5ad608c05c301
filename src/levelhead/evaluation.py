"""Running a model in evaluation without a trace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator
from itertools import chain

import torch
from torch import nn


@contextlib.contextmanager
def evaluation(model: nn.Module, but: Collection[nn.Module] = ()) -> Iterator[None]:
    """Evaluation mode for all modules, but training mode for some; every mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = module in but  # not eval(), which a model may have made to do more than this
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def undisturbed(model: nn.Module, but: Collection[nn.Module] = ()) -> Iterator[None]:
    """As ``evaluation``, without gradients; random numbers go on as if nothing had run, and hooks are seen."""
    cuda = {t.device.index for t in chain(model.parameters(), model.buffers()) if t.device.type == "cuda"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(sorted(cuda)))
        stack.enter_context(torch.no_grad())
        if "torch._dynamo" in sys.modules:  # a compiled graph would not see the hooks
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(evaluation(model, but))
        yield


#: Where a module keeps who listens to its calls.
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextlib.contextmanager
def unheard(model: nn.Module) -> Iterator[None]:
    """Nobody who listens to the calls of its modules hears of them; a copy that is made meanwhile has no listeners."""
    held = [(vars(module), name, vars(module)[name]) for module in model.modules() for name in HOOKS]
    try:
        for own, name, hooks in held:
            own[name] = type(hooks)()
        yield
    finally:
        for own, name, hooks in held:
            own[name] = hooks
