#!/usr/bin/env bash
# ONNX Runtime 1.31.1: a training-mode BatchNormalization whose scale and variance start at 1, and bias and mean at 0 (what
# every fresh export has), gives another result at each call on the same input. Initializers of equal value are merged into
# one, and the running estimates are then written in place: into scale and bias, too. With the optimizations off it is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1
cat >"$folder/program.py" <<'PROGRAM'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

C = 4
start = {"scale": 1, "bias": 0, "mean": 0, "var": 1}
node = helper.make_node("BatchNormalization", ["x", *start], ["y", "new_mean", "new_var"], training_mode=1, momentum=0.9)
x_info, y_info = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, C]) for name in "xy")
initializers = [numpy_helper.from_array(np.full(C, value, np.float32), name) for name, value in start.items()]
graph = helper.make_graph([node], "norm", [x_info], [y_info], initializers)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
x = np.random.default_rng(0).normal(3, 2, (8, C)).astype(np.float32)

print("onnxruntime", ort.__version__)
for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for call in range(3):
        (y,) = session.run(None, {"x": x})
        print(f"{level} call {call}: mean {abs(y.mean()):.2f}, deviation {y.std():.2f}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
onnxruntime 1.31.1
ORT_ENABLE_ALL call 0: mean 0.27, deviation 1.14
ORT_ENABLE_ALL call 1: mean 0.51, deviation 1.27
ORT_ENABLE_ALL call 2: mean 0.73, deviation 1.38
ORT_DISABLE_ALL call 0: mean 0.00, deviation 1.00
ORT_DISABLE_ALL call 1: mean 0.00, deviation 1.00
ORT_DISABLE_ALL call 2: mean 0.00, deviation 1.00
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
