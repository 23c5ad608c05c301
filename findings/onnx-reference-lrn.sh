#!/usr/bin/env bash
# onnx 1.23.2: the reference evaluator's LRN normalizes only as many channels as the batch has examples, and returns 1 for the
# rest of this input; ONNX Runtime 1.31.1 normalizes them all. A conformance check against the reference passes or fails by the
# size of the batch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1
cat >"$folder/program.py" <<'PROGRAM'
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
for batch in (1, 2, 5):
    shape = [batch, 5, 1, 1]
    node = helper.make_node("LRN", ["x"], ["y"], size=3, alpha=3.0, beta=1.0, bias=1.0)
    infos = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in "xy"]
    model = helper.make_model(
        helper.make_graph([node], "lrn", *infos), opset_imports=[helper.make_opsetid("", 13)], ir_version=9
    )
    x = {"x": np.ones(shape, np.float32)}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, (y,) in (("reference", ReferenceEvaluator(model).run(None, x)), ("runtime", session.run(None, x))):
        print(f"batch of {batch}, {name}:", *(f"{value:.2f}" for value in y[0, :, 0, 0]))
PROGRAM
cat >"$folder/seen" <<'SEEN'
onnx 1.23.2 onnxruntime 1.31.1
batch of 1, reference: 0.33 1.00 1.00 1.00 1.00
batch of 1, runtime: 0.33 0.25 0.25 0.25 0.33
batch of 2, reference: 0.33 0.25 1.00 1.00 1.00
batch of 2, runtime: 0.33 0.25 0.25 0.25 0.33
batch of 5, reference: 0.33 0.25 0.25 0.25 0.33
batch of 5, runtime: 0.33 0.25 0.25 0.25 0.33
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
