"""Work in processes of its own, over gloo."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run(work: Callable[..., Any], processes: int, *given: object) -> list[Any]:
    """What ``work(rank, *given)`` returns in each process; ``work`` is a function of a module."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, (processes, folder, work, given), nprocs=processes)
        return [torch.load(f"{folder}/{rank}.pt") for rank in range(processes)]


def _process(rank: int, processes: int, folder: str, work: Callable[..., Any], given: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    store, patience = f"file://{folder}/store", timedelta(seconds=120)
    dist.init_process_group("gloo", store, rank=rank, world_size=processes, timeout=patience)
    torch.save(work(rank, *given), f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(
        0
    )  # gloo's threads, and what DistributedDataParallel holds of them, now and then crash or hang as they end
