"""Batch norm over processes: equal to one process with the concatenated batch."""

from __future__ import annotations

import copy

import processes
import pytest
import torch
import torch.distributed as dist
from torch import nn

import levelhead as lh

#: Rows by rank: unequal, and with three processes an empty one.
SIZES = {2: (5, 3), 3: (4, 0, 7)}
CHANNELS = 3


def part(rank: int, sizes: tuple[int, ...], step: int = 0) -> torch.Tensor:
    """What one rank sees: at another place than the others, so that the variance between ranks matters."""
    generator = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(sizes[rank], CHANNELS, 4, generator=generator) + 30 + 3 * rank


def mask_of(x: torch.Tensor) -> torch.Tensor:
    """Another half of the positions for every row."""
    first = x[:, 0].detach() * 1e4
    return (first.long() % 2 == 0)[:, None]


def masked(x: torch.Tensor) -> torch.Tensor:
    return x.where(mask_of(x), torch.nan)


def gradients(module: nn.Module, x: torch.Tensor, **extras: object) -> dict[str, torch.Tensor]:
    """Result, first and second derivatives of a loss that weighs every value by something of its own."""
    x = x.clone().requires_grad_()
    y = module(x, **extras)
    weight = x.detach().nan_to_num().sin()
    wanted = [x, *module.parameters()]
    first = torch.autograd.grad((y * weight).sum(), wanted, create_graph=True)
    second = torch.autograd.grad((first[0] * weight.cos()).sum(), wanted, materialize_grads=True)
    names = ["x", "weight", "bias"]
    return {
        "y": y.detach(),
        **{f"first {name}": value.detach() for name, value in zip(names, first, strict=True)},
        **{f"second {name}": value for name, value in zip(names, second, strict=True)},
    }


def fresh(kind: type[nn.Module], **extras: object) -> nn.Module:
    module = kind(CHANNELS, **extras)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([0.5, 1.5, -1.0]))
        module.bias.copy_(torch.tensor([0.0, 0.5, -0.5]))
    return module


def states(module: nn.Module, batches: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    for batch in batches:
        module(batch)
    return dict(module.state_dict())


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(CHANNELS, CHANNELS, 1), nn.BatchNorm1d(CHANNELS), nn.ReLU(), nn.Flatten())


def step(model: nn.Module, x: torch.Tensor, rows: float) -> None:
    """One step of gradient descent; over processes their mean is taken, so ``rows`` are those of the mean process."""
    model(x).square().sum().div(rows).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(0.1 * parameter.grad)
            parameter.grad = None


def one_value(rank: int) -> dict[str, str]:
    """A batch of one on the first rank alone is an error on every rank."""
    try:
        lh.nn.SyncBatchNorm(CHANNELS)(torch.randn(1 if rank == 0 else 0, CHANNELS))
    except ValueError as error:
        return {"error": str(error)}
    return {}


def work(rank: int, sizes: tuple[int, ...]) -> dict[str, dict[str, object]]:
    sync, x = lh.nn.SyncBatchNorm, part(rank, sizes)
    alone = dist.new_group([0], use_local_synchronization=False)
    model = sync.convert_sync_batchnorm(network())
    parallel = nn.parallel.DistributedDataParallel(model)
    for i in range(2):
        step(parallel, part(rank, sizes, i) - 33, sum(sizes) / len(sizes))
    batches = [part(rank, sizes, i) for i in range(4)]
    compiled = torch.compile(fresh(sync), backend="aot_eager", fullgraph=True, dynamic=False)
    compile_too = len(sizes) == 2  # once is enough: it takes seconds
    return {
        "plain": gradients(fresh(sync), x),
        "masked": gradients(fresh(sync), masked(x), mask=mask_of(x)),
        "compiled": first_only(compiled, x) if compile_too else {},
        "states": states(fresh(sync), batches),
        "accumulated": states(fresh(sync, accumulate=2), batches),
        "untracked": {"y": fresh(sync, track_running_stats=False)(x).detach()},
        "alone": {"y": fresh(sync, process_group=alone)(x).detach()} if rank == 0 else {},
        "eval": {"y": fresh(sync).eval()(x).detach()},
        "model": model.state_dict(),
        "one value": one_value(rank),
    }


def first_only(module: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    (dx,) = torch.autograd.grad((y * x.detach().sin()).sum(), x)
    return {"y": y.detach(), "first x": dx}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_as_one_process_with_the_whole_batch(count: int):
    sizes = SIZES[count]
    ranks = processes.run(work, count, sizes)
    whole = [torch.cat([part(rank, sizes, i) for rank in range(count)]).double() for i in range(4)]

    def close(name: str, expected: dict[str, torch.Tensor]) -> None:
        for key, value in expected.items():
            parts = [rank[name][key] for rank in ranks if key in rank[name]]
            if key in ("y", "first x", "second x"):
                together = torch.cat(parts)
            elif name in ("plain", "masked"):  # a parameter's gradient: of each rank's loss
                together = torch.stack(parts).sum(0)
            else:
                assert all(torch.equal(p, parts[0]) for p in parts), f"{name}: {key} differs between the ranks"
                together = parts[0]
            # float32 rounding of sums of some dozens of values, at the size of the values
            torch.testing.assert_close(
                together.double(), value.double(), rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f"{name}, {k}: {m}"
            )

    truth = fresh(nn.BatchNorm1d).double()
    expected = gradients(copy.deepcopy(truth), whole[0])
    close("plain", expected)
    close("compiled", {key: expected[key] for key in ranks[0]["compiled"]})
    close("untracked", {"y": expected["y"]})
    close("states", states(copy.deepcopy(truth), whole))
    pairs = [torch.cat(whole[i : i + 2]) for i in (0, 2)]
    close("accumulated", states(copy.deepcopy(truth), pairs))
    rows = whole[0].float()
    close("masked", gradients(fresh(lh.nn.BatchNorm1d).double(), masked(rows).double(), mask=mask_of(rows)))
    close("eval", {"y": copy.deepcopy(truth).eval()(whole[0]).detach()})
    close("alone", {"y": copy.deepcopy(truth)(part(0, sizes).double()).detach()})
    model = network().double()
    for i in range(2):
        step(model, whole[i] - 33, sum(sizes))  # a large mean would make the gradient of the convolution cancel
    close("model", model.state_dict())
    assert all("more than 1 value" in rank["one value"]["error"] for rank in ranks)
    assert ranks[0]["model"].keys() == network().state_dict().keys()


def test_alone_it_is_plain_batch_norm():
    x = torch.randn(6, CHANNELS, 2)
    torch.testing.assert_close(fresh(lh.nn.SyncBatchNorm)(x), fresh(nn.BatchNorm1d)(x))


class TestConvert:
    def test_everything_is_kept(self):
        model = nn.Sequential(nn.BatchNorm1d(CHANNELS), lh.nn.BatchNorm2d(2, activation="relu", accumulate=2))
        before, calls = dict(model.state_dict(keep_vars=True)), []
        model[0].register_forward_hook(lambda *_: calls.append(True))
        assert lh.nn.SyncBatchNorm.convert_sync_batchnorm(model, "group") is model
        assert all(type(module) is lh.nn.SyncBatchNorm for module in model)
        assert all(after is before[name] for name, after in model.state_dict(keep_vars=True).items())
        assert [module.process_group for module in model] == ["group", "group"]
        assert "activation='relu', accumulate=2" in repr(model[1])
        model[0](torch.randn(4, CHANNELS))
        assert calls == [True]

    def test_pytorchs_own_is_converted(self):
        module = lh.nn.SyncBatchNorm.convert_sync_batchnorm(nn.SyncBatchNorm(2))
        assert type(module) is lh.nn.SyncBatchNorm

    def test_a_lazy_one_is_refused_by_name(self):
        with pytest.raises(ValueError, match="lazy batch norm '1' has no channels yet"):
            lh.nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.ReLU(), nn.LazyBatchNorm1d()))


def test_bad_input_as_pytorchs():
    for x in (torch.randn(2), torch.randn(2, 0)):
        with pytest.raises(ValueError) as theirs:
            nn.SyncBatchNorm(x.shape[-1])(x)
        with pytest.raises(ValueError) as ours:
            lh.nn.SyncBatchNorm(x.shape[-1])(x)
        assert str(ours.value) == str(theirs.value)


def test_constructor_and_state_as_pytorchs():
    arguments = (CHANNELS, 1e-3, None, True, True, "group", "cpu", torch.float64)
    ours, theirs = lh.nn.SyncBatchNorm(*arguments, bias=False), nn.SyncBatchNorm(*arguments, bias=False)
    ours.load_state_dict(theirs.state_dict())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert ours.process_group == "group"
    assert str(ours) == f"lh.{theirs}"
