"""Augmentation: training batches, changed in ways that leave their targets true."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Of images (rows, channels, height, width), by kornia.
IMAGES = ("flip", "crop", "rotation", "affine", "colour", "erasing")
#: Of any inputs besides.
AUGMENTATIONS = (*IMAGES, "noise")


class AugmentationError(ValueError):
    """An augmentation that cannot be: the message names it, what it needs, and the repair."""


class Augmentation:
    """Named changes of batches, on the batches' own device, each row by itself; seeded.

    At strength s, the one after the other in the order of their names:

    - ``flip``: left and right exchanged, in every second image (whatever s is);
    - ``crop``: padded by s/8 of the size, and cut out at a random place;
    - ``rotation``: by up to 15s degrees; ``affine``: moved by up to 0.1s of the size, scaled by up to 1 ± 0.1s,
      sheared by up to 10s degrees;
    - ``colour``: brightness and contrast times up to 1 ± 0.4s; of 3 channels saturation too, and hue by 0.05s;
    - ``erasing``: a rectangle of 2 % to 2 % + 18s % of the area, in every second image;
    - ``noise``: normal, of deviation 0.1s in units of each channel's, or feature's, deviation.

    Standardized images are first brought to the range from 0 to 1, by the least and the largest value of each channel
    in ``like``, and back at the end: what comes in from outside an image is the least value, and colours are not cut.

    Args:
        names: some of ``AUGMENTATIONS``.
        like: training inputs, (rows, features) or (rows, channels, ...), for shape, range and deviation.
        strength: s, above 0 and at most 1.
        seed: of all that is random.

    Raises:
        AugmentationError: a name is not known, the data are no images, or kornia is not installed.

    Source: Shorten & Khoshgoftaar 2019, "A survey on image data augmentation"; erasing: Zhong et al. 2020, "Random
    erasing data augmentation"; noise: Bishop 1995, "Training with noise is equivalent to Tikhonov regularization".
    """

    def __init__(self, names: Sequence[str], like: Tensor, *, strength: float = 1.0, seed: int = 0) -> None:
        if isinstance(names, str):
            raise AugmentationError(f"the names must be a list, got {names!r}; write [{names!r}]")
        for name in names:
            if name not in AUGMENTATIONS:
                raise AugmentationError(f"no augmentation {name!r}; there are {', '.join(AUGMENTATIONS)}")
            if name in IMAGES and like.ndim != 4:
                raise AugmentationError(
                    f"{name!r} is for images (rows, channels, height, width), and the inputs have the shape "
                    f"{tuple(like.shape)}; 'noise' goes with any"
                )
        if not 0 < strength <= 1:
            raise AugmentationError(f"the strength must be above 0 and at most 1, got {strength}")
        self.names, self.strength, self.seed = tuple(names), float(strength), seed
        rest = [0, *range(2, like.ndim)]
        values = like.detach().float()
        self._low = values.amin(rest, keepdim=True)
        span = values.amax(rest, keepdim=True) - self._low
        self._span = torch.where(span > 0, span, 1.0)
        deviation = values.std(rest, correction=0, keepdim=True)
        images = any(name in IMAGES for name in names)
        self._noise = 0.1 * strength * (deviation / self._span if images else deviation)
        self._images = images
        self._steps = [self._noisy if name == "noise" else _of_images(name, like.shape, strength) for name in names]

    @torch.no_grad()
    def __call__(self, inputs: Tensor, step: int) -> Tensor:
        """The changed batch of a step: a pure function of inputs, seed and step, of the inputs' shape and type."""
        if inputs.device != self._low.device:
            self._low, self._span, self._noise = (t.to(inputs.device) for t in (self._low, self._span, self._noise))
        with torch.random.fork_rng([inputs.device] if inputs.device.type == "cuda" else []):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)[0] >> 1))
            out = inputs.float()
            out = (out - self._low) / self._span if self._images else out
            for change in self._steps:
                out = change(out)
            out = out * self._span + self._low if self._images else out
        return out.to(inputs.dtype)

    def _noisy(self, inputs: Tensor) -> Tensor:
        return inputs + self._noise * torch.randn_like(inputs)


def _of_images(name: str, shape: Sequence[int], s: float) -> Callable[[Tensor], Tensor]:
    """One of kornia's modules, or several."""
    try:
        import kornia.augmentation as K
    except ModuleNotFoundError as error:
        raise AugmentationError(f"{name!r} needs kornia, which is not installed: pip install kornia") from error
    channels, height, width = shape[1:]
    parts: dict[str, Callable[[], list[Any]]] = {
        "flip": lambda: [K.RandomHorizontalFlip(p=0.5)],
        "crop": lambda: [
            K.RandomCrop((height, width), padding=tuple(max(1, round(s * n / 8)) for n in (height, width)))
        ],
        "rotation": lambda: [K.RandomRotation(15.0 * s, p=1.0)],
        "affine": lambda: [K.RandomAffine(0.0, (0.1 * s, 0.1 * s), (1 - 0.1 * s, 1 + 0.1 * s), 10.0 * s, p=1.0)],
        "colour": lambda: [
            K.RandomBrightness((1 - 0.4 * s, 1 + 0.4 * s), p=1.0),
            K.RandomContrast((1 - 0.4 * s, 1 + 0.4 * s), p=1.0),
            *(
                [K.RandomSaturation((1 - 0.4 * s, 1 + 0.4 * s), p=1.0), K.RandomHue((-0.05 * s, 0.05 * s), p=1.0)]
                if channels == 3
                else []
            ),
        ],
        "erasing": lambda: [K.RandomErasing((0.02, 0.02 + 0.18 * s), p=0.5)],
    }
    return torch.nn.Sequential(*parts[name]())
