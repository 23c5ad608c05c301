"""``levelhead stats`` on files beside a lazy polars aggregation, duckdb, and decoding alone: whole processes.

1,000,000 rows × 30 columns of float64 as CSV and as Parquet, and 10,000 photos of 224 × 224 pixels, written once into
``--folder``. Count, mean, deviation, least and greatest of every column; every deviation is checked against extended
precision first, and of a column of mean 1e9 and deviation 1e-2 the errors of all three are shown. Seconds are medians
of whole processes, start-up included, in turn; MB are the greatest resident memory.

    pip install -c constraints.txt '.[bench]'     # duckdb
    python benchmarks/stats_files.py [--rows 1000000] [--photos 10000] [--repeats 5] [--folder FOLDER]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

COLUMNS = 30
LEVELHEAD = (
    "import sys; from levelhead.cli import main; sys.argv = ['levelhead', 'stats', sys.argv[1], '--json']; main()"
)
#: A process tells its own greatest resident memory at its end: that of a child begins with its parent's.
TELL = """
import atexit, pathlib, re, sys
def tell(status=pathlib.Path('/proc/self/status')):
    found = re.search(r'VmHWM:\\s+(\\d+) kB', status.read_text()) if status.exists() else None
    print(float(found[1]) / 1024 if found else 'nan', file=sys.stderr)
atexit.register(tell)
"""
POLARS = """
import json, sys, polars as pl
path = sys.argv[1]
frame = pl.scan_csv(path) if path.endswith('.csv') else pl.scan_parquet(path)
every = pl.all()
found = frame.select(
    every.count().name.suffix('_n'), every.mean().name.suffix('_mean'), every.std(ddof=0).name.suffix('_std'),
    every.min().name.suffix('_min'), every.max().name.suffix('_max'),
).collect(engine='streaming').row(0, named=True)
print(json.dumps([value for name, value in found.items() if name.endswith('_std')]))
"""
DUCKDB = """
import json, sys, duckdb
duckdb.sql('set enable_progress_bar = false')
what = ('count', 'avg', 'stddev_pop', 'min', 'max')
columns = [c[0] for c in duckdb.sql(f"describe select * from '{sys.argv[1]}'").fetchall()]
asked = ', '.join(f'{each}("{c}")' for c in columns for each in what)
print(json.dumps(list(duckdb.sql(f"select {asked} from '{sys.argv[1]}'").fetchall()[0][2::5])))
"""
DECODING = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
from PIL import Image
def decode(path):
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB')).shape
with ThreadPoolExecutor(os.cpu_count()) as pool:
    assert all(pool.map(decode, sorted(Path(sys.argv[1]).rglob('*.jpg'))))
"""
LOADING = DECODING.replace("return np.asarray(image.convert('RGB')).shape", "image.load()\n        return True")


def table(folder, rows):
    """The files, and the deviations in extended precision."""
    import polars as pl

    rng = np.random.default_rng(0)
    means = np.linspace(0, 1000, COLUMNS - 1)
    values = {f"c{i}": rng.normal(mean, 10, rows).round(8) for i, mean in enumerate(means)}
    values["mean 1e9"] = 1e9 + rng.normal(0, 1e-2, rows)
    frame = pl.DataFrame(values)
    paths = folder / f"t{rows}.csv", folder / f"t{rows}.parquet"
    if not all(path.exists() for path in paths):
        frame.write_csv(paths[0])
        frame.write_parquet(paths[1])
    wide = [column.astype(np.longdouble) - column[0] for column in values.values()]
    return paths, [float(np.sqrt(((column - column.mean()) ** 2).mean())) for column in wide]


def photos(folder, count):
    from PIL import Image

    root, rng = folder / f"photos{count}", np.random.default_rng(0)
    for i in range(count):
        path = root / ("ants", "bees")[i % 2] / f"{i}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
            coarse.resize((224, 224), Image.Resampling.BICUBIC).save(path, quality=90)
    return root


def run(program, path):
    """Seconds and MB (nan but on Linux) of a whole process, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", TELL + program, str(path)], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, float(done.stderr.split()[-1]), done.stdout


def compare(path, programs, repeats):
    """Median seconds, greatest MB and the last words of each, run in turn."""
    seen = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            seen[name].append(run(program, path))
    return {
        name: (statistics.median(s for s, _, _ in runs), max(mb for _, mb, _ in runs), runs[-1][2])
        for name, runs in seen.items()
    }


def deviations(said):
    found = json.loads(said)
    return [f["std"] for f in found["features"]] if isinstance(found, dict) else found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("build/stats_files"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    programs = {"levelhead": LEVELHEAD, "polars": POLARS}
    try:
        import duckdb  # noqa: F401

        programs["duckdb"] = DUCKDB
    except ModuleNotFoundError:
        print("duckdb is left out: pip install -c constraints.txt '.[bench]'")
    if arguments.rows:
        paths, truth = table(arguments.folder, arguments.rows)
        print(f"{arguments.rows:,} rows x {COLUMNS}, {os.cpu_count()} cores, medians of {arguments.repeats}")
        for path in paths:
            size = f"{path.suffix[1:]}, {path.stat().st_size / 2**20:.0f} MB"
            print(f"{size:20}      s  to polars     MB  worst error at 1e9")
            seen = compare(path, programs, arguments.repeats)
            for name, (seconds, memory, said) in seen.items():
                errors = [abs(found / true - 1) for found, true in zip(deviations(said), truth, strict=True)]
                if name == "levelhead":
                    assert max(errors) < 1e-13, f"a deviation is off by {max(errors):.1e}: nothing to time"
                ratio = seconds / seen["polars"][0]
                print(
                    f"{name:20} {seconds:6.2f} {ratio:10.2f} {memory:6.0f} {max(errors[:-1]):12.0e} {errors[-1]:7.0e}"
                )
    if arguments.photos:
        root = photos(arguments.folder, arguments.photos)
        seen = compare(
            root, {"levelhead": LEVELHEAD, "pixels to NumPy": DECODING, "decoder alone": LOADING}, arguments.repeats
        )
        print(f"{arguments.photos:,} photos          s  levelhead to it    MB")
        for name, (seconds, memory, _) in seen.items():
            print(f"{name:20} {seconds:6.2f} {seen['levelhead'][0] / seconds:16.2f} {memory:6.0f}")


if __name__ == "__main__":
    main()
