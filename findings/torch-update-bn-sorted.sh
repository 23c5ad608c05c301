#!/usr/bin/env bash
# PyTorch 2.13.0: `torch.optim.swa_utils.update_bn` averages the variances of the batches, and so leaves out what lies between
# them. For data sorted by class it gives a variance of 1 where that of the data is 9; shuffled, it gives 9.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/program.py" <<'PROGRAM'
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

torch.manual_seed(0)
x = torch.randn(1000, 1) + torch.arange(10.0).repeat_interleave(100)[:, None]
print("torch", torch.__version__.partition("+")[0])
for name, batches in (("shuffled", x[torch.randperm(1000)]), ("sorted", x)):
    norm = nn.BatchNorm1d(1)
    update_bn(batches.split(100), norm)
    print(f"{name}: variance {norm.running_var.item():.0f}, of the data {x.var().item():.0f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch 2.13.0
shuffled: variance 9, of the data 9
sorted: variance 1, of the data 9
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
