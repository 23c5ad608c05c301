"""Other tools on the cases of ``benchmarks/doctor.py``, each used as its own README says.

    python benchmarks/doctor_rivals.py CASES [--half unseen] [--tools torch-audit,watch]

Install them into an environment of their own beside levelhead and torch: ``pip install torch-audit torchmortem
torchdiag torchtest2``. What is not installed is left out. ``watch`` is ``levelhead.watch`` around the same loop.

None of them names causes as ours are named, so each of their rules is given every cause that it could mean, and counts
as right where one of these is accepted: this favours them. A tool that judges a run sees the whole training; one that
judges a batch, the first. ``detected`` and false alarms count what the tool itself calls a warning or worse.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from doctor import half, load, report

SCALE = {"init-too-large", "init-too-small", "inputs-not-normalized", "missing-normalization"}
RATE = {"learning-rate-too-high", "learning-rate-too-low"}
#: What each rule of each tool could mean, as generously as its text allows.
MEANS: dict[str, set[str]] = {
    # torch-audit: runtime rules
    "TA100": {"non-finite-data", "learning-rate-too-high", "init-too-large", "poisoned-running-statistics"},
    "TA102": {*SCALE, *RATE, "targets-not-normalized", "gradients-accumulate", "gradient-ascent"},
    "TA103": {*SCALE, "dead-units", "learning-rate-too-high"},
    "TA104": {"loss-detached", "parameters-not-trained"},
    "TA105": {*SCALE, "saturating-activation", "dead-units"},
    "TA301": {"inputs-not-normalized"},
    "TA302": {"non-finite-data"},
    "TA304": {"batch-too-small"},
    "TA305": {"non-finite-data", "labels-invalid"},
    "TA400": {"bias-before-norm"},
    "TA401": {"penalty-too-strong"},
    "TA402": {"decay-on-norm-or-bias", "penalty-too-strong"},
    "TA403": {"decay-on-norm-or-bias"},
    "TA405": {"dead-units", "constant-init"},
    "TA500": {"parameters-not-trained", "loss-detached"},
    # torchmortem: categories
    "gradient_flow": {*SCALE, *RATE, "saturating-activation", "gradients-accumulate", "output-mismatch"},
    "dead_units": {*SCALE, "dead-units", "learning-rate-too-high"},
    "saturation": {*SCALE, "saturating-activation"},
    "update_ratio": {*RATE, "parameters-not-trained", "penalty-too-strong"},
    "loss_dynamics": {*RATE, "too-few-updates", "gradient-ascent", "gradients-accumulate", "penalty-too-strong"},
    "weight_norm": {"penalty-too-strong", "learning-rate-too-high", "init-too-large", "gradients-accumulate"},
    "rank_collapse": {"constant-init", "dead-units", "saturating-activation", "model-too-small"},
    "gradient_noise": {"batch-too-small", "no-shuffle", "labels-corrupted"},
    # torchdiag: statuses
    "EXPLODE": {*SCALE, *RATE, "targets-not-normalized", "gradients-accumulate"},
    "VANISH": {*SCALE, "saturating-activation", "constant-init", "dead-units", "output-mismatch"},
    "NO GRAD": {"loss-detached", "parameters-not-trained"},
    "DEAD": {*SCALE, "dead-units"},
    "UNCHANGED": {"parameters-not-trained", "loss-detached", "constant-init", "dead-units"},
    "FAILED": {"labels-invalid", "non-finite-data", "batch-too-small", "loss-mismatch"},
    # torchtest2: checks
    "forward": {"batch-too-small"},
    "loss": {"labels-invalid", "loss-mismatch", "loss-broadcast", "output-mismatch", "non-finite-data"},
    "output_finite": {"non-finite-data", "init-too-large"},
    "output_varies": {"constant-init", "dead-units", "output-mismatch", "init-too-small", "saturating-activation"},
    "batch_independence": {"batch-too-small", "eval-mode-in-training"},
    "initial_loss": {*SCALE, "output-mismatch", "loss-mismatch", "targets-not-normalized", "loss-broadcast"},
    "input_dependency": {"constant-init", "loss-detached", "dead-units", "output-mismatch", "saturating-activation"},
    "gradient_flow ": {"loss-detached", "constant-init", "dead-units", "parameters-not-trained", "output-mismatch"},
    "gradient_magnitude": {*SCALE, "targets-not-normalized", "saturating-activation", "output-mismatch"},
    "optimizer_coverage": {"parameters-not-trained"},
    "params_change": {"parameters-not-trained", "loss-detached", "learning-rate-too-low", "constant-init"},
    "overfit_batch": {*RATE, *SCALE, "loss-mismatch", "output-mismatch", "loss-broadcast", "constant-init"},
}  # fmt: skip

#: (rule, severity, where), the tool's most severe first.
Found = list[tuple[str, str, str]]
ORDER = ("critical", "warning", "info")


def ranked(found: Found) -> Found:
    return sorted(found, key=lambda item: ORDER.index(item[1]))


def looped(program, after: Callable[[float], None] = lambda loss: None) -> None:
    """The whole training, by the program's own step."""
    from levelhead.doctor.trials import endless, updates_of

    batches = endless(program.train)
    for _ in range(updates_of(program)):
        after(program.update(next(batches)))


def watch(program) -> Found:
    import levelhead as lh

    with lh.watch(program.model, program.optimizer) as watching:
        looped(program)
        program.final_score()
    return [(f.cause, f.severity, f.where) for f in watching.findings]


def torch_audit(program) -> Found:
    from torch_audit import autopatch

    auditor = autopatch(program.model, optimizer=program.optimizer, every_n_steps=10, run_static=True, run_init=True)
    try:
        looped(program)
    finally:
        result = auditor.finish(report=False)
        auditor.unpatch()
    words = {"FATAL": "critical", "ERROR": "critical", "WARN": "warning", "INFO": "info"}
    # Its hints on speed (tensor cores, channels-last, precision) are no faults.
    faults = [f for f in result.findings if f.rule_id[:5] in MEANS]
    return ranked([(f.rule_id[:5], words[f.severity.value], f.module_path or "") for f in faults])


def torchmortem(program) -> Found:
    from torchmortem import Autopsy

    with Autopsy(program.model, optimizer=program.optimizer) as autopsy:
        looped(program, lambda loss: autopsy.step(loss=loss))
    found = autopsy.get_report().findings
    return ranked([(f.category, f.severity.name.lower(), (f.affected_layers or [""])[0]) for f in found])


def torchdiag(program) -> Found:
    import torchdiag as diag

    inputs, targets = next(iter(program.train))
    found: Found = []
    dead = diag.check_dead_neurons(program.model, inputs)
    for name, layer in dead.items():
        if layer["dead_pct"] > 20:
            found.append(("DEAD", "critical" if layer["dead_pct"] > 50 else "warning", name))
    results = diag.verify_step(program.model, program.optimizer, program.loss, inputs, targets)
    found += [("FAILED", "critical", "") for value in results.values() if str(value).startswith("FAILED")]
    found += [("UNCHANGED", "warning", "") for _ in range(min(1, results.get("params_unchanged", 0)))]
    for name, layer in diag.check_gradients(program.model).items():
        if layer["status"] != "OK":
            found.append((layer["status"].upper().replace("_", " "), "warning", name.rpartition(".")[0]))
    return ranked(found)


def torchtest2(program) -> Found:
    import torchtest2 as tests

    inputs, targets = next(iter(program.train))
    checked = tests.check_model(program.model, inputs, targets, loss_fn=program.loss, optimizer=program.optimizer)
    found = [(r, "critical") for r in checked.failures] + [(r, "warning") for r in checked.warnings]
    names = [("gradient_flow " if r.name == "gradient_flow" else r.name, severity) for r, severity in found]
    return [(name, severity, "") for name, severity in names]


TOOLS = {
    "watch": watch,
    "torch-audit": torch_audit,
    "torchmortem": torchmortem,
    "torchdiag": torchdiag,
    "torchtest2": torchtest2,
}


def one(path: Path, tool: str) -> dict:
    import torch

    from levelhead.doctor.program import Program

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module, kind = load(path), path.parent.name
    torch.manual_seed(0)
    program = Program.of(getattr(module, kind)(0))
    started = time.perf_counter()
    row = {"name": path.stem, "kind": kind, "tool": tool}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = TOOLS[tool](program)
    except Exception as error:
        found, row["error"] = [], f"{type(error).__name__}: {error}"[:200]
    # In the order of ``doctor.report``: what, where, how severe.
    row |= {"seconds": time.perf_counter() - started, "findings": [(rule, where, how) for rule, how, where in found]}
    if kind == "faulty":
        style = getattr(module, "SEVERITY", "") == "style"
        loud = [f for f in found if f[1] != "info" or style]
        row["detected"] = bool(loud)
        row["cause"] = bool(loud) and bool(MEANS.get(loud[0][0], {loud[0][0]}) & set(module.CAUSES))
        row["place"] = bool(loud) and loud[0][2] == module.WHERE
    return row


def apart(path: Path, tool: str, cases: Path, limit: float) -> dict:
    """One tool on one case in a process of its own; what does not end in time, or dies, has judged nothing."""
    command = [sys.executable, __file__, str(cases), "--one", str(path), "--tools", tool]
    row = {"name": path.stem, "kind": path.parent.name, "tool": tool, "findings": [], "seconds": limit}
    if path.parent.name == "faulty":
        row |= {"detected": False, "cause": False, "place": False}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit, check=True)
    except subprocess.TimeoutExpired:
        return row | {"error": f"not done in {limit:g} s"}
    except subprocess.CalledProcessError as error:
        return row | {"error": (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--half", choices=["development", "unseen", "all"], default="all")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="where to keep all rows; what it holds already is not run again")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a tool may take on a case")
    args = parser.parse_args()
    if args.one:
        print("\n" + json.dumps(one(args.one, args.tools)))
        return
    rows: list[dict] = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    kept = {(row["tool"], row["kind"], row["name"]) for row in rows}
    for kind in ("faulty", "healthy"):
        for path in half(args.cases / kind, args.half):
            for tool in args.tools.split(","):
                if (tool, kind, path.stem) not in kept:
                    rows.append(apart(path, tool, args.cases, args.limit))
                    if args.json:
                        args.json.write_text(json.dumps(rows, indent=1))
    for tool in args.tools.split(","):
        mine = [row for row in rows if row["tool"] == tool]
        if not mine:
            continue
        report(mine, tool)
        errors = [row["error"] for row in mine if "error" in row]
        if errors:
            print(f"  could not judge {len(errors)} of {len(mine)}, first: {errors[0]}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
