"""A training step of whole models: ``lh.convert`` against eager PyTorch, and the share of norms and dropout in it.

    python benchmarks/models.py [name ...] [--threads 2] [--seconds 40]

Architectures of transformers with random weights. Checks that loss and gradients agree (dropout off), then times three
forms in turn with the tuned allocator: eager, converted, and eager with an identity in the place of every norm and
dropout, which tells what of a step there is to be had. Prints medians, the median over the rounds of eager / converted,
and the share.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import itertools
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

import levelhead as lh
from levelhead import kinds

TOKENS, IMAGES = (4, 128), (4, 3, 224, 224)

#: Configuration, arguments, shape of the input.
MODELS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "ResNet-50": ("resnet", {}, IMAGES),
    "RegNet": ("regnet", {"hidden_sizes": [48, 104, 208, 440], "depths": [2, 6, 17, 2], "groups_width": 8}, IMAGES),
    "MobileNetV2": ("mobilenet_v2", {}, IMAGES),
    "ConvNeXt": ("convnext", {"depths": [2, 2, 6, 2], "hidden_sizes": [40, 80, 160, 320]}, IMAGES),
    "ViT": (
        "vit",
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536},
        IMAGES,
    ),
    "BERT": ("bert", {"num_hidden_layers": 4, "vocab_size": 1000}, TOKENS),
    "GPT-2": ("gpt2", {"n_layer": 4, "vocab_size": 1000}, TOKENS),
    "T5": ("t5", {"num_layers": 4, "vocab_size": 1000}, TOKENS),
}


def made(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """The model in training, and its input."""
    transformers = importlib.import_module("transformers")
    kind, arguments, shape = MODELS[name]
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **arguments)).train()
    if shape is IMAGES:
        return model, {"pixel_values": torch.randn(shape)}
    ids = torch.randint(3, 1000, shape)
    return model, {"input_ids": ids, **({"decoder_input_ids": ids} if kind == "t5" else {})}


def step(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """One training step without the optimizer, which is the same on both sides."""
    model.zero_grad(set_to_none=True)
    loss = model(**given)[0].square().mean()
    loss.backward()
    return loss  # type: ignore[no-any-return]


class Nothing(nn.Identity):
    """In the place of a dropout, whose rate attention reads."""

    p = 0.0


def without(model: nn.Module) -> nn.Module:
    """The model with an identity in the place of every norm and dropout; attention keeps its own dropout."""
    bare = copy.deepcopy(model)
    reached = {*lh.nn.explain(model).replaced, *lh.nn.explain(model).recognised}
    for name in reached:
        nothing = Nothing()
        nothing.p = getattr(bare.get_submodule(name), "p", 0.0)
        bare.set_submodule(name, nothing)
    return bare


def check(ours: nn.Module, theirs: nn.Module, given: dict[str, Tensor]) -> None:
    """The loss and the gradients of two examples in float64; dropout is off, for masks differ."""
    few = {key: value[:2].double() if value.is_floating_point() else value[:2] for key, value in given.items()}
    pair = [copy.deepcopy(model).double() for model in (ours, theirs)]
    for model in pair:
        for module in model.modules():
            if isinstance(module, kinds.Dropout):
                module.eval()
    losses = []
    for model in pair:
        torch.manual_seed(1)  # attention's own dropout
        losses.append(step(model, few))
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-9)
    gradients = [(a.grad, b.grad) for a, b in zip(*(m.parameters() for m in pair), strict=True) if b.grad is not None]
    largest = max(float(b.abs().max()) for _, b in gradients)
    for a, b in gradients:
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * largest)  # some norms calculate in float32


def compare(name: str, seconds: float) -> None:
    """Checks and times one model, and prints its line."""
    model, given = made(name)
    # Copies both: an original can be 1 % faster or slower than its own copy, by where its parameters lie.
    ours, theirs = lh.convert(copy.deepcopy(model)), copy.deepcopy(model)
    check(ours, theirs, given)
    forms = {"ours": ours, "theirs": theirs, "bare": without(theirs)}
    times: dict[str, list[float]] = {key: [] for key in forms}
    orders = itertools.cycle(itertools.permutations(forms))  # each form comes behind each other one equally often
    start = time.perf_counter()
    rounds = 0
    while rounds < 5 or time.perf_counter() - start < seconds:
        for key in next(orders):
            begin = time.perf_counter()
            step(forms[key], given)
            if rounds:  # the first round fills the allocator
                times[key].append((time.perf_counter() - begin) * 1e3)
        rounds += 1
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True))
    share = 1 - statistics.median(a / b for a, b in zip(times["bare"], times["theirs"], strict=True))
    eager, converted = statistics.median(times["theirs"]), statistics.median(times["ours"])
    fused = sum(len(text.split(", ")) for text in lh.nn.explain(ours).fused.values())
    print(
        f"| {name} | {eager:.1f} | {converted:.1f} | {ratio:.2f}× | {share:.0%} | {fused} | {rounds - 1} |", flush=True
    )


def main() -> None:
    """Reads the arguments and prints one line a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, tuned allocator: {lh.tune_allocator()}")
    heads = "model | eager, ms | converted, ms | ratio | norms and dropout | fused | rounds"
    print(f"| {heads} |\n|{'---|' * 7}")
    for name in arguments.names or MODELS:
        compare(name, arguments.seconds)


if __name__ == "__main__":
    main()
