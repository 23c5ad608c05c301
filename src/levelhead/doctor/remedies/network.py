"""Remedies of the network: weights, layers, widths, normalizations and their statistics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from levelhead import nn as nn_of_levelhead
from levelhead.doctor.evidence.weights import oversized
from levelhead.doctor.isolation import random_state_kept
from levelhead.doctor.program import Program, forward, standard_evaluate
from levelhead.doctor.remedies import outside
from levelhead.doctor.remedies.base import Remedy
from levelhead.doctor.remedies.outside import Outside, Running
from levelhead.init import calibrate_, initialize_


def each(
    names: Sequence[str], act: Callable[[Any], object], words: str, code: str, script: Outside | None = None
) -> Remedy:
    """Do something to each of these modules."""

    def change(program: Program) -> None:
        for name in names:
            act(program.model.get_submodule(name))

    return Remedy(words, code, change, script)


def replace(names: Sequence[str], new: Callable[[nn.Module], nn.Module], words: str, code: str) -> Remedy:
    """Put another module in the place of each of these."""

    def change(program: Program) -> None:
        for name in names:
            swap(program, name, new(program.model.get_submodule(name)))

    return Remedy(words, code, change)


def swap(program: Program, name: str, module: nn.Module) -> None:
    """Put a module in the place of another; its new parameters go to the optimizer's first group."""
    if not name:
        program.model = module
    else:
        parent, _, last = name.rpartition(".")
        setattr(program.model.get_submodule(parent), last, module)
    held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
    first = next((p for p in program.model.parameters() if id(p) in held), None)
    if first is not None:
        module.to(first.device)
    new = [p for p in module.parameters() if id(p) not in held]
    if new:
        program.optimizer.add_param_group({"params": new, "weight_decay": 0.0})


def exchange(program: Program, name: str, module: nn.Module) -> None:
    """Put a module in another's place; its parameters go to the optimizer's group of those that they replace."""
    old = program.model.get_submodule(name)
    gone = {id(p) for p in old.parameters()}
    swap_in = module.to(next(iter(old.parameters())).device) if gone else module
    for group in program.optimizer.param_groups:
        if any(id(p) in gone for p in group["params"]):
            group["params"] = [p for p in group["params"] if id(p) not in gone] + list(swap_in.parameters())
            break
    swap(program, name, swap_in)


def reset(names: Sequence[str]) -> Remedy:
    """Draw the weights of these layers as their own class does."""
    code = "\n".join(f"model.get_submodule({name!r}).reset_parameters()" for name in names[:4])
    return each(names, lambda layer: layer.reset_parameters(), "weights drawn at random", code)


def calibrate(names: Sequence[str], inputs: Any) -> Remedy:
    r"""Draw orthogonal weights, zero biases, and scale each layer on data to an output of deviation 1.

    Source: Mishkin & Matas 2016, All you need is a good init, algorithm 1 (``levelhead.init.calibrate_``).
    """

    def change(program: Program) -> None:
        for name in names:
            layer: Any = program.model.get_submodule(name)
            if layer.weight.numel() <= 1_000_000:
                nn.init.orthogonal_(layer.weight)
            else:  # a decomposition of a large matrix takes longer than training
                nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        last: Any = program.model.get_submodule(names[-1])
        drawn = last.weight.detach().clone()
        calibrate_(program.model, inputs, tolerance=0.1)
        if len(names) > 1:  # the outputs keep the scale that the loss expects of a new network
            last.weight.data.copy_(drawn)

    code = 'lh.init.initialize_(model, "orthogonal")\nlh.init.calibrate_(model, inputs)  # a batch'
    return Remedy("weights calibrated on data", code, change)


def drawn_anew() -> Remedy:
    """Draw all weights of a script's model by ``levelhead.init``, and calibrate them on its first inputs."""
    code = "lh.init.initialize_(model)\nlh.init.calibrate_(model, inputs)  # a batch"
    return Remedy("weights drawn and calibrated by levelhead.init", code, outside=_draw_anew)


def _draw_anew(run: Running) -> None:
    def opened(seen: Any, args: Any) -> None:
        with random_state_kept(), torch.no_grad():
            initialize_(seen.model)
            for parameter, far in oversized(seen.model).values():
                parameter.div_(far)
        if args and seen.entries == [seen.model] and all(isinstance(a, Tensor) for a in args):
            try:
                calibrate_(seen.model, args if len(args) > 1 else args[0])
            except ValueError as error:
                run.said.append(str(error))

    run.opened.append(opened)


def followed_by(names: Sequence[str], new: Callable[[nn.Module], nn.Module], words: str, code: str) -> Remedy:
    """Put a module behind each of these."""
    return replace(names, lambda layer: nn.Sequential(layer, new(layer)), words, code)


def relu_between(names: Sequence[str], code: str) -> Remedy:
    """A ReLU behind each of these layers."""

    def change(program: Program) -> None:
        for name in names:
            swap(program, name, nn.Sequential(program.model.get_submodule(name), nn.ReLU()))

    return Remedy("ReLU between", code, change, partial(outside.on_model, partial(_bend, tuple(names))))


def _bend(names: Sequence[str], model: nn.Module) -> None:
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda module, args, output: F.relu(output))


def relu_for_sigmoid(behind: Sequence[str]) -> Remedy:
    """ReLU in the place of the sigmoids, module or function, whose values these layers of a script take."""
    code = "\n".join(f"# in front of {name}: relu" for name in behind[:6])
    script = partial(outside.on_model, partial(_rectify, tuple(behind)))
    return Remedy("ReLU in place of sigmoids", code, outside=script)


def _rectify(names: Sequence[str], model: nn.Module) -> None:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return F.relu(args[0].logit(1e-6)), *args[1:]

    for name in names:
        model.get_submodule(name).register_forward_pre_hook(hook)


def dropout(names: Sequence[str], rate: float) -> Remedy:
    """Another rate in these dropouts."""
    code = "\n".join(f"model.get_submodule({name!r}).p = {rate:g}" for name in names[:4])
    words = f"dropout {rate:g} in {', '.join(names[:4])}"
    everywhere = partial(outside.on_model, partial(_drop, tuple(names), rate))
    return each(names, lambda module: setattr(module, "p", rate), words, code, everywhere)


def _drop(names: Sequence[str], rate: float, model: nn.Module) -> None:
    modules: dict[str, Any] = dict(model.named_modules())
    for name in names:
        if name in modules:  # a script may train several models
            modules[name].p = rate


def moved_dropout(names: Sequence[str], last: str, rate: float) -> Remedy:
    """No dropout in these, one in front of the last layer instead."""

    def change(program: Program) -> None:
        dropout(names, 0.0)(program)
        swap(program, last, nn.Sequential(nn.Dropout(rate), program.model.get_submodule(last)))

    return Remedy("dropout behind the last batch normalization", f"nn.Dropout({rate:g})  # only before {last}", change)


def no_bias(names: Sequence[str]) -> Remedy:
    """Take the biases out of these layers."""

    def change(program: Program) -> None:
        for name in names:
            layer: Any = program.model.get_submodule(name)
            gone = layer.bias
            layer.bias = None
            for group in program.optimizer.param_groups:
                group["params"] = [p for p in group["params"] if p is not gone]

    return Remedy("no bias before the normalization", "bias=False  # " + ", ".join(names[:4]), change)


_NORMAL = torch.normal  # as it is here, whoever may listen to it later


class Attached(TorchFunctionMode):
    """While it is entered, ``detach()`` gives the tensor itself, and gradients are on and pass through normal samples.

    Source for samples: Kingma & Welling 2014, Auto-encoding variational Bayes, section 2.4.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function itself, unless it detaches."""
        if func in (Tensor.detach, torch.detach):
            return args[0]
        if func is torch._C._set_grad_enabled:
            args = (True,)
        if func is _NORMAL and len(args) == 2 and all(isinstance(a, Tensor) for a in args):
            return args[0] + args[1] * torch.randn_like(args[0])
        return func(*args, **(kwargs or {}))


class LetThrough:
    """A module's forward with gradients on and nothing detached while it trains; as it was in evaluation."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.forward = module, module.forward
        self.__signature__ = inspect.signature(module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        if not self.module.training:
            return self.forward(*args, **kwargs)
        with torch.enable_grad(), Attached():
            return self.forward(*args, **kwargs)


class StraightThrough:
    """A module's forward whose output passes the gradient on as if it were the input."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, x: Tensor) -> Tensor:
        """Run it."""
        y: Tensor = self.forward(x)
        return y.detach() + (x - x.detach())


def straight_through(name: str) -> Remedy:
    """Let a module that has no gradient pass on that of its output.

    Source: Bengio, Léonard & Courville 2013, Estimating or propagating gradients through stochastic neurons, section 3.
    """

    def change(program: Program) -> None:
        module = program.model.get_submodule(name)
        module.forward = StraightThrough(module.forward)

    return Remedy(f"gradients straight through {name}", f"y = {name}(x).detach() + (x - x.detach())", change)


def let_through() -> Remedy:
    """Let gradients through the whole model."""
    code = "# no detach(), no torch.no_grad() in forward()"
    return Remedy(
        "gradients let through",
        code,
        lambda program: _let_through(program.model),
        partial(outside.on_model, _let_through),
    )


def _let_through(model: nn.Module) -> None:
    model.forward = LetThrough(model)


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECURRENT = (nn.RNN, nn.GRU, nn.LSTM)


def can_widen(module: nn.Module) -> bool:
    """Whether a layer can be built again at another width."""
    if type(module) in CONVOLUTIONS:
        return getattr(module, "groups", 0) == 1
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) == 1
    return type(module) in (nn.Linear, nn.Embedding, nn.GroupNorm, *BATCH_NORMS, *RECURRENT)


def units(module: Any) -> int:
    """How many units a layer has; 0 of a normalization."""
    for name in ("out_features", "out_channels", "embedding_dim", "hidden_size"):
        if hasattr(module, name):
            return int(getattr(module, name))
    return 0


def widen(names: Sequence[str], given: Collection[str], factor: int, words: str) -> Remedy:
    """Build a network again with hidden widths times ``factor``, with new weights as torch draws them.

    Where its layers do not fit each other then (inputs that are joined to hidden values, say), it cannot be run.

    Args:
        names: all that has weights, in the order in which it runs; the last gives the outputs.
        given: those that take the program's own inputs, whose width stays.
        factor: how many times as wide.
        words: what it does, in a few words.
    """

    def change(program: Program) -> None:
        for name in names:
            ins, outs = 1 if name in given else factor, 1 if name == names[-1] else factor
            exchange(program, name, _wider(program.model.get_submodule(name), ins, outs))

    code = f"# {factor} times the width in " + ", ".join(names[:-1][:4])
    return Remedy(words, code, change)


def _wider(old: Any, ins: int, outs: int) -> nn.Module:
    """The layer with so many times the inputs and the outputs; a normalization has as many as it gets."""
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features * ins, old.out_features * outs, old.bias is not None)
    if isinstance(old, nn.Embedding):
        return nn.Embedding(old.num_embeddings, old.embedding_dim * outs, old.padding_idx)
    if isinstance(old, RECURRENT):
        names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
        rest = {name: getattr(old, name) for name in names}
        rest |= {"nonlinearity": old.nonlinearity} if isinstance(old, nn.RNN) else {}
        made: nn.Module = type(old)(old.input_size * ins, old.hidden_size * outs, **rest)
        return made
    if isinstance(old, nn.LayerNorm):
        return nn.LayerNorm(old.normalized_shape[0] * ins, old.eps, old.elementwise_affine)
    if isinstance(old, nn.GroupNorm):
        return nn.GroupNorm(old.num_groups, old.num_channels * ins, old.eps, old.affine)
    if isinstance(old, BATCH_NORMS):
        return type(old)(old.num_features * ins, old.eps, old.momentum, old.affine, old.track_running_stats)
    kernel = (old.kernel_size, old.stride, old.padding, old.dilation)
    channels = old.in_channels * ins, old.out_channels * outs
    wide: nn.Module = type(old)(*channels, *kernel, 1, old.bias is not None, old.padding_mode)
    return wide


def hidden_layer(name: str, width: int) -> Remedy:
    """Put a hidden layer of ReLU units in front of the only layer."""

    def change(program: Program) -> None:
        old: Any = program.model.get_submodule(name)
        last = nn.Linear(width, old.out_features)
        exchange(program, name, nn.Sequential(nn.Linear(old.in_features, width), nn.ReLU(), last))

    code = f"nn.Sequential(nn.Linear(inputs, {width}), nn.ReLU(), nn.Linear({width}, outputs))  # in place of {name}"
    return Remedy(f"a hidden layer of {width} units", code, change)


class Recalibrated:
    """An evaluation that first takes the population statistics of the batch normalizations."""

    def __init__(self, evaluate: Callable[..., float] | None, inputs: Any) -> None:
        self.evaluate, self.inputs = evaluate or standard_evaluate, inputs

    def __call__(self, program: Program) -> float:
        """Recalibrate, then evaluate."""
        recalibrate(program.model, self.inputs)
        return self.evaluate(program)


def recalibrate(model: nn.Module, inputs: Any, rows: int = 256) -> None:
    """The population's statistics of these inputs, all rows of them (``levelhead.recalibrate``)."""
    nn_of_levelhead.recalibrate(model, torch.split(inputs, rows), forward=forward)


def recalibration(inputs: Any) -> Remedy:
    """Population statistics before evaluation."""
    words, code = "population statistics before evaluation", "levelhead.recalibrate(model, batches)"
    return Remedy(words, code, lambda program: setattr(program, "evaluate", Recalibrated(program.evaluate, inputs)))


def batch_statistics() -> Remedy:
    """Let a script's batch normalizations take the batch's statistics in evaluations, and learn nothing from them."""
    words, code = "evaluations with the batch's statistics", "levelhead.recalibrate(model, batches)"
    return Remedy(words, code, outside=_of_the_batch)


def _of_the_batch(_: Running) -> None:
    def changed(original: Callable[..., Tensor], x: Tensor, mean: Any, var: Any, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled():
            return original(x, mean, var, *args, **kwargs)
        weight, bias = (*args, kwargs.get("weight"), kwargs.get("bias"))[:2]
        return original(x, None, None, weight, bias, True)

    outside.wrap(F, "batch_norm", changed)


def momentum(names: Sequence[str], value: float = 0.1) -> Remedy:
    """Another momentum in these batch normalizations."""
    words, code = f"momentum {value:g} in batch normalization", f"nn.BatchNorm2d(channels, momentum={value:g})"
    return each(names, lambda norm: setattr(norm, "momentum", value), words, code)


def reset_statistics(names: Sequence[str]) -> Remedy:
    """Running statistics back to 0 and 1."""
    code = "norm.reset_running_stats()"
    return each(names, lambda norm: norm.reset_running_stats(), "running statistics reset", code)


def wide_statistics(names: Sequence[str]) -> Remedy:
    """Batch normalizations in float32; their outputs keep the type of their inputs."""
    return each(names, lambda norm: norm.float(), "batch normalization in float32", "norm.float()")


def without_batch_statistics(norm: nn.Module) -> nn.Module:
    """A normalization of single rows in the place of batch normalization."""
    channels: int = norm.num_features  # type: ignore[assignment]
    if isinstance(norm, nn.BatchNorm1d):
        return nn.LayerNorm(channels)
    return nn.GroupNorm(math.gcd(channels, 8), channels)


def over_all_channels(norm: nn.Module) -> nn.Module:
    """The same over all channels of a row; none where there is only one."""
    return nn.GroupNorm(1, norm.num_channels) if isinstance(norm, nn.GroupNorm) else nn.Identity()


def norm_for(layer: nn.Module) -> nn.Module:
    """A batch normalization for the outputs of a linear or convolution layer."""
    if isinstance(layer, nn.Linear):
        return nn.BatchNorm1d(layer.out_features)
    dims = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
    return dims[type(layer)](layer.out_channels)  # type: ignore[index, arg-type]
