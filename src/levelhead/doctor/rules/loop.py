"""Rules on the training loop: gradients, modes, and what is trained."""

from __future__ import annotations

import math
from posixpath import commonpath
from typing import Any

from torch import Tensor, nn

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Seen, Unchanged
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.loop import piled
from levelhead.doctor.evidence.structure import BATCH_NORM, DROPOUT, NORM, loose_parameters, variables
from levelhead.doctor.evidence.weights import frozen_as_drawn
from levelhead.doctor.findings import Severity
from levelhead.doctor.rules.output import one_logit, single_softmax
from levelhead.doctor.rules.rule import AFTERMATH, PAYS, Rule, Suspicion
from levelhead.doctor.trials import Outcome

#: Watched updates that were looked at, none of them with cleared gradients, from which on it is the loop's way.
UNCLEARED = 5
#: Measured updates without any gradient from which on none will come.
UNREACHED = 4
#: Updates in eval mode, all the latest ones and a tenth of all, from which on it is no pause.
LEFT_BEHIND = 10


GRADIENTS_ACCUMULATE = Rule(
    f"""LH604 gradients-accumulate: gradients are never cleared between updates
    Why: The rule adds up what each backward pass brings: if the optimizer gets the last gradient plus this, nothing was
    cleared. It does so for each parameter, too: a loop may clear those of the head and forget the body's. Gathering
    over several batches on purpose, with a clearing after each step, is left in peace.
    Threshold: the gradient at each update, of all parameters or of some, is the last one plus the batch's own; watched,
    at {UNCLEARED} updates looked at or more, and none of them cleared
    Remedy: optimizer.zero_grad() before each backward()
    Example: optimizer.zero_grad()  # before loss.backward()""",
    explains=(*AFTERMATH, "does-not-learn", "learning-rate-too-high"),
)


@GRADIENTS_ACCUMULATE.check()
def accumulating(facts: Evidence) -> list[Suspicion]:
    """Each gradient is the last one plus the batch's own."""
    seen = [u for u in facts.loop.updates[1:] if math.isfinite(u.cleared) and math.isfinite(u.kept)]
    if len(seen) < 2:
        return []
    figures: dict[str, Any] = {
        "gradient not explained by its own batches": [u.cleared for u in seen],
        "nor by these and the last gradient": [u.kept for u in seen],
    }
    whose = "the gradient"
    if not all(piled(u.cleared, u.kept) for u in seen):
        some = sorted(frozenset.intersection(*(u.piled for u in seen)))
        if not some:
            return []
        figures["parameters"] = some[:12]
        whose = f"the gradient of {len(some)} parameters, first {some[0]},"
    summary = f"at each of {len(seen)} updates {whose} is the one before plus the batch's own: it is never cleared"
    return [GRADIENTS_ACCUMULATE.suspect("loop", summary, figures, True, "critical", (remedies.cleared(),))]


GRADIENT_ASCENT = Rule(
    f"""LH503 gradient-ascent: the update climbs the loss
    Why: The rule takes the gradient of the loss itself, and compares its direction with what the optimizer gets and
    with how the parameters move. It also asks the loss for its value at right and at wrong answers: a likelihood
    without its minus rewards errors. Two signs together (a likelihood that is maximized) are descent. Where the loss is
    of no known kind, the opposite sign is tried, since it may be meant to grow.
    Threshold: the gradient that the optimizer gets, or its update, points against the loss's own descent; or right
    answers cost more than wrong ones and the update goes down (of a loss of no known kind: {PAYS})
    Remedy: minimize: no sign, no maximize=True
    Example: torch.optim.SGD(model.parameters(), lr=0.1)  # no maximize=True""",
    explains=(*AFTERMATH, "does-not-learn", "learning-rate-too-high"),
    in_company=False,  # a sign that is turned back beside another repair is no repair
)


@GRADIENT_ASCENT.check("unchanged")
def worsening(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """A script whose evaluations become worse, or whose loss falls under 0; or a term that pulls the other way."""
    climbs = GRADIENT_ASCENT.cause in run.places or run.worsened or (run.validated and run.base.train_loss < 0)
    found = [GRADIENT_ASCENT.tried_with("loop", remedies.turned_round())] if climbs else []
    term = run.validated and run.opposing
    return found + ([GRADIENT_ASCENT.tried_with("loss", remedies.term_turned())] if term else [])


@GRADIENT_ASCENT.check()
def ascending(facts: Evidence) -> list[Suspicion]:
    """Of a loss that rewards errors, a gradient that is the opposite, and an optimizer that climbs: one, or all."""
    seen = [u for u in facts.loop.updates if u.held and math.isfinite(u.held)]
    opposite = len(seen) > 1 and all(math.isfinite(u.descent) and u.descent < -0.5 for u in seen)
    climbing = len(seen) > 1 and all(u.move > 0.1 for u in seen)
    gain = facts.loss.rewards_errors
    if (opposite + climbing + gain) % 2 == 0:  # two signs together are descent
        return []
    figures = {
        "cosine of the gradient used with the loss's": [u.descent for u in seen],
        "cosine of the parameters' change with it": [u.move for u in seen],
        "wrong answers cost less than right ones": gain,
    }
    groups = facts.optimizers[0].param_groups
    if opposite or climbing:
        summary = "the update goes up the gradient of the loss"
        summary += " (maximize=True)" if any(group.get("maximize") for group in groups) else ""
        cure = remedies.set_in_optimizer("maximize", False, "minimize") if climbing else remedies.standard_loop()
    else:
        summary = "the loss is less for wrong answers than for right ones, and the update goes down"
        cure = remedies.times(-1.0, "minus the loss", "loss = -criterion(outputs, targets)")
    if climbing and any(group["lr"] < 0 for group in groups):
        cure = remedies.learning_rate(-1, [group["lr"] for group in groups])
    where = "loop" if opposite else "optimizer" if climbing else "loss"
    certain = bool(facts.loss.kind)  # a loss of its author's own may be meant so: its sign is tried
    return [GRADIENT_ASCENT.suspect(where, summary, figures, certain, "critical", (cure,))]


PARAMETERS_NOT_TRAINED = Rule(
    f"""LH605 parameters-not-trained: parameters frozen, or missing from the optimizer
    Why: A random layer that is not trained is a random feature; whether that costs is tried. A pretrained backbone that
    is frozen on purpose wins nothing by being trained, and is left in peace. Named is the optimizer where it lacks
    them, and the module where they are frozen (`requires_grad=False`). Layers in a plain list and plain tensors are no
    parameters of the model, and so are in no optimizer. Gradients that arrive and are cleared before the step train
    nothing either; then the loop is named. Of a script, frozen layers are trained that are still as PyTorch draws them.
    Threshold: a parameter in a layer that runs is in no optimizer, or needs no gradient: {PAYS} (watched: it needs
    gradients and runs behind a trained one, or has the deviation and range of fresh weights); or gradients arrive and
    are gone when the optimizer steps; or the optimizer has no parameter of the model
    Remedy: give the optimizer all of model.parameters()
    Example: optimizer = torch.optim.SGD(model.parameters(), lr=0.1)""",
    in_games=True,
    explains=("does-not-learn", "learning-rate-too-low"),
)


@PARAMETERS_NOT_TRAINED.check()
def wiped(facts: Evidence) -> list[Suspicion]:
    """Gradients that arrive, and are gone when the optimizer steps."""
    updates = facts.loop.updates
    if not facts.loop.gradients or len(updates) < 2 or any(u.held for u in updates):
        return []
    figures = {"parameters that a gradient reached": len(facts.loop.gradients), "norm at the step": 0.0}
    summary = f"gradients reach {len(facts.loop.gradients)} parameters, and none is left when the optimizer steps"
    cure = remedies.standard_loop()
    return [PARAMETERS_NOT_TRAINED.suspect("loop", summary, figures, True, "critical", (cure,))]


LOSS_DETACHED = Rule(
    f"""LH504 loss-detached: no gradient reaches (part of) the model
    Why: A parameter without a gradient stays as it was. A part that runs under `no_grad()` while the optimizer holds it
    counts as well. Tried is the same model with `detach()` and `no_grad()` left out of its forward pass. Where a module
    gets a value with a graph and gives one without (a comparison, say), it is named, and a gradient straight through it
    is tried (Bengio et al. 2013, Estimating or propagating gradients through stochastic neurons, section 3). Where the
    way to the loss is a staircase (rounded answers, say), all gradients are zero: that counts too, and has no remedy.
    Threshold: a parameter of the optimizer that was never frozen, in a layer that runs, never gets a gradient, or all
    get zeros; watched, also where all parameters of an optimizer have none at {UNREACHED} measured updates or more (a
    generator whose output is detached before the discriminator judges it)
    Remedy: leave out the detach(), item(), numpy() or no_grad() between the layer and the loss
    Example: loss = criterion(model(x), y)  # no detach(), item() or no_grad() between""",
    explains=("does-not-learn", "learning-rate-too-low", "parameters-not-trained"),
)


@LOSS_DETACHED.check("unchanged")
def sampled(_: Evidence, run: Unchanged) -> list[Suspicion]:
    """A sample of a script through which no gradient passes."""
    seen = run.sampled or LOSS_DETACHED.cause in run.places
    return [LOSS_DETACHED.tried_with("loss", remedies.let_through())] if seen else []


@LOSS_DETACHED.check()
def detached(facts: Evidence) -> list[Suspicion]:
    """No gradient reaches a parameter that the optimizer has."""
    loop = facts.loop
    error = str(loop.error or "")
    if "does not require grad" in error:
        summary = f"the loss hangs on no parameter of the model: {error.splitlines()[0]}"
        return [LOSS_DETACHED.suspect("loss", summary, {"error": error}, True, "critical")]
    if loop.error is not None or not loop.updates:
        return []
    missing = [
        name
        for name, parameter in facts.after.named_parameters()
        if id(parameter) in facts.held
        and parameter.requires_grad
        and name not in loop.reached
        and name not in loop.frozen
        and name.rpartition(".")[0] in loop.ran
    ]
    if not missing:
        return []
    where = _common(missing)
    all_of_it = not loop.reached
    figures = {"parameters without a gradient": missing[:12], "how many": len(missing)}
    summary = (
        f"{len(missing)} parameters of the optimizer never get a gradient although their layers run, first {missing[0]}"
    )
    place = "loss" if all_of_it or not where else where
    severity: Severity = "critical" if all_of_it else "warning"
    cures: tuple[remedies.Remedy, ...] = () if all_of_it else (remedies.let_through(),)
    cut = next(
        (c for c in loop.calls if c.input_node is not None and c.output is not None and c.output_node is None), None
    )
    if cut is not None:
        place, summary = cut.name, summary + f"; {cut.name} passes none on"
        if cut.input is not None and cut.output is not None and cut.input.shape == cut.output.shape:
            cures = (remedies.straight_through(cut.name), *cures)
    return [LOSS_DETACHED.suspect(place, summary, figures, True, severity, cures)]


@PARAMETERS_NOT_TRAINED.check()
def elsewhere(facts: Evidence) -> list[Suspicion]:
    """An optimizer that has no parameter of the model."""
    own = {id(p) for p in facts.after.parameters()}
    if not own or not facts.held or own & facts.held or not facts.loop.executed:
        return []
    figures = {"parameters of the model": len(own), "parameters of the optimizer": len(facts.held)}
    summary = f"the optimizer has {len(facts.held)} parameters, and none of them is the model's: nothing is trained"
    cure = (remedies.all_parameters(),)
    return [PARAMETERS_NOT_TRAINED.suspect("optimizer", summary, figures, True, "critical", cure)]


@PARAMETERS_NOT_TRAINED.check("program")
def untrained(facts: Evidence, _: object) -> list[Suspicion]:
    """Parameters that run and are not in the optimizer, or need no gradient."""
    loop, held = facts.loop, facts.held
    ran = variables(facts.node)
    left: list[tuple[str, Tensor]] = [
        (name, p)
        for name, p in facts.after.named_parameters()
        if (id(p) not in held or not (p.requires_grad or name in loop.reached))
        and name.rpartition(".")[0] in loop.executed
        and p.is_floating_point()
    ]
    loose = {n: p for n, p in loose_parameters(facts.after).items() if p in ran and id(p) not in held}
    left += loose.items()
    if not left:
        return []
    frozen = [name for name, p in left if not p.requires_grad]
    count = sum(p.numel() for _, p in left)
    share = count / max(1, sum(p.numel() for p in facts.after.parameters()))
    figures = {"parameters": [name for name, _ in left][:12], "values": count, "share of the model": share}
    missing = len(left) - len(frozen)
    summary = (
        f"{missing} parameters are not in the optimizer" if missing else f"{len(frozen)} parameters need no gradient"
    ) + f" ({100 * share:.0f} % of the model's values), first {left[0][0]}"
    cure = remedies.all_parameters()
    where = "optimizer"
    if not missing:
        where = _common([name for name, _ in left]) or where
    elif len(loose) == len(left):  # the module that holds them, where it is not the whole model
        where = _common([name.partition("[")[0] for name in loose]) or where
    return [PARAMETERS_NOT_TRAINED.suspect(where, summary, figures, remedies=(cure,))]


def _common(names: list[str]) -> str:
    """The innermost module that holds all these parameters."""
    return commonpath([name.rpartition(".")[0].replace(".", "/") for name in names]).replace("/", ".")


EVAL_MODE_IN_TRAINING = Rule(
    """LH406 eval-mode-in-training: the model is updated in eval mode: batch statistics frozen, dropout off
    Why: In eval mode batch normalization uses running statistics that are not updated, and dropout does nothing. Single
    layers in eval mode (a frozen backbone) are left in peace.
    Threshold: a normalization that is trained runs on running statistics, or all dropouts are off, in every update
    Remedy: model.train() at the start of each epoch, and after each evaluation
    Example: model.train()  # before each update""",
    explains=("stale-running-statistics",),
)


@EVAL_MODE_IN_TRAINING.check("unchanged", "history")
def updated_in_eval_mode(_: Evidence, run: Unchanged, history: History) -> list[Suspicion]:
    """Updates of a script in eval mode."""
    return [EVAL_MODE_IN_TRAINING.tried_with("loop", remedies.train_mode())] if history.eval_steps else []


@EVAL_MODE_IN_TRAINING.check()
def eval_in_training(facts: Evidence) -> list[Suspicion]:
    """The whole model is updated in eval mode."""
    modes = facts.loop.modes
    kinds = (*BATCH_NORM, *DROPOUT)
    concerned = {
        name: module
        for name, module in facts.model.named_modules()
        if isinstance(module, kinds) and name in modes and getattr(module, "p", 1) > 0
    }
    frozen = [name for name in concerned if modes[name] == {False}]
    norms = [name for name in frozen if isinstance(concerned[name], BATCH_NORM)]
    if not frozen or modes.get("", {True}) != {False}:  # single layers in eval mode are frozen on purpose
        return []
    trained = [n for n in norms if any(f"{n}.{p}" in facts.loop.reached for p in ("weight", "bias"))]
    if norms and not trained:
        return []
    figures = {"in eval mode at each update": frozen[:12]}
    what = "batch normalizations run on fixed statistics" if norms else "dropouts do nothing"
    summary = f"the model is in eval mode while it is updated: {len(norms or frozen)} {what}"
    cures = (remedies.train_mode(), remedies.standard_loop())
    severity: Severity = "critical" if norms else "warning"
    return [EVAL_MODE_IN_TRAINING.suspect("loop", summary, figures, True, severity, cures)]


@EVAL_MODE_IN_TRAINING.check("base")
def mode_left(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """A training that begins in training mode and is in eval mode from some update on."""
    return _left(facts, base.eval_since, base.updates)


@EVAL_MODE_IN_TRAINING.check("history")
def mode_left_watched(facts: Evidence, history: History) -> list[Suspicion]:
    """The same of a watched one."""
    return _left(facts, history.eval_since, history.steps)


def _left(facts: Evidence, since: int, count: int) -> list[Suspicion]:
    kinds = [m for m in facts.model.modules() if isinstance(m, (*BATCH_NORM, *DROPOUT)) and getattr(m, "p", 1) > 0]
    if not kinds or since < 1 or count - since < max(LEFT_BEHIND, count // 10):
        return []
    summary = f"from update {since + 1} of {count} on the model is in eval mode: something has put it there for good"
    cure = remedies.train_mode()
    return [EVAL_MODE_IN_TRAINING.suspect("loop", summary, {"since": since + 1}, True, "warning", (cure,))]


DECAY_ON_NORM_OR_BIAS = Rule(
    """LH606 decay-on-norm-or-bias: weight decay on normalization parameters or biases
    Why: Decay pulls a scale to 0 and not to 1. A class of your own counts whose name has "norm" in it and whose
    parameters have one dimension.
    Threshold: a parameter group with weight_decay > 0 holds some; style
    Source: the convention of He et al. 2019, Bag of tricks for image classification, section 3.1
    Remedy: two parameter groups: weight_decay for matrices, 0 for the rest
    Example: torch.optim.AdamW(lh.regularizers.decay_groups(model, 0.01))"""
)


def _called_norm(module: nn.Module) -> bool:
    """Whether a class of the author's own is a normalization: by its name, and parameters of one dimension alone."""
    own = list(module.parameters())
    name = type(module).__name__.lower()
    return "norm" in name and bool(own) and not any(module.children()) and all(p.ndim == 1 for p in own)


@DECAY_ON_NORM_OR_BIAS.check()
def decay_on_norm(facts: Evidence) -> list[Suspicion]:
    """Weight decay on the parameters of normalization layers."""
    norms = {
        id(p): f"{name}.{kind}"
        for name, module in facts.model.named_modules()
        if isinstance(module, NORM) or _called_norm(module)
        for kind, p in module.named_parameters(recurse=False)
    }
    decayed = [
        norms[id(p)]
        for each in facts.optimizers
        for group in each.param_groups
        if group.get("weight_decay", 0) > 0
        for p in group["params"]
        if id(p) in norms
    ]
    if not decayed:
        return []
    summary = f"weight decay acts on {len(decayed)} parameters of normalization layers, first {decayed[0]}"
    figures = {"parameters": decayed[:12]}
    return [DECAY_ON_NORM_OR_BIAS.suspect("optimizer", summary, figures, True, "info")]


@LOSS_DETACHED.check()
def all_zero(facts: Evidence) -> list[Suspicion]:
    """Gradients arrive at the parameters, and all of them are zero: the way to the loss is a staircase."""
    loop = facts.loop
    if not loop.reached or loop.gradients or loop.error is not None or not loop.updates:
        return []
    if single_softmax(facts) or one_logit(facts):
        return []  # these say why
    figures = {"parameters with a gradient of zero": len(loop.reached)}
    summary = f"the gradients of all {len(loop.reached)} parameters are zero: the loss does not change with small steps"
    return [LOSS_DETACHED.suspect("loss", summary, figures, True, "critical")]


@LOSS_DETACHED.check("history")
def no_gradient(facts: Evidence, history: History) -> list[Suspicion]:
    """A watched optimizer that steps, and whose parameters never had a gradient, not one of them."""
    held = [p for each in facts.optimizers for group in each.param_groups for p in group["params"] if p.requires_grad]
    own = {id(p) for p in facts.model.parameters()}
    if len(history.measured) < UNREACHED or facts.loop.reached or not any(id(p) in own for p in held):
        return []
    summary = f"in {history.steps} updates none of the optimizer's {len(held)} parameters ever had a gradient"
    return [LOSS_DETACHED.suspect("loss", summary, {"parameters": len(held)}, True, "critical")]


@GRADIENTS_ACCUMULATE.check("history")
def never_cleared(facts: Evidence, history: History) -> list[Suspicion]:
    """No update that was watched cleared the gradients of the one before."""
    if history.uncleared < UNCLEARED or history.cleared:
        return []
    summary = f"at none of the {history.uncleared} updates looked at, the gradients of the one before had been cleared"
    figures = {"updates looked at": history.uncleared}
    return [GRADIENTS_ACCUMULATE.suspect("loop", summary, figures, True, "critical", (remedies.cleared(),))]


@PARAMETERS_NOT_TRAINED.check("script")
def given_to_none(facts: Evidence, seen: Seen) -> list[Suspicion]:
    """Parameters of a script that get gradients and are in no optimizer."""
    left = seen.untrained
    if not left:
        return []
    summary = f"{len(left)} parameters get gradients and are in no optimizer, first {left[0]}"
    figures, cure = {"parameters": list(left[:12])}, (remedies.all_parameters(),)
    return [PARAMETERS_NOT_TRAINED.suspect("optimizer", summary, figures, seen.drawn, "warning", cure)]


@PARAMETERS_NOT_TRAINED.check("history")
def random_and_frozen(facts: Evidence, _: History) -> list[Suspicion]:
    """Layers of a watched model that run, are frozen, and have the weights that PyTorch draws."""
    names = [name for name in frozen_as_drawn(facts.model) if name in facts.loop.executed]
    if not names:
        return []
    summary = f"{len(names)} layers are frozen with weights as they were drawn, first {names[0]}"
    cure = (remedies.all_parameters(),)
    return [PARAMETERS_NOT_TRAINED.suspect(names[0], summary, {"layers": names[:12]}, remedies=cure)]


@PARAMETERS_NOT_TRAINED.check("history")
def left_out(facts: Evidence, history: History) -> list[Suspicion]:
    """Parameters of a watched model that need gradients, run behind trained ones, and are in no optimizer."""
    order = [(n, p) for n, p in facts.model.named_parameters() if n.rpartition(".")[0] in facts.loop.executed]
    trained = [i for i, (_, p) in enumerate(order) if id(p) in facts.held]
    left = [
        name
        for i, (name, p) in enumerate(order)
        if id(p) not in facts.held
        and p.requires_grad
        and trained
        and i > trained[0]
        and (
            facts.known is None or id(p) in facts.known
        )  # a head that was put in later is trained by another optimizer
    ]
    if not left:
        return []
    what = f"{len(left)} parameters that need gradients and run behind trained ones"
    summary = f"{what} are in no optimizer, first {left[0]}"
    figures, cure = {"parameters": left[:12]}, (remedies.all_parameters(),)
    return [PARAMETERS_NOT_TRAINED.suspect("optimizer", summary, figures, True, "warning", cure)]


RULES = (
    GRADIENTS_ACCUMULATE,
    GRADIENT_ASCENT,
    PARAMETERS_NOT_TRAINED,
    LOSS_DETACHED,
    EVAL_MODE_IN_TRAINING,
    DECAY_ON_NORM_OR_BIAS,
)
