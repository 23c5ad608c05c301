"""A Standardizer in a file: JSON, which a person can read, or safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from levelhead import records

_KIND, _VERSION = "levelhead.Standardizer", 1
SUFFIXES = (".json", ".safetensors")
_TYPES = {"n_samples_seen_": torch.long, "mean_": torch.float64, "m2_": torch.float64}


def check_suffix(path: Path) -> None:
    """Whether a file of this name can be written.

    Raises:
        ValueError: it cannot.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a Standardizer is saved as {' or '.join(SUFFIXES)}, got {path.suffix or 'no'!r}")


def write(path: Path, settings: dict[str, Any], state: dict[str, Tensor], names: list[str] | None) -> None:
    """Write the file, whole or not at all."""
    check_suffix(path)
    about = {"kind": _KIND, "version": _VERSION, "settings": settings, "features": names}
    if path.suffix.lower() == ".json":
        records.write_json(path, {**about, **{name: value.tolist() for name, value in state.items()}})
        return
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in state.items()}
    records.write_bytes(path, save(tensors, {"about": json.dumps(about)}))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], list[str] | None]:
    """Settings, state and names of features.

    Raises:
        ValueError: the file does not hold a Standardizer.
    """
    check_suffix(path)
    if path.suffix.lower() == ".json":
        about = records.read_json(path)
        try:
            state = {name: torch.tensor(_numbers(about[name]), dtype=dtype) for name, dtype in _TYPES.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a Standardizer ({error})") from error
    else:
        about, state = _read_safetensors(path)
    if about.get("kind") != _KIND:
        raise ValueError(f"{path} does not hold a Standardizer (its kind is {about.get('kind')!r})")
    if about.get("version") != _VERSION:
        raise ValueError(f"{path} is of version {about.get('version')!r}; this levelhead reads version {_VERSION}")
    settings = about["settings"]
    if set(settings) != {"dim", "whiten"} or state.keys() != _TYPES.keys():
        raise ValueError(f"{path} does not hold a Standardizer of this version (settings {settings})")
    features = state["mean_"].shape
    if state["m2_"].shape != (features * 2 if settings["whiten"] else features):
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        raise ValueError(f"{path} is damaged: its statistics are of the shapes {shapes}")
    return settings, state, about["features"]


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file that can be read ({error})") from error


def _numbers(value: Any) -> Any:
    """Lists of numbers as ``records`` writes them, "nan" included."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value if isinstance(value, int) else float(value)
