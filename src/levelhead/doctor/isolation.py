"""Copies of a program that share nothing it can change, so that the original stays as it is, bit for bit."""

from __future__ import annotations

import copy
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset, default_collate

from levelhead.doctor.program import Program, ProgramError


def clone(program: Program) -> Program:
    """A copy of the program: model, optimizer, loss, step and loaders, with their links to each other.

    Data sets are shared, not copied. A wrapper for data-parallel training or compilation is left out of the copy.

    Raises:
        ProgramError: a part cannot be copied.
    """
    memo: dict[int, Any] = {}
    try:
        for module in _wrappers(program.model):
            memo[id(module)] = copy.deepcopy(_inner(module), memo)
        for loader in (program.train, program.val):
            _share_data(loader, memo)
        model = copy.deepcopy(program.model, memo)
        return Program(
            model=model,
            loss=copied(program.loss, memo),
            optimizer=_optimizer(program.optimizer, memo),
            train=_loader(program.train, memo),
            val=None if program.val is None else _loader(program.val, memo),
            epochs=program.epochs,
            score=None if program.score is None else copied(program.score, memo),
            step=None if program.step is None else copied(program.step, memo),
            evaluate=None if program.evaluate is None else copied(program.evaluate, memo),
            extras={name: copied(value, memo) for name, value in program.extras.items()},
        )
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ProgramError(
            f"the program cannot be copied ({error}); give a function that builds it: levelhead.examine(build)"
        ) from error


def _optimizer(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> torch.optim.Optimizer:
    """A copy with all that it has: ``copy.deepcopy`` keeps groups and state alone, without what LBFGS adds.

    A schedule puts a ``step`` of its own into the optimizer, which is bound to it: functions stay behind.
    """
    twin = copy.deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():
        if name not in vars(twin) and not callable(value):
            setattr(twin, name, copy.deepcopy(value, memo))
    return twin


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy that also goes into the closure of a function, which ``copy.deepcopy`` shares."""
    if not isinstance(value, types.FunctionType) or value.__closure__ is None:
        return copy.deepcopy(value, memo)
    if id(value) in memo:
        return memo[id(value)]
    cells = tuple(types.CellType() for _ in value.__closure__)
    twin = types.FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
    twin.__kwdefaults__ = value.__kwdefaults__
    memo[id(value)] = twin  # before its cells are filled: a function may hold itself
    for cell, original in zip(cells, value.__closure__, strict=True):
        try:
            held = original.cell_contents
        except ValueError:  # an empty cell
            continue
        cell.cell_contents = copied(held, memo)
    return twin


def _wrappers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if _inner(module) is not module]


def _inner(module: nn.Module) -> nn.Module:
    """What a wrapper for compilation or data-parallel training holds."""
    while True:
        if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
            module = module.module
        elif type(module).__name__ == "OptimizedModule" and "_orig_mod" in module._modules:
            module = module._modules["_orig_mod"]  # type: ignore[assignment]
        else:
            return module


def _share_data(loader: Any, memo: dict[int, Any]) -> None:
    """Tell ``deepcopy`` that data sets and batches are not to be copied."""
    if isinstance(loader, DataLoader):
        memo[id(loader.dataset)] = loader.dataset
    elif isinstance(loader, list | tuple):
        memo[id(loader)] = loader


def _loader(loader: Any, memo: dict[int, Any]) -> Any:
    twin = copy.deepcopy(loader, memo)
    if not isinstance(twin, DataLoader):
        return twin
    if twin.num_workers:  # starting processes costs more than reading a few batches here
        twin.num_workers, twin.timeout, twin.persistent_workers = 0, 0, False
        twin.prefetch_factor = None
    plain = (
        type(twin) is DataLoader
        and type(twin.dataset) is TensorDataset
        and twin.collate_fn is default_collate
        and twin.batch_sampler is not None
        and isinstance(twin.sampler, RandomSampler | SequentialSampler)
        and not twin.pin_memory
    )
    return IndexedBatches(twin) if plain else twin


class IndexedBatches:
    """The batches of a loader over tensors, each by one indexing instead of row by row: the same, sooner."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[Tensor]]:
        tensors = self.loader.dataset.tensors  # type: ignore[attr-defined]
        for rows in self.loader.batch_sampler:  # type: ignore[union-attr]
            index = torch.as_tensor(rows)
            yield [tensor[index] for tensor in tensors]

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # during copying, before it is set
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> IndexedBatches:
        memo[id(self.loader.dataset)] = self.loader.dataset
        return IndexedBatches(copy.deepcopy(self.loader, memo))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Random number generators of torch, numpy and Python are afterwards as they were."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)


class Untouched:
    """Restores a program's tensors, modes and optimizer, should its step have reached them past the copies."""

    def __init__(self, program: Program, twin: Program) -> None:
        self.program, self.twin = program, twin
        self.modes = {module: module.training for module in program.model.modules()}
        self.tensors = [(t, t._version, t.grad) for t in self._tensors(program)]
        self.groups = [{k: v for k, v in g.items() if k != "params"} for g in program.optimizer.param_groups]

    @staticmethod
    def _tensors(program: Program) -> list[Tensor]:
        state = [t for s in program.optimizer.state.values() for t in s.values() if isinstance(t, Tensor)]
        return [*program.model.parameters(), *program.model.buffers(), *state]

    def restore(self) -> list[str]:
        """What had to be restored, in words; nothing where the copies held."""
        leaks = []
        changed = [t._version != version or t.grad is not grad for t, version, grad in self.tensors]
        if any(changed) and not _inference(self.tensors):
            leaks.append(
                "the program's own tensors were changed by its step, which does not use the program it is given"
            )
            with torch.no_grad():
                for (tensor, _, grad), saved in zip(self.tensors, self._tensors(self.twin), strict=False):
                    tensor.copy_(saved)
                    tensor.grad = grad
        for module, training in self.modes.items():
            module.training = training
        for group, kept in zip(self.program.optimizer.param_groups, self.groups, strict=False):
            group.update(kept)
        return leaks


def _inference(tensors: list[tuple[Tensor, int, Any]]) -> bool:
    return any(tensor.is_inference() for tensor, _, _ in tensors)


def seeded(seed: int) -> None:
    """Start torch's, numpy's and Python's generators from one seed: the program may draw from any."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


Change = Callable[[Program], None]
