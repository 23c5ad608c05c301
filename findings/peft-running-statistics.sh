#!/usr/bin/env bash
# PEFT 0.21.2: LoRA on a model with batch norm changes the base model, and its adapter does not hold the change. Running
# statistics move in training, are not saved with the adapter, and stay moved when the adapter is disabled: the loaded model and
# the "base" answer otherwise than those that were trained and started from. With the norm in `modules_to_save` both are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 peft==0.21.2 transformers==5.23.0
cat >"$folder/program.py" <<'PROGRAM'
import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn


def base():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def words(difference):
    return "the same" if difference < 1e-5 else "more than 1 apart" if difference > 1 else f"{difference:.1g} apart"


torch.manual_seed(1)
x = torch.randn(64, 8) * 3 + 5
print("peft", peft.__version__)
for saved in (None, ["1"]):
    model = get_peft_model(base(), LoraConfig(target_modules=["0", "3"], modules_to_save=saved)).train()
    for _ in range(50):
        model(x)
    model.eval().save_pretrained("adapter")
    loaded = PeftModel.from_pretrained(base(), "adapter").eval()
    with torch.no_grad(), model.disable_adapter():
        disabled = float((model(x) - base().eval()(x)).abs().max())
    with torch.no_grad():
        again = float((loaded(x) - model(x)).abs().max())
    print(f"modules_to_save={saved}: saved and loaded {words(again)}; disabled, and the base {words(disabled)}")
PROGRAM
cat >"$folder/seen" <<'SEEN'
peft 0.21.2
modules_to_save=None: saved and loaded more than 1 apart; disabled, and the base more than 1 apart
modules_to_save=['1']: saved and loaded the same; disabled, and the base the same
SEEN
(cd "$folder" && venv/bin/python -W ignore program.py 2>/dev/null) | tee "$folder/now"
diff "$folder/seen" "$folder/now" && echo "as seen in November 2026"
