#!/usr/bin/env bash
# Gymnasium 1.4.0 and Stable-Baselines3 2.9.2: the RunningMeanStd behind NormalizeObservation and VecNormalize begins with 1e-4
# observations of mean 0 and variance 1. For observations far from 0 this is no small prior: of 999, 1000 and 1001, one at a time,
# the variance comes out as 34.0 and not 0.67, and after 1,000 observations of variance 1 it is still 1.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 gymnasium==1.4.0 stable-baselines3==2.9.2 torch==2.13.0
cat >"$folder/program.py" <<'PROGRAM'
import gymnasium
import numpy as np
import stable_baselines3
from gymnasium.wrappers.utils import RunningMeanStd as Gymnasium
from stable_baselines3.common.running_mean_std import RunningMeanStd as StableBaselines

print("gymnasium", gymnasium.__version__, "stable-baselines3", stable_baselines3.__version__)
many = np.random.default_rng(0).normal(1000, 1, 1000)
for name, kind in (("gymnasium", Gymnasium), ("stable-baselines3", StableBaselines)):
    for values in (np.array([1000.0, 1001, 999]), many):
        running = kind(shape=(1,))
        for value in values:
            running.update(np.array([[value]]))
        print(f"{name}, {len(values)} values: variance {running.var[0]:.2f}, of the values {values.var():.2f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
gymnasium 1.4.0 stable-baselines3 2.9.2
gymnasium, 3 values: variance 34.00, of the values 0.67
gymnasium, 1000 values: variance 1.05, of the values 0.95
stable-baselines3, 3 values: variance 34.00, of the values 0.67
stable-baselines3, 1000 values: variance 1.05, of the values 0.95
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
