"""Moments over processes: unequal sizes, one of them empty, the same bits on every rank."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from levelhead.moments import Moments

SIZES = {2: (5, 0), 3: (1000, 0, 17)}


def part(rank: int, sizes: tuple[int, ...]) -> torch.Tensor:
    """What one rank sees: at another place than the others, so that the means between ranks matter."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(sizes[rank], 4, generator=generator) + 1e4 + 3 * rank


def work(rank: int, folder: str, sizes: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=len(sizes))
    try:
        x = part(rank, sizes)
        total = Moments.of(x, 0).all_reduce()
        mask = torch.arange(4) > 0  # the counts differ by feature: nobody sees the first
        masked = Moments.of(x, 0, mask.expand(x.shape)).all_reduce()
        torch.save([total.count, total.mean, total.m2, masked.count, masked.mean], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_all_reduce(tmp_path: Path, processes: int):
    sizes = SIZES[processes]
    mp.spawn(work, (str(tmp_path), sizes), nprocs=processes)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(processes)]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    values = np.concatenate([part(rank, sizes).numpy().astype(np.float64) for rank in range(processes)])
    count, mean, m2, masked_count, masked_mean = results[0]
    assert count.tolist() == [len(values)] * 4
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(m2 / count, values.var(0), rtol=1e-9)
    assert masked_count.tolist() == [0, *[len(values)] * 3]
    assert masked_mean.isnan().tolist() == [True, False, False, False]
