#!/usr/bin/env bash
# PyTorch Geometric 2.8.1: LayerNorm(x) and LayerNorm(x, batch) with one graph differ. Without `batch` the result is
# (x - mean) / (deviation + eps), with it (x - mean) / sqrt(variance + eps). At a deviation of 1e-3, which a residual branch that
# starts near 0 has, the first gives a deviation of 0.99 and the second 0.30, so a model of one graph trained without `batch`
# answers otherwise when graphs are batched.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 torch_geometric==2.8.1
cat >"$folder/program.py" <<'PROGRAM'
import torch
import torch_geometric
from torch_geometric.nn import LayerNorm

torch.manual_seed(0)
x, norm = 1e-3 * torch.randn(100, 4), LayerNorm(4)
print("torch_geometric", torch_geometric.__version__)
print(f"deviation without batch: {norm(x).std():.2f}, with batch: {norm(x, torch.zeros(100, dtype=torch.long)).std():.2f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch_geometric 2.8.1
deviation without batch: 0.99, with batch: 0.30
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
