"""A training step with synchronized batch norm against plain batch norm, both under DDP, on 2 gloo processes.

    python benchmarks/sync_batch_norm.py [--channels 64] [--size 28] [--batch 16]

PyTorch's own SyncBatchNorm refuses CPUs, so its DDP + BatchNorm, which does not synchronize, is what there is. The
result is checked first, against one process with the whole batch in float64. Steps are taken in turns; medians.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import levelhead as lh

PROCESSES = 2


def network(channels):
    torch.manual_seed(0)
    blocks = [(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())] * 3
    return nn.Sequential(*[copy.deepcopy(module) for block in blocks for module in block])


def batch(rank, options):
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(options.batch, options.channels, options.size, options.size, generator=generator) + rank


def check(rank, options):
    x = torch.cat([batch(r, options) for r in range(PROCESSES)]).double()
    expected = nn.BatchNorm2d(options.channels).double()(x).chunk(PROCESSES)[rank]
    found = lh.nn.SyncBatchNorm(options.channels)(batch(rank, options))
    error = float((found - expected).detach().abs().max())
    if error > 3e-6:
        raise SystemExit(f"SyncBatchNorm is off by {error:.1e}")


def work(rank, folder, options):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=PROCESSES)
    check(rank, options)
    models = {
        "torch BatchNorm2d (not synchronized)": network(options.channels),
        "levelhead BatchNorm2d (not synchronized)": lh.convert(network(options.channels)),
        "levelhead SyncBatchNorm": lh.nn.SyncBatchNorm.convert_sync_batchnorm(network(options.channels)),
    }
    x = batch(rank, options)
    parallel = {name: nn.parallel.DistributedDataParallel(model) for name, model in models.items()}
    times = {name: [] for name in parallel}
    for i in range(options.repeats + 1):
        for name, model in parallel.items():
            dist.barrier()
            start = time.perf_counter()
            model(x).square().mean().backward()
            if i:
                times[name].append(time.perf_counter() - start)
            model.zero_grad()
    if rank == 0:
        print(f"torch {torch.__version__}; {PROCESSES} processes of 1 thread; input {tuple(x.shape)} a process")
        medians = {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
        first = next(iter(medians.values()))
        for name, ms in medians.items():
            print(f"{name:42} {ms:8.2f} ms a step  {ms / first:5.2f}x")
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (folder, options), nprocs=PROCESSES)


if __name__ == "__main__":
    main()
