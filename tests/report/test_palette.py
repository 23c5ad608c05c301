"""The colours: enough contrast, and told apart by those who see fewer of them."""

from __future__ import annotations

import re
from importlib import resources
from itertools import combinations

import numpy as np
import pytest

# Machado, Oliveira & Fernandes 2009, "A physiologically-based model for simulation of color vision deficiency",
# severity 1, in linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Ottosson 2020, "A perceptual color space for image processing" (Oklab).
LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.793617785, -0.0040720468],
        [1.9779984951, -2.428592205, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.808675766],
    ]
)


def schemes() -> dict[str, dict[str, np.ndarray]]:
    """The colours of the style sheet in linear RGB, by scheme and name."""
    css = (resources.files("levelhead.report") / "templates/page.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root[^{]*\{(.*?)\}", css, re.DOTALL)
    found = {}
    for name, block in (("light", light), ("dark", dark)):
        hexes = re.findall(r"--([\w-]+): #([0-9a-f]{6})", block)
        values = {key: np.array([int(h[i : i + 2], 16) for i in (0, 2, 4)]) / 255 for key, h in hexes}
        found[name] = {k: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) for k, v in values.items()}
    return found


def contrast(a: np.ndarray, b: np.ndarray) -> float:
    """As in WCAG 2.2."""
    low, high = sorted(float(c @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def oklab(colour: np.ndarray) -> np.ndarray:
    return LAB @ np.cbrt(LMS @ np.clip(colour, 0, 1))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_have_contrast(scheme: str) -> None:
    colours = schemes()[scheme]
    # WCAG 2.2: 4.5 for text (criterion 1.4.3), 3 for what a reader must see of a graphic (1.4.11)
    for name in ("ink", "quiet", "link", "trouble"):
        for ground in ("paper", "sheet"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    lines = [name for name in colours if name.startswith(("arm-", "ramp-"))]
    assert len(lines) == 10
    for name in lines:
        assert contrast(colours[name], colours["paper"]) >= 3, name


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_arms_are_told_apart(scheme: str, sight: str) -> None:
    arms = [np.asarray(SIGHT[sight]) @ c for name, c in schemes()[scheme].items() if name.startswith("arm-")]
    assert len(arms) == 7
    # About 0.02 is a just noticeable difference of large patches; thin lines need more: three times that.
    assert min(float(np.linalg.norm(oklab(a) - oklab(b))) for a, b in combinations(arms, 2)) >= 0.06
