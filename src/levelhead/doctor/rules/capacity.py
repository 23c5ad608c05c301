"""The rule on capacity: a network that has learnt all that it can, and could learn more if it were wider."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence
from levelhead.doctor.evidence.calls import Call
from levelhead.doctor.evidence.structure import LINEAR
from levelhead.doctor.rules.rule import LARGE_GAIN, PAYS_MUCH, Rule, Suspicion
from levelhead.doctor.trials import Outcome

#: Zhang et al. 2017, Understanding deep learning requires rethinking generalization, theorem 1: 2 n + d weights can
#: fit any n rows of d inputs. A network that has as many is not suspected.
WEIGHTS_A_ROW = 2
FACTOR = 8
#: Layers of so few units are tried wider still.
NARROW = 4
WIDTH = 64


MODEL_TOO_SMALL = Rule(
    f"""LH703 model-too-small: too little capacity for the data
    Why: A network with 2 n + d weights can fit any labels of n rows of d inputs (Zhang et al. 2017, theorem 1); one
    with fewer may have learnt all that it can. Looked for where linear and convolution layers, embeddings, recurrent
    layers and normalizations are all that has weights and the training ran whole; not where outputs have the inputs'
    shape (an autoencoder is narrow on purpose). Layers of at most {NARROW} units are tried 64 times as wide as well,
    and looked at in a large network, too, if another layer has {FACTOR} times as many.
    Threshold: fewer than {WEIGHTS_A_ROW} n + d weights for n rows of d inputs, or such a narrow layer; hidden layers
    {FACTOR} times as wide: {PAYS_MUCH}, and fit the training data better
    Source: Zhang et al. 2017, Understanding deep learning requires rethinking generalization, theorem 1
    Remedy: wider hidden layers
    Example: nn.Linear(inputs, 8 * width)""",
    rank=8,
)


@MODEL_TOO_SMALL.check("base")
def too_small(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Fewer weights than rows or one narrow layer, and a training that has come to its end."""
    kept = facts.train.kept
    if base.diverged or base.updates < base.planned or kept is None:
        return []
    if not isinstance(kept[0], Tensor) or not len(kept[0]) or _same_data(facts, kept[0]):
        return []
    count = sum(p.numel() for p in facts.model.parameters() if p.requires_grad)
    enough = WEIGHTS_A_ROW * facts.train.rows + kept[0][0].numel()
    calls = _weighted(facts)
    widths = {call.name: units for call in calls[:-1] if (units := remedies.units(call.module))}
    narrow = bool(widths) and min(widths.values()) <= min(NARROW, max(widths.values()) // FACTOR)
    if (count >= enough and not narrow) or not calls:
        return []
    figures: dict[str, Any] = {
        "weights": count,
        "weights that can fit any labels of so many rows": enough,
        "loss": base.train_loss,
    }
    cures: list[remedies.Remedy] = []
    if not widths:
        where = calls[-1].name
        cures.append(remedies.hidden_layer(where, WIDTH))
        what = f"the network is one layer of {count} weights"
    else:
        where = min(widths, key=lambda name: widths[name])
        figures["widths"] = widths
        given = [call.name for call in calls if call.input_node is None]
        for factor in (FACTOR, FACTOR**2)[: 2 if widths[where] <= NARROW else 1]:
            words = f"hidden layers {factor} times as wide"
            cures.append(remedies.widen([call.name for call in calls], given, factor, words))
        what = f"the narrowest hidden layer has {widths[where]} units, the network {count} weights"
    summary = f"{what} for {facts.train.rows} rows; training ends at a loss of {base.train_loss:.4g}"
    tried = tuple(cures)
    return [MODEL_TOO_SMALL.suspect(where, summary, figures, remedies=tried, generic=True, gain=LARGE_GAIN, fits=True)]


def _same_data(facts: Evidence, inputs: Tensor) -> bool:
    """Whether the outputs stand for the inputs: an autoencoder is narrow on purpose."""
    same = facts.outputs is not None and facts.outputs.shape[1:] == inputs.shape[1:] and inputs[0].numel() > 1
    return same and facts.loss.task != "classes"


def _weighted(facts: Evidence) -> list[Call]:
    """What has weights and ran, if all of it can be built wider and the last is a layer; a single one if linear."""
    calls = [call for call in facts.loop.calls if any(True for _ in call.module.parameters(recurse=False))]
    if not calls or len({call.name for call in calls}) < len(calls):
        return []
    if not all(remedies.can_widen(call.module) for call in calls) or not isinstance(calls[-1].module, LINEAR):
        return []
    return [] if len(calls) == 1 and not isinstance(calls[0].module, nn.Linear) else calls


RULES = (MODEL_TOO_SMALL,)
