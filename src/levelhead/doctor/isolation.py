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

from levelhead.doctor.program import Program, ProgramError, mapped


def clone(program: Program) -> Program:
    """A copy of the program: model, optimizer, loss, step and loaders, with their links to each other.

    Data sets are shared, not copied; batches that a program might change in place are handed out as copies. A wrapper
    for data-parallel training or compilation is left out of the copy. What cannot be copied (a lock, an open file) is
    built anew, where the program came from a function that builds it, and gets the original's values.

    Raises:
        ProgramError: a part can neither be copied nor built anew.
    """
    try:
        return _copied(program)
    except (RuntimeError, TypeError, NotImplementedError, ValueError, AttributeError) as error:
        if program.rebuild is None:
            raise ProgramError(
                f"the program cannot be copied ({error}); give a function that builds it: levelhead.examine(build)"
            ) from error
        return _built_anew(program)


def _copied(program: Program) -> Program:
    memo: dict[int, Any] = {}
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
        extras={name: copied(value, memo) for name, value in program.extras.items()},
        score=None if program.score is None else copied(program.score, memo),
        step=None if program.step is None else copied(program.step, memo),
        evaluate=None if program.evaluate is None else copied(program.evaluate, memo),
        rebuild=program.rebuild,
    )


def _built_anew(program: Program) -> Program:
    """Another program of the same function, with the values that this one's model and optimizer have now."""
    assert program.rebuild is not None
    with random_state_kept():
        seeded(0)
        twin = Program.of(program.rebuild)
    try:
        twin.model.load_state_dict(program.model.state_dict())
        twin.optimizer.load_state_dict(program.optimizer.state_dict())
    except (RuntimeError, ValueError, KeyError) as error:
        raise ProgramError(f"the function that builds the program builds another one each time ({error})") from error
    for mine, theirs in zip(twin.model.modules(), program.model.modules(), strict=True):
        mine.training = theirs.training
    twin.epochs, twin.score = program.epochs, twin.score or program.score
    return twin


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
    """A deep copy that also goes into a function: its closure, and the globals that were copied before it.

    ``copy.deepcopy`` shares functions. A step that reads ``model`` and ``optimizer`` from its module gets their copies.
    """
    if not isinstance(value, types.FunctionType):
        return copy.deepcopy(value, memo)
    if id(value) in memo:
        return memo[id(value)]
    if value.__closure__ is None and not _reads_copies(value, memo, set()):
        return value
    cells = tuple(types.CellType() for _ in value.__closure__ or ())
    space = dict(value.__globals__) if _reads_copies(value, memo, set()) else value.__globals__
    twin = types.FunctionType(value.__code__, space, value.__name__, value.__defaults__, cells or None)
    twin.__kwdefaults__ = value.__kwdefaults__
    memo[id(value)] = twin  # before its cells are filled: a function may hold itself
    for cell, original in zip(cells, value.__closure__ or (), strict=True):
        try:
            held = original.cell_contents
        except ValueError:  # an empty cell
            continue
        cell.cell_contents = copied(held, memo)
    if space is not value.__globals__:
        for name in _names(value.__code__):
            held = space.get(name)
            if id(held) in memo or (isinstance(held, types.FunctionType) and _reads_copies(held, memo, set())):
                space[name] = copied(held, memo)
    return twin


def _reads_copies(function: types.FunctionType, memo: dict[int, Any], seen: set[int]) -> bool:
    """Whether a function, or one of its module that it calls, reads a global of which there is a copy."""
    seen.add(id(function))
    for name in _names(function.__code__):
        held = function.__globals__.get(name)
        if held is not None and not isinstance(held, types.FunctionType | types.ModuleType) and id(held) in memo:
            return True
        mine = isinstance(held, types.FunctionType) and held.__globals__ is function.__globals__
        if mine and id(held) not in seen and _reads_copies(held, memo, seen):  # type: ignore[arg-type]
            return True
    return False


def _names(code: types.CodeType) -> set[str]:
    """The global names in a function's code and in that of functions inside of it."""
    inner = (_names(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*inner)


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
    """Tell ``deepcopy`` what is not to be copied: data sets, batches, and the workers of a pass that is under way."""
    if isinstance(loader, DataLoader):
        memo[id(loader.dataset)] = loader.dataset
        for name in ("_iterator", "_DataLoader__multiprocessing_context"):
            if vars(loader).get(name) is not None:
                memo[id(vars(loader)[name])] = None
    elif isinstance(loader, list | tuple):
        memo[id(loader)] = loader


def _loader(loader: Any, memo: dict[int, Any]) -> Any:
    twin = copy.deepcopy(loader, memo)
    if isinstance(twin, list | tuple):
        return CopiedBatches(twin)
    if not isinstance(twin, DataLoader):
        return twin
    if twin.num_workers:  # starting processes costs more than reading a few batches here
        # Past the loader's own setter, which refuses what was given at its making.
        vars(twin).update(num_workers=0, timeout=0, persistent_workers=False, prefetch_factor=None)
    if twin.batch_sampler is None:  # batches are handed out as the data set holds them
        return CopiedBatches(twin)
    plain = (
        type(twin) is DataLoader
        and type(twin.dataset) is TensorDataset
        and twin.collate_fn is default_collate
        and isinstance(twin.sampler, RandomSampler | SequentialSampler)
        and not twin.pin_memory
    )
    return IndexedBatches(twin) if plain else twin


class CopiedBatches:
    """Batches of a list, or of a loader that does not collate, as copies: a program may change them in place."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return (mapped(batch, Tensor.clone) for batch in self.loader)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # during copying, before it is set
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> CopiedBatches:
        _share_data(self.loader, memo)
        return type(self)(copy.deepcopy(self.loader, memo))


class IndexedBatches(CopiedBatches):
    """The batches of a loader over tensors, each by one indexing instead of row by row: the same, sooner."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        for rows in self.loader.batch_sampler:
            index = torch.as_tensor(rows)
            yield [tensor[index] for tensor in self.loader.dataset.tensors]


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
        self.state = copy.deepcopy(program.optimizer.state_dict())

    @staticmethod
    def _tensors(program: Program) -> list[Tensor]:
        return [*program.model.parameters(), *program.model.buffers()]

    @property
    def reached(self) -> bool:
        """Whether the program's own tensors were changed: its step does not use the program that it is given."""
        if any(tensor.is_inference() for tensor, _, _ in self.tensors):
            return False
        return any(t._version != version or t.grad is not grad for t, version, grad in self.tensors)

    def restore(self) -> None:
        """Put everything back as it was."""
        if self.reached:
            with torch.no_grad():
                for (tensor, _, grad), saved in zip(self.tensors, self._tensors(self.twin), strict=False):
                    tensor.copy_(saved)
                    tensor.grad = grad
            self.program.optimizer.load_state_dict(self.state)
        for module, training in self.modes.items():
            module.training = training
        for group, kept in zip(self.program.optimizer.param_groups, self.state["param_groups"], strict=False):
            group.update({name: value for name, value in kept.items() if name != "params"})


def seeded(seed: int) -> None:
    """Start torch's, numpy's and Python's generators from one seed: the program may draw from any."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


Change = Callable[[Program], object]
