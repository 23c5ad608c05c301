"""One entrance for every kind of data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from levelhead.data import arrays, functions, images, tables
from levelhead.data.built_in import BUILT_IN
from levelhead.data.columns import read_table
from levelhead.data.dataset import Dataset, Task, Unsplit, prepare
from levelhead.data.source import DataError, Reading, channel_names
from levelhead.data.split import split
from levelhead.terminal import closest

_AS_IT_IS = Reading()


def load(
    name_or_path: str | Path,
    target: str | None = None,
    *,
    task: Task | None = None,
    standardize: bool = True,
    seed: int = 0,
    reading: Reading = _AS_IT_IS,
) -> Dataset:
    """Data that is ready to train on, split and standardized.

    Args:
        name_or_path: a built-in name (``mnist5k``, ``digits``, ``breast_cancer``, ``wine``, ``diabetes``); a CSV,
            Parquet or Feather file; an ``.npz`` file with the arrays x and y; a folder of images with one subfolder a
            class; or ``module:function``, which returns training and validation data.
        target: the target column of a table, or the target array of an ``.npz`` file (``y`` by default).
        task: ``classification`` or ``regression``; found out by the rule of ``choose_task`` by default.
        standardize: whether inputs become (x - mean) / std per feature, or per channel of images and signals, with
            statistics of the training rows.
        seed: the seed of the split.
        reading: how the source is read, where it does not say so itself.

    Returns:
        The data, float32; its ``notes`` tell what was chosen and done.

    Raises:
        DataError: the data cannot be used; one line that names the place and the repair.

    Example:
        >>> data = load("wine")
        >>> len(data.train), data.input_shape, data.outputs
        (106, (13,), 3)
    """
    if task not in (None, "classification", "regression"):
        raise DataError(f"task must be 'classification' or 'regression', got {task!r}")
    if seed < 0:
        raise DataError(f"the seed must be at least 0, got {seed}")
    data = read(name_or_path, target, task, reading)
    with torch.device("cpu"):
        parts, sentence = split(data, seed)
        return prepare(replace(data, notes=(*data.notes, sentence)), parts, standardize=standardize)


def read(
    name_or_path: str | Path, target: str | None = None, task: Task | None = None, reading: Reading = _AS_IT_IS
) -> Unsplit:
    """What ``load`` splits and standardizes, as the source has it; on the CPU, whatever PyTorch's default device."""
    with torch.device("cpu"):
        return _read(name_or_path, target, task, reading)


def _read(name_or_path: str | Path, target: str | None, task: Task | None, reading: Reading) -> Unsplit:
    text, path = str(name_or_path), Path(name_or_path)
    if path.suffix.lower() in tables.SUFFIXES and path.is_file():
        return read_table(path, target, task, reading)
    if path.suffix.lower() == ".npz" and path.is_file():
        return functions.read_npz(path, target, task)
    fixed = text in BUILT_IN or path.is_dir() or functions.is_reference(text)
    if fixed and target is not None:
        raise DataError(f"{text}: its target is fixed; target {target!r} is for tables and .npz files")
    if text in BUILT_IN:
        data = BUILT_IN[text]()
        if task not in (None, data.task):
            raise DataError(f"{text}: it is a {data.task}; task {task!r} does not fit")
        return data
    if path.is_dir():
        if task == "regression":
            raise DataError(f"{text}: a folder of images is a classification; task 'regression' does not fit")
        return _read_folder(path, reading)
    if functions.is_reference(text) and not path.exists():
        return functions.read_function(text, task)
    raise _unknown(text, path)


def _read_folder(path: Path, reading: Reading) -> Unsplit:
    folder, x, notes = images.load_folder(path, reading)
    y = torch.tensor([index for _, index in folder.files])
    why = f"Task: classification, because {path.name} has a folder for each of {len(folder.classes)} classes."
    features, name = channel_names(x.shape[1]), path.resolve().name
    return Unsplit(
        name, str(path), "classification", torch.from_numpy(x), y, folder.classes, features, (why, *notes), folder.given
    )


def _unknown(text: str, path: Path) -> DataError:
    """Why nothing can be read under a name."""
    known = f"{', '.join(tables.SUFFIXES)}, .npz, or a folder of images"
    if path.is_file():
        only = "; it holds no targets, and statistics alone are made of it" if path.suffix in arrays.SUFFIXES else ""
        return DataError(f"{path}: files of type {path.suffix or '(none)'!r} are not read{only}; use {known}")
    if path.suffix or len(path.parts) > 1:
        near = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        return DataError(f"{path}: there is no such file{closest(path.name, near)}")
    hint = closest(text, list(BUILT_IN))
    return DataError(f"no data set {text!r}{hint}; built in are {', '.join(BUILT_IN)}; otherwise give a file: {known}")
