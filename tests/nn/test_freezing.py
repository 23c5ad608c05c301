"""Frozen normalization: through train(), copies and state_dicts."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import levelhead as lh


def model_of(kind, **extras):
    """Running estimates that are not those of the batches to come."""
    model = nn.Sequential(nn.Linear(4, 3), kind(3, **extras), nn.ReLU(), nn.Linear(3, 2))
    model[1].running_mean.fill_(0.5)
    model[1].running_var.fill_(2.0)
    return model


def is_evaluated(model, x):
    """Whether a step in training normalizes by the running estimates and leaves them alone."""
    norm, h = model[1], model[0](x)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    expected = (h - before["running_mean"]) / (before["running_var"] + norm.eps).sqrt() * norm.weight + norm.bias
    close = torch.allclose(norm(h), expected, atol=1e-6)
    return close and all(torch.equal(value, before[name]) for name, value in norm.named_buffers())


class Own(nn.BatchNorm1d):
    """A stranger's subclass."""


KINDS = [nn.BatchNorm1d, Own, nn.SyncBatchNorm, lh.nn.BatchNorm1d]


@pytest.mark.parametrize("kind", KINDS)
def test_it_holds_through_train_and_copies_until_it_is_undone(kind):
    x = torch.randn(8, 4) * 3
    model = model_of(kind)
    assert not is_evaluated(copy.deepcopy(model).train(), x) or kind is nn.SyncBatchNorm
    assert lh.freeze_norm(model) is model
    assert lh.freeze_norm(model) is model, "twice is once"
    model.eval().train()
    assert is_evaluated(model, x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert is_evaluated(twin.train(), x)
        lh.unfreeze_norm(twin)
        assert twin[1].training
    model(x).sum().backward()
    assert model[1].weight.grad is not None
    lh.unfreeze_norm(model)
    assert model[1].training
    assert not model[1]._forward_pre_hooks
    assert not model[1]._state_dict_hooks
    assert kind is nn.SyncBatchNorm or not is_evaluated(model, x)
    lh.freeze_norm(model)
    lh.unfreeze_norm(model.eval())
    assert not model[1].training, "the mode of the module that holds it"


@pytest.mark.parametrize("kind", KINDS)
def test_round_trips_of_the_state_dict(kind):
    x = torch.randn(8, 4) * 3
    model = lh.freeze_norm(model_of(kind))
    plain = model_of(nn.BatchNorm1d)
    assert list(model.state_dict()) == list(plain.state_dict())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state = torch.load(file)
    plain.load_state_dict(state)  # PyTorch takes it
    model.train().load_state_dict(model_of(nn.BatchNorm1d).state_dict())
    assert is_evaluated(model, x), "a frozen layer stays frozen, whatever is loaded"
    fresh = model_of(lh.nn.BatchNorm1d)
    fresh.load_state_dict(state)
    assert is_evaluated(fresh.train(), x), "levelhead's layers read it"
    other = model_of(lh.nn.BatchNorm1d)
    other.load_state_dict(lh.unfreeze_norm(model).state_dict())
    assert not is_evaluated(other.train(), x)


def test_conversion_keeps_it():
    x = torch.randn(8, 4)
    model = lh.convert(lh.freeze_norm(model_of(nn.BatchNorm1d)))
    assert is_evaluated(model.train(), x)
    lh.unfreeze_norm(model)
    assert not is_evaluated(model.train(), x)


def test_the_layer_itself():
    norm = lh.nn.BatchNorm1d(3).freeze().train()
    assert not norm.training
    assert norm.unfreeze().train().training
    alone = lh.freeze_norm(nn.InstanceNorm1d(3, track_running_stats=True)).train()
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(alone(x), x, rtol=1e-4, atol=1e-4)  # by mean 0 and variance 1


@pytest.mark.parametrize("model", [nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.LayerNorm(2)])
def test_nothing_to_freeze(model):
    with pytest.raises(ValueError, match="no normalization layer with running estimates to freeze"):
        lh.freeze_norm(model)
