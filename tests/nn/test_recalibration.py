"""Recalibrated statistics against float64 NumPy, and what becomes of the model."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import levelhead as lh
from levelhead import records

SIZES = (7, 20, 13, 2)


def batches_of(sizes=SIZES, features=4):
    """Each at another place, so that the variance between batches matters."""
    return [torch.randn(n, features, dtype=torch.float64) + 2 * i for i, n in enumerate(sizes)]


def network(kind=nn.BatchNorm1d):
    torch.manual_seed(1)
    parts = [nn.Linear(4, 3), kind(3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 3), kind(3)]
    model = nn.Sequential(*parts).double()
    for norm in (model[1], model[5]):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -1, 1)
    return model


def linear(layer, x):
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def normalized(norm, x, mean, var):
    y = (x - mean) / np.sqrt(var + norm.eps) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    return np.maximum(y, 0)


def statistics(parts, method):
    if method == "averaged":
        return np.mean([p.mean(0) for p in parts], 0), np.mean([p.var(0, ddof=1) for p in parts], 0)
    whole = np.concatenate(parts)
    return whole.mean(0), whole.var(0, ddof=1)


def truth(model, batches, method, sequential):
    """The definition, batch by batch."""
    first = [linear(model[0], x.numpy()) for x in batches]
    mean, var = statistics(first, method)
    by = [(mean, var) if sequential else (p.mean(0), p.var(0)) for p in first]
    second = [linear(model[4], normalized(model[1], p, *at)) for p, at in zip(first, by, strict=True)]
    return (mean, var), statistics(second, method)


def check(model, expected, rtol=1e-12):
    for norm, (mean, var) in zip((model[1], model[5]), expected, strict=True):
        np.testing.assert_allclose(norm.running_mean, mean, rtol=rtol, atol=1e-13)
        np.testing.assert_allclose(norm.running_var, var, rtol=rtol)


def snapshot(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [len(m._forward_pre_hooks) for m in model.modules()]
    buffers = [value.data_ptr() for value in model.buffers()]
    return state, [m.training for m in model.modules()], hooks, buffers, torch.get_rng_state()


def same(a, b):
    return (
        a[0].keys() == b[0].keys()
        and all(torch.equal(value, b[0][name]) for name, value in a[0].items())
        and a[1:4] == b[1:4]
        and torch.equal(a[4], b[4])
    )


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, lh.nn.BatchNorm1d, nn.SyncBatchNorm])
@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("method", ["pooled", "averaged"])
def test_against_the_definition(kind, method, sequential):
    model, batches = network(kind), batches_of()
    model[0].eval()
    before = snapshot(model)
    found = lh.recalibrate(model, batches, method, sequential=sequential)
    check(model, truth(model, batches, method, sequential))
    after = snapshot(model)
    assert before[1:4] == after[1:4], "modes, hooks and the buffers themselves"
    assert torch.equal(before[4], after[4])
    assert (found.method, found.sequential, found.batches) == (method, sequential, len(SIZES))
    assert model[1].num_batches_tracked == len(SIZES)


def test_more_batches_than_are_merged_at_once():
    model, batches = network(), batches_of([3] * 150)
    lh.recalibrate(model, batches)
    check(model, truth(model, batches, "pooled", False))


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_batch_of_one_runs_under_the_statistics_of_the_others(place):
    model, batches = network(), batches_of()
    batches.insert(place, torch.randn(1, 4, dtype=torch.float64) + 5)
    lh.recalibrate(model, batches)
    first = [linear(model[0], x.numpy()) for x in batches]
    whole = np.concatenate([p for p in first if len(p) > 1])
    by = [(p.mean(0), p.var(0)) if len(p) > 1 else (whole.mean(0), whole.var(0)) for p in first]
    second = [linear(model[4], normalized(model[1], p, *at)) for p, at in zip(first, by, strict=True)]
    check(model, [statistics(first, "pooled"), statistics(second, "pooled")])
    # algorithm 2 takes it in its mean, and knows no variance of it
    lh.recalibrate(model, batches, "averaged")
    var = statistics([p for p in first if len(p) > 1], "averaged")[1]
    np.testing.assert_allclose(model[1].running_var, var, rtol=1e-12)
    np.testing.assert_allclose(model[1].running_mean, np.mean([p.mean(0) for p in first], 0), rtol=1e-12)


def test_batches_of_one_alone_need_sequential():
    model, batches = network(), [row[None] for row in torch.cat(batches_of())]
    before = snapshot(model)
    with pytest.raises(ValueError, match="every batch has one value a channel"):
        lh.recalibrate(model, batches)
    assert same(before, snapshot(model))
    lh.recalibrate(model, batches, sequential=True)
    check(model, truth(model, batches, "pooled", True))
    before = snapshot(model)
    with pytest.raises(ValueError, match="saw 42 values in channel 0, no two of them in one batch"):
        lh.recalibrate(model, batches, "averaged", sequential=True)
    assert same(before, snapshot(model))


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4).double(), nn.BatchNorm1d(4).double()

    def forward(self, x):
        return self.norm(self.linear(self.norm(x)))


@pytest.mark.parametrize("sequential", [False, True])
def test_a_layer_that_is_called_twice(sequential):
    model, batches = Reused(), batches_of()
    lh.recalibrate(model, batches, sequential=sequential)
    inputs = []
    for x in batches:
        inputs += [x.numpy(), linear(model.linear, (x.numpy() - x.numpy().mean(0)) / np.sqrt(x.numpy().var(0) + 1e-5))]
    mean, var = statistics(inputs, "pooled")
    np.testing.assert_allclose(model.norm.running_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(model.norm.running_var, var, rtol=1e-12)
    assert model.norm.num_batches_tracked == 2 * len(SIZES)


def test_images_and_a_biased_layer_in_float32():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), lh.nn.BatchNorm2d(3, unbiased=False)).eval()
    batches = [torch.randn(n, 2, 6, 5) + 1e3 for n in (4, 1, 3)]
    lh.recalibrate(model, batches)
    seen = np.concatenate([model[0](x).detach().double().numpy().transpose(0, 2, 3, 1).reshape(-1, 3) for x in batches])
    np.testing.assert_allclose(model[1].running_mean, seen.mean(0), rtol=1e-7)  # one rounding to float32
    np.testing.assert_allclose(model[1].running_var, seen.var(0), rtol=1e-7)


@pytest.mark.parametrize("kind", [nn.InstanceNorm1d, lh.nn.InstanceNorm1d])
def test_instance_norms_that_track(kind):
    model = nn.Sequential(kind(3, track_running_stats=True), kind(3, track_running_stats=True)).double()
    batches = [torch.randn(n, 3, 6, dtype=torch.float64) + torch.randn(n, 3, 1) for n in (4, 2)]
    batches.append(torch.randn(3, 6, dtype=torch.float64))  # one instance, without a batch
    x = np.concatenate([b.numpy().reshape(-1, 3, 6) for b in batches])
    lh.recalibrate(model, batches)
    np.testing.assert_allclose(model[0].running_mean, x.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(model[0].running_var, x.transpose(1, 0, 2).reshape(3, -1).var(1, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(model[1].running_mean, 0, atol=1e-12)  # it sees normalized instances
    lh.recalibrate(model, batches, "averaged")
    np.testing.assert_allclose(model[0].running_var, x.var(2, ddof=1).mean(0), rtol=1e-12)


def test_frozen_layers_are_left_alone_unless_asked_for():
    batches = batches_of()
    model = lh.freeze_norm(network())
    model[5].requires_grad_(False)
    lh.unfreeze_norm(model[5:])
    before = model[1].running_mean.clone()
    found = lh.recalibrate(model, batches)
    assert found.untouched == {"1": "frozen"}
    assert [layer.name for layer in found.layers] == ["5"]
    assert torch.equal(model[1].running_mean, before)
    # the frozen one runs by its own estimates
    second = [linear(model[4], normalized(model[1], linear(model[0], x.numpy()), 0, 1)) for x in batches]
    np.testing.assert_allclose(model[5].running_mean, statistics(second, "pooled")[0], rtol=1e-12)
    lh.recalibrate(model, batches, frozen=True)
    check(model, truth(model, batches, "pooled", False))


def test_what_forward_and_the_batches_may_be():
    model, batches = network(), batches_of()
    expected = truth(model, batches, "pooled", False)
    for given in ([(x, 0) for x in batches], ([x] for x in batches), torch.utils.data.DataLoader(batches, None)):
        model[1].reset_running_stats()
        lh.recalibrate(model, given)
        check(model, expected)
    model[1].reset_running_stats()
    lh.recalibrate(model, [{"x": x} for x in batches], forward=lambda net, batch: net(batch["x"]))
    check(model, expected)
    model[1].reset_running_stats()
    lh.recalibrate(nn.DataParallel(model), batches)
    check(model, expected)


def test_a_converted_model():
    model, batches = network(), batches_of()
    lh.recalibrate(lh.convert(model), batches)
    check(model, truth(model, batches, "pooled", False))


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = lh.nn.BatchNorm1d(3)

    def forward(self, x, mask):
        return self.norm(x, mask=mask)


@pytest.mark.skipif("mask" not in lh.nn.BatchNorm1d.forward.__kwdefaults__, reason="batch norm takes no mask yet")
def test_what_is_masked_does_not_count():
    model, x = Masked().double(), torch.randn(5, 3, 8, dtype=torch.float64)
    mask = torch.rand(5, 1, 8) < 0.6
    lh.recalibrate(model, [x.masked_fill(~mask, torch.nan)], forward=lambda net, x: net(x, mask))
    seen = x.movedim(1, -1)[mask[:, 0]].numpy()
    np.testing.assert_allclose(model.norm.running_mean, seen.mean(0), rtol=1e-12)


def loader_that_fails():
    yield torch.randn(4, 4, dtype=torch.float64)
    raise OSError("the disk is gone")


def fails_at_the_end(model, batch):
    model(batch)
    raise ZeroDivisionError("at the end")


def nan_in_the_second():
    return [torch.randn(4, 4, dtype=torch.float64), torch.full((3, 4), torch.nan, dtype=torch.float64)]


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        (list, {}, ValueError, "batches is empty"),
        (list, {"sequential": True}, ValueError, "batches is empty"),
        (loader_that_fails, {}, OSError, "the disk is gone"),
        (batches_of, {"forward": fails_at_the_end}, ZeroDivisionError, "at the end"),
        (batches_of, {"forward": fails_at_the_end, "sequential": True}, ZeroDivisionError, "at the end"),
        (batches_of, {"forward": lambda net, x: net[0](x)}, ValueError, "reached no layer"),
        (batches_of, {"method": "exact"}, ValueError, "method must be 'pooled' or 'averaged', got 'exact'"),
        (loader_that_fails, {"sequential": True}, TypeError, "a generator can be read only once"),
        (lambda: torch.zeros(3, 4), {}, TypeError, r"got one Tensor; try \[batch\]"),
        (lambda: [{"x": 1}], {}, TypeError, "with the keys x: say how the model takes it"),
        (nan_in_the_second, {}, ValueError, "brings NaN or infinite values to the layer '1'"),
        (nan_in_the_second, {"sequential": True}, ValueError, "batch 1 "),
        (lambda: batches_of((1,)), {"sequential": True}, ValueError, "'1' saw 1 values in channel 0"),
    ],
)  # fmt: skip
def test_on_any_error_the_model_is_as_it_was(batches, options, error, message):
    model = network().train()
    model[5].eval()
    given = batches()
    before = snapshot(model)
    with pytest.raises(error, match=message):
        lh.recalibrate(model, given, **options)
    assert same(before, snapshot(model))


def test_a_model_without_statistics():
    for model in (nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.Sequential()):
        with pytest.raises(ValueError, match="has no batch norm to recalibrate"):
            lh.recalibrate(model, [])
    with pytest.raises(ValueError, match="'1': frozen; '5': frozen"):
        lh.recalibrate(lh.freeze_norm(network()), [])
    with pytest.raises(ValueError, match="lazy layer '' does not know its channels yet"):
        lh.recalibrate(nn.LazyBatchNorm1d(), [])
    with pytest.raises(TypeError, match=r"takes a torch.nn.Module, got dict"):
        lh.recalibrate({}, [])


def test_the_report(tmp_path):
    model, batches = network(), batches_of()
    (mean, var), _ = truth(model, batches, "pooled", False)
    model[1].running_mean.copy_(torch.from_numpy(mean + [0, 0.5, 0] * np.sqrt(var)))
    model[1].running_var.copy_(torch.from_numpy(var * [1, 1, 0.25]))
    found = lh.recalibrate(model, batches)
    first, n = found.layers[0], sum(SIZES)
    assert (first.name, first.kind, first.channels, first.values) == ("1", "BatchNorm1d", 3, n)
    assert first.mean_shift == pytest.approx(0.5, rel=1e-9)
    assert first.mean_errors == pytest.approx(0.5 * n**0.5, rel=1e-9)
    assert first.var_ratio == pytest.approx(0.25, rel=1e-9)
    assert first.var_errors == pytest.approx(0.75 * ((n - 1) / 2) ** 0.5, rel=1e-9)
    text = str(found)
    assert text.startswith("2 layers set to the pooled statistics of 4 batches\n")
    assert "0.5 std" in text
    records.write_json(tmp_path / "found.json", found.to_dict())
    assert json.loads((tmp_path / "found.json").read_text())["layers"][0]["values"] == n
    again = lh.recalibrate(model, batches)
    assert again.layers[0].mean_errors < 1e-9
    assert again.layers[0].var_ratio == pytest.approx(1)


def test_a_constant_channel_is_reported_and_set():
    model = nn.BatchNorm1d(2)
    found = lh.recalibrate(model, [torch.tensor([[1.0, 5.0], [2.0, 5.0]])])
    assert model.running_var.tolist() == [0.5, 0]
    assert found.layers[0].var_ratio == np.inf
    assert lh.recalibrate(model, [torch.tensor([[1.0, 5.0], [2.0, 5.0]])]).layers[0].var_ratio == 1


def test_a_layer_that_is_not_reached_is_left():
    model = network()
    found = lh.recalibrate(model, batches_of(), forward=lambda net, x: net[:3](x))
    assert found.untouched == {"5": "the forward pass did not reach it"}
    assert torch.equal(model[5].running_mean, torch.zeros(3, dtype=torch.float64))


def test_a_shuffled_loader_draws_what_it_would_have_drawn():
    data = torch.utils.data.TensorDataset(torch.randn(20, 4, dtype=torch.float64))
    loader = torch.utils.data.DataLoader(data, batch_size=6, shuffle=True)
    model = network()
    torch.manual_seed(5)
    expected = [x[0] for x in loader]
    torch.manual_seed(5)
    lh.recalibrate(model, loader)
    assert all(torch.equal(a, b[0]) for a, b in zip(expected, loader, strict=True))


def test_a_compiled_model():
    model, batches = network(), batches_of()
    compiled = torch.compile(model, backend="eager")
    compiled(batches[0])  # compiled without the hooks
    lh.recalibrate(compiled, batches)
    check(model, truth(model, batches, "pooled", False))
