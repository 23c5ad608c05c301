"""Augmentation: what each change does, that it is seeded, and what it refuses."""

from __future__ import annotations

import sys

import pytest
import torch

from levelhead.data import Augmentation, AugmentationError

pytest.importorskip("kornia")


def images(channels=1):
    """Standardized by its looks: a bright square on a dark ground, whose least value is -0.5."""
    x = torch.full((40, channels, 16, 16), -0.5)
    x[:, :, 4:9, 5:12] = 2.5
    return x


def changed(name, x, **options):
    return Augmentation([name], x, **options)(x, 0)


@pytest.mark.parametrize("name", ["flip", "crop", "rotation", "affine", "colour", "erasing", "noise"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_change_is_seeded_by_row_and_leaves_shape_range_and_random_state(name, channels):
    x = images(channels)
    before, kept = torch.get_rng_state(), x.clone()
    augment = Augmentation([name], x, seed=7)
    y = augment(x, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, kept)
    assert y.shape == x.shape
    assert not torch.equal(y, x)
    assert len(y.flatten(1).unique(dim=0)) > 1  # not all rows alike
    assert torch.equal(Augmentation([name], x, seed=7)(x, 3), y)
    assert not torch.equal(augment(x, 4), y)
    assert not torch.equal(Augmentation([name], x, seed=8)(x, 3), y)
    if name != "noise":
        assert -0.5 - 1e-5 <= float(y.min()) <= float(y.max()) <= 2.5 + 1e-5
    assert augment(x.bfloat16(), 3).dtype == torch.bfloat16


def test_what_the_changes_do():
    x = images()
    flipped = changed("flip", x)
    same, mirrored = ((flipped - v).abs().flatten(1).amax(1) < 1e-5 for v in (x, x.flip(3)))
    assert bool((same ^ mirrored).all())
    assert 10 <= int(mirrored.sum()) <= 30
    erased = changed("erasing", x)
    gone = (erased - x).abs() > 1e-5
    assert bool((erased[gone] == -0.5).all())  # to the least value, that of the ground
    moved = changed("crop", x)
    # A shift by at most 2 keeps the whole square, in another place.
    assert torch.allclose((moved > 1).flatten(1).sum(1).float(), torch.tensor(35.0))
    turned = changed("rotation", x, strength=0.1)
    assert 0 < float((turned - x).abs().mean()) < float((changed("rotation", x) - x).abs().mean())


def test_noise_is_in_units_of_each_features_deviation():
    x = torch.randn(5000, 2) * torch.tensor([1.0, 100.0]) + 50
    noise = changed("noise", x, strength=0.5) - x
    torch.testing.assert_close(noise.std(0), 0.05 * x.std(0), rtol=0.05, atol=0)
    square = images()
    noise = changed("noise", square) - square
    assert float(noise.std()) == pytest.approx(0.1 * float(square.std()), rel=0.05)


def test_what_cannot_be_is_refused(monkeypatch):
    rows = torch.randn(10, 3)
    with pytest.raises(AugmentationError, match="no augmentation 'crops'; there are flip, crop"):
        Augmentation(["crops"], rows)
    with pytest.raises(AugmentationError, match=r"'flip' is for images.*\(10, 3\); 'noise' goes with any"):
        Augmentation(["flip"], rows)
    with pytest.raises(AugmentationError, match="must be a list"):
        Augmentation("noise", rows)
    with pytest.raises(AugmentationError, match="at most 1, got 2"):
        Augmentation(["noise"], rows, strength=2)
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    with pytest.raises(AugmentationError, match=r"'flip' needs kornia.*pip install kornia"):
        Augmentation(["flip"], images())
