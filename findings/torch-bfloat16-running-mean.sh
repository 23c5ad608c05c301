#!/usr/bin/env bash
# PyTorch 2.13.0: batch norm in bfloat16 (`model.bfloat16()`) keeps its running estimates in bfloat16. An update of
# momentum x (batch - running) below half of the last digit is rounded away: after 2000 batches of the constant 100 the running
# mean stands at 96. In float32 it is 100.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/program.py" <<'PROGRAM'
import torch
from torch import nn

print("torch", torch.__version__.partition("+")[0])
for dtype in (torch.float32, torch.bfloat16):
    norm = nn.BatchNorm1d(1).to(dtype).train()
    batch = torch.full((8, 1), 100.0, dtype=dtype)
    for _ in range(2000):
        norm(batch)
    print(f"{dtype}: after 2000 batches of 100 the running mean is {norm.running_mean.item():.0f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch 2.13.0
torch.float32: after 2000 batches of 100 the running mean is 100
torch.bfloat16: after 2000 batches of 100 the running mean is 96
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
