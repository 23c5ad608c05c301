"""Rules on the training loop: gradients, modes, what is trained, and what the evaluation does."""

from __future__ import annotations

import math
from posixpath import commonpath
from typing import Any

from torch import Tensor

from levelhead.doctor import remedies
from levelhead.doctor.facts import Facts
from levelhead.doctor.findings import Severity
from levelhead.doctor.probes.loop import piled
from levelhead.doctor.probes.structure import BATCH_NORM, DROPOUT, NORM, loose_parameters, variables
from levelhead.doctor.program import Program
from levelhead.doctor.rules.suspicion import Suspicion


def accumulating(facts: Facts) -> list[Suspicion]:
    """Each gradient is the last one plus the batch's own."""
    seen = [u for u in facts.loop.updates[1:] if math.isfinite(u.cleared) and math.isfinite(u.kept)]
    if len(seen) < 2:
        return []
    evidence: dict[str, Any] = {
        "gradient not explained by its own batches": [u.cleared for u in seen],
        "nor by these and the last gradient": [u.kept for u in seen],
    }
    whose = "the gradient"
    if not all(piled(u.cleared, u.kept) for u in seen):
        some = sorted(frozenset.intersection(*(u.piled for u in seen)))
        if not some:
            return []
        evidence["parameters"] = some[:12]
        whose = f"the gradient of {len(some)} parameters, first {some[0]},"
    summary = f"at each of {len(seen)} updates {whose} is the one before plus the batch's own: it is never cleared"
    cure = remedies.before_step(
        lambda program: program.optimizer.zero_grad(), "gradients cleared", "optimizer.zero_grad()  # before backward()"
    )
    return [Suspicion("gradients-accumulate", "loop", summary, evidence, True, "critical", (cure,))]


def ascending(facts: Facts) -> list[Suspicion]:
    """Of a loss that rewards errors, a gradient that is the opposite, and an optimizer that climbs: one, or all."""
    seen = [u for u in facts.loop.updates if u.held and math.isfinite(u.held)]
    opposite = len(seen) > 1 and all(math.isfinite(u.descent) and u.descent < -0.5 for u in seen)
    climbing = len(seen) > 1 and all(u.move > 0.1 for u in seen)
    gain = facts.loss.rewards_errors
    if (opposite + climbing + gain) % 2 == 0:  # two signs together are descent
        return []
    evidence = {
        "cosine of the gradient used with the loss's": [u.descent for u in seen],
        "cosine of the parameters' change with it": [u.move for u in seen],
        "wrong answers cost less than right ones": gain,
    }
    groups = facts.program.optimizer.param_groups
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
    return [Suspicion("gradient-ascent", where, summary, evidence, certain, "critical", (cure,))]


def wiped(facts: Facts) -> list[Suspicion]:
    """Gradients that arrive, and are gone when the optimizer steps."""
    updates = facts.loop.updates
    if not facts.loop.gradients or len(updates) < 2 or any(u.held for u in updates):
        return []
    evidence = {"parameters that a gradient reached": len(facts.loop.gradients), "norm at the step": 0.0}
    summary = f"gradients reach {len(facts.loop.gradients)} parameters, and none is left when the optimizer steps"
    cure = remedies.standard_loop()
    return [Suspicion("parameters-not-trained", "loop", summary, evidence, True, "critical", (cure,))]


def detached(facts: Facts) -> list[Suspicion]:
    """No gradient reaches a parameter that the optimizer has."""
    loop, program = facts.loop, facts.watched
    error = str(loop.error or "")
    if "does not require grad" in error:
        summary = f"the loss hangs on no parameter of the model: {error.splitlines()[0]}"
        return [Suspicion("loss-detached", "loss", summary, {"error": error}, True, "critical")]
    if loop.error is not None or not loop.updates:
        return []
    held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
    missing = [
        name
        for name, parameter in program.model.named_parameters()
        if id(parameter) in held
        and parameter.requires_grad
        and name not in loop.reached
        and name not in loop.frozen
        and name.rpartition(".")[0] in loop.ran
    ]
    if not missing:
        return []
    where = _common(missing)
    all_of_it = not loop.reached
    evidence = {"parameters without a gradient": missing[:12], "how many": len(missing)}
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
    return [Suspicion("loss-detached", place, summary, evidence, True, severity, cures)]


def untrained(facts: Facts) -> list[Suspicion]:
    """Parameters that run and are not in the optimizer, or need no gradient."""
    program, loop = facts.watched, facts.loop
    held = {id(p) for each in program.optimizers for group in each.param_groups for p in group["params"]}
    ran = variables(facts.node)
    left: list[tuple[str, Tensor]] = [
        (name, p)
        for name, p in program.model.named_parameters()
        if (id(p) not in held or not (p.requires_grad or name in loop.reached))
        and name.rpartition(".")[0] in loop.executed
        and p.is_floating_point()
    ]
    loose = {n: p for n, p in loose_parameters(program.model).items() if p in ran and id(p) not in held}
    left += loose.items()
    if not left:
        return []
    frozen = [name for name, p in left if not p.requires_grad]
    count = sum(p.numel() for _, p in left)
    share = count / max(1, sum(p.numel() for p in program.model.parameters()))
    evidence = {"parameters": [name for name, _ in left][:12], "values": count, "share of the model": share}
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
    return [Suspicion("parameters-not-trained", where, summary, evidence, remedies=(cure,))]


def _common(names: list[str]) -> str:
    """The innermost module that holds all these parameters."""
    return commonpath([name.rpartition(".")[0].replace(".", "/") for name in names]).replace("/", ".")


def eval_in_training(facts: Facts) -> list[Suspicion]:
    """The whole model is updated in eval mode."""
    modes = facts.loop.modes
    kinds = (*BATCH_NORM, *DROPOUT)
    concerned = {
        name: module
        for name, module in facts.program.model.named_modules()
        if isinstance(module, kinds) and name in modes and getattr(module, "p", 1) > 0
    }
    frozen = [name for name in concerned if modes[name] == {False}]
    norms = [name for name in frozen if isinstance(concerned[name], BATCH_NORM)]
    if not frozen or modes.get("", {True}) != {False}:  # single layers in eval mode are frozen on purpose
        return []
    trained = [n for n in norms if any(f"{n}.{p}" in facts.loop.reached for p in ("weight", "bias"))]
    if norms and not trained:
        return []
    evidence = {"in eval mode at each update": frozen[:12]}
    what = "batch normalizations run on fixed statistics" if norms else "dropouts do nothing"
    summary = f"the model is in eval mode while it is updated: {len(norms or frozen)} {what}"
    cures = (
        remedies.before_step(_train_mode, "train mode", "model.train()  # before each update"),
        remedies.standard_loop(),
    )
    severity: Severity = "critical" if norms else "warning"
    return [Suspicion("eval-mode-in-training", "loop", summary, evidence, True, severity, cures)]


def _train_mode(program: Program) -> None:
    program.model.train()


def decay_on_norm(facts: Facts) -> list[Suspicion]:
    """Weight decay on the parameters of normalization layers."""
    norms = {
        id(p): f"{name}.{kind}"
        for name, module in facts.program.model.named_modules()
        if isinstance(module, NORM)
        for kind, p in module.named_parameters(recurse=False)
    }
    decayed = [
        norms[id(p)]
        for group in facts.program.optimizer.param_groups
        if group.get("weight_decay", 0) > 0
        for p in group["params"]
        if id(p) in norms
    ]
    if not decayed:
        return []
    summary = f"weight decay acts on {len(decayed)} parameters of normalization layers, first {decayed[0]}"
    evidence = {"parameters": decayed[:12]}
    return [Suspicion("decay-on-norm-or-bias", "optimizer", summary, evidence, True, "info")]


RULES = (accumulating, ascending, wiped, detached, eval_in_training, untrained, decay_on_norm)
