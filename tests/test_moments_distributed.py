"""Moments over processes: unequal sizes, one of them empty, the same bits on every rank."""

import numpy as np
import processes
import pytest
import torch

from levelhead.moments import Moments

SIZES = {2: (5, 0), 3: (1000, 0, 17)}


def part(rank: int, sizes: tuple[int, ...]) -> torch.Tensor:
    """What one rank sees: at another place than the others, so that the means between ranks matter."""
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(sizes[rank], 4, generator=generator) + 1e4 + 3 * rank


def work(rank: int, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    x = part(rank, sizes)
    total = Moments.of(x, 0).all_reduce()
    mask = torch.arange(4) > 0  # the counts differ by feature: nobody sees the first
    masked = Moments.of(x, 0, mask.expand(x.shape)).all_reduce()
    return [total.count, total.mean, total.m2, masked.count, masked.mean]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_all_reduce(ranks: int):
    sizes = SIZES[ranks]
    results = processes.run(work, ranks, sizes)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()
    values = np.concatenate([part(rank, sizes).numpy().astype(np.float64) for rank in range(ranks)])
    count, mean, m2, masked_count, masked_mean = results[0]
    assert count.tolist() == [len(values)] * 4
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(m2 / count, values.var(0), rtol=1e-9)
    assert masked_count.tolist() == [0, *[len(values)] * 3]
    assert masked_mean.isnan().tolist() == [True, False, False, False]
