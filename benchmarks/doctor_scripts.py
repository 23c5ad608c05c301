"""The doctor on training scripts as people write them: `levelhead watch` and `levelhead examine`.

    python benchmarks/doctor_scripts.py [--cases FOLDER] [--watch] [--budget 120] [--jobs 2] [--only NAME]

`FOLDER/healthy/*.py` are ordinary scripts; each entry of `FOLDER/faulty.toml` is one of them with a fault, or else
those of `FOLDER/faulty/*.py` are faulty, with answers in `FOLDER/answers.toml`. A case is detected if there is a
critical or warning finding; its cause is right if the first finding's is among `causes`, its place if that finding's is
among `where`. Every script runs in a folder of its own, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CASES = Path(__file__).parent / "cases" / "scripts"


def faulty(folder: Path, case: dict) -> str:
    """The script of a case: the healthy one with its edits."""
    text = (folder / "healthy" / f"{case['script']}.py").read_text()
    for old, new in case["edits"]:
        if text.count(old) < 1:
            raise SystemExit(f"{case['script']}: nothing to replace: {old!r}")
        text = text.replace(old, new)
    return text


def programs(folder: Path) -> dict[str, tuple[str, dict | None]]:
    """Text and answers by name; healthy ones have none."""
    healthy = {path.stem: (path.read_text(), None) for path in sorted((folder / "healthy").glob("*.py"))}
    if (folder / "faulty.toml").exists():
        known = tomllib.loads((folder / "faulty.toml").read_text())
        return healthy | {name: (faulty(folder, case), case) for name, case in known.items()}
    answers = tomllib.loads((folder / "answers.toml").read_text())
    return healthy | {name: ((folder / "faulty" / f"{name}.py").read_text(), case) for name, case in answers.items()}


def judge(name: str, text: str, case: dict | None, command: list[str]) -> dict:
    """Run one command on one script, and hold what it says against the answers."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{name}.py").write_text(text)
        out = Path(folder) / "findings.json"
        command = [out if part == "OUT" else part for part in command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "levelhead", *command, f"{name}.py"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        if command[0] == "examine" and done.returncode in (0, 1):
            out.write_text(json.dumps({"examinations": [json.loads(done.stdout)]}))
        if not out.exists():
            return {"name": name, "error": done.stderr[-2000:], "seconds": seconds, "faulty": case is not None}
        found = [f for e in json.loads(out.read_text())["examinations"] for f in e["findings"]]
    costly = sorted((f for f in found if f["severity"] != "info"), key=lambda f: f["severity"] != "critical")
    first = costly[0] if costly else None
    return {
        "name": name,
        "faulty": case is not None,
        "findings": [f"{f['cause']} at {f['where']} [{f['severity']}]" for f in costly],
        "detected": first is not None,
        "critical": first is not None and first["severity"] == "critical",
        "cause": bool(case and first and first["cause"] in case["causes"]),
        "place": bool(case and first and first["cause"] in case["causes"] and first["where"] in case["where"]),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of an examination")
    parser.add_argument("--watch", action="store_true", help="levelhead watch in place of levelhead examine")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", action="append")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--write", type=Path, help="write the scripts to this folder, and stop")
    asked = parser.parse_args()
    chosen = {n: p for n, p in programs(asked.cases).items() if not asked.only or n in asked.only}
    if asked.write:
        asked.write.mkdir(parents=True, exist_ok=True)
        for name, (text, _) in chosen.items():
            (asked.write / f"{name}.py").write_text(text)
        return
    command = ["watch", "--json", "OUT"] if asked.watch else ["examine", "--json", "--budget", str(asked.budget)]
    results = []
    with ThreadPoolExecutor(asked.jobs) as pool:
        for r in pool.map(lambda item: judge(item[0], *item[1], command), chosen.items()):
            results.append(r)
            show(r)
    sum_up(results)
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=1))


def show(r: dict) -> None:
    """A line a script."""
    said = r.get("findings") or ([r["error"].strip().splitlines()[-1:]] if "error" in r else ["nothing"])
    mark = ("ok" if r.get("place") else "cause" if r.get("cause") else "-") if r["faulty"] else "healthy"
    print(f"{mark:8s}{r['name']:24s}{r['seconds']:6.1f} s  {'; '.join(map(str, said))}", flush=True)


def sum_up(results: list[dict]) -> None:
    """How many are right."""
    bad = [r for r in results if r["faulty"]]
    good = [r for r in results if not r["faulty"]]
    for what in ("detected", "cause", "place"):
        print(f"{what}: {sum(bool(r.get(what)) for r in bad)} of {len(bad)}")
    print(f"healthy with a critical finding: {sum(bool(r.get('critical')) for r in good)} of {len(good)}")
    print(f"healthy with any warning: {sum(bool(r.get('detected')) for r in good)} of {len(good)}")


if __name__ == "__main__":
    main()
