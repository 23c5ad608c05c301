#!/usr/bin/env bash
# Transformers 5.23.0: Trainer's weight decay spares biases, LayerNorm, and whatever has "norm" in its name; the weights of batch,
# group and RMS norms of another name (`bn`, `gn`, `rms`) are decayed towards 0. So renaming an attribute changes the training.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.15.0
cat >"$folder/program.py" <<'PROGRAM'
import torch
import transformers
from torch import nn
from transformers import Trainer, TrainingArguments


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn, self.norm = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.gn, self.rms, self.ln = nn.GroupNorm(2, 4), nn.RMSNorm(4), nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


trainer = Trainer(Model(), TrainingArguments("out", report_to="none", use_cpu=True, weight_decay=0.1))
print("transformers", transformers.__version__)
print("decayed:", *sorted(trainer.get_decay_parameter_names(trainer.model)))
PROGRAM
cat >"$folder/seen" <<'SEEN'
transformers 5.23.0
decayed: bn.weight gn.weight head.weight rms.weight
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
