#!/usr/bin/env bash
# Batch norm's running estimates after one training call on 0 and 2 (mean 1, biased variance 1, unbiased 2), every library with
# its defaults, from a running mean of 0 and variance of 1: which variance is kept, and whether `momentum` is the weight of the new value or of
# the old one. (Equinox takes its first batch whole; Haiku corrects for its start, and the row shows its hidden estimates.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 keras==3.15.1 jax==0.10.2 flax==0.12.8 dm-haiku==0.0.17 equinox==0.13.8 'mlx[cpu]==0.32.4' torch_geometric==2.8.1 e3nn==0.6.0 paddlepaddle==3.3.1 onnx==1.23.2 onnxruntime==1.31.1 tinygrad==0.14.0
cat >"$folder/program.py" <<'PROGRAM'
import os

os.environ["KERAS_BACKEND"] = "torch"
os.environ["DEV"] = "PYTHON"  # tinygrad without a compiler
from importlib.metadata import version

import equinox as eqx
import flax.linen
import haiku as hk
import jax
import keras
import mlx.core
import mlx.nn
import numpy as np
import onnxruntime as ort
import paddle
import tinygrad
import tinygrad.nn
import torch
import torch_geometric.nn
from e3nn.nn import BatchNorm as E3nn
from onnx import TensorProto, helper, numpy_helper
from tinygrad.helpers import Context

x = np.array([[0.0], [2.0]], np.float32)


def row(package, momentum, mean, var, start=1.0, weight=None):
    mean, var = float(np.asarray(mean).ravel()[0]), float(np.asarray(var).ravel()[0])
    kept = (var - start) / mean + start  # the new value's weight is the running mean, as the mean is 1
    kind = {1: "biased", 2: "unbiased"}.get(round(kept), "neither")
    meaning = "of the new value" if abs(momentum - (weight or mean)) < 1e-6 else "of the old value"
    print(f"{package} {version(package).partition('+')[0]}: {mean:.2f} {var:.2f}, {kind}, momentum {momentum:g} {meaning}")


norm = torch.nn.BatchNorm1d(1)
norm(torch.from_numpy(x))
row("torch", norm.momentum, norm.running_mean, norm.running_var)
norm = torch_geometric.nn.InstanceNorm(1, track_running_stats=True)
norm(torch.from_numpy(x))
row("torch_geometric", norm.momentum, norm.running_mean, norm.running_var)
norm = E3nn("1x0e")
norm(torch.from_numpy(x))
row("e3nn", norm.momentum, norm.running_mean, norm.running_var)
norm = keras.layers.BatchNormalization()
norm(x, training=True)
row("keras", norm.momentum, keras.ops.convert_to_numpy(norm.moving_mean), keras.ops.convert_to_numpy(norm.moving_variance))
norm = paddle.nn.BatchNorm1D(1)
norm(paddle.to_tensor(x))
row("paddlepaddle", norm._momentum, norm._mean.numpy(), norm._variance.numpy())
norm = flax.linen.BatchNorm(use_running_average=False)
_, state = norm.apply(norm.init(jax.random.PRNGKey(0), x), x, mutable=["batch_stats"])
row("flax", norm.momentum, state["batch_stats"]["mean"], state["batch_stats"]["var"])
average = hk.transform_with_state(lambda x: hk.BatchNorm(True, True, 0.9)(x, True))
parameters, state = average.init(None, x)
state = average.apply(parameters, state, None, x)[1]
ema = {name.rpartition("/~/")[2]: value for name, value in state.items()}
# Haiku corrects for its start: the hidden value is what the weight shows in.
row("dm-haiku", 0.9, ema["mean_ema"]["hidden"], ema["var_ema"]["hidden"], start=0.0)
norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(1, "batch", mode="ema")
_, state = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)
mean, var = state.get(norm.ema_state_index)  # the first batch is taken whole
_, state = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x + 10, state)
row("equinox", norm.momentum, mean, var, weight=(float(state.get(norm.ema_state_index)[0][0]) - 1) / 10)
norm = mlx.nn.BatchNorm(1)
norm(mlx.core.array(x))
row("mlx", norm.momentum, norm.running_mean, norm.running_var)
norm = tinygrad.nn.BatchNorm(1)
with Context(TRAINING=1):
    norm(tinygrad.Tensor(x)).realize()
row("tinygrad", norm.momentum, norm.running_mean.numpy(), norm.running_var.numpy())
node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "mean", "var"], training_mode=1)
infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("y", (2, 1)), ("mean", (1,)), ("var", (1,)))]
start = [numpy_helper.from_array(np.array([value], np.float32), name) for name, value in zip("sbmv", (2, 3, 0, 1))]
graph = helper.make_graph([node], "norm", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 1))], infos, start)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
_, mean, var = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})
row("onnxruntime", 0.9, mean, var)
PROGRAM
cat >"$folder/seen" <<'SEEN'
torch 2.13.0: 0.10 1.10, unbiased, momentum 0.1 of the new value
torch_geometric 2.8.1: 0.10 1.10, unbiased, momentum 0.1 of the new value
e3nn 0.6.0: 0.10 1.00, biased, momentum 0.1 of the new value
keras 3.15.1: 0.01 1.00, biased, momentum 0.99 of the old value
paddlepaddle 3.3.1: 0.10 1.00, biased, momentum 0.9 of the old value
flax 0.12.8: 0.01 1.00, biased, momentum 0.99 of the old value
dm-haiku 0.0.17: 0.10 0.10, biased, momentum 0.9 of the old value
equinox 0.13.8: 1.00 1.00, biased, momentum 0.99 of the old value
mlx 0.32.4: 0.10 1.10, unbiased, momentum 0.1 of the new value
tinygrad 0.14.0: 0.10 1.10, unbiased, momentum 0.1 of the new value
onnxruntime 1.31.1: 0.10 1.00, biased, momentum 0.9 of the old value
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
