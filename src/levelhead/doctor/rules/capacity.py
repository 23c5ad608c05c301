"""The rule on capacity: a network that has learnt all that it can, and could learn more if it were wider."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.probes.loop import Call
from levelhead.doctor.probes.structure import LINEAR, name_of
from levelhead.doctor.rules.suspicion import Suspicion

#: Zhang et al. 2017, Understanding deep learning requires rethinking generalization, theorem 1: 2 n + d weights can
#: fit any n rows of d inputs. A network that has as many is not suspected.
WEIGHTS_A_ROW = 2
FACTOR = 8
WIDTH = 64


def too_small(facts: Facts) -> list[Suspicion]:
    """Fewer weights than rows, and a training that has come to its end."""
    base, kept = facts.base, facts.train.kept
    if base is None or base.diverged or base.updates < base.planned or kept is None:
        return []
    if not isinstance(kept[0], Tensor) or not len(kept[0]) or _same_data(kept):
        return []
    count = sum(p.numel() for p in facts.program.model.parameters() if p.requires_grad)
    inputs = kept[0][0].numel()
    enough = WEIGHTS_A_ROW * facts.train.rows + inputs
    if count >= enough:
        return []
    chain = _chain(facts)
    if chain is None:
        return []
    layers, norms = chain
    evidence: dict[str, Any] = {
        "weights": count,
        "weights that can fit any labels of so many rows": enough,
        "loss": base.train_loss,
    }
    if len(layers) == 1:
        where, cure = layers[0].name, remedies.hidden_layer(layers[0].name, WIDTH)
        what = f"the network is one layer of {count} weights"
    else:
        widths = {call.name: len(call.module.weight) for call in layers[:-1]}
        where = min(widths, key=lambda name: widths[name])
        evidence["widths"] = widths
        names = [call.name for call in layers]
        cure = remedies.widen(names, norms, FACTOR, f"hidden layers {FACTOR} times as wide")
        what = f"the narrowest hidden layer has {widths[where]} units, the network {count} weights"
    summary = f"{what} for {facts.train.rows} rows; training ends at a loss of {base.train_loss:.4g}"
    return [
        Suspicion("model-too-small", where, summary, evidence, remedies=(cure,), generic=True, gain=0.25, fits=True)
    ]


def _same_data(kept: tuple[Tensor, Tensor]) -> bool:
    """Whether the targets are the inputs: an autoencoder is narrow on purpose."""
    x, y = kept
    return isinstance(y, Tensor) and x.shape == y.shape and bool((x == y).all())


def _chain(facts: Facts) -> tuple[list[Call], list[str]] | None:
    """The layers, if each takes what the one before gives, and the batch normalizations between them."""
    weighted = [call for call in facts.loop.calls if any(True for _ in call.module.parameters())]
    layers = [call for call in weighted if isinstance(call.module, LINEAR)]
    if not layers or layers[0] is not weighted[0] or layers[-1] is not weighted[-1]:
        return None
    if len({call.name for call in weighted}) < len(weighted) or not all(remedies.can_widen(c.module) for c in weighted):
        return None
    if len(layers) == 1 and not isinstance(layers[0].module, nn.Linear):
        return None
    if not all(_follows(first.output_node, second.input_node) for first, second in pairwise(layers)):
        return None
    return layers, [call.name for call in weighted if not isinstance(call.module, LINEAR)]


def _follows(node: Any, later: Any) -> bool:
    """Whether one value alone leads from a node to a later one: no sum, no branch."""
    while later is not None and later is not node:
        parents = [p for p, _ in later.next_functions if p is not None and name_of(p) not in ("AccumulateGrad", "T")]
        if len(parents) != 1:
            return False
        later = parents[0]
    return later is not None


TRAINED = (too_small,)
