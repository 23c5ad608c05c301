"""Rules on the evaluation: what is on that should be off."""

from __future__ import annotations

from typing import Any

from levelhead.doctor import remedies
from levelhead.doctor.evidence import Evidence, Seen, Unchanged
from levelhead.doctor.evidence.history import History
from levelhead.doctor.evidence.structure import BATCH_NORM, DROPOUT
from levelhead.doctor.isolation import clone
from levelhead.doctor.rules.rule import GAIN, Rule, Suspicion
from levelhead.doctor.trials import Outcome

TRAIN_MODE_IN_EVAL = Rule(
    f"""LH407 train-mode-in-eval: the model is evaluated in training mode: dropout or batch statistics are on
    Why: Scores then hang on the other rows of a batch, or on chance, and running statistics take in validation data.
    Dropout that is called as a function has its own switch; the module that calls it is named. Dropout is measured: the
    trained model is evaluated with and without it, and an average over draws, which is meant, loses nothing by them.
    Threshold: a batch normalization or dropout runs in training mode during evaluation (watched: in both or more passes
    without gradients, and none in eval mode; of a script also dropout as a function, in eval mode); or dropout is
    called as a function that drops, and the score without it is {100 * GAIN:.0f} % of the way better
    Remedy: model.eval() before evaluation
    Example: model.eval()
    with torch.no_grad():
        outputs = model(inputs)"""
)


@TRAIN_MODE_IN_EVAL.check("unchanged", "history")
def evaluated_in_training_mode(_: Evidence, run: Unchanged, history: History) -> list[Suspicion]:
    """Evaluations of a script in training mode, or with dropout."""
    seen = run.validated and (history.training_evaluations or run.dropping)
    return [TRAIN_MODE_IN_EVAL.tried_with("loop", remedies.standard_evaluation())] if seen else []


@TRAIN_MODE_IN_EVAL.check("program")
def statistics_of_batches(facts: Evidence, _: object) -> list[Suspicion]:
    """Batch statistics are taken during evaluation."""
    modules: dict[str, Any] = dict(facts.model.named_modules())
    norms = [name for name in facts.evaluation.training if isinstance(modules[name], BATCH_NORM)]
    if not norms:
        return []
    figures = {"in training mode during evaluation": norms[:12]}
    summary = f"during evaluation {len(norms)} batch normalizations use the batch's own statistics"
    cure = remedies.standard_evaluation()
    return [TRAIN_MODE_IN_EVAL.suspect("loop", summary, figures, True, "warning", (cure,))]


@TRAIN_MODE_IN_EVAL.check("base")
def dropping(facts: Evidence, base: Outcome) -> list[Suspicion]:
    """Dropout during evaluation, and what the same model scores without: who means to average over it loses nothing."""
    seen = facts.evaluation
    if base.diverged or base.error is not None or not (seen.dropped or seen.training):
        return []
    steady = clone(base.program)
    cure = remedies.without_dropout()
    cure(steady)
    score = steady.final_score()
    gain = facts.gain(base.score, score)
    figures = {"calls in one evaluation": len(seen.dropped), "score": base.score, "score without": score}
    if seen.training:
        where, summary = "loop", f"during evaluation {len(seen.training)} dropouts drop values"
    else:
        where = seen.dropped[0] or "loop"
        summary = f"dropout is called {len(seen.dropped)} times during evaluation, as a function that is left on"
    if gain < GAIN:
        return [TRAIN_MODE_IN_EVAL.suspect(where, summary, figures, True, "info", (cure,))]
    return [TRAIN_MODE_IN_EVAL.suspect(where, summary, figures, remedies=(cure,), measured=gain)]


@TRAIN_MODE_IN_EVAL.check("history")
def training_evaluation(facts: Evidence, history: History) -> list[Suspicion]:
    """Evaluations that were watched, all of them in training mode."""
    concerned = [
        n for n, m in facts.model.named_modules() if isinstance(m, BATCH_NORM) or (isinstance(m, DROPOUT) and m.p > 0)
    ]
    if history.training_evaluations < 2 or history.eval_evaluations or not concerned:
        return []
    passes = history.training_evaluations
    summary = f"all {passes} passes without gradients ran in training mode, {concerned[0]} included"
    figures = {"in training mode": history.training_evaluations, "in eval mode": 0}
    cure = (remedies.standard_evaluation(),)
    return [TRAIN_MODE_IN_EVAL.suspect("loop", summary, figures, True, "warning", cure)]


@TRAIN_MODE_IN_EVAL.check("script")
def dropping_functions(facts: Evidence, seen: Seen) -> list[Suspicion]:
    """Dropout as a function that drops in a script's eval mode; of one batch asked several times it is meant."""
    if not seen.dropping:
        return []
    summary = f"dropout is called {seen.dropping} times in eval mode, as a function that is left on"
    figures, cure = {"calls": seen.dropping}, (remedies.without_dropout(),)
    return [TRAIN_MODE_IN_EVAL.suspect("loop", summary, figures, True, "warning", cure)]


RULES = (TRAIN_MODE_IN_EVAL,)
