"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from levelhead.records import Curve, Run, Status, environment
from levelhead.training import checkpoints, probes
from levelhead.training.batches import Batches, augmentation
from levelhead.training.networks import build
from levelhead.training.objectives import evaluate, improved, loss_function
from levelhead.training.optimizers import optimizer as make_optimizer
from levelhead.training.optimizers import regularize
from levelhead.training.recipe import Recipe
from levelhead.training.seeding import NOISE, derive

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from levelhead.data import Dataset, Split

#: The losses of so many steps are looked at together: a look waits for the device.
_LOOK = 50
#: Rows that the training loss is measured on; an evaluation should cost no more than a few steps.
_TRAIN_ROWS = 250
#: Rows that the unit's input is measured on: its percentiles come to about 3 percentage points.
_PROBE_ROWS = 250


@dataclass
class _State:
    """What a run has come to, apart from tensors; JSON values all through."""

    step: int = 0
    seconds: float = 0.0
    best: float = math.nan
    test_score: float = math.nan
    stale: int = 0  # evaluations since the best
    status: Status | None = None  # None while it goes on
    message: str = ""
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    arrays: dict[str, list[float]] = field(default_factory=dict)

    def record(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.curves.setdefault(name, []).append((self.step, value))

    def end(self, message: str = "", status: Status = "finished") -> None:
        self.status, self.message = status, message


def train(
    recipe: Recipe,
    data: Dataset,
    *,
    arm: str = "",
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    probe: bool = True,
    observe: probes.Observer | None = None,
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = 1,
    precision: Any = "32-true",
) -> Run:
    """Train the recipe's network on the data, and measure it on the way.

    At step 0, every ``recipe.evaluate_every`` steps and at the end, in eval mode: ``train_loss`` (over at most
    250 training rows, evenly spaced), ``validation_loss``, ``validation_score`` (accuracy, or
    r² for regression); where the validation score is the best so far, the test score is taken. With ``probe``:
    ``unit_input_p15``, ``_p50``, ``_p85`` (see ``probes.UnitInput``) and ``gradient_norm/<layer>``, of the latest
    step's gradient. Also ``train_score`` over the rows of ``train_loss``, and what ``observe`` returns.

    A loss that is not finite ends the run as ``diverged``; its steps are those before the first such loss.

    Started by ``torchrun``, each process takes its share of every batch, and gradients are averaged; batch
    normalization then takes its statistics from each share.

    Args:
        recipe: the settings.
        data: the three splits; they are moved to the device as a whole.
        arm: the name that the run goes by in a study.
        folder: where checkpoints and the final weights (``model.safetensors``) go; a run that finds its own
            checkpoint there goes on from it and ends with the same bits as one that was never stopped (on the same
            machine with the same number of threads). None keeps nothing.
        progress: called with (steps done, steps in all) about every 50 steps.
        probe: whether to take the curves of inputs and gradients.
        observe: called at every evaluation with (a copy of the network, recipe, data, step); the numbers that it
            returns become curves, sequences of numbers become the run's ``arrays``.
        accelerator: Fabric's: ``auto``, ``cpu``, ``cuda``, ``mps``.
        devices: which device, as Fabric counts them: 1, or [1] for the second; under torchrun one a process.
        precision: Fabric's: ``32-true``, ``bf16-mixed``, ``16-mixed``, ``64-true``, ...

    Returns:
        The run with its curves; under torchrun the same on every process.

    Raises:
        RecipeError: recipe and data do not go together.
        CheckpointError: the folder's checkpoint is damaged or of another run.
        ValueError: several devices without torchrun.
    """
    fabric = _fabric(accelerator, devices, precision)
    loss = loss_function(recipe, data)  # first, as it is quick to refuse
    with torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []):
        torch.manual_seed(derive(recipe.seed, NOISE, fabric.global_rank))
        return _Training(fabric, recipe, data, loss, folder, probe, observe).run(arm, progress)


def _fabric(accelerator: str, devices: int | str | Sequence[int], precision: Any) -> Fabric:
    from lightning_fabric import Fabric

    nodes = 1
    if dist.is_available() and dist.is_torchelastic_launched():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        devices, nodes = local, int(os.environ["WORLD_SIZE"]) // local
    elif (devices if isinstance(devices, int) else 1 if isinstance(devices, str) else len(devices)) > 1:
        raise ValueError(
            f"devices = {devices!r} asks for several processes, and this is one; start it by torchrun: "
            "torchrun --nproc-per-node 2 -m ..."
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=devices if isinstance(devices, int | str) else list(devices),
        num_nodes=nodes,
        precision=precision,
    )
    fabric.launch()
    return fabric


class _Training:
    """One run: its parts, and the loop over them."""

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        data: Dataset,
        loss: Callable[[Tensor, Tensor], Tensor],
        folder: Path | None,
        probe: bool,
        observe: probes.Observer | None,
    ) -> None:
        self.fabric, self.recipe, self.data, self.loss, self.folder = fabric, recipe, data, loss, folder
        # In its final type before the optimizer is chosen, which depends on it.
        self.network = fabric.strategy.precision.convert_module(build(recipe, data))
        optimizer = make_optimizer(recipe, self.network)
        self.model, self.optimizer = fabric.setup(self.network, optimizer)
        self.penalty = regularize(recipe, self.network, optimizer)
        self.train_split, self.validation, self.test = map(self._place, (data.train, data.validation, data.test))
        self.augment = augmentation(recipe, data, fabric.global_rank)
        self.sample = _evenly(self.train_split, _TRAIN_ROWS)
        self.batches = Batches(
            self.train_split.inputs,
            self.train_split.targets,
            recipe.batch_size,
            recipe.seed,
            fabric.global_rank,
            fabric.world_size,
        )
        self.unit = probes.UnitInput(self.network, _evenly(self.validation, _PROBE_ROWS).inputs) if probe else None
        self.observe = observe
        self.state = _State()

    def run(self, arm: str, progress: Callable[[int, int], None] | None) -> Run:
        if self.folder is not None:
            self._restore(self.folder)
        recipe, state = self.recipe, self.state
        before, start = state.seconds, time.perf_counter()
        if state.step == 0 and not state.curves:
            self._evaluate()
        while state.status is None:
            stop = self._next_stop()
            losses = self._steps(state.step, stop)
            finite = losses.isfinite()
            if not bool(finite.all()):
                state.step += int(finite.int().argmin())
                state.end(f"the loss was {float(losses[~finite][0])} at step {state.step + 1}", "diverged")
            else:
                state.step = stop
                if stop % recipe.evaluate_every == 0 or stop == recipe.steps:
                    self._evaluate()
                    self._judge()
            state.seconds = before + time.perf_counter() - start
            if self.folder is not None and (state.status or state.step % recipe.checkpoint_every == 0):
                self._save(self.folder)
            if progress is not None:
                progress(state.step, recipe.steps)
        return self._result(arm)

    def _next_stop(self) -> int:
        """The next step at which the loop looks up from the work."""
        every = [_LOOK, self.recipe.evaluate_every] + ([self.recipe.checkpoint_every] if self.folder else [])
        return min(self.recipe.steps, *(self.state.step + e - self.state.step % e for e in every))

    def _steps(self, start: int, stop: int) -> Tensor:
        """Do the updates, and give their losses; nothing here waits for the device."""
        self.model.train()
        losses = []
        batches = self.batches.between(start, stop)
        for inputs, targets in batches if self.augment is None else map(self.augment, batches, count(start)):
            self.optimizer.zero_grad()
            loss = self.loss(self.model(inputs), targets)
            if self.penalty is not None:
                loss = loss + self.penalty()
            self.fabric.backward(loss)
            self.optimizer.step()
            losses.append(loss.detach())
        stacked = torch.stack(losses)
        return self.fabric.all_reduce(stacked) if self.fabric.world_size > 1 else stacked  # type: ignore[return-value]

    def _evaluate(self) -> None:
        state = self.state
        gradients = {}
        if self.unit is not None:
            norms = probes.gradient_norms(self.network)
            gradients = {f"gradient_norm/{name}": float(norm) for name, norm in norms.items()}
        self._share_buffers()
        self.network.eval()
        train_loss, train_score = self._measure(self.sample)
        validation_loss, score = self._measure(self.validation)
        state.record({"train_loss": train_loss, "train_score": train_score})
        state.record({"validation_loss": validation_loss, "validation_score": score})
        state.record(gradients)
        if self.unit is not None:
            with self.fabric.autocast():
                state.record(self.unit.measure())
        self._look()
        if improved(score, state.best):
            state.best, state.stale = score, 0
            state.test_score = self._measure(self.test)[1]
        else:
            state.stale += 1

    def _look(self) -> None:
        """Let the observer see a copy, so that neither weights nor buffers nor random numbers move by it."""
        if self.observe is None:
            return
        with torch.random.fork_rng([self.fabric.device] if self.fabric.device.type == "cuda" else []):
            seen = self.observe(copy.deepcopy(self.network), self.recipe, self.data, self.state.step)
        self.state.record({name: float(value) for name, value in seen.items() if isinstance(value, int | float)})
        self.state.arrays |= {name: list(value) for name, value in seen.items() if not isinstance(value, int | float)}

    def _judge(self) -> None:
        """End the run where target, patience or steps say so."""
        state, recipe = self.state, self.recipe
        score = state.curves["validation_score"][-1][1]
        if recipe.target is not None and score >= recipe.target:
            state.end(f"reached the target {recipe.target} with {score:.4g} at step {state.step}")
        elif recipe.patience is not None and state.stale >= recipe.patience:
            state.end(f"no better validation score in {state.stale} evaluations, at step {state.step}")
        elif state.step == recipe.steps:
            state.end()

    def _measure(self, split: Split) -> tuple[float, float]:
        share = slice(self.fabric.global_rank, None, self.fabric.world_size)
        return evaluate(self._forward, split, self.loss, share, self._sum)

    def _forward(self, inputs: Tensor) -> Tensor:
        """The network without the wrapper that synchronizes processes: their shares may differ in length."""
        with self.fabric.autocast():
            outputs: Tensor = self.network(inputs)
        return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs

    def _sum(self, tensor: Tensor) -> Tensor:
        if self.fabric.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def _share_buffers(self) -> None:
        """Give every process the running statistics of the first, as DDP does before each training step."""
        if self.fabric.world_size > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, 0)

    def _place(self, split: Split) -> Split:
        """A split on the device, its inputs in the type that the precision asks for."""
        inputs, targets = self.fabric.to_device((split.inputs, split.targets))
        return dataclasses.replace(split, inputs=self.fabric.strategy.precision.convert_input(inputs), targets=targets)

    def _identity(self) -> dict[str, Any]:
        """What must agree for a run to go on from a checkpoint with the same bits."""
        return {
            **self.recipe.to_dict(),
            "the data's checksum": checkpoints.fingerprint(self.data),
            "the number of processes": self.fabric.world_size,
            "the device": self.fabric.device.type,
            "the precision": str(self.fabric.strategy.precision.precision),
        }

    def _save(self, folder: Path) -> None:
        self._share_buffers()
        random = self._random_states()
        if self.fabric.is_global_zero:
            if self.state.status:  # before the checkpoint that says that there is nothing left to do
                checkpoints.save_tensors(folder / "model.safetensors", self.network.state_dict())
            tensors, rest = checkpoints.flatten_optimizer(self.optimizer.state_dict())
            checkpoints.save(
                folder,
                {
                    **{f"model/{name}": tensor for name, tensor in self.network.state_dict().items()},
                    **{f"optimizer/{name}": tensor for name, tensor in tensors.items()},
                    **random,
                },
                {
                    "identity": self._identity(),
                    "run": dataclasses.asdict(self.state),
                    "optimizer": rest,
                    "precision": self.fabric.strategy.precision.state_dict(),
                },
            )
        self.fabric.barrier()

    def _restore(self, folder: Path) -> None:
        found = checkpoints.load(folder)
        if found is None:
            return
        tensors, state = found
        checkpoints.check_same(folder, state["identity"], self._identity())
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "random": {}}
        for name, tensor in tensors.items():
            part, key = name.split("/", 1)
            parts[part][key] = tensor
        self.network.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(
            {
                "state": checkpoints.unflatten_optimizer(parts["optimizer"], state["optimizer"]),
                "param_groups": self.optimizer.state_dict()["param_groups"],
            }
        )
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        rank = str(self.fabric.global_rank)
        torch.set_rng_state(parts["random"][f"cpu/{rank}"])
        if self.fabric.device.type == "cuda":
            torch.cuda.set_rng_state(parts["random"][f"cuda/{rank}"], self.fabric.device)
        self.state = _State(**state["run"])

    def _random_states(self) -> dict[str, Tensor]:
        """The states of the random generators of all processes; every process must call it."""
        states = {"cpu": torch.get_rng_state()}
        if self.fabric.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        found = {}
        for name, state in states.items():
            gathered = self.fabric.all_gather(state.to(self.fabric.device))
            assert isinstance(gathered, Tensor)
            for rank, row in enumerate(gathered.reshape(self.fabric.world_size, -1)):
                found[f"random/{name}/{rank}"] = row.cpu()
        return found

    def _result(self, arm: str) -> Run:
        state, data = self.state, self.data
        assert state.status is not None
        settings = {
            "device": str(self.fabric.device),
            "precision": str(self.fabric.strategy.precision.precision),
            "processes": self.fabric.world_size,
            "threads": torch.get_num_threads(),
        }
        return Run(
            arm=arm,
            seed=self.recipe.seed,
            status=state.status,
            steps=state.step,
            seconds=state.seconds,
            metric="accuracy" if data.task == "classification" else "r2",
            recipe=self.recipe.to_dict(),
            data=data.describe(),
            curves={
                name: Curve(tuple(step for step, _ in points), tuple(value for _, value in points))
                for name, points in state.curves.items()
            },
            test_score=state.test_score,
            message=state.message,
            environment={**environment(), "training": settings},
            arrays={name: tuple(values) for name, values in state.arrays.items()},
        )


def _evenly(split: Split, count: int) -> Split:
    """At most so many rows of a split, evenly spaced, so that a sorted one is sampled fairly."""
    rows = len(split.inputs)
    index = torch.linspace(0, rows - 1, min(rows, count)).long().to(split.inputs.device)
    return dataclasses.replace(split, inputs=split.inputs[index], targets=split.targets[index])
