"""Turns what was proven into a patch of the script, where the place of the change can be found for sure."""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch.optim import lr_scheduler

#: A change of the text: from (line, column) to (line, column), what stands there afterwards.
Edit = tuple[int, int, int, int, str]


def patch(path: Path, cause: str, rates: Sequence[float], factor: float) -> str:
    """A unified diff of the script that removes a cause; empty where its place is not certain.

    Args:
        path: the script.
        cause: a rule's, or ``schedule``, whose steps are left out.
        rates: the learning rates of its optimizers.
        factor: how many times as high the rate is to be.
    """
    find = FINDERS.get(cause)
    if find is None:
        return ""
    text = path.read_text()
    source = _Source(text, rates, factor)
    edits = find(source)
    changed = source.edited(edits) if len(edits) == 1 else text
    try:
        ast.parse(changed)
    except SyntaxError:
        return ""
    name = path.name
    lines = difflib.unified_diff(text.splitlines(), changed.splitlines(), f"a/{name}", f"b/{name}", lineterm="")
    return "\n".join(lines)


class _Source:
    """A script's text and tree."""

    def __init__(self, text: str, rates: Sequence[float], factor: float) -> None:
        self.text, self.rates, self.factor = text, rates, factor
        self.lines = text.splitlines(keepends=True)
        self.tree = ast.parse(text)
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        return ast.get_source_segment(self.text, node) or ""

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What holds a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def calls(self, *names: str) -> list[ast.Call]:
        """Calls of functions or methods with these last names."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call)]
        return [c for c in found if (c.func.attr if isinstance(c.func, ast.Attribute) else self.of(c.func)) in names]

    def edited(self, edits: list[Edit]) -> str:
        """The text with an edit; columns are bytes, as the tree counts them."""
        lines = list(self.lines)
        for line, column, end, until, new in edits:
            before = lines[line - 1].encode()[:column].decode()
            after = lines[end - 1].encode()[until:].decode()
            lines[line - 1 : end] = [before + new + after]
        return "".join(lines)


def _replaced(node: ast.expr, new: str) -> Edit:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, new


def _inserted(before: ast.stmt, new: str) -> Edit:
    return before.lineno, 0, before.lineno, 0, " " * before.col_offset + new + "\n"


def _numbers(source: _Source, *names: str) -> list[ast.Constant]:
    """The numbers that arguments, defaults, options and variables of these names are given."""
    pairs: list[tuple[str, ast.AST | None]] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            pairs += [(word.arg or "", word.value) for word in node.keywords]
            option = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
            default = next((word.value for word in node.keywords if word.arg == "default"), None)
            pairs.append((str(option).lstrip("-").replace("-", "_"), default))
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            pairs += [(source.of(t), v) for t, v in zip(node.targets[0].elts, node.value.elts, strict=False)]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            pairs.append((source.of(target).rpartition(".")[2], node.value))
        elif isinstance(node, ast.Dict):
            pairs += [(str(getattr(k, "value", "")), v) for k, v in zip(node.keys, node.values, strict=True)]
        elif isinstance(node, ast.arguments):
            given = [*node.posonlyargs, *node.args]
            pairs += [(a.arg, d) for a, d in zip(given[len(given) - len(node.defaults) :], node.defaults, strict=True)]
            pairs += [(a.arg, d) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
    found = [v for name, v in pairs if name in names and isinstance(v, ast.Constant)]
    return [v for v in found if isinstance(v.value, int | float)]


def _rate(source: _Source) -> list[Edit]:
    numbers = _numbers(source, "lr", "learning_rate", "max_lr", "base_lr")
    equal = [n for n in numbers if any(math.isclose(float(n.value), rate) for rate in source.rates)]  # type: ignore[arg-type]
    found = equal or (numbers if len(numbers) == 1 else [])
    return [_replaced(n, f"{float(n.value) * source.factor:g}") for n in found]  # type: ignore[arg-type]


def _decay(source: _Source) -> list[Edit]:
    return [_replaced(n, "0.0") for n in _numbers(source, "weight_decay") if n.value]


def _dropout(source: _Source) -> list[Edit]:
    calls = source.calls("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "dropout")
    given = [a for c in calls for a in [*c.args, *(k.value for k in c.keywords if k.arg == "p")]]
    numbers = [a for a in given if isinstance(a, ast.Constant) and isinstance(a.value, float)]
    return [_replaced(n, "0.0") for n in numbers]


def _squash(source: _Source) -> list[Edit]:
    edits: list[Edit] = []
    for call in source.calls("Softmax", "Sigmoid"):
        line = source.lines[call.lineno - 1]
        if line.strip().rstrip(",") == source.of(call):
            edits.append((call.lineno, 0, call.lineno, len(line.encode()), ""))
    for call in source.calls("softmax", "sigmoid"):
        owner = next((n.name for n in source.around(call) if isinstance(n, ast.ClassDef)), "Loss")
        inside = any(isinstance(n, ast.FunctionDef) and n.name == "forward" for n in source.around(call))
        if inside and "loss" not in owner.lower() and isinstance(source.parents[call], ast.Return) and call.args:
            edits.append(_replaced(call, source.of(call.args[0])))
    return edits


def _statement(source: _Source, node: ast.AST) -> ast.stmt:
    return next(n for n in (node, *source.around(node)) if isinstance(n, ast.stmt))


def _before_backward(source: _Source) -> list[Edit]:
    steps = [c for c in source.calls("step") if isinstance(c.func, ast.Attribute) and not c.args]
    owners = {source.of(c.func.value) for c in steps if isinstance(c.func, ast.Attribute)}
    owners = {owner for owner in owners if "sched" not in owner.lower()}
    edits = [
        _inserted(_statement(source, call), f"{owner}.zero_grad()")
        for call in source.calls("backward")
        for owner in owners
    ]
    return edits if not source.calls("zero_grad") else []


def _sign(source: _Source) -> list[Edit]:
    found = [c.func.value for c in source.calls("backward") if isinstance(c.func, ast.Attribute)]
    turned = [v for v in found if isinstance(v, ast.UnaryOp) and isinstance(v.op, ast.USub)]
    most = [
        k.value for c in ast.walk(source.tree) if isinstance(c, ast.Call) for k in c.keywords if k.arg == "maximize"
    ]
    edits = []
    for value in turned:
        line, column, end, until, _ = _replaced(value, "")
        edits.append((line, column - 1, end, until + 1, source.of(value.operand)))  # with its brackets
    return edits + [_replaced(value, "False") for value in most]


def _training(source: _Source) -> list[Edit]:
    models = {source.of(c.func.value) for c in source.calls("eval") if isinstance(c.func, ast.Attribute)}
    edits = []
    for call in source.calls("backward"):
        loop = next((n for n in source.around(call) if isinstance(n, ast.For)), None)
        edits += [_inserted(loop, f"{model}.train()") for model in models if loop is not None]
    return edits


def _schedule(source: _Source) -> list[Edit]:
    made = source.calls(*(name for name in dir(lr_scheduler) if name.endswith(("LR", "Restarts", "Plateau"))))
    names = {source.of(t) for c in made for a in [source.parents[c]] if isinstance(a, ast.Assign) for t in a.targets}
    steps = [c for c in source.calls("step") if isinstance(c.func, ast.Attribute) and source.of(c.func.value) in names]
    return [(s.lineno, 0, s.end_lineno or s.lineno, 10**6, "") for c in steps for s in [_statement(source, c)]]


FINDERS: dict[str, Callable[[_Source], list[Edit]]] = {
    "learning-rate-too-high": _rate,
    "learning-rate-too-low": _rate,
    "schedule": _schedule,
    "penalty-too-strong": _decay,
    "dropout-too-strong": _dropout,
    "output-mismatch": _squash,
    "gradients-accumulate": _before_backward,
    "gradient-ascent": _sign,
    "eval-mode-in-training": _training,
}
