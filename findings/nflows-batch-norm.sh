#!/usr/bin/env bash
# nflows 0.14: the flow's BatchNorm divides by the unbiased deviation in training (n - 1), where batch norm divides by the biased
# one, so two values come out at +-0.71 and not +-1; and its running variance starts at 0, not 1, so that evaluation before the
# estimates have settled inflates: after one batch by 3.2 times, the root of 1/0.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 nflows==0.14
cat >"$folder/program.py" <<'PROGRAM'
from importlib.metadata import version

import torch
from nflows.transforms import BatchNorm

print("nflows", version("nflows"))
norm = BatchNorm(1, eps=1e-5).train()
y, _ = norm(torch.tensor([[0.0], [2.0]]))
print("training, of 0 and 2:", [round(v, 2) for v in y.flatten().tolist()])
print("running mean and variance after it:", round(norm.running_mean.item(), 2), round(norm.running_var.item(), 2))
torch.manual_seed(0)
norm, x = BatchNorm(1, momentum=0.1).train(), torch.randn(10000, 1)
norm(x)
print(f"evaluation after one batch of deviation 1: deviation {norm.eval()(x)[0].std().item():.1f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
nflows 0.14
training, of 0 and 2: [-0.71, 0.71]
running mean and variance after it: 0.1 0.2
evaluation after one batch of deviation 1: deviation 3.2
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
