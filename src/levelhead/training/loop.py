"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn

from levelhead.nn import SyncBatchNorm
from levelhead.records import Curve, Run, Status, environment
from levelhead.training import checkpoints, probes
from levelhead.training.batches import Batches, augmentation
from levelhead.training.networks import build, evenly
from levelhead.training.objectives import evaluate, improved, row_losses
from levelhead.training.recipe import Recipe
from levelhead.training.seeding import LOOK, NOISE, derive
from levelhead.training.stacked import Single, Stacked, stackable

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from levelhead.data import Dataset, Split

#: The losses of so many steps are looked at together: a look waits for the device.
_LOOK = 50
#: Rows that the training loss is measured on; an evaluation should cost no more than a few steps.
_TRAIN_ROWS = 250
#: Rows that the unit's input is measured on: its percentiles come to about 3 percentage points.
_PROBE_ROWS = 250

#: Inputs (seeds, rows, ...) and targets (seeds, rows, ...); the seeds share their memory where their data are alike.
_Split: TypeAlias = tuple[Tensor, Tensor]


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
    250 training rows, evenly spaced), ``validation_loss``, ``validation_score`` (by ``Dataset.metric``: accuracy, of
    skewed classes balanced, or r² for regression); where the validation score is the best so far, the test score is
    taken. With ``probe``: ``unit_input_p15``, ``_p50``, ``_p85`` (see ``probes.UnitInput``) and
    ``gradient_norm/<layer>``, of the latest step's gradient. Also ``train_score`` over the rows of ``train_loss``, and
    what ``observe`` returns.

    A loss that is not finite ends the run as ``diverged``; its steps are those before the first such loss.

    Started by ``torchrun``, each process takes its share of every batch, and gradients are averaged; batch
    normalization takes its statistics from all shares together (``nn.SyncBatchNorm``).

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
    with _own_random_numbers(fabric):
        return _Training(fabric, [recipe], [data], folder, probe, observe).run(arm, progress)[0]


def train_seeds(
    recipes: Sequence[Recipe],
    data: Sequence[Dataset],
    *,
    arm: str = "",
    progress: Callable[[int, int], None] | None = None,
    probe: bool = True,
    observe: probes.Observer | None = None,
    **fabric: Any,
) -> list[Run]:
    """Train one recipe with several seeds: the same runs as ``train`` gives one by one, in less time.

    The networks of a ``stacked.stackable`` recipe (MLPs) are trained as one, others one after the other. On the CPU
    each run has the same bits whichever others are made with it; its ``seconds`` are its share of the time.

    Args:
        recipes: alike but for their seeds.
        data: of each.
        arm: as in ``train``, and so what follows.
        progress: as there.
        probe: as there.
        observe: as there.
        **fabric: ``accelerator``, ``devices`` and ``precision``, as there.

    Returns:
        A run for each recipe, in their order.

    Raises:
        ValueError: the recipes differ in more than their seeds, or are not as many as the data; and as ``train``.
    """
    if len(recipes) != len(data):
        raise ValueError(f"train_seeds needs the data of each recipe, got {len(data)} for {len(recipes)} recipes")
    if len({recipe.replace(seed=0) for recipe in recipes}) > 1:
        raise ValueError("train_seeds needs recipes that differ in nothing but their seeds")
    made = _fabric(**{"accelerator": "auto", "devices": 1, "precision": "32-true", **fabric})
    alike = len({tuple(map(len, (one.train, one.validation, one.test))) for one in data}) == 1
    size = len(recipes) if alike and _plain(made) and stackable(recipes[0]) else 1
    runs = []
    for i in range(0, len(recipes), size):
        group = slice(i, i + size)
        with _own_random_numbers(made):
            runs += _Training(made, recipes[group], data[group], None, probe, observe).run(arm, progress)
    return runs


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


def _plain(fabric: Fabric) -> bool:
    """Whether Fabric has nothing to do in a step, so that the network is called without it."""
    return fabric.world_size == 1 and fabric.strategy.precision.precision in ("32-true", "64-true")


def _own_random_numbers(fabric: Fabric) -> AbstractContextManager[None]:
    """The generators of PyTorch are put back at the end."""
    return torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else [])


class _Training:
    """The runs of one recipe at one seed or several: their parts, and the loop over them."""

    def __init__(
        self,
        fabric: Fabric,
        recipes: Sequence[Recipe],
        data: Sequence[Dataset],
        folder: Path | None,
        probe: bool,
        observe: probes.Observer | None,
    ) -> None:
        self.fabric, self.recipes, self.data, self.folder, self.observe = fabric, recipes, data, folder, observe
        self.recipe = recipe = recipes[0]  # all but its seed holds for every run
        self.losses = row_losses(recipe, data[0])  # first, as it is quick to refuse
        self.metric = data[0].metric
        pairs = list(zip(recipes, data, strict=True))
        self.plain = _plain(fabric)
        self.members = self._members([build(*pair) for pair in pairs])
        self.train_split = self._place([one.train for one in data])
        self.validation = self._place([one.validation for one in data])
        self.test = self._place([one.test for one in data])
        self.augments = [augmentation(*pair, fabric.global_rank) for pair in pairs]
        world = (fabric.global_rank, fabric.world_size)
        self.batches = [
            Batches(inputs, targets, recipe.batch_size, one.seed, *world)
            for one, inputs, targets in zip(recipes, *self.train_split, strict=True)
        ]
        self.sample = _evenly(self.train_split, _TRAIN_ROWS)
        self.rows = _evenly(self.validation, _PROBE_ROWS)[0] if probe else None
        self.states = [_State() for _ in recipes]
        self.step = 0
        self.best: list[Tensor] = []  # the tensors at each seed's best validation score,
        self.waiting: set[int] = set()  # and the seeds for which the test score there is still to be taken

    def _members(self, networks: list[nn.Module]) -> Single | Stacked:
        fabric, recipe = self.fabric, self.recipe
        if fabric.world_size > 1:  # else each process would normalize by its own share of the batch
            networks = [SyncBatchNorm.convert_sync_batchnorm(network) for network in networks]
        # In their final type before the optimizer is chosen, which depends on it.
        networks = [fabric.strategy.precision.convert_module(network) for network in networks]
        seeds = [derive(one.seed, NOISE, fabric.global_rank) for one in self.recipes]
        if self.plain and stackable(recipe):
            networks = [fabric.to_device(network) for network in networks]
            return Stacked(recipe, networks, [torch.Generator(fabric.device).manual_seed(seed) for seed in seeds])
        torch.manual_seed(seeds[0])
        wrap = (lambda *pair: (fabric.to_device(pair[0]), pair[1])) if self.plain else fabric.setup
        return Single(recipe, networks[0], wrap, fabric.autocast)

    def run(self, arm: str, progress: Callable[[int, int], None] | None) -> list[Run]:
        if self.folder is not None:
            self._restore(self.folder)
        recipe, states = self.recipe, self.states
        before, start = states[0].seconds, time.perf_counter()
        if self.step == 0 and not states[0].curves:
            self._evaluate()
        while any(state.status is None for state in states):
            stop = self._next_stop()
            self._count(self._steps(self.step, stop), stop)
            if stop % recipe.evaluate_every == 0 or stop == recipe.steps:
                self._evaluate()
                self._judge()
            for state in states:
                state.seconds = before + (time.perf_counter() - start) / len(states)
            if self.folder is not None and (states[0].status or self.step % recipe.checkpoint_every == 0):
                self._save(self.folder)
            if progress is not None:
                progress(self.step, recipe.steps)
        self._settle()
        return [self._result(arm, *each) for each in zip(self.recipes, self.data, states, strict=True)]

    def _live(self) -> Iterator[tuple[int, _State]]:
        """The seeds whose runs go on."""
        return ((seed, state) for seed, state in enumerate(self.states) if state.status is None)

    def _next_stop(self) -> int:
        """The next step at which the loop looks up from the work."""
        every = [_LOOK, self.recipe.evaluate_every] + ([self.recipe.checkpoint_every] if self.folder else [])
        return min(self.recipe.steps, *(self.step + e - self.step % e for e in every))

    def _count(self, losses: Tensor, stop: int) -> None:
        """Take the losses of (steps, seeds) into account."""
        finite = losses.isfinite()
        whole = finite.all(0).tolist()
        for seed, state in self._live():
            if whole[seed]:
                state.step = stop
                continue
            first = int(finite[:, seed].int().argmin())
            state.step = self.step + first
            state.end(f"the loss was {float(losses[first, seed])} at step {state.step + 1}", "diverged")
        self.step = max(state.step for state in self.states)

    def _steps(self, start: int, stop: int) -> Tensor:
        """Do the updates, and give their losses, (steps, seeds); nothing here waits for the device."""
        members, optimizer = self.members, self.members.optimizer
        members.train()
        found = []
        for inputs, targets in self._batches(start, stop):
            optimizer.zero_grad()
            losses = self.losses(members(inputs), targets).mean(1)
            total, penalty = losses.sum(), members.penalty()
            if penalty is not None:
                total = total + penalty
            if self.plain:
                total.backward()
            else:
                self.fabric.backward(total)
            optimizer.step()
            found.append(losses.detach())
        stacked = torch.stack(found)
        return self.fabric.all_reduce(stacked) if self.fabric.world_size > 1 else stacked  # type: ignore[return-value]

    def _batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of all seeds: inputs (seeds, rows, ...), targets (seeds, rows) or (seeds, columns, rows)."""
        rows = torch.stack([batches.rows(start, stop) for batches in self.batches], 1)
        inputs, targets = (part[0] for part in self.train_split)
        if self.train_split[0].stride(0) and len(self.batches) > 1:  # data of their own: those of the seeds in a row
            rows += torch.arange(len(self.batches), device=rows.device)[:, None] * len(inputs)
            inputs, targets = (part.flatten(0, 1) for part in self.train_split)
        for step, index in enumerate(rows.flatten(1), start):
            x, y = (part.index_select(0, index).unflatten(0, rows.shape[1:]) for part in (inputs, targets))
            if self.augments[0] is not None:
                changed = [augment(a, b, step) for augment, a, b in zip(self.augments, x, y, strict=True) if augment]
                x, y = (torch.stack(parts) for parts in zip(*changed, strict=True))
            yield x, y if y.ndim == 2 else y.transpose(1, 2)

    def _evaluate(self) -> None:
        members = self.members
        found: dict[str, Sequence[float]] = {}
        if self.rows is not None:
            found = {f"gradient_norm/{name}": norms.tolist() for name, norms in members.gradient_norms().items()}
        self._share_buffers()
        members.train(False)
        for name, split in (("train", self.sample), ("validation", self.validation)):
            losses, scores = zip(*self._measure(split), strict=True)
            found |= {f"{name}_loss": losses, f"{name}_score": scores}
        unit = members.unit_input(self.rows) if self.rows is not None else None
        if unit is not None:
            found |= probes.percentiles(unit)
        better = set()
        for seed, state in self._live():
            state.record({name: values[seed] for name, values in found.items()})
            self._look(seed, state)
            score = found["validation_score"][seed]
            state.stale += 1
            if improved(score, state.best):
                state.best, state.stale = score, 0
                better.add(seed)
        self._keep(better)

    def _keep(self, seeds: set[int]) -> None:
        """Keep the tensors of some seeds: the test score is taken where it is asked for, of the last best alone."""
        now, chosen = self.members.tensors(), sorted(seeds)
        if len(chosen) == len(self.states):
            self.best = [tensor.clone() for tensor in now]
        elif chosen:
            for kept, tensor in zip(self.best, now, strict=True):
                kept[chosen] = tensor[chosen]
        self.waiting |= seeds

    @torch.no_grad()
    def _settle(self) -> None:
        """Take the test scores that are still to be taken."""
        if not self.waiting:
            return
        tensors = self.members.tensors()
        now = [tensor.clone() for tensor in tensors]
        torch._foreach_copy_(tensors, self.best)
        self.members.train(False)
        for seed, (_, score) in enumerate(self._measure(self.test)):
            if seed in self.waiting:
                self.states[seed].test_score = score
        torch._foreach_copy_(tensors, now)
        self.waiting.clear()

    def _look(self, seed: int, state: _State) -> None:
        """Let the observer see a copy, so that neither weights nor buffers nor random numbers move by it."""
        if self.observe is None:
            return
        with _own_random_numbers(self.fabric):
            recipe = self.recipes[seed]
            torch.manual_seed(derive(recipe.seed, LOOK, self.step))
            seen = self.observe(copy.deepcopy(self.members.current(seed)), recipe, self.data[seed], self.step)
        state.record({name: float(value) for name, value in seen.items() if isinstance(value, int | float)})
        state.arrays |= {name: list(value) for name, value in seen.items() if not isinstance(value, int | float)}

    def _judge(self) -> None:
        """End the runs where target, patience or steps say so."""
        recipe = self.recipe
        for _, state in self._live():
            score = state.curves["validation_score"][-1][1]
            if recipe.target is not None and score >= recipe.target:
                state.end(f"reached the target {recipe.target} with {score:.4g} at step {state.step}")
            elif recipe.patience is not None and state.stale >= recipe.patience:
                state.end(f"no better validation score in {state.stale} evaluations, at step {state.step}")
            elif state.step == recipe.steps:
                state.end()

    def _measure(self, split: _Split) -> list[tuple[float, float]]:
        share = slice(self.fabric.global_rank, None, self.fabric.world_size)
        inputs, targets = (part[:, share] for part in split)
        return evaluate(self.members.predict, inputs, targets, self.losses, self._sum, metric=self.metric)

    def _sum(self, tensor: Tensor) -> Tensor:
        if self.fabric.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def _share_buffers(self) -> None:
        """Give every process the running statistics of the first, as DDP does before each training step."""
        if self.fabric.world_size > 1:
            for buffer in self.members.networks[0].buffers():
                dist.broadcast(buffer, 0)

    def _place(self, splits: Sequence[Split]) -> _Split:
        """The splits of all seeds on the device, the inputs in the type that the precision asks for; one if alike."""
        first, count = splits[0], len(splits)
        shared = all(
            one is first or (torch.equal(one.inputs, first.inputs) and torch.equal(one.targets, first.targets))
            for one in splits
        )
        parts = [first] if shared else splits
        convert = self.fabric.strategy.precision.convert_input
        inputs = convert(self.fabric.to_device(torch.stack([one.inputs for one in parts])))
        targets = self.fabric.to_device(torch.stack([one.targets for one in parts]))
        return inputs.expand(count, *inputs.shape[1:]), targets.expand(count, *targets.shape[1:])

    def _identity(self) -> dict[str, Any]:
        """What must agree for a run to go on from a checkpoint with the same bits."""
        return {
            **self.recipe.to_dict(),
            "the data's checksum": checkpoints.fingerprint(self.data[0]),
            "the number of processes": self.fabric.world_size,
            "the device": self.fabric.device.type,
            "the precision": str(self.fabric.strategy.precision.precision),
        }

    def _save(self, folder: Path) -> None:
        """Keep the run, which is alone."""
        self._share_buffers()
        self._settle()
        random, (state,) = self._random_states(), self.states
        if self.fabric.is_global_zero:
            network = self.members.current(0).state_dict()
            if state.status:  # before the checkpoint that says that there is nothing left to do
                checkpoints.save_weights(folder / "model.safetensors", network)
            checkpoints.save(
                folder,
                {
                    "identity": self._identity(),
                    "run": dataclasses.asdict(state),
                    "network": network,
                    "optimizer": self.members.optimizer.state_dict(),
                    "precision": self.fabric.strategy.precision.state_dict(),
                    "random": random,
                },
            )
        self.fabric.barrier()

    def _restore(self, folder: Path) -> None:
        found = checkpoints.load(folder)
        if found is None:
            return
        checkpoints.check_same(folder, found["identity"], self._identity())
        self.members.networks[0].load_state_dict(found["network"])
        self.members.load()
        self.members.optimizer.load_state_dict(found["optimizer"])
        self.fabric.strategy.precision.load_state_dict(found["precision"])
        for name, generator in self._generators().items():
            generator.set_state(found["random"][name][self.fabric.global_rank].clone())  # it crashes on a view
        self.states = [_State(**found["run"])]
        self.step = self.states[0].step

    def _generators(self) -> dict[str, torch.Generator]:
        """What the noise of the run, which is alone, comes from."""
        device = self.fabric.device
        if isinstance(self.members, Stacked):
            return {device.type: self.members.generators[0]}
        cuda = {"cuda": torch.cuda.default_generators[device.index or 0]} if device.type == "cuda" else {}
        return {"cpu": torch.default_generator, **cuda}

    def _random_states(self) -> dict[str, Tensor]:
        """The states of the random generators, a row a process; every process must call it."""
        gathered = {name: self.fabric.all_gather(g.get_state()) for name, g in self._generators().items()}
        return {name: rows.reshape(self.fabric.world_size, -1).cpu() for name, rows in gathered.items()}  # type: ignore[union-attr]

    def _result(self, arm: str, recipe: Recipe, data: Dataset, state: _State) -> Run:
        assert state.status is not None
        settings = {
            "device": str(self.fabric.device),
            "precision": str(self.fabric.strategy.precision.precision),
            "processes": self.fabric.world_size,
            "threads": torch.get_num_threads(),
        }
        return Run(
            arm=arm,
            seed=recipe.seed,
            status=state.status,
            steps=state.step,
            seconds=state.seconds,
            metric=self.metric,
            recipe=recipe.to_dict(),
            data=data.describe(),
            curves={name: Curve(*zip(*points, strict=True)) for name, points in state.curves.items()},
            test_score=state.test_score,
            message=state.message,
            environment={**environment(), "training": settings},
            arrays={name: tuple(values) for name, values in state.arrays.items()},
        )


def _evenly(split: _Split, count: int) -> _Split:
    """At most so many rows of a split; see ``evenly``."""
    index = evenly(split[0].shape[1], count).to(split[0].device)
    inputs, targets = (part[:1] if part.stride(0) == 0 else part for part in split)
    x, y = inputs[:, index], targets[:, index]
    return x.expand(len(split[0]), *x.shape[1:]), y.expand(len(split[0]), *y.shape[1:])
