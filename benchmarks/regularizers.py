"""What regularizers cost: a step of AdamW on 25 million parameters, bare and with each of them attached.

First the results are checked: L2 attached to AdamW is its own decay to the bit, and L1 thresholds by αλ. Then all are
timed by turns, so that a busy machine slows them alike. ``own decay`` is AdamW with a weight_decay and nothing
attached. ``ratio`` is the median of the turns' ratios to the bare step of the same form. ``in the loss`` is what the
same penalty costs when it is added to a loss: its forward and backward, on top of the bare step.

    python benchmarks/regularizers.py [--turns 9] [--threads 2] [--forms default foreach fused]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn

import levelhead as lh
from levelhead.regularizers import L1, L2, ElasticNet, GroupLasso, MaxNorm, UnitNorm

RATE, STRENGTH = 1e-4, 1e-2
FORMS: dict[str, dict[str, bool]] = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}
ATTACHED = {
    "L2": L2(STRENGTH),
    "L1": L1(STRENGTH),
    "elastic net": ElasticNet(STRENGTH, STRENGTH),
    "group lasso": GroupLasso(STRENGTH),
    "max norm": MaxNorm(3.0),
    "unit norm": UnitNorm(),
}
OWN = "own decay"
IN_THE_LOSS = {"L2, in the loss": L2(STRENGTH), "L1, in the loss": L1(STRENGTH)}


def network() -> nn.Module:
    """Two transformer blocks' worth of matrices, 25.2 million parameters, each with a gradient."""
    torch.manual_seed(0)
    shapes = [*[(1024, 1024)] * 4, (1024, 4096), (4096, 1024)] * 2
    model = nn.Sequential(*[nn.Linear(i, o) for i, o in shapes])
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def turn(optimizer: torch.optim.Optimizer, model: nn.Module, name: str) -> float:
    """Milliseconds of one step with a regularizer."""
    attached = ATTACHED[name].attach(optimizer, model) if name in ATTACHED else None
    weights = [p for p in model.parameters() if p.ndim > 1]
    optimizer.param_groups[0]["weight_decay"] = STRENGTH if name == OWN else 0.0
    start = time.perf_counter()
    if name in IN_THE_LOSS:
        IN_THE_LOSS[name](weights).backward()  # adds to the gradients that are there
    optimizer.step()
    milliseconds = (time.perf_counter() - start) * 1e3
    if attached is not None:
        attached.remove()
    return milliseconds


def check() -> None:
    """That attached penalties do what they say, on the same model."""
    ours, theirs = network(), network()
    a = torch.optim.AdamW(ours.parameters(), lr=RATE, weight_decay=0.0)
    L2(STRENGTH).attach(a)
    b = torch.optim.AdamW(lh.regularizers.decay_groups(theirs, STRENGTH), lr=RATE)
    a.step(), b.step()
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True))
    c = torch.optim.AdamW(ours.parameters(), lr=RATE, weight_decay=0.0)
    l1, before = L1(100.0).attach(c), [p.detach().clone() for p in theirs.parameters()]
    d = torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=0.0)
    c.step(), d.step()
    for p, q, start in zip(ours.parameters(), theirs.parameters(), before, strict=True):
        wanted = nn.functional.softshrink(q, RATE * 100.0) if p.ndim > 1 else q
        torch.testing.assert_close(p, wanted)
        assert not torch.equal(q, start)
    print("exact zeros after one step of L1 at αλ = 0.01: {:,} of {:,}".format(*l1.zeros()))


def figure(values: list[float], bare: list[float]) -> str:
    """The median in milliseconds, and the median of the turns' ratios."""
    ratio = statistics.median(value / other for value, other in zip(values, bare, strict=True))
    return f"{statistics.median(values):10.1f} ({ratio:5.2f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lh.tune_allocator()
    check()
    print(f"torch {torch.__version__}, {arguments.threads} threads, 25.2 M parameters, ms (ratio to the bare step)")
    print(f"{'':18}" + "".join(f"{form:>20}" for form in arguments.forms))
    names = ["bare", OWN, *ATTACHED, *IN_THE_LOSS]
    columns: dict[str, dict[str, str]] = {}
    for form in arguments.forms:
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, **FORMS[form])
        times: dict[str, list[float]] = {name: [] for name in names}
        for number in range(arguments.turns + 1):
            for name in names:
                milliseconds = turn(optimizer, model, name)
                if number:  # the first makes the state, and faults its pages in
                    times[name].append(milliseconds)
        columns[form] = {name: figure(values, times["bare"]) for name, values in times.items()}
    for name in names:
        print(f"{name:18}" + "".join(f"{columns[form][name]:>20}" for form in arguments.forms))


if __name__ == "__main__":
    main()
