#!/usr/bin/env bash
# PyTorch 2.13.0 (CPU): group norm of values of mean 1e4 and deviation 1 is off by more than 1,000 in channels-last memory,
# and by 2e-3 for the same values in ordinary order. The channels-last kernel takes E[x^2] - mean^2; the other does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/program.py" <<'PROGRAM'
import torch
from torch.nn.functional import group_norm

torch.manual_seed(0)
x = torch.randn(2, 8, 32, 32) + 1e4
right = group_norm(x.double(), 2)
print("torch", torch.__version__.partition("+")[0])
for name in ("contiguous_format", "channels_last"):
    y = group_norm(x.contiguous(memory_format=getattr(torch, name)), 2)
    error = float((y.double() - right).abs().max())
    print(f"{name}: off by {'more than 1000' if error > 1000 else 'less than 0.01' if error < 0.01 else error}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch 2.13.0
contiguous_format: off by less than 0.01
channels_last: off by more than 1000
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
