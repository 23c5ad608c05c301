"""The table of docs/statistics.md: how wrong running statistics become, PyTorch's ways and ours, against float64.

Each row is a function that returns the errors of PyTorch (torch.optim.swa_utils.update_bn, or its batch norm in
training where the row says so) and of levelhead: the largest |mean - true| / true std, and the largest
|var / true var - 1|, over the channels. "fails" is an error where statistics were asked for.

    python benchmarks/statistics_table.py
"""

import copy
import os
import tempfile

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

import levelhead as lh

CHANNELS = 4


def batches_of(sizes, offset=0.0, apart=0.0):
    """Batch i lies ``apart`` · i away from the first."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, CHANNELS, generator=generator) + offset + apart * i for i, n in enumerate(sizes)]


def error(norm, values):
    values = np.asarray(values, dtype=np.float64)
    mean, var = values.mean(0), values.var(0, ddof=1)
    off = np.abs(norm.running_mean.double().numpy() - mean) / np.sqrt(var)
    return off.max(), np.abs(norm.running_var.double().numpy() / var - 1).max()


def both(batches, model=None, seen=None):
    """update_bn and recalibrate on copies of a model, which is one batch norm by default."""
    model = nn.BatchNorm1d(CHANNELS) if model is None else model
    truth = torch.cat(batches) if seen is None else seen
    results = []
    for way in (lambda m: update_bn(batches, m), lambda m: lh.recalibrate(m, batches)):
        mine = copy.deepcopy(model)
        try:
            way(mine)
        except ValueError:
            results.append(None)
        else:
            results.append(error(next(m for m in mine.modules() if isinstance(m, nn.BatchNorm1d)), truth))
    return results


def class_sorted():
    """Sorted by class: ten batches at ten places."""
    return both(batches_of([100] * 10, apart=1.0))


def large_mean():
    """Mean 1e4, deviation 1."""
    return both(batches_of([100] * 10, offset=1e4))


def last_batch_of_one():
    """A last batch of one."""
    return both(batches_of([100] * 9 + [1]))


def unequal_batches():
    """Batches of 1,000 and of 2."""
    return both(batches_of([1000, 2, 1000, 2], apart=1.0))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(CHANNELS)

    def forward(self, x):
        return self.norm(self.norm(x) * 3 + 5)


def reused_layer():
    """A layer that is called twice."""
    batches = batches_of([100] * 4)
    seen = []
    for x in batches:
        values = x.double()
        seen += [values, (values - values.mean(0)) / (values.var(0, correction=0) + 1e-5).sqrt() * 3 + 5]
    return both(batches, Reused(), torch.cat(seen))


def rank_work(rank, folder, parts):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = both(parts[rank], seen=torch.cat(parts[0] + parts[1]))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def two_ranks():
    """Two ranks, each with its own data; the worse one."""
    batches = batches_of([100, 50, 100, 10], apart=1.0)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(rank_work, (folder, (batches[:2], batches[2:])), nprocs=2)
        ranks = [torch.load(f"{folder}/{rank}.pt", weights_only=False) for rank in range(2)]
    return [max(way, key=max) for way in zip(*ranks, strict=True)]


def made(**options):
    """Our batch norm with an option; None where this version has not got it."""
    try:
        return lh.nn.BatchNorm1d(CHANNELS, **options)
    except TypeError:
        return None


def nan_batch():
    """One NaN batch in 200, in training; ours with on_nonfinite="skip"."""
    batches = batches_of([100] * 200)
    batches[10] = torch.full((100, CHANNELS), torch.nan)
    results = []
    for norm in (nn.BatchNorm1d(CHANNELS, momentum=None), made(momentum=None, on_nonfinite="skip")):
        for x in batches if norm else ():
            norm(x)
        results.append(error(norm, torch.cat([*batches[:10], *batches[11:]])) if norm else ())
    return results


def checkpointing():
    """One checkpointed step from 0 and 1, momentum 0.1; the truth is one update."""
    (x,) = batches_of([100], offset=3.0)
    results = []
    for norm in (nn.BatchNorm1d(CHANNELS), lh.nn.BatchNorm1d(CHANNELS)):
        checkpoint(norm, x.clone().requires_grad_(), use_reentrant=False).sum().backward()
        mean = 0.1 * x.double().mean(0)
        var = 0.9 + 0.1 * x.double().var(0)
        off = (norm.running_mean - mean).abs() / var.sqrt()
        results.append((float(off.max()), float((norm.running_var / var - 1).abs().max())))
    return results


def padding():
    """Sequences padded with 0 to three times their length, mean 2; ours with lengths=."""
    (x,) = batches_of([64], offset=2.0)
    padded = torch.cat([x[:, :, None], torch.zeros(64, CHANNELS, 2)], 2)
    theirs = nn.BatchNorm1d(CHANNELS)
    update_bn([padded], theirs)
    ours = lh.nn.BatchNorm1d(CHANNELS)
    lengths = torch.ones(64, dtype=torch.long)
    try:
        lh.recalibrate(ours, [padded], forward=lambda norm, x: norm(x, lengths=lengths))
    except TypeError:
        return [error(theirs, x), ()]
    return [error(theirs, x), error(ours, x)]


ROWS = [
    *(class_sorted, large_mean, last_batch_of_one, unequal_batches, reused_layer, two_ranks, nan_batch, checkpointing),
    padding,
]


def cell(result):
    if result is None:
        return "fails"
    return " / ".join("nan" if np.isnan(v) else f"{v:.0e}" for v in result) or "not in this version"


def main():
    print(f"torch {torch.__version__}; float32 data; error of mean / of variance")
    print("| case | PyTorch | levelhead |\n|---|---|---|")
    for row in ROWS:
        print(f"| {row.__doc__.rstrip('.')} | {' | '.join(cell(result) for result in row())} |")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
