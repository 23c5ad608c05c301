"""Arrays as data: the arrays of an ``.npz`` file, or what a function of the user's returns."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from levelhead import references
from levelhead.data import arrays
from levelhead.data.arrays import channel_axis, exact, feature_names
from levelhead.data.dataset import Task, Unsplit, as_float
from levelhead.data.source import DataError, first_line
from levelhead.data.split import choose_task, class_indices
from levelhead.terminal import closest, printable

_REFERENCE = re.compile(r"(?P<module>[\w./\\-]+|.+\.py):(?P<function>[A-Za-z_]\w*)")


def is_reference(text: str) -> bool:
    """Whether the text has the form ``module:function`` or ``file.py:function``."""
    return _REFERENCE.fullmatch(text) is not None


def read_npz(path: Path, target: str | None, task: Task | None) -> Unsplit:
    """Read inputs and targets of an ``.npz`` file: ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_test``, ...

    Raises:
        DataError: an array is not there, or cannot be used.
    """
    members = arrays.inputs_of(path, only=False)
    labels = arrays.targets_of(path, members, target)
    pairs = [(arrays.read_member(path, x), arrays.read_member(path, y)) for x, y in zip(members, labels, strict=True)]
    if len(pairs) == 1:
        return _from_arrays(path.name, str(path), *pairs[0], labels[0], task)
    for x, y in pairs:
        if x.shape[1:] != pairs[0][0].shape[1:] or y.shape[1:] != pairs[0][1].shape[1:] or len(x) != len(y):
            of_all = zip((*members, *labels), (*(x for x, _ in pairs), *(y for _, y in pairs)), strict=True)
            shapes = ", ".join(f"{name} {values.shape}" for name, values in of_all)
            raise DataError(f"{path}: the parts do not go together: {shapes}")
    sizes = iter([len(x) for x, _ in pairs])
    train, validation, test = (next(sizes) if there else 0 for there in arrays.given_by(members))
    x, y = (np.concatenate(side) for side in zip(*pairs, strict=True))
    data = _from_arrays(path.name, str(path), x, y, labels[0], task)
    return replace(data, given=(train, validation, test))


def read_function(reference: str, task: Task | None) -> Unsplit:
    """Call ``module:function`` for training and validation data.

    Each is a map-style data set of (input, target) pairs, or a pair of tensors or arrays (inputs, targets).

    Raises:
        DataError: the function is not there, fails, or returns something else.
    """
    function = find(reference)
    try:
        result = function()
    except Exception as error:
        raise DataError(f"{reference}: the function raised {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise DataError(f"{reference}: two data sets are needed, training and validation; got {_shown(result)}")
    (x, y), (x_other, y_other) = (_pair(part, reference) for part in result)
    for what, a, b in (("inputs", x, x_other), ("targets", y, y_other)):
        if a.shape[1:] != b.shape[1:]:
            shapes = f"{list(a.shape[1:])} in training, {list(b.shape[1:])} in validation"
            raise DataError(f"{reference}: the {what} have different shapes: {shapes}")
    data = _from_arrays(reference, reference, np.concatenate([x, x_other]), np.concatenate([y, y_other]), "y", task)
    return replace(data, given=(len(x), len(x_other), 0))


def _from_arrays(name: str, source: str, x: Any, y: Any, label: str, task: Task | None) -> Unsplit:
    inputs, offsets, notes = _inputs(source, x)
    if y.shape[:1] != inputs.shape[:1]:
        counts = f"x has {len(inputs)} rows, {label} has the shape {y.shape}"
        raise DataError(f"{source}: {counts}; every row needs one target")
    features = feature_names((0,) * inputs.ndim, inputs.shape[1])
    made = partial(Unsplit, name, source, offsets=offsets)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind == "U":
        if task == "regression":
            raise DataError(f"{source}: a regression needs numbers, and {label} holds texts such as {str(y.flat[0])!r}")
        names, indices = np.unique(y, return_inverse=True)
        why = f"Task: classification, because {label} holds texts, {len(names)} distinct ones."
        classes = tuple(printable(str(name)) for name in names)
        labels = torch.from_numpy(np.ascontiguousarray(indices.ravel(), dtype=np.int64))
        return made("classification", inputs, labels, classes, features, (why, *notes))
    targets = _numbers(source, y, label)
    if targets.ndim > 2:
        raise DataError(f"{source}: {label} must be (rows,) or (rows, outputs), got {tuple(targets.shape)}")
    chosen, why = choose_task(targets, label, task)
    if chosen == "classification":
        if targets.ndim == 2 and targets.shape[1] > 1:
            raise DataError(f"{source}: classes must be (rows,), got {label} of {tuple(targets.shape)}; try argmax(1)")
        labels, classes = class_indices(targets)
        return made(chosen, inputs, labels, classes, features, (why, *notes))
    values = targets.numpy()
    numbers = torch.from_numpy(exact(values, values[:1])[0]).reshape(len(values), -1)
    return made(chosen, inputs, as_float(numbers), (), features, (why, *notes))


def _inputs(source: str, x: Any) -> tuple[Tensor, tuple[int, ...], list[str]]:
    """Inputs with the channels in dimension 1, what was taken off each, and how they were read."""
    if x.ndim == 0 or not x.size:
        raise DataError(f"{source}: x is empty, of shape {x.shape}")
    if x.ndim <= 2:
        columns = x.reshape(len(x), -1)
        values, taken = exact(columns, columns[:1])
        if taken.any():
            said = ["Integers beyond 2**53 in x were read exactly, from the first row on."]
            return torch.from_numpy(values), tuple(taken[0].tolist()), said
    inputs = as_float(_numbers(source, x, "x"))
    axis, notes = channel_axis(tuple(inputs.shape)), []
    if axis is None:
        if inputs.ndim == 3:
            notes = [f"x was read as grey images of {inputs.shape[2]} x {inputs.shape[1]} pixels."]
        return inputs.unsqueeze(1), (), notes
    if axis != 1:
        notes = ["x was read as images with the channels last; they were put first."]
    return inputs.movedim(axis, 1), (), notes


def _numbers(source: str, values: Any, name: str) -> Tensor:
    """An array as a tensor of finite numbers."""
    if values.dtype.kind not in "fiub":
        raise DataError(f"{source}: {name} must hold numbers, got the type {values.dtype}")
    if values.dtype.kind in "ub":
        if values.size and int(values.max()) >= 2**63:
            raise DataError(f"{source}: {name} holds integers of 2**63 and more; take a number off them")
        values = values.astype(np.int64)  # torch has little arithmetic for booleans and the wider unsigned types
    if values.dtype == np.longdouble or not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("=") if values.dtype != np.longdouble else np.float64)
    finite = np.isfinite(values)
    if not finite.all():
        place = tuple(int(i) for i in np.argwhere(~finite)[0])
        what = "NaN" if np.isnan(values[place]) else "infinite"
        column = f"{name}{list(place[1:])}" if len(place) > 1 else name
        raise DataError.at(
            source, f"the value is {what}; correct it or leave the row out", row=place[0] + 1, column=column
        )
    return torch.from_numpy(np.ascontiguousarray(values))


def find(reference: str) -> Any:
    """The function that ``module:function`` names; modules of the current folder are found, too."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise DataError(f"{reference}: not of the form module:function")
    module, function = match["module"], match["function"]
    if module.endswith(".py") and not Path(module).is_file():
        raise DataError(f"{module}: there is no such file")
    try:
        loaded = references.load(module)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        looked = f"; looked in {Path.cwd()} and the installed packages" if missing else ""
        raise DataError(
            f"{reference}: importing {module} failed, {type(error).__name__}: {first_line(error)}{looked}"
        ) from error
    found = getattr(loaded, function, None)
    if found is not None and not callable(found):
        raise DataError(f"{reference}: {function!r} is not a function but of type {type(found).__name__}")
    if found is None:
        names = [name for name in vars(loaded) if callable(getattr(loaded, name)) and not name.startswith("_")]
        raise DataError(f"{reference}: {module} has no function {function!r}{closest(function, names)}")
    return found


def _pair(part: Any, reference: str) -> tuple[Any, Any]:
    """Inputs and targets of one data set as arrays."""
    if isinstance(part, tuple | list) and len(part) == 2 and all(isinstance(p, Tensor | np.ndarray) for p in part):
        x, y = (_array(p) for p in part)
    elif hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        if not len(part):
            raise DataError(f"{reference}: a data set is empty")
        try:
            pairs = [part[i] for i in range(len(part))]
            x, y = (np.stack([_array(pair[side]) for pair in pairs]) for side in (0, 1))
        except Exception as error:  # the user's code runs here, too
            problem = "the items of a data set must be pairs (input, target) of one shape"
            raise DataError(f"{reference}: {problem} ({type(error).__name__}: {first_line(error)})") from error
    else:
        raise DataError(f"{reference}: a map-style data set or a pair (inputs, targets) is needed, got {_shown(part)}")
    if len(x) != len(y):
        raise DataError(f"{reference}: {len(x)} inputs and {len(y)} targets; pair them")
    return x, y


def _array(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return np.asarray(value)
    value = value.detach().cpu().to_dense()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def _shown(value: Any) -> str:
    length = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{length}"
