"""The state of a run in one safetensors file, written whole, checked when it is read."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levelhead.records import write_bytes

if TYPE_CHECKING:
    from levelhead.data import Dataset

CURRENT, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"
#: 2: the optimizer's state of an MLP has the seeds in front.
_FORMAT = "levelhead checkpoint 2"


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from: the message names the file, what is wrong, and the repair."""


def fingerprint(data: Dataset) -> str:
    """A short name for the values of all splits: two data sets of one fingerprint train alike."""
    crc = 0
    for split in (data.train, data.validation, data.test):
        for tensor in (split.inputs, split.targets):
            crc = zlib.crc32(repr((tuple(tensor.shape), tensor.dtype)).encode(), crc)
            crc = zlib.crc32(_bytes(tensor), crc)
    return f"{crc:08x}"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file beside ``path`` and rename it into place: a killed writer leaves no half file."""
    from safetensors.torch import save

    # A clone: safetensors refuses tensors that share memory.
    payload = save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, dict(metadata or {}))
    write_bytes(path, payload)


def save(folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one before is kept, and read where this one turns out damaged.

    Args:
        folder: the run's folder.
        tensors: by name, on any device.
        state: JSON values; NaN and infinity are kept.
    """
    text = json.dumps(state)
    current = folder / CURRENT
    if current.exists():
        current.replace(folder / PREVIOUS)
    save_tensors(current, tensors, {"format": _FORMAT, "state": text, "crc32": _checksum(tensors, text)})


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest whole checkpoint of a folder: its tensors and its state; None where there is none.

    A damaged one is passed over with a warning where the one before is whole.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    damage: list[str] = []
    for path in (folder / CURRENT, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            found = _read(path)
        except CheckpointError as error:
            damage.append(str(error))
            continue
        for line in damage:
            warnings.warn(f"{line}; going on from {path.name}", RuntimeWarning, stacklevel=2)
        return found
    if damage:
        raise CheckpointError(f"{damage[0]}; delete {folder} to start this run afresh")
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError) as error:
        what = "is a folder" if path.is_dir() else f"is damaged ({error})"
        raise CheckpointError(f"{path} {what}") from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a {_FORMAT} (its format: {metadata.get('format')!r})")
    text = metadata.get("state", "")
    if metadata.get("crc32") != _checksum(tensors, text):
        raise CheckpointError(f"{path} is damaged (its checksum does not agree with its content)")
    state: dict[str, Any] = json.loads(text)
    return tensors, state


def check_same(folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run.

    Args:
        folder: of the checkpoint, for the message.
        theirs: what the checkpoint's run was asked for, by name.
        ours: the same of this run.

    Raises:
        CheckpointError: they differ; the message says where.
    """
    differences = [
        f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in dict.fromkeys([*ours, *theirs])
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        raise CheckpointError(
            f"{folder} holds a checkpoint of another run: {'; '.join(differences)}; choose another folder, or delete it"
        )


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as tensors by ``<parameter>/<name>``, and apart from them what is not a tensor."""
    tensors, rest = {}, {}
    for parameter, name, value in _entries(state):
        if isinstance(value, Tensor):
            tensors[f"{parameter}/{name}"] = value
        else:
            rest[f"{parameter}/{name}"] = value
    return tensors, rest


def unflatten_optimizer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The ``state`` of an optimizer's state_dict from what ``flatten_optimizer`` gave."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest}.items():
        parameter, name = key.split("/", 1)
        state.setdefault(int(parameter), {})[name] = value
    return state


def _entries(state: Mapping[str, Any]) -> Iterator[tuple[int, str, Any]]:
    for parameter, values in state["state"].items():
        for name, value in values.items():
            yield parameter, name, value


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(_bytes(tensors[name]), crc)
    return f"{crc:08x}"


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return flat.numpy().data
