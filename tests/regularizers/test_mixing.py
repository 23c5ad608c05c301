"""Mixed batches, smoothed labels, early stopping."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from levelhead.regularizers import EarlyStopping, cutmix, mixup, smooth_labels


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_smooth_labels():
    wanted = torch.tensor([[0.1 / 3, 0.1 / 3, 0.9 + 0.1 / 3], [0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3]])
    torch.testing.assert_close(smooth_labels(torch.tensor([2, 0]), 0.1, 3), wanted)
    torch.testing.assert_close(smooth_labels(torch.eye(3)[[2, 0]], 0.1), wanted)


def test_classes_are_where_cross_entropy_wants_them():
    masks = torch.randint(0, 5, (4, 6, 7), generator=seeded())
    smoothed = smooth_labels(masks, 0.1, 5)
    assert smoothed.shape == (4, 5, 6, 7)
    torch.testing.assert_close(smoothed.sum(1), torch.ones(4, 6, 7))
    logits = torch.randn(4, 5, 6, 7, generator=seeded())
    wanted = nn.functional.cross_entropy(logits, masks, label_smoothing=0.1)
    torch.testing.assert_close(nn.functional.cross_entropy(logits, smoothed), wanted)
    x = torch.arange(4.0)[:, None, None, None].expand(4, 2, 6, 7)
    mixed, shares = mixup(x, masks, 1.0, classes=5, generator=seeded())
    assert shares.shape == (4, 5, 6, 7)
    torch.testing.assert_close(shares.sum(1), torch.ones(4, 6, 7))
    ramps = torch.arange(4)[:, None, None].expand(4, 6, 7)
    for _ in range(5):  # the masks say which image a pixel comes from
        mixed, shares = cutmix(x, ramps, classes=4, generator=seeded(1))
        torch.testing.assert_close(shares.argmax(1).float(), mixed[:, 0])
        assert set(shares.unique().tolist()) == {0.0, 1.0}
    with pytest.raises(ValueError, match=r"positions must have those of the inputs, got \(3, 7\) and \(6, 7\)"):
        cutmix(x, ramps[:, :3], classes=4)


def test_zeros_and_ones_are_not_taken_for_indices():
    x, y = torch.randn(4, 2), torch.tensor([2, 0, 1, 1])
    ones = nn.functional.one_hot(y, 3)
    for function in (lambda y: mixup(x, y, classes=3), lambda y: smooth_labels(y, 0.1, 3)):
        with pytest.raises(ValueError, match=r"shape \(4, 3\), look like zeros and ones.*targets.float"):
            function(ones)
    assert mixup(x, ones.float(), classes=3)[1].shape == (4, 3)
    with pytest.raises(ValueError, match=r"classes = 4, and the distributions are of shape \(4, 3\)"):
        smooth_labels(ones.float(), 0.1, 4)
    with pytest.raises(ValueError, match=r"\(rows, classes, ...\), got the shape \(4,\)"):
        smooth_labels(y.float(), 0.1)


def test_mixup_mixes_inputs_and_targets_alike():
    x = torch.arange(6.0)[:, None] * torch.ones(6, 4)
    y = torch.arange(6)
    mixed, shares = mixup(x, y, 1.0, classes=6, generator=seeded())
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    # A row's value is the mean of its classes, as x is made.
    torch.testing.assert_close(mixed, (shares @ torch.arange(6.0))[:, None] * torch.ones(6, 4))
    assert not torch.equal(mixed, x)
    _, numbers = mixup(x, x[:, :1], 1.0, generator=seeded())
    torch.testing.assert_close(numbers, mixed[:, :1])
    again, _ = mixup(x, y, 1.0, classes=6, generator=seeded())
    assert torch.equal(again, mixed)


def test_the_share_has_the_distribution_of_beta():
    random = seeded()
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    shares = torch.stack([mixup(x, y, 0.5, classes=2, generator=random)[1][0, 0] for _ in range(2000)]).double()
    # Row 0 is mixed with itself in half of the batches; otherwise its share is Beta(½, ½): variance 1/8, mean ½.
    own = shares == 1
    assert 0.45 < float(own.double().mean()) < 0.55
    assert float(shares[~own].mean()) == pytest.approx(0.5, abs=0.05)
    assert float(shares[~own].var()) == pytest.approx(1 / 8, rel=0.1)


@pytest.mark.parametrize("shape", [(8, 2, 16), (8, 2, 12, 16), (8, 1, 6, 6, 6)])
def test_cutmix_mixes_targets_by_the_area_that_was_cut(shape):
    x = torch.arange(8.0).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
    random, seen = seeded(), []
    for _ in range(20):
        mixed, shares = cutmix(x, torch.arange(8), classes=8, generator=random)
        assert set(mixed.unique().tolist()) <= set(range(8))
        areas = torch.stack([(mixed == k).flatten(1).double().mean(1) for k in range(8)], 1)
        torch.testing.assert_close(shares.double(), areas, rtol=0, atol=1e-6)
        seen.append(float(shares.diagonal().min()))
    assert min(seen) < 0.5 < max(seen)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mixup(torch.ones(3, 2), torch.ones(4, 1)), "as many rows, got 3 and 4"),
        (lambda: mixup(torch.ones(3, 2), torch.arange(3)), "need classes="),
        (lambda: mixup(torch.ones(3, 2), torch.arange(3), classes=2), "classes = 2, and the targets reach from 0 to 2"),
        (lambda: mixup(torch.ones(3, 2), torch.ones(3, 1), 0), "alpha must be above 0 and finite, got 0"),
        (lambda: mixup(torch.ones(3, 2, dtype=torch.long), torch.ones(3, 1)), "floating point, got torch.int64"),
        (lambda: cutmix(torch.ones(3, 2), torch.ones(3, 1)), r"needs positions.*\(3, 2\); use mixup"),
        (lambda: smooth_labels(torch.arange(3), 1.0, 3), "below 1, got 1.0"),
    ],
)
def test_what_cannot_be_mixed_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_early_stopping_ends_and_restores_the_best():
    model = nn.BatchNorm1d(1)
    stopping = EarlyStopping(model, patience=2, better="higher")
    for value, score, end in ((1.0, math.nan, False), (2.0, 0.5, False), (3.0, 0.9, False), (4.0, 0.9, False)):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(value)
        assert stopping(score) == end
    assert stopping(math.nan)
    assert (stopping.best, stopping.best_evaluation, stopping.evaluations) == (0.9, 3, 5)
    later = EarlyStopping(nn.BatchNorm1d(1), patience=2, better="higher")
    later.load_state_dict(stopping.state_dict())
    assert later(0.0)
    later.restore()
    assert later.model.weight.item() == later.model.running_mean.item() == 3.0


def test_early_stopping_of_a_loss_with_a_least_gain():
    stopping = EarlyStopping(nn.Linear(1, 1), patience=2, least=0.1)
    assert [stopping(loss) for loss in (1.0, 0.95, 0.85, 0.8, 0.8)] == [False, False, False, False, True]
    assert stopping.best == 0.85
    with pytest.raises(RuntimeError, match="no evaluation has given a score"):
        EarlyStopping(nn.Linear(1, 1)).restore()
    with pytest.raises(ValueError, match="got 'more'"):
        EarlyStopping(nn.Linear(1, 1), better="more")
    with pytest.raises(ValueError, match="patience must be at least 1 evaluation, got 0"):
        EarlyStopping(nn.Linear(1, 1), patience=0)
