#!/usr/bin/env bash
# OpenVINO 2026.4.1: `convert_model` of a PyTorch module in training mode leaves the module in evaluation mode, so that training
# that goes on after a conversion (a nightly export, say) goes on without dropout and without batch statistics.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 openvino==2026.4.1
cat >"$folder/program.py" <<'PROGRAM'
import openvino
import torch
from torch import nn

module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
openvino.convert_model(module, example_input=torch.randn(2, 4))
print("openvino", openvino.__version__.split("-")[0])
print("in training mode before: True, after:", all(part.training for part in module.modules()))
PROGRAM
cat >"$folder/seen" <<'SEEN'
openvino 2026.4.1
in training mode before: True, after: False
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
