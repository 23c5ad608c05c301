"""The state of a run in one file, written whole, checked when it is read."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from levelhead.records import write_bytes

if TYPE_CHECKING:
    from levelhead.data import Dataset

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
#: The first line of a checkpoint, with the checksum of what follows: an archive of ``torch.save``, which has none.
_FORMAT = "levelhead checkpoint 3"


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from: the message names the file, what is wrong, and the repair."""


def fingerprint(data: Dataset) -> str:
    """A short name for the values of all splits: two data sets of one fingerprint train alike."""
    crc = 0
    for split in (data.train, data.validation, data.test):
        for tensor in (split.inputs, split.targets):
            crc = zlib.crc32(repr((tuple(tensor.shape), tensor.dtype)).encode(), crc)
            crc = zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save

    # A clone: safetensors refuses tensors that share memory.
    write_bytes(path, save({name: tensor.detach().cpu().clone() for name, tensor in weights.items()}))


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one before is kept, and read where this one turns out damaged.

    Args:
        folder: the run's folder.
        state: tensors on any device and plain values, in dicts and lists.
    """
    archive = io.BytesIO()
    torch.save(dict(state), archive)
    payload = archive.getvalue()
    current = folder / CURRENT
    if current.exists():
        current.replace(folder / PREVIOUS)
    write_bytes(current, f"{_FORMAT} {zlib.crc32(payload):08x}\n".encode() + payload)


def load(folder: Path) -> dict[str, Any] | None:
    """The state of the newest whole checkpoint of a folder, on the CPU; None where there is none.

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


def _read(path: Path) -> dict[str, Any]:
    try:
        head, _, payload = path.read_bytes().partition(b"\n")
    except OSError as error:
        what = "is a folder" if path.is_dir() else f"cannot be read ({error.strerror})"
        raise CheckpointError(f"{path} {what}") from error
    kind, _, checksum = head.decode("ascii", "replace").rpartition(" ")
    if kind.startswith("levelhead checkpoint") and kind != _FORMAT:
        raise CheckpointError(f"{path} is not a {_FORMAT} (its format: {kind!r})")
    if kind != _FORMAT or checksum != f"{zlib.crc32(payload):08x}":
        raise CheckpointError(f"{path} is damaged (its checksum does not agree with its content)")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


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
