"""How batch norm keeps its running estimates: every option against a loop in float64."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

import levelhead as lh

C = 3
KINDS = {"plain": {}, "cumulative": {"momentum": None}, "debiased": {"statistics": "debiased"}}
KINDS |= {"accumulated, skipping": {"accumulate": 2, "on_nonfinite": "skip"}}


def batches(sizes=(4, 5, 6, 7)):
    return [torch.randn(n, C) * (i + 1) + 3 * i for i, n in enumerate(sizes)]


def moments(batch):
    return torch.stack([batch.double().mean(0), batch.double().var(0)])


def kept(module):
    return torch.stack([module.running_mean, module.running_var]).double()


def trained(data, *args, **policy):
    module = lh.nn.BatchNorm1d(C, *args, **policy)
    for batch in data:
        module(batch)
    return module


@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_debiased_is_the_weighted_mean_of_the_batches_alone(momentum):
    data = batches()
    module = trained(data, 1e-5, momentum, statistics="debiased")
    weights = torch.tensor([momentum * (1 - momentum) ** (len(data) - 1 - i) for i in range(len(data))]).double()
    expected = (torch.stack([moments(b) for b in data]) * (weights / weights.sum())[:, None, None]).sum(0)
    torch.testing.assert_close(kept(module), expected, rtol=1e-5, atol=1e-6)
    first = trained(data[:1], statistics="debiased")
    torch.testing.assert_close(kept(first), moments(data[0]), rtol=1e-6, atol=1e-6)
    assert first.state_dict().keys() == nn.BatchNorm1d(C).state_dict().keys()


def test_before_any_update_debiased_is_the_identity():
    x = torch.randn(2, C)
    torch.testing.assert_close(lh.nn.BatchNorm1d(C, eps=0.0, statistics="debiased").eval()(x), x)


def test_cumulative_is_momentum_none():
    data = batches()
    expected = torch.stack([moments(b) for b in data]).mean(0)
    torch.testing.assert_close(kept(trained(data, statistics="cumulative")), expected, rtol=1e-5, atol=1e-5)


def test_population_is_left_alone():
    module = trained(batches(), statistics="population")
    assert torch.equal(kept(module), kept(nn.BatchNorm1d(C)))
    assert int(module.num_batches_tracked) == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
class TestNonFinite:
    def data(self, bad):
        data = batches()
        data[1][2, 1] = bad
        return data

    def test_propagate_is_pytorch(self, bad):
        theirs, data = nn.BatchNorm1d(C), self.data(bad)
        for batch in data:
            theirs(batch)
        torch.testing.assert_close(kept(trained(data)), kept(theirs), equal_nan=True)

    def test_skip_is_without_the_batch(self, bad):
        data = self.data(bad)
        module = trained(data, on_nonfinite="skip")
        expected = trained([data[0], *data[2:]])
        torch.testing.assert_close(kept(module), kept(expected))
        assert int(module.num_batches_tracked) == 3
        assert module.batches_skipped == 1

    def test_raise_names_the_channel_and_keeps_the_state(self, bad):
        data = self.data(bad)
        module = trained(data[:1], on_nonfinite="raise")
        before = copy.deepcopy(module.state_dict())
        with pytest.raises(FloatingPointError, match=r"1 of 3 channels are not finite \(channel 1: mean (nan|inf)\)"):
            module(data[1])
        torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)


class TestBatchOfOne:
    def test_running(self):
        module = trained(batches(), batch_of_one="running")
        x, before = torch.randn(1, C), copy.deepcopy(module.state_dict())
        torch.testing.assert_close(module(x), copy.deepcopy(module).eval()(x))
        alone = torch.arange(3)[:, None] == 1  # one row counts
        torch.testing.assert_close(module(torch.cat([x, x, x]), mask=alone)[1:2], module(x))
        torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)

    @pytest.mark.parametrize(
        "policy", [{}, {"accumulate": 2}, {"batch_of_one": "running", "track_running_stats": False}]
    )
    def test_otherwise_an_error(self, policy):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            trained([torch.randn(1, C)], **policy)


class TestAccumulate:
    def test_pooled_as_one_batch(self):
        data = batches()
        data[0] += 1e4  # between the batches, too
        module = trained(data, accumulate=2)
        whole = trained([torch.cat(data[:2]).double(), torch.cat(data[2:]).double()], dtype=torch.float64)
        torch.testing.assert_close(kept(module), kept(whole), rtol=1e-6, atol=1e-5)
        assert int(module.num_batches_tracked) == 2

    def test_a_skipped_batch_keeps_its_place(self):
        data = batches()
        data[0][0] = data[2][0] = data[3][0] = torch.nan
        module = trained(data, accumulate=2, on_nonfinite="skip")
        torch.testing.assert_close(kept(module), kept(trained(data[1:2])))
        assert int(module.num_batches_tracked) == 1
        assert module.batches_skipped == 3

    def test_saved_in_the_middle(self):
        data = batches()
        data[0][0] = torch.nan
        policy = {"accumulate": 3, "on_nonfinite": "skip"}
        module, loaded = trained(data[:2], **policy), trained(data, **policy)
        loaded.load_state_dict(module.state_dict())
        for each in (module, loaded):
            each(data[2])
            assert int(each.num_batches_tracked) == 1
            assert each.batches_skipped == 1
        torch.testing.assert_close(kept(module), kept(loaded), rtol=0, atol=0)
        plain = nn.BatchNorm1d(C).state_dict()
        loaded.load_state_dict(plain)  # at the end of an update the keys are PyTorch's
        assert loaded.state_dict().keys() == plain.keys()
        assert loaded.batches_skipped == 0


def selective(*saved):
    def policy(context, operation, *args, **kwargs):
        save = any(name in str(operation) for name in saved)
        return CheckpointPolicy.MUST_SAVE if save else CheckpointPolicy.PREFER_RECOMPUTE

    return {"use_reentrant": False, "context_fn": functools.partial(create_selective_checkpoint_contexts, policy)}


CHECKPOINTS = {"reentrant": {"use_reentrant": True}, "not reentrant": {"use_reentrant": False}}
CHECKPOINTS |= {"some saved": selective("mm", "sin"), "norms saved": selective("norm", "mul")}


@pytest.mark.parametrize("size", [8, 2**18])
@pytest.mark.parametrize("how", CHECKPOINTS.values(), ids=CHECKPOINTS)
@pytest.mark.parametrize("policy", KINDS.values(), ids=KINDS)
def test_a_recomputed_pass_does_not_count_twice(policy, how, size):
    once = nn.Sequential(nn.Linear(2, C), lh.nn.BatchNorm1d(C, **policy))
    often = copy.deepcopy(once)

    def call(model, x):
        h = model(x).cos()
        h += 1  # both are operations on values that are also some on the state
        return (h * 2).sin()

    for _ in range(2):
        x = torch.randn(size, 2)
        found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
        checkpoint(call, often, found, **how).sum().backward()
        call(once, expected).sum().backward()
        torch.testing.assert_close(found.grad, expected.grad)
        torch.testing.assert_close(often.state_dict(), once.state_dict(), rtol=0, atol=0)


def test_instance_norm_recomputed():
    module = lh.nn.InstanceNorm1d(C, track_running_stats=True)
    x = torch.randn(4, C, 5, requires_grad=True)
    expected = copy.deepcopy(module)
    expected(x)
    checkpoint(module, x, use_reentrant=True).sum().backward()
    torch.testing.assert_close(module.state_dict(), expected.state_dict())


@pytest.mark.parametrize("policy", [{}, {"statistics": "debiased"}, {"statistics": "cumulative"}], ids=str)
def test_compiled_without_a_break(policy):
    data = batches((4, 4))
    module = lh.nn.BatchNorm1d(C, **policy)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for batch in data:
        compiled(batch)
    torch.testing.assert_close(kept(module), kept(trained(data, **policy)))


def test_a_policy_can_be_given_later_and_travels():
    module = lh.convert(nn.Sequential(nn.BatchNorm1d(C)))[0]
    assert module.policy is None
    module.policy = lh.nn.StatePolicy(on_nonfinite="skip")
    module = pickle.loads(pickle.dumps(copy.deepcopy(module)))
    module(torch.full((2, C), torch.nan))
    assert module.batches_skipped == 1
    assert repr(module).endswith("on_nonfinite='skip')")
    module.reset_running_stats()
    assert module.batches_skipped == 0


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"statistics": "mean"}, "statistics='mean' is not known; choose one of exponential, cumulative"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite='ignore' is not known; choose one of propagate, skip, raise"),
        ({"batch_of_one": "skip"}, "batch_of_one='skip' is not known"),
        ({"accumulate": 0}, "accumulate=0 must be a whole number from 1 on"),
    ],
)
def test_an_unknown_option_is_refused(policy, message):
    with pytest.raises(ValueError, match=message):
        lh.nn.BatchNorm1d(C, **policy)


@pytest.mark.parametrize(
    ("options", "mean", "var"),
    [
        ({}, 0.1, 1.1),  # torch, mlx
        ({"unbiased": False}, 0.1, 1.0),  # e3nn; Paddle and ONNX, whose 0.9 is the old value's weight
        ({"momentum": 0.01, "unbiased": False}, 0.01, 1.0),  # Keras, Flax
        ({"statistics": "debiased", "unbiased": False}, 1.0, 1.0),  # Haiku corrected, Equinox
    ],
)
def test_the_options_for_other_frameworks_give_their_estimates(options, mean, var):
    """As docs/conventions.md says: after 0 and 2, from findings/batch-norm-running-estimates.sh."""
    norm = lh.nn.BatchNorm1d(1, **options)
    norm(torch.tensor([[0.0], [2.0]]))
    assert norm.running_mean.item() == pytest.approx(mean, rel=1e-6)
    assert norm.running_var.item() == pytest.approx(var, rel=1e-6)


@pytest.mark.parametrize("extras", [{"statistics": "population"}, {"accumulate": 2}, {"statistics": "debiased"}])
def test_pytorchs_update_bn_gives_what_it_gives(extras):
    """Three batches: with accumulate=2 one is over, and in training "population" would keep 0 and 1."""
    batches = [torch.randn(10, 3) * 2 + 5 for _ in range(3)]
    ours, theirs = nn.Sequential(lh.nn.BatchNorm1d(3, **extras)), nn.Sequential(nn.BatchNorm1d(3))
    for model in (ours, theirs):
        torch.optim.swa_utils.update_bn(batches, model)
    torch.testing.assert_close(ours[0].running_mean, theirs[0].running_mean)
    torch.testing.assert_close(ours[0].running_var, theirs[0].running_var)
    kept = ours[0].running_mean.clone()
    ours(batches[0])  # the pass is over: the policy holds again
    assert torch.equal(ours[0].running_mean, kept) == ("debiased" not in extras.values())
    made_so = lh.nn.BatchNorm1d(3, momentum=None, statistics="population")
    made_so(batches[0])
    assert torch.equal(made_so.running_mean, torch.zeros(3))
