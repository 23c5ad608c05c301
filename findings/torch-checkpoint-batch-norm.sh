#!/usr/bin/env bash
# PyTorch 2.13.0: `torch.utils.checkpoint` runs a batch norm twice, and both runs move its running estimates: one step counts two
# batches, and the running mean is nearly twice as far from 0 as without checkpointing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$folder/program.py" <<'PROGRAM'
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(0)
x = torch.randn(64, 4) + 3
print("torch", torch.__version__.partition("+")[0])
for name in ("plain", "checkpointed"):
    norm = nn.BatchNorm1d(4)
    y = norm(x) if name == "plain" else checkpoint(norm, x, use_reentrant=False)
    y.square().sum().backward()
    print(f"{name}: one step counts {norm.num_batches_tracked.item()} batches, running mean {norm.running_mean.mean():.1f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch 2.13.0
plain: one step counts 1 batches, running mean 0.3
checkpointed: one step counts 2 batches, running mean 0.6
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
