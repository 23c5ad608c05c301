"""The doctor on programs with known faults, and on healthy ones.

    python benchmarks/doctor.py CASES [--half development|unseen] [--treat [--random]] [--jobs 2] [--only NAME]

CASES is a folder with ``faulty/*.py`` and ``healthy/*.py``: each defines ``faulty(seed)`` and ``fixed(seed)`` with
``CAUSES`` and ``WHERE``, or ``healthy(seed)``. The half is that of the even (development) or odd places when the file
names are sorted by their SHA-256: rules were written on the first half and judged on the second.

A case is detected if there is a critical or warning finding (of any severity for one that is a matter of style); its
cause is right if the first finding's is one of CAUSES; its place is right if the first finding's is WHERE, and accepted
if it is one of PLACES, which some cases have: what a fair reader takes for equally right. The
validation data are split in two: the doctor sees the first half, "mended" is measured on the second: 95 % of the way
from the faulty program's score to the repaired one's, median over three seeds. ``--random`` gives random search over
the same remedies (``random_search.py``) the seconds that the doctor took, and judges its program in the same way.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median


def half(folder: Path, which: str) -> list[Path]:
    files = sorted(folder.glob("*.py"), key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    return files if which == "all" else files[{"development": 0, "unseen": 1}[which] :: 2]


def load(path: Path):
    sys.path[:0] = [str(path.parent.parent), str(path.parent.parent.parent)]  # case.py is beside one of them
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parts(loader):
    """Two loaders of the two halves of a loader's rows; the same twice, where there are too few, or a stream."""
    from torch.utils.data import DataLoader, Subset

    count = len(loader.dataset) if hasattr(loader.dataset, "__len__") else 0
    if count < 40:
        return loader, loader
    order = random.Random(0).sample(range(count), count)  # every second row would be one class where they alternate
    halves = [order[: count // 2], order[count // 2 :]]
    return tuple(DataLoader(Subset(loader.dataset, part), batch_size=loader.batch_size) for part in halves)


def trained(case, test) -> float:
    """The final score on the test half."""
    from levelhead.doctor.program import Program
    from levelhead.doctor.trials import endless, updates_of

    program = Program.of(case)
    program.val = test
    batches = endless(program.train)
    for _ in range(updates_of(program)):
        program.update(next(batches))
    return program.final_score()


def one(path: Path, treat: bool, budget: float, random_too: bool) -> dict:
    import torch

    import levelhead as lh

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module = load(path)
    kind = path.parent.name
    torch.manual_seed(0)
    case = getattr(module, kind)(0)
    whole = case.val
    case.val, test = parts(whole)
    started = time.perf_counter()
    examination = lh.examine(case, budget=budget)
    row = {
        "name": path.stem,
        "kind": kind,
        "seconds": time.perf_counter() - started,
        "findings": [(f.cause, f.where, f.severity) for f in examination.findings],
        "page": str(examination),
    }
    if kind == "faulty":
        loud = [f for f in examination.findings if f.severity != "info" or getattr(module, "SEVERITY", "") == "style"]
        row["detected"] = bool(loud)
        row["cause"] = bool(loud) and loud[0].cause in module.CAUSES
        row["place"] = bool(loud) and loud[0].where == module.WHERE
        row["accepted place"] = bool(loud) and loud[0].where in getattr(module, "PLACES", {module.WHERE})
        row["expected"] = [sorted(module.CAUSES), module.WHERE]
    if treat and kind == "faulty" and getattr(module, "SEVERITY", "") != "style":
        started = time.perf_counter()
        treated = examination.treat()
        row["treat_seconds"] = time.perf_counter() - started
        row["treated"] = str(treated)
        row["accepted"] = treated.accepted
        scores = {"faulty": [], "fixed": []}
        for seed in range(3):
            for version, values in scores.items():
                torch.manual_seed(seed)
                values.append(trained(getattr(module, version)(seed), parts(getattr(module, version)(seed).val)[1]))
        mended = treated.program
        mended.val = test
        score = mended.final_score()
        worst, best = median(scores["faulty"]), median(scores["fixed"])
        row |= {"faulty_score": worst, "fixed_score": best, "mended_score": score}
        row["mended"] = treated.accepted and score >= worst + 0.95 * (best - worst)
        row["worse"] = treated.accepted and score < worst - 0.02
        if random_too:
            from random_search import search

            from levelhead.doctor.program import Program

            seconds = row["seconds"] + row["treat_seconds"]
            drawn = search(Program.of(case), seconds).program
            drawn.val = test
            row["random_score"] = drawn.final_score()
            row["random_mended"] = row["random_score"] >= worst + 0.95 * (best - worst)
    return row


def share(rows: list[dict], name: str) -> str:
    known = [row[name] for row in rows if name in row]
    return f"{sum(known)}/{len(known)}" if known else "-"


def report(rows: list[dict], title: str) -> None:
    faulty, healthy = ([r for r in rows if r["kind"] == kind] for kind in ("faulty", "healthy"))
    loud = [[s for _, _, s in r["findings"]] for r in healthy]
    print(f"\n{title}: {len(faulty)} faulty, {len(healthy)} healthy")
    shares = {name: share(faulty, name) for name in ("detected", "cause", "place", "accepted place")}
    print("  detected {detected}, cause at rank 1 {cause}, place {place}, accepted {accepted place}".format(**shares))
    print(
        f"  false alarms on healthy programs: critical {sum('critical' in s for s in loud)}/{len(loud)}, "
        f"any warning {sum('critical' in s or 'warning' in s for s in loud)}/{len(loud)}"
    )
    print(f"  mended {share(faulty, 'mended')}, made worse {share(faulty, 'worse')}")
    print(f"  mended by random search in the same time {share(faulty, 'random_mended')}")
    seconds = sorted(row["seconds"] for row in rows)
    if seconds:
        print(f"  seconds an examination: median {median(seconds):.1f}, largest {seconds[-1]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--half", choices=["development", "unseen", "all"], default="all")
    parser.add_argument("--treat", action="store_true")
    parser.add_argument("--random", action="store_true", help="random search in the time of each treatment")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--budget", type=float, default=30.0)
    parser.add_argument("--only", default="", help="part of a case's name; prints its page")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="where to write all rows")
    args = parser.parse_args()
    if args.one:
        print("\n" + json.dumps(one(args.one, args.treat, args.budget, args.random)))
        return
    halves = ["development", "unseen"] if args.half == "all" else [args.half]
    jobs = [
        (which, path)
        for which in halves
        for kind in ("faulty", "healthy")
        for path in half(args.cases / kind, which)
        if args.only in path.stem
    ]
    rows: list[dict] = []
    running: list[tuple[str, Path, subprocess.Popen]] = []
    while jobs or running:
        while jobs and len(running) < args.jobs:
            which, path = jobs.pop(0)
            command = [sys.executable, __file__, str(args.cases), "--one", str(path), "--budget", str(args.budget)]
            command += [*(["--treat"] if args.treat else []), *(["--random"] if args.random else [])]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
            running.append((which, path, process))
        which, path, process = running.pop(0)
        out = process.communicate()[0]
        if process.returncode:
            print(f"{path.stem}: failed", flush=True)
            continue
        row = json.loads(out.strip().splitlines()[-1]) | {"half": which}
        rows.append(row)
        said = "; ".join(f"{cause} at {where} ({severity})" for cause, where, severity in row["findings"]) or "healthy"
        marks = "".join("+-"[not row[name]] for name in ("detected", "cause", "place", "mended") if name in row)
        scores = (
            f" [{row['faulty_score']:.2f} -> {row['mended_score']:.2f}, fix {row['fixed_score']:.2f}]"
            if "mended_score" in row
            else ""
        )
        print(f"{path.stem:40s} {marks:5s}{row['seconds']:5.1f} s{scores}  {said}", flush=True)
        if args.only:
            print(row["page"], row.get("treated", ""), sep="\n\n")
    for which in halves:
        report([row for row in rows if row["half"] == which], which)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
