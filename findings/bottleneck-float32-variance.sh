#!/usr/bin/env bash
# Bottleneck 1.6.0: nanvar of a float32 array adds up in float32, one value after the other, where NumPy adds in pairs. A million
# values near 10,000 with variance 1: 17,139 over the whole array; numbagg 0.9.6 and Polars 2.1.0 give 1.0. A moving variance is off
# by several percent in Bottleneck and in numbagg, right in Polars.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 bottleneck==1.6.0 numbagg==0.9.6 polars==2.1.0
cat >"$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

import bottleneck
import numbagg
import numpy as np
import polars

x = (1e4 + np.random.default_rng(0).standard_normal(1_000_000)).astype(np.float32)
print(*(f"{name} {version(name)}" for name in ("numpy", "bottleneck", "numbagg", "polars")))
print(f"variance in float64 {x.astype(float).var():.3f}, numpy.var {x.var():.3f}")
print(f"bottleneck.nanvar {bottleneck.nanvar(x):.0f}, numbagg.nanvar {numbagg.nanvar(x):.3f}, polars {polars.Series(x).var():.3f}")
last = x[-1000:].astype(float)
print(
    f"the last of the moving variances over 1,000: right {last.var():.3f}, bottleneck {bottleneck.move_var(x, 1000)[-1]:.3f}, "
    f"numbagg {numbagg.move_var(x, window=1000)[-1]:.3f}, polars {polars.Series(x).rolling_var(1000)[-1]:.3f}"
)
PROGRAM
cat >"$folder/seen" <<'SEEN'
numpy 2.4.6 bottleneck 1.6.0 numbagg 0.9.6 polars 2.1.0
variance in float64 1.001, numpy.var 1.001
bottleneck.nanvar 17139, numbagg.nanvar 1.001, polars 1.001
the last of the moving variances over 1,000: right 0.998, bottleneck 1.048, numbagg 1.061, polars 0.999
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
