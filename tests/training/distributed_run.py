"""Started by torchrun: train, and leave what this process ended with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from training_samples import images, small

from levelhead.training import loop, train

torch.set_num_threads(1)
folder, changes, stop = Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
networks = []
loop.build = lambda recipe, data, build=loop.build: networks.append(build(recipe, data)) or networks[-1]


def progress(done: int, _: int) -> None:
    if done == stop:
        raise KeyboardInterrupt


for name in ("whole", "part") if stop else ("whole",):
    if name == "part":
        with contextlib.suppress(KeyboardInterrupt):
            train(small(**changes), images(), folder=folder / name, accelerator="cpu", progress=progress)
    run = train(small(**changes), images(), folder=folder / name, accelerator="cpu")
    rank = os.environ["RANK"]
    save_file(networks[-1].state_dict(), folder / f"{name}-{rank}.safetensors")
    run = dataclasses.replace(run, seconds=0.0)
    run.save(folder / f"{name}-{rank}.json")
