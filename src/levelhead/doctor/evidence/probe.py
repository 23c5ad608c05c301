"""Measures one step of a loop: figures stay on the device until the step's end, then all of them are read at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from levelhead.doctor.evidence.history import Batch, Layer, Measured, Weights
from levelhead.doctor.evidence.structure import BATCH_NORM, LINEAR, name_of, rows_of, through_views
from levelhead.doctor.program import first_tensor

#: Values of an activation that are looked at, about: enough for two digits of a deviation or a share.
LOOKED_AT = 2**14
#: Values of a parameter that are looked at, at most.
PARAMETER = 2**20
_ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}


class Figures:
    """Single figures on a device, by key; ``read`` brings them over in one transfer."""

    def __init__(self) -> None:
        self._keys: list[Any] = []
        self._values: list[Tensor] = []

    def add(self, key: Any, value: Tensor) -> None:
        """Keep a tensor of one value under a key."""
        self._keys.append(key)
        self._values.append(value)

    def read(self) -> dict[Any, float]:
        """All of them as numbers, in one transfer for each device and type; forgets them."""
        groups: dict[Any, tuple[list[Any], list[Tensor]]] = {}
        for key, value in zip(self._keys, self._values, strict=True):
            keys, values = groups.setdefault((value.device, value.dtype), ([], []))
            keys.append(key)
            values.append(value)
        self._keys, self._values = [], []
        found: dict[Any, float] = {}
        for keys, values in groups.values():
            found.update(zip(keys, torch.stack(values).detach().tolist(), strict=True))
        return found


def sample(x: Tensor) -> Tensor:
    """Evenly spaced rows with about ``LOOKED_AT`` values, in single precision: the same at every run."""
    if x.numel() <= LOOKED_AT and x.ndim:
        return x.detach().float()
    if x.ndim == 0:
        return x.detach().float().reshape(1)
    apart = min(math.ceil(x.numel() / LOOKED_AT), max(1, len(x) // 4))  # four rows at least
    return x.detach()[::apart].float()


class Probe:
    """One step: put on before its forward pass, closed by ``gradients`` and ``finish``.

    Args:
        modules: those that do something themselves, by name.
        parameters: the optimizers', by name.
        safe: what keeps an error of a hook from the user's loop.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        parameters: dict[str, Tensor],
        safe: Callable[[Callable[..., None]], Callable[..., None]] = lambda hook: hook,
    ) -> None:
        self.parameters = parameters
        self.figures = Figures()
        self.executed: set[str] = set()
        self.modes: dict[str, bool] = {}
        self.kinds: dict[str, str] = {}
        self.rows = 0
        self.has_batch = False
        self.channels: dict[str, int] = {}
        self._seen: set[Any] = set()  # nodes, not their ids: those are used again
        self._before: dict[str, Tensor] = {}
        self._handles = [
            module.register_forward_hook(safe(self._ran(name)), with_kwargs=True) for name, module in modules.items()
        ]

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._seen.clear()

    def batch(self, x: Tensor, rows: int) -> None:
        """Measure the inputs."""
        if self.has_batch:
            return
        self.has_batch, self.rows = True, rows
        with torch.no_grad():
            values = sample(x)
            if values.numel():
                self._spread("batch", values)
                self.figures.add(("batch", "low"), values.amin())
                self.figures.add(("batch", "high"), values.amax())

    def _ran(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not torch.is_grad_enabled() or name in self.executed:
                return
            self.executed.add(name)
            self.modes[name] = module.training
            y = first_tensor(output, floating=True)
            if y is None:
                return
            x = first_tensor(args or kwargs, floating=True)
            before, after = through_views(None if x is None else x.grad_fn), through_views(y.grad_fn)
            with torch.no_grad():
                if x is not None and isinstance(module, LINEAR):
                    self._activation(name, x, before)
                if x is not None and isinstance(module, BATCH_NORM) and module.training:
                    self.channels[name] = x.numel() // max(1, x.shape[1]) if x.ndim > 1 else x.numel()
                self._activation(name, y, after, always=True)

        return hook

    def _activation(self, name: str, y: Tensor, node: Any, always: bool = False) -> None:
        """Measure a module's output, or what a function's activation gives to it, each once."""
        kind = _ACTIVATIONS.get(name_of(node), "")
        if not always and (not kind or node in self._seen):
            return
        fresh = bool(kind) and node not in self._seen
        if fresh:
            self._seen.add(node)
        key = name if always else f"input of {name}"
        rows = sample(y)
        if not rows.numel():
            return
        self.kinds[key] = kind if fresh else ""
        self._spread(key, rows)
        if fresh and kind == "relu" and len(rows) > 1:
            self.figures.add((key, "idle"), (rows_of(rows) == 0).all(0).float().mean())
        elif fresh and kind == "sigmoid":
            self.figures.add((key, "flat"), (rows * (1 - rows) < 0.0125).float().mean())
        elif fresh and kind == "tanh":
            self.figures.add((key, "flat"), (1 - rows.square() < 0.05).float().mean())

    def _spread(self, key: str, values: Tensor) -> None:
        var, mean = torch.var_mean(values, correction=0)
        self.figures.add((key, "mean"), mean)
        self.figures.add((key, "var"), var)

    def gradients(self) -> set[str]:
        """Measure what the optimizers get, just before they use it; the names of the parameters that have any."""
        self.close()
        if self._before:  # the second of several optimizers
            return set()
        with torch.no_grad():
            held = {n: p for n, p in self.parameters.items() if p.grad is not None and not p.grad.is_sparse}
            self._before = {name: _part(p).clone() for name, p in held.items()}
            gradients = [_part(p.grad) for p in held.values() if p.grad is not None]
            self._norms(gradient=gradients, weight=list(self._before.values()))
        return {name for name, p in self.parameters.items() if p.grad is not None}

    def finish(self, step: int) -> Measured:
        """Measure what the optimizers changed, and read all figures."""
        self.close()
        with torch.no_grad():
            names = list(self._before)
            now = [_part(self.parameters[name]) for name in names]
            changes = list(torch._foreach_sub(now, list(self._before.values()))) if now else []
            self._norms(update=changes)
            for name, change in zip(names, changes, strict=True):
                gradient = self.parameters[name].grad
                if gradient is not None and not gradient.is_sparse:
                    self.figures.add((name, "along"), torch.dot(change.reshape(-1), _part(gradient).reshape(-1)))
        self._before = {}
        return self._read(step, self.figures.read(), names)

    def _norms(self, **tensors: list[Tensor]) -> None:
        """Norms of lists of tensors, one a parameter, in one call."""
        listed = [tensor for each in tensors.values() for tensor in each]
        keys = [(name, what) for what in tensors for name in self._before]
        for key, norm in zip(keys, torch._foreach_norm(listed) if listed else (), strict=True):
            self.figures.add(key, norm)

    def _read(self, step: int, found: dict[Any, float], names: list[str]) -> Measured:
        batch = None
        if ("batch", "var") in found:
            low, high = found["batch", "low"], found["batch", "high"]
            batch = Batch(self.rows, found["batch", "mean"], _root(found["batch", "var"]), low, high)
        layers = {
            key: Layer(
                kind,
                found[key, "mean"],
                _root(found[key, "var"]),
                found.get((key, "idle"), math.nan),
                found.get((key, "flat"), math.nan),
            )
            for key, kind in self.kinds.items()
        }
        weights = {n: Weights(*(found[n, what] for what in ("gradient", "weight", "update"))) for n in names}
        along = sum(found.get((name, "along"), 0.0) for name in names)
        product = math.hypot(*(w.gradient for w in weights.values())) * math.hypot(
            *(w.update for w in weights.values())
        )
        move = along / product if product and math.isfinite(product) else math.nan
        return Measured(step, batch, layers, weights, move, self.channels)


def _part(x: Tensor) -> Tensor:
    """The values of a tensor; of a huge one the first ones."""
    return x.detach() if x.numel() <= PARAMETER else x.detach().reshape(-1)[:PARAMETER]


def _root(variance: float) -> float:
    return math.sqrt(variance) if variance >= 0 else math.nan
