"""What mends: each remedy changes a copy of the program in place, and says so in words and as code."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from levelhead.doctor.isolation import Change, IndexedBatches
from levelhead.doctor.probes.structure import BATCH_NORM, LINEAR
from levelhead.doctor.program import Program, ProgramError, forward, split, standard_evaluate, standard_step


@dataclass(frozen=True)
class Remedy:
    """A change of a program.

    Args:
        words: what it does, in a few words.
        patch: the same as code, for the user to copy.
        change: does it to a copy.
    """

    words: str
    patch: str
    change: Change

    def __call__(self, program: Program) -> None:
        self.change(program)


def several(remedies: Sequence[Remedy]) -> Change:
    """All of them, in order."""

    def change(program: Program) -> None:
        for remedy in remedies:
            remedy(program)

    return change


class Scaled:
    """A forward pre-hook: the first argument, minus mean, divided by deviation."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        return ((x - self.mean.to(x)) / self.std.to(x), *args[1:])


class ScaledInEval(Scaled):
    """The same in eval mode only."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return args if module.training else super().__call__(module, args)


class Unscaled:
    """A forward hook: outputs times deviation, plus mean."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def __call__(self, module: nn.Module, args: Any, outputs: Tensor) -> Tensor:
        return outputs * self.std.to(outputs) + self.mean.to(outputs)


class LossOf:
    """A loss of changed outputs and targets."""

    def __init__(self, loss: Callable[..., Any], change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.loss, self.change = loss, change

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        return self.loss(*self.change(outputs, targets))


def standardize_inputs(mean: Tensor, std: Tensor, how: str) -> Remedy:
    """Subtract the mean from the inputs and divide by the deviation."""
    mean, std = mean.float(), std.float()

    def change(program: Program) -> None:
        program.model.register_forward_pre_hook(Scaled(mean, std))

    code = f"mean, std = x_train.mean({how}), x_train.std({how})  # of the training data, for all data\nx = (x - mean) / std"
    which = "each column" if how else "all values together"
    return Remedy(f"inputs standardized ({which})", code, change)


def validation_like_training(mean: float, std: float, val_mean: float, val_std: float) -> Remedy:
    """Bring validation inputs to the mean and deviation of the training inputs."""
    factor = val_std / std
    hook = ScaledInEval(torch.tensor(val_mean - mean * factor), torch.tensor(factor))

    def change(program: Program) -> None:
        program.model.register_forward_pre_hook(hook)

    code = f"# one preparation for both; or: x_val = (x_val - {val_mean:.4g}) / {factor:.4g} + {mean:.4g}"
    return Remedy("validation inputs brought to the training scale", code, change)


def standardize_targets(mean: Tensor, std: Tensor) -> Remedy:
    """Let the loss see standardized targets, and give answers in the targets' units."""
    mean, std = mean.float(), std.float()

    def change(program: Program) -> None:
        program.model.register_forward_hook(Unscaled(mean, std))
        program.loss = LossOf(
            program.loss, lambda o, t: ((o - mean.to(o)) / std.to(o), (t - mean.to(t)) / std.to(t))
        )

    code = "mean, std = y_train.mean(0), y_train.std(0)\ny = (y - mean) / std  # for the loss\nanswer = model(x) * std + mean"
    return Remedy("targets standardized", code, change)


def learning_rate(factor: float, rates: Sequence[float]) -> Remedy:
    """Multiply all learning rates."""

    def change(program: Program) -> None:
        for group in program.optimizer.param_groups:
            group["lr"] = group["lr"] * factor
            if "initial_lr" in group:
                group["initial_lr"] = group["initial_lr"] * factor

    shown = ", ".join(f"{rate * factor:.3g}" for rate in dict.fromkeys(rates))
    return Remedy(f"learning rate x {factor:g}", f"lr = {shown}  # instead of {', '.join(f'{r:g}' for r in dict.fromkeys(rates))}", change)


def epochs(count: int) -> Remedy:
    """Train for another number of epochs."""

    def change(program: Program) -> None:
        program.epochs = count

    return Remedy(f"{count} epochs", f"epochs = {count}", change)


def set_in_optimizer(name: str, value: Any, words: str) -> Remedy:
    """Set an option of the optimizer in all groups."""

    def change(program: Program) -> None:
        for group in program.optimizer.param_groups:
            if name in group:
                group[name] = value

    return Remedy(words, f"{name} = {value!r}  # in the optimizer", change)


def all_parameters() -> Remedy:
    """Give the optimizer what it lacks, and let everything be trained."""

    def change(program: Program) -> None:
        held = {id(p) for group in program.optimizer.param_groups for p in group["params"]}
        for parameter in program.model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        missing = [p for p in program.model.parameters() if id(p) not in held]
        if missing:
            program.optimizer.add_param_group({"params": missing})

    return Remedy("all parameters given to the optimizer", "optimizer = Optimizer(model.parameters(), ...)", change)


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


def reset(names: Sequence[str]) -> Remedy:
    """Draw the weights of these layers as their own class does."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).reset_parameters()  # type: ignore[operator]

    code = "\n".join(f"model.get_submodule({name!r}).reset_parameters()" for name in names[:4])
    return Remedy("weights drawn at random", code, change)


def calibrate(names: Sequence[str], inputs: Any) -> Remedy:
    r"""Draw orthogonal weights, zero biases, and scale each layer on data to an output of deviation 1.

    Source: Mishkin & Matas 2016, All you need is a good init, algorithm 1.
    """

    def change(program: Program) -> None:
        def rescale(module: Any, args: Any, output: Tensor) -> Tensor:
            std = output.std()
            if not bool(std > 0) or not bool(torch.isfinite(std)):
                return output
            module.weight.div_(std)
            return output / std

        handles = []
        with torch.no_grad():
            for i, name in enumerate(names):
                layer: Any = program.model.get_submodule(name)
                if layer.weight.numel() <= 1_000_000:
                    nn.init.orthogonal_(layer.weight)
                else:  # a decomposition of a large matrix takes longer than training
                    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
                if i < len(names) - 1 or len(names) == 1:
                    handles.append(layer.register_forward_hook(rescale))
            modes = {module: module.training for module in program.model.modules()}
            try:
                program.model.eval()
                forward(program.model, inputs)
            finally:
                for handle in handles:
                    handle.remove()
                for module, training in modes.items():
                    module.training = training

    code = "for layer in linear_layers:\n    nn.init.orthogonal_(layer.weight)\n    nn.init.zeros_(layer.bias)\n# then divide each weight by the deviation of its layer's output on a batch, first layer first"
    return Remedy("weights calibrated on data", code, change)


def other_loss(loss: Callable[..., Any], words: str, code: str) -> Remedy:
    """Another loss."""

    def change(program: Program) -> None:
        program.loss = loss

    return Remedy(words, code, change)


def aligned_loss() -> Remedy:
    """Give the outputs the targets' shape before the loss."""

    def change(program: Program) -> None:
        program.loss = LossOf(program.loss, lambda o, t: (o.reshape(t.shape), t))

    return Remedy("outputs in the targets' shape", "loss = criterion(outputs.reshape(targets.shape), targets)", change)


class Before:
    """A step with something done before it."""

    def __init__(self, step: Callable[..., Any] | None, action: Callable[[Program], None]) -> None:
        self.step, self.action = step or standard_step, action

    def __call__(self, program: Program, batch: Any) -> Any:
        self.action(program)
        return self.step(program, batch)


def before_step(action: Callable[[Program], None], words: str, code: str) -> Remedy:
    """Do something before each step of the program."""

    def change(program: Program) -> None:
        program.step = Before(program.step, action)

    return Remedy(words, code, change)


def standard_loop() -> Remedy:
    """The standard update in place of the program's own."""

    def change(program: Program) -> None:
        program.step = standard_step

    code = "model.train()\noptimizer.zero_grad()\ncriterion(model(inputs), targets).backward()\noptimizer.step()"
    return Remedy("the standard update", code, change)


def standard_evaluation() -> Remedy:
    """The standard evaluation in place of the program's own."""

    def change(program: Program) -> None:
        program.evaluate = None

    return Remedy("evaluated in eval mode", "model.eval()\nwith torch.no_grad():\n    outputs = model(inputs)", change)


def batches(size: int | None, words: str) -> Remedy:
    """Another batch size, or the same one, in an order drawn anew each epoch."""

    def change(program: Program) -> None:
        loader = program.train.loader if isinstance(program.train, IndexedBatches) else program.train
        if not isinstance(loader, DataLoader) or loader.batch_size is None:
            raise ProgramError("the training batches do not come from a DataLoader that can be made anew")
        count = size or loader.batch_size
        new = DataLoader(
            loader.dataset,
            batch_size=count,
            shuffle=True,
            drop_last=len(loader.dataset) > 2 * count,  # type: ignore[arg-type]
            collate_fn=loader.collate_fn,
        )
        program.train = IndexedBatches(new) if isinstance(program.train, IndexedBatches) else new

    return Remedy(words, f"DataLoader(data, batch_size={size or '...'}, shuffle=True, drop_last=True)", change)


class Recalibrated:
    """An evaluation that first takes the population statistics of the batch normalizations."""

    def __init__(self, evaluate: Callable[..., float] | None, inputs: Any) -> None:
        self.evaluate, self.inputs = evaluate or standard_evaluate, inputs

    def __call__(self, program: Program) -> float:
        recalibrate(program.model, self.inputs)
        return self.evaluate(program)


def recalibrate(model: nn.Module, inputs: Any, rows: int = 256) -> None:
    """Running statistics from the data, everything but the batch normalizations in eval mode (dropout is off)."""
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORM) and m.track_running_stats]
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    with torch.no_grad():
        for part in torch.split(inputs, rows):
            if len(part) > rows // 2 or len(inputs) <= rows:
                forward(model, part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes.items():
        module.training = training


def recalibration(inputs: Any) -> Remedy:
    """Population statistics before evaluation."""

    def change(program: Program) -> None:
        program.evaluate = Recalibrated(program.evaluate, inputs)

    return Remedy("population statistics before evaluation", "levelhead.recalibrate(model, batches)", change)


def momentum(names: Sequence[str], value: float = 0.1) -> Remedy:
    """Another momentum in these batch normalizations."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).momentum = value  # type: ignore[assignment]

    return Remedy(f"momentum {value:g} in batch normalization", f"nn.BatchNorm2d(channels, momentum={value:g})", change)


def reset_statistics(names: Sequence[str]) -> Remedy:
    """Running statistics back to 0 and 1."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).reset_running_stats()  # type: ignore[operator]

    return Remedy("running statistics reset", "norm.reset_running_stats()", change)


def without_batch_statistics(norm: nn.Module) -> nn.Module:
    """A normalization of single rows in the place of batch normalization."""
    channels: int = norm.num_features  # type: ignore[assignment]
    if isinstance(norm, nn.BatchNorm1d):
        return nn.LayerNorm(channels)
    return nn.GroupNorm(math.gcd(channels, 8), channels)


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


def dropout(names: Sequence[str], rate: float) -> Remedy:
    """Another rate in these dropouts."""

    def change(program: Program) -> None:
        for name in names:
            program.model.get_submodule(name).p = rate  # type: ignore[assignment]

    code = "\n".join(f"model.get_submodule({name!r}).p = {rate:g}" for name in names[:4])
    return Remedy(f"dropout {rate:g} in {', '.join(names[:4])}", code, change)


def moved_dropout(names: Sequence[str], last: str, rate: float) -> Remedy:
    """No dropout in these, one in front of the last layer instead."""

    def change(program: Program) -> None:
        dropout(names, 0.0)(program)
        swap(program, last, nn.Sequential(nn.Dropout(rate), program.model.get_submodule(last)))

    return Remedy("dropout behind the last batch normalization", f"nn.Dropout({rate:g})  # only before {last}", change)


def followed_by(names: Sequence[str], new: Callable[[nn.Module], nn.Module], words: str, code: str) -> Remedy:
    """Put a module behind each of these."""

    def change(program: Program) -> None:
        for name in names:
            layer = program.model.get_submodule(name)
            swap(program, name, nn.Sequential(layer, new(layer)))

    return Remedy(words, code, change)


def norm_for(layer: nn.Module) -> nn.Module:
    """A batch normalization for the outputs of a linear or convolution layer."""
    if isinstance(layer, nn.Linear):
        return nn.BatchNorm1d(layer.out_features)
    dims = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}
    return dims[type(layer)](layer.out_channels)  # type: ignore[index, union-attr, operator, arg-type]


def one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Class numbers of one-hot rows; class numbers as they are."""
    return targets.argmax(1) if targets.shape == outputs.shape else targets


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with class numbers or one-hot rows."""
    return F.cross_entropy(outputs, one_hot(outputs, targets))


def log_of_probabilities(outputs: Tensor, targets: Tensor) -> Tensor:
    """The negative log of the target's probability, for outputs that are probabilities."""
    return F.nll_loss(outputs.clamp_min(1e-9).log(), one_hot(outputs, targets))


def linear_layers(program: Program) -> list[str]:
    """The names of the linear and convolution layers."""
    return [name for name, module in program.model.named_modules() if isinstance(module, LINEAR)]


