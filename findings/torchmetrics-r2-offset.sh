#!/usr/bin/env bash
# torchmetrics 1.9.0: R2Score and ExplainedVariance keep sums of float32 targets and of their squares, so that the variance of the
# targets is a difference of large numbers. Targets near 10,000 with deviation 1 and predictions that are off by 0.5: R² is 0.75, and
# 0.976 is reported; a root mean square error in deviations is 0.50, and 0.53 is reported. Centred targets give the right values.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.13.0 torchmetrics==1.9.0
cat >"$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

import numpy as np
import torch
from torchmetrics import ExplainedVariance, NormalizedRootMeanSquaredError, R2Score

rng = np.random.default_rng(0)
target, error = (torch.from_numpy(rng.standard_normal(100_000)).float() for _ in range(2))
print("torchmetrics", version("torchmetrics"))
for mean in (0, 10_000):
    y = target + mean
    p = y + error / 2
    metrics = {"R2": R2Score(), "explained variance": ExplainedVariance()}
    metrics["error in deviations"] = NormalizedRootMeanSquaredError(normalization="std")
    for rows in torch.arange(len(y)).split(1000):
        for metric in metrics.values():
            metric.update(p[rows], y[rows])
    wide, off = y.double(), p.double() - y.double()
    right = 1 - off.square().sum() / (wide - wide.mean()).square().sum()
    told = ", ".join(f"{name} {float(metric.compute()):.2f}" for name, metric in metrics.items())
    print(f"mean {mean}: {told}; R2 in float64 {float(right):.2f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torchmetrics 1.9.0
mean 0: R2 0.75, explained variance 0.75, error in deviations 0.50; R2 in float64 0.75
mean 10000: R2 0.98, explained variance 0.97, error in deviations 0.53; R2 in float64 0.75
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
