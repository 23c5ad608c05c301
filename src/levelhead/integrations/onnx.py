"""Models as ONNX files, checked: what trains is refused, group norm takes the form that runs right, the file is run."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _NormBase

from levelhead import kinds

#: The last opset in which PyTorch writes group norm as Reshape, InstanceNormalization, Reshape.
GROUP_NORM_OPSET = 20


@dataclass(frozen=True, slots=True)
class Exported:
    """A file, and how far it is from the module.

    Args:
        path: the file.
        file: the largest error of an output in ONNX Runtime against the module in float64, as a share of the largest
            value, by the mean that the inputs were shifted to.
        module: the same of the module as it is.
    """

    path: Path
    file: Mapping[float, float]
    module: Mapping[float, float]

    def __str__(self) -> str:
        """A line for each mean."""
        lines = [
            f"at mean {mean:g}: off by {self.file[mean]:.0e}, the module by {self.module[mean]:.0e}"
            for mean in self.file
        ]
        return "\n".join([str(self.path), *lines])


def export(
    model: nn.Module,
    args: tuple[Any, ...],
    path: str | Path,
    *,
    means: Sequence[float] = (0.0, 1e4),
    opset: int = GROUP_NORM_OPSET,
    **options: Any,
) -> Exported:
    """Write a model with ``torch.onnx.export(dynamo=True)`` and run the file beside it in ONNX Runtime.

    PyTorch writes a batch norm in training in its inference form without a word, and in training mode ONNX Runtime
    merges parameters of equal values and overwrites them: so nothing is written that is in training. From opset 21 on
    group norm becomes GroupNormalization, which ONNX Runtime calculates as E[x²] - mean²: NaN where the mean is large.

    Args:
        model: in evaluation, whole.
        args: example arguments of ``forward``; the tensors of floating point among them are shifted to ``means``.
        path: of the file.
        means: where file and module are compared; the model's own inputs may have another mean: name it here.
        opset: up to 20 where the model has a group norm.
        **options: of ``torch.onnx.export``, as ``dynamic_shapes``.

    Returns:
        The path and the errors. A file that gives NaN, or is off by more than 1 %, is warned of.

    Raises:
        ValueError: a norm or a dropout is in training or normalizes by the batch, or the opset is too new.

    Example:
        >>> exported = export(model.eval(), (x,), "model.onnx", means=(0.0, float(x.mean())))  # doctest: +SKIP
    """
    trained = [name for name, module in model.named_modules() if module.training and _is_random_or_tracked(module)]
    if trained:
        raise ValueError(
            f"{_listed(trained)}: in training, which torch.onnx.export writes in another form; call model.eval() before"
        )
    program: Any = torch.onnx.export(model, args, dynamo=True, opset_version=opset, verbose=False, **options)
    for said, named in _refused(program.exported_program.graph, opset).items():
        raise ValueError(f"{_listed(named)}: {said}")
    program.save(path, external_data=options.get("external_data", True))
    errors = {mean: _errors(model, args, path, mean) for mean in means}
    exported = Exported(
        Path(path), {m: file for m, (file, _) in errors.items()}, {m: own for m, (_, own) in errors.items()}
    )
    if any(not file <= 0.01 for file, _ in errors.values()):
        warnings.warn(f"ONNX Runtime does not give what the module gives: {exported}", stacklevel=2)
    return exported


def _is_random_or_tracked(module: nn.Module) -> bool:
    within = isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0
    return within or isinstance(module, _NormBase | kinds.Dropout)


def _refused(graph: fx.Graph, opset: int) -> dict[str, list[str]]:
    """What in an exported program would run in another form, of functions too: why, and the modules that call it."""
    found: dict[str, list[str]] = {}
    for node in graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        names = (argument.name for argument in node.target._schema.arguments)
        given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        if "batch_norm" in node.target.name() and given.get("training"):
            why = (
                "normalizes by the batch in evaluation, too, and torch.onnx.export would write it with other estimates;"
                " let it keep running ones (track_running_stats=True, training=self.training) and lh.recalibrate set"
                " them"
            )
        elif "dropout" in node.target.name() and given.get("train") and given["p"]:
            why = "drops out in evaluation, too; give F.dropout training=self.training"
        elif "group_norm" in node.target.name() and opset > GROUP_NORM_OPSET:
            why = (
                f"opset={opset} writes it as GroupNormalization, which gives NaN in ONNX Runtime where the mean is"
                f" large; take opset={GROUP_NORM_OPSET}"
            )
        else:
            continue
        stack = list(node.meta.get("nn_module_stack", {}).values()) or [("",)]
        found.setdefault(why, []).append(stack[-1][0])
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(name or "the model" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _errors(model: nn.Module, args: tuple[Any, ...], path: str | Path, mean: float) -> tuple[float, float]:
    """Of the file and of the module, against the module in float64."""
    import onnxruntime  # type: ignore[import-untyped]

    def moved(x: Any) -> Any:
        return x - x.mean() + mean if isinstance(x, Tensor) and x.is_floating_point() else x

    given = torch.utils._pytree.tree_map(moved, args)
    wide = torch.utils._pytree.tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, given
    )
    with torch.no_grad():
        right = _tensors(copy.deepcopy(model).double()(*wide))
        own = _tensors(model(*given))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = dict(zip([i.name for i in session.get_inputs()], map(Tensor.numpy, _tensors(given)), strict=True))
    found = [torch.as_tensor(y) for y in session.run(None, feeds)]
    return _share(found, right), _share(own, right)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf.detach() for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _share(found: list[Tensor], right: list[Tensor]) -> float:
    """The largest error as a share of the largest value; NaN where one is."""
    largest = max(float(y.abs().max()) for y in right)
    error = torch.stack([(a.double() - b).abs().max() for a, b in zip(found, right, strict=True)]).max()
    return float(error) / max(largest, torch.finfo(torch.float32).tiny)
