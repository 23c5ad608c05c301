"""Everything that a training run is made from, as one frozen value that reads from and writes to TOML."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

from levelhead.data.augmentation import AUGMENTATIONS
from levelhead.data.functions import is_reference
from levelhead.init import SCHEMES
from levelhead.records import as_toml
from levelhead.terminal import closest
from levelhead.training.initialization import ACTIVATIONS

#: The choices of each field that has a closed list of them.
CHOICES: dict[str, tuple[str, ...]] = {
    "normalization": ("none", "batch", "layer", "rms", "group", "instance"),
    "placement": ("before", "after"),
    "activation": (*ACTIVATIONS, "gelu_tanh"),
    "initialization": (*SCHEMES, "calibrated"),
    "optimizer": ("sgd", "adam", "adamw", "rmsprop"),
    "loss": ("auto", "cross_entropy", "kl", "hinge", "mse", "l1", "huber"),
    "penalty": ("none", "l1", "l2", "elastic_net", "group_lasso", "orthogonal", "spectral"),
    "penalty_form": ("loss", "decoupled"),
    "augmentation": (*AUGMENTATIONS, "mixup", "cutmix"),
}
NETWORKS = ("mlp", "convnet")

# The range of each number, in words and as a test; None is allowed where the field's default is None.
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    name: (words, allowed)
    for words, allowed, names in (
        ("at least 1", lambda n: n >= 1, "width groups batch_size steps evaluate_every patience checkpoint_every"),
        ("at least 0", lambda n: n >= 0, "depth weight_decay penalty_strength"),
        ("above 0", lambda n: n > 0, "learning_rate max_norm"),
        ("at least 0 and below 1", lambda n: 0 <= n < 1, "momentum dropout label_smoothing"),
        ("from 0 to 1", lambda n: 0 <= n <= 1, "penalty_l1_share augmentation_strength"),
        ("from 0 to 2**63 - 1", lambda n: 0 <= n < 2**63, "seed"),
    )
    for name in names.split()
}


class RecipeError(ValueError):
    """A recipe that cannot be: the message names the field, the value and what is allowed."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of one training run; two runs of one recipe on one machine give the same bits.

    Args:
        network: ``mlp``, ``convnet``, or the user's own ``module:function`` or ``file.py:function`` (see
            ``training.build``).
        width: units of each hidden layer; channels of the first stage of a convnet.
        depth: hidden layers, or convolution blocks.
        normalization: ``none``, ``batch``, ``layer``, ``rms``, ``group`` or ``instance``, in every hidden layer.
        placement: the normalization stands ``before`` the activation, σ(norm(Wx)), or ``after`` it.
        groups: the groups of group normalization; they divide the width.
        activation: σ, by name.
        initialization: of the weights, from the seed alone: a scheme of ``levelhead.init.initialize_``; ``calibrated``
            is ``orthogonal``, and then each layer scaled until its output has unit variance on training rows (see
            ``levelhead.init.calibrate_``).
        optimizer: ``sgd``, ``adam``, ``adamw`` or ``rmsprop``, with PyTorch's defaults for what has no field here.
        learning_rate: the step size, constant over the run.
        momentum: of ``sgd`` and ``rmsprop``.
        weight_decay: of the weights; biases and normalizers' parameters are not decayed.
        penalty: R(W), on the same weights: ``l1``, λ Σ|w|; ``l2``, λ/2 Σw²; ``elastic_net``, the first with λ·share
            plus the second with λ·(1 - share); ``group_lasso``, ``orthogonal`` or ``spectral`` (see
            ``levelhead.regularizers``); or ``none``.
        penalty_strength: λ.
        penalty_l1_share: the share of L1 in ``elastic_net``.
        penalty_form: the penalty is added to the ``loss``, or acts by itself at each step, ``decoupled`` from it: then
            L1 makes weights exactly 0, and L2 is ``adamw``'s decay for any optimizer.
        max_norm: the weights of each unit are kept at this norm or below; None does not.
        batch_size: rows an update, over all processes together.
        dropout: the chance that a hidden unit's output is dropped.
        augmentation: what is done to each training batch, one after the other: ``flip``, ``crop``, ``rotation``,
            ``affine``, ``colour`` and ``erasing`` of images, ``noise`` of any data (see
            ``levelhead.data.Augmentation``); then ``mixup`` of any data and ``cutmix`` of images and signals.
        augmentation_strength: how strong: 1 for the full range of each, 0 for nothing.
        loss: ``auto`` takes ``cross_entropy`` for classes and ``mse`` for numbers; ``kl`` is the divergence from the
            targets' distribution (``cross_entropy`` without the targets' own entropy), ``hinge`` the multi-class hinge
            with margin 1; ``mse`` (the L2 divergence), ``l1`` (absolute) and ``huber`` compare a classifier's outputs
            with 0 and 1.
        label_smoothing: of ``cross_entropy`` and ``kl``: the share of the target that is spread over all classes.
        steps: updates, at most.
        evaluate_every: updates from one evaluation to the next; the last step is evaluated too.
        target: end at the first evaluation whose validation score is at least this; None never does.
        patience: end after so many evaluations without a better validation score; None never does.
        checkpoint_every: updates from one checkpoint to the next, where a folder is given.
        seed: of weights, order of the rows, and noise.

    Raises:
        RecipeError: a value is of the wrong type, out of range or not one of the choices, or two do not go together.
    """

    network: str = "mlp"
    width: int = 100
    depth: int = 3
    normalization: str = "none"
    placement: str = "before"
    groups: int = 4
    activation: str = "relu"
    initialization: str = "default"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    penalty: str = "none"
    penalty_strength: float = 0.0
    penalty_l1_share: float = 0.5
    penalty_form: str = "loss"
    max_norm: float | None = None
    batch_size: int = 60
    dropout: float = 0.0
    augmentation: tuple[str, ...] = ()
    augmentation_strength: float = 1.0
    loss: str = "auto"
    label_smoothing: float = 0.0
    steps: int = 2000
    evaluate_every: int = 50
    target: float | None = None
    patience: int | None = None
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, str):
                _check_name(field.name, value)
            elif isinstance(field.default, tuple):
                object.__setattr__(self, field.name, _names(field.name, value))
            elif not (value is None and field.default is None):
                object.__setattr__(self, field.name, _number(field, value))
        if self.momentum and self.optimizer not in ("sgd", "rmsprop"):
            raise RecipeError(
                f"momentum = {self.momentum} is a setting of sgd and rmsprop, and the optimizer is {self.optimizer!r}, "
                "which has its own (betas); leave momentum out"
            )
        if self.label_smoothing and self.loss not in ("auto", "cross_entropy", "kl"):
            raise RecipeError(
                f"label_smoothing = {self.label_smoothing} needs loss 'cross_entropy' or 'kl', got {self.loss!r}"
            )
        if self.penalty_strength and self.penalty == "none":
            raise RecipeError(f"penalty_strength = {self.penalty_strength} needs a penalty; set penalty = 'l2', say")
        if self.normalization == "group" and self.network in NETWORKS and self.width % self.groups:
            raise RecipeError(f"groups = {self.groups} does not divide width = {self.width}; choose a divisor of it")
        if self.normalization == "batch" and self.network == "mlp" and self.batch_size == 1:
            raise RecipeError("normalization 'batch' has no variance of batch_size = 1; use 2 or more, or 'layer'")
        if self.normalization == "instance" and self.network == "mlp":
            raise RecipeError(
                "normalization 'instance' takes its statistics over the pixels of one image, and an mlp has one value "
                "a unit; use network 'convnet', or normalization 'layer'"
            )

    def replace(self, **changes: Any) -> Self:
        """The same recipe with some fields changed.

        Raises:
            RecipeError: a field does not exist, or the new recipe cannot be.
        """
        return type(self).from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """All the fields, by name, as plain values."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A recipe from its fields by name; those that are left out keep their defaults.

        Raises:
            RecipeError: a name is not a field (the message suggests the closest), or the recipe cannot be.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise RecipeError(f"a recipe has no {name!r}{closest(name, names)}; its fields are {', '.join(names)}")
        return cls(**values)

    def to_toml(self) -> str:
        """The recipe as TOML; fields that are None are left out, as TOML has no word for it."""
        values = {name: value for name, value in self.to_dict().items() if value is not None}
        return "".join(f"{name} = {as_toml(value)}\n" for name, value in values.items())

    @classmethod
    def from_toml(cls, path: Path | str) -> Self:
        """Read a recipe from a TOML file.

        Raises:
            RecipeError: the file is not TOML or not a recipe; the message begins with its path.
            OSError: the file cannot be read.
        """
        try:
            return cls.from_dict(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: not valid TOML: {error}") from error
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error


def _check_name(field: str, value: Any) -> None:
    choices = NETWORKS if field == "network" else CHOICES[field]
    if isinstance(value, str) and (value in choices or (field == "network" and is_reference(value))):
        return
    more = ", or your own 'module:function'" if field == "network" else ""
    allowed = ", ".join(map(repr, choices)) + more
    raise RecipeError(f"{field} = {value!r} is not a choice{closest(value, choices)}; it can be {allowed}")


def _names(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{field} must be a list of names, got {value!r}; write {field} = ['crop'], say")
    for index, name in enumerate(value):
        _check_name(field, name)
        if name in value[:index]:
            raise RecipeError(f"{field} names {name!r} twice")
    return tuple(value)


def _number(field: dataclasses.Field[Any], value: Any) -> int | float:
    whole = "int" in str(field.type)
    fits = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not fits:
        raise RecipeError(f"{field.name} must be a {'whole ' if whole else ''}number, got {value!r}")
    words, allowed = _RANGES.get(field.name, ("finite", math.isfinite))
    if not math.isfinite(value) or not allowed(value):
        raise RecipeError(f"{field.name} must be {words}, got {value!r}")
    return int(value) if whole else float(value)
