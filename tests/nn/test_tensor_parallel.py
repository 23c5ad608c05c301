"""Under PyTorch's tensor parallelism a converted model gives what the model gives, at every size."""

from __future__ import annotations

import copy

import processes
import pytest
import torch
from torch import nn

import levelhead as lh

WIDTH = 16


class Block(nn.Module):
    """Everything at once: dropout, sum and norm; a norm with an activation behind it."""

    def __init__(self, p):
        super().__init__()
        self.norm, self.act, self.drop, self.last = nn.LayerNorm(WIDTH), nn.SiLU(), nn.Dropout(p), nn.RMSNorm(WIDTH)

    def forward(self, x):
        return self.last(x + self.drop(self.act(self.norm(x))))


def layers(p):
    return {"norm": nn.LayerNorm(WIDTH), "rms": nn.RMSNorm(WIDTH), "drop": nn.Dropout(p), "block": Block(p)}


def work(rank):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    found = []
    for rows in (8, 4096):
        x = torch.randn(2, rows, WIDTH, generator=torch.Generator().manual_seed(1))
        for name, plain in layers(0.0).items():
            outcomes = []
            for module in (plain, lh.convert(copy.deepcopy(plain))):
                distribute_module(module, mesh)
                given = distribute_tensor(x, mesh, [Shard(1)]).requires_grad_()
                y = module(given)
                y.square().sum().backward()
                assert isinstance(y, DTensor)
                outcomes.append((y.full_tensor().detach(), given.grad.full_tensor()))
            found.append((f"{name} {rows}", outcomes))
        dropped = lh.convert(nn.Dropout(0.25))(distribute_tensor(torch.ones(2, rows, WIDTH), mesh, [Shard(1)]))
        found.append((f"share {rows}", float((dropped.full_tensor() == 0).float().mean())))
        block = distribute_module(lh.convert(Block(0.5)), mesh)
        found.append(
            (f"finite {rows}", bool(block(distribute_tensor(x, mesh, [Shard(1)])).full_tensor().isfinite().all()))
        )
    plain, sharded = Block(0.0), Block(0.0)
    sharded.load_state_dict(plain.state_dict())
    for module in (sharded.norm, sharded):
        fully_shard(module, mesh=mesh)
    left = lh.nn.explain(lh.convert(sharded)).left
    assert left.keys() == {"", "norm"}
    assert "convert the model before it" in left["norm"]
    torch.testing.assert_close(sharded(x), plain(x))
    first = lh.convert(copy.deepcopy(plain))
    report = lh.nn.explain(first)
    assert report.fused
    for module in (first.norm, first):
        fully_shard(module, mesh=mesh)
    assert lh.nn.explain(lh.convert(first)) == report
    torch.testing.assert_close(first(x), plain(x))
    with pytest.raises(ValueError, match=r"the model: fully_shard has made its class; unconvert the model before it"):
        lh.nn.unconvert(first)
    with pytest.raises(ValueError, match=r"FSDPSequential cannot be copied .*fold before fully_shard"):
        lh.fold(fully_shard(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), mesh=mesh))
    with pytest.raises(NotImplementedError, match="takes no mask="):
        lh.nn.LayerNorm(WIDTH)(given, mask=torch.ones(2, rows, WIDTH, dtype=torch.bool))
    return found


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed")
def test_two_processes():
    for name, outcome in processes.run(work, 2)[0]:
        if name.startswith("share"):
            assert abs(outcome - 0.25) < 0.12  # of 256 values and of 131,072: over four deviations of the former
        elif name.startswith("finite"):
            assert outcome
        else:
            torch.testing.assert_close(*outcome)
