#!/usr/bin/env bash
# PyTorch 2.13.0: `torch.onnx.export(dynamo=True)` of a module in training mode writes BatchNormalization in its inference form,
# which normalizes by the running estimates, without a word; the older exporter writes `training_mode=1`. Run in ONNX Runtime
# 1.31.1, a batch of mean 3 comes out with mean 3 and not 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1
cat >"$folder/program.py" <<'PROGRAM'
import numpy as np
import onnx
import onnxruntime as ort
import torch

torch.manual_seed(0)
x = torch.randn(64, 4) + 3
print("torch", torch.__version__.partition("+")[0], "onnxruntime", ort.__version__)
for dynamo in (True, False):
    module = torch.nn.BatchNorm1d(4).train()
    options = {} if dynamo else {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
    torch.onnx.export(module, (x,), "norm.onnx", dynamo=dynamo, verbose=False, **options)
    nodes = [node for node in onnx.load("norm.onnx").graph.node if node.op_type == "BatchNormalization"]
    training = [a.i for a in nodes[0].attribute if a.name == "training_mode"]
    session = ort.InferenceSession("norm.onnx", providers=["CPUExecutionProvider"])
    y = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    print(f"RESULT dynamo={dynamo}: training_mode {training[0] if training else 'absent'}, mean of the output {abs(y.mean()):.0f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch 2.13.0 onnxruntime 1.31.1
RESULT dynamo=True: training_mode absent, mean of the output 3
RESULT dynamo=False: training_mode 1, mean of the output 0
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
