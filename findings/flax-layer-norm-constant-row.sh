#!/usr/bin/env bash
# Flax 0.12.8: LayerNorm of 1,000 equal values, whose right answer is 0, gives 7.8; with a mean of 1e4 and a deviation of 1 it
# is off by more than 1,000. The default `use_fast_variance=True` takes E[x^2] - mean^2; without it the second case is right and
# the first one 1. `jax.nn.standardize` (JAX 0.10.2) has no such switch and is off by more than 1,000, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 flax==0.12.8 numpy==2.4.6
cat >"$folder/program.py" <<'PROGRAM'
import flax
import flax.linen as nn
import jax
import numpy as np

equal = np.full((1, 1000), 12345.678, np.float32)
far = (np.random.default_rng(0).normal(size=(4, 1000)) + 1e4).astype(np.float32)
right = far.astype(np.float64)
right = (right - right.mean(1, keepdims=True)) / np.sqrt(right.var(1, keepdims=True) + 1e-6)


def words(error):
    return "more than 1000" if error > 1000 else "less than 0.01" if error < 0.01 else f"{error:.1f}"


print("flax", flax.__version__, "jax", jax.__version__)
for fast in (True, False):
    norm = nn.LayerNorm(use_fast_variance=fast)
    parameters = norm.init(jax.random.PRNGKey(0), far)
    off = np.abs(norm.apply(parameters, equal)).max(), np.abs(norm.apply(parameters, far) - right).max()
    print(f"use_fast_variance={fast}: equal values off by {words(off[0])}, far ones by {words(off[1])}")
print(f"standardize: far values off by {words(np.abs(jax.nn.standardize(far, epsilon=1e-6) - right).max())}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
flax 0.12.8 jax 0.10.2
use_fast_variance=True: equal values off by 7.8, far ones by more than 1000
use_fast_variance=False: equal values off by 1.0, far ones by less than 0.01
standardize: far values off by more than 1000
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
