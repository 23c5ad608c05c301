"""Recalibration over two processes: what one process gets of all batches, the same bits on each, and shared errors."""

import processes
import pytest
import torch
from torch import nn

import levelhead as lh

SIZES = (5, 1, 9, 4)  # the batch of one is on the second rank, which has none of the others but the last


def batches(rank=None):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(n, 4, generator=generator, dtype=torch.float64) + i for i, n in enumerate(SIZES)]
    return made if rank is None else [made[i] for i in ((0, 2), (1, 3))[rank]]


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def fails():
    yield torch.randn(4, 4, dtype=torch.float64)
    raise OSError("the disk is gone")


def work(rank: int) -> tuple[list[dict[str, torch.Tensor]], list[str]]:
    states, messages = [], []
    for method in ("pooled", "averaged"):
        for sequential in (False, True):
            if method == "pooled" or not sequential:
                model = network()
                found = lh.recalibrate(model, batches(rank), method, sequential=sequential)
                assert found.batches == 4
                states.append(model.state_dict())
    model = network()
    lh.recalibrate(model, batches() if rank == 0 else [])  # a rank without batches
    states.append(model.state_dict())
    model = network()
    try:
        lh.recalibrate(model, fails() if rank == 0 else batches(rank))
    except (OSError, RuntimeError) as error:
        messages.append(str(error))
    states.append(model.state_dict())
    if rank == 0:  # the other does not call
        model = network()
        lh.recalibrate(model, batches(), group="alone")
        alone = model.state_dict()
        assert torch.equal(alone["1.running_mean"], states[3]["1.running_mean"])
    return states, messages


@pytest.mark.slow
def test_two_processes():
    (first, message), (second, other) = processes.run(work, 2)
    for a, b in zip(first, second, strict=True):
        for name, value in a.items():
            assert torch.equal(value, b[name]), name
    expected = []
    for options in (("pooled", False), ("pooled", True), ("averaged", False), ("pooled", False)):
        model = network()
        lh.recalibrate(model, batches(), options[0], sequential=options[1])
        expected.append(model.state_dict())
    expected.append(network().state_dict())
    for a, b in zip(first, expected, strict=True):
        for name, value in a.items():
            torch.testing.assert_close(value, b[name], rtol=1e-13, atol=1e-13)  # another order of the merges
    assert message == ["the disk is gone"]
    assert other == ["recalibration failed on rank 0 of the group; its own error says why"]
