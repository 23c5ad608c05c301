"""The command line: arguments only. What the commands do is in the rooms below."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import levelhead
from levelhead import install
from levelhead.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from levelhead.data import Dataset

app = typer.Typer(
    name="levelhead",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"levelhead {levelhead.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Normalization and regularization for PyTorch: exact, fast and explained."""


DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="A built-in data set (mnist5k, digits, breast_cancer, wine, diabetes), a CSV or Parquet file, a folder of "
        "images with a subfolder a class, an .npz with x and y, or module:function.",
        show_default=False,
    ),
]
TargetOption = Annotated[str | None, typer.Option("--target", help="The column to predict, of a CSV or Parquet file.")]
StandardizeOption = Annotated[
    bool | None,
    typer.Option(
        "--standardize/--no-standardize",
        help="Standardize the inputs from the training data; on by default.",
        show_default=False,
    ),
]
AcceleratorOption = Annotated[str | None, typer.Option("--accelerator", help="cpu, cuda, mps or auto.")]

#: How data are read, where they do not say so themselves: the fields of ``data.Reading``.
READING: dict[str, tuple[type, Any]] = {
    "decimal": (str, typer.Option("--decimal", help="The decimal sign of a CSV file: . or ,")),
    "thousands": (str, typer.Option("--thousands", help="What stands between thousands there: , . ' _ or a space.")),
    "na": (str, typer.Option("--na", help="Cells that mean 'not known', between commas: 'n.a.,-'.")),
    "encoding": (str, typer.Option("--encoding", help="The encoding of a CSV file.")),
    "ignore": (list[str], typer.Option("--ignore-column", help="Leave a column out; repeat it.")),
    "drop_missing": (bool, typer.Option("--drop-missing", help="Leave rows with a missing value out.")),
    "image_size": (str, typer.Option("--image-size", help="Bring images to pixels: 64, or width x height as 64x48.")),
    "skip_damaged": (bool, typer.Option("--skip-damaged", help="Leave damaged images out, and list them.")),
}


def _reads(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of ``READING``; those that are given reach it as ``reading``."""
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        asked = {name: given.pop(name) for name in READING}
        command(**given, reading={name: value for name, value in asked.items() if value})

    keyword = inspect.Parameter.KEYWORD_ONLY
    options = [
        inspect.Parameter(
            name, keyword, default=kind() if kind is bool else None, annotation=Annotated[kind | None, option]
        )
        for name, (kind, option) in READING.items()
    ]
    own = [parameter.replace(kind=keyword) for name, parameter in signature.parameters.items() if name != "reading"]
    vars(run)["__signature__"] = signature.replace(parameters=own + options)
    return run


#: Blank lines part the examples, or the help would run them together.
STUDY_EXAMPLES = """
Examples:

    levelhead study                 # batch norm, on 5,000 MNIST digits

    levelhead study --data some.csv --target y    # on your own table

    levelhead study --data photos/ --network convnet

    levelhead study --arm plain --arm BN-x5 --seeds 10

    levelhead study my.toml         # a file that holds all of it

    levelhead study dropout         # one of the studies of the lectures' claims

    levelhead study --all --quick   # all of these, in minutes; without --quick in about half an hour

    levelhead study --list          # the questions; levelhead study dropout --list: the claims of one
"""


@app.command(epilog=STUDY_EXAMPLES)
@_reads
def study(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[NAME | FILE.toml]", help="A study by name (batch-norm), or a file of settings."),
    ] = None,
    data: DataOption = None,
    target: TargetOption = None,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="An arm to run; repeat it; the first is the baseline.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Seeds of each arm; by default 5, and 10, 20, 40 where undecided.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Updates of each run.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="mlp, convnet, module:function or file.py:function.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Rows an update; 60, or all if fewer.")] = None,
    depth: Annotated[int | None, typer.Option("--depth", help="Hidden layers, or blocks of a convnet.")] = None,
    target_score: Annotated[
        float | None,
        typer.Option("--target-score", help="Count steps to this score, not to 98 % of the baseline's best."),
    ] = None,
    standardize: StandardizeOption = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes; one a core by default.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="local, or ray: the actors of a Ray cluster.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="HOST:PORT of the Ray cluster.")] = None,
    accelerator: AcceleratorOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of runs and report; reports/STUDY-DATA by default.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run every study of the lectures' claims; one report.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds (3) and steps.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the studies, or one study's claims, and stop.")] = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Run a study: which arm trains best on this data, in how many fewer steps, and is the difference real?

    Every arm is run with several seeds, in parallel; each finished run is kept. Stop it at any moment: the same
    command goes on from there.
    """
    from rich.console import Console

    from levelhead import studies
    from levelhead.lessons import count, multiplicity
    from levelhead.studies.display import Display, print_studies

    if list_:
        with _clear_errors():
            print_studies(Console(), what)
        return

    given = {"steps": steps, "network": network, "depth": depth, "batch_size": batch_size}
    with _clear_errors():
        settings = studies.Settings.given(what).changed(
            data=data,
            target=target,
            arms=studies.Settings.of({"arms": arm}).arms if arm else None,
            seeds=seeds,
            recipe={name: value for name, value in given.items() if value is not None},
            target_score=target_score,
            standardize=standardize,
            quick=quick or None,
            workers=workers,
            engine=engine,
            address=address,
            accelerator=accelerator,
            out=None if out is None else str(out),
            reading=reading,
        )
        if all_ and what is not None:
            _end(f"--all runs every study, and {what!r} is one; leave one of them out", 2)
        settings = studies.complete_all(settings) if all_ else studies.complete(settings)
        progress = Console(stderr=True)
        with Display(progress) as display:
            try:
                if all_:
                    found: Any = studies.run_all(settings, load=_loads(progress, settings.reading), watcher=display)
                else:
                    assert settings.data is not None  # complete says so
                    standardized = settings.standardize is not False
                    data_ = _load(settings.data, settings.target, standardized, progress, settings.reading)
                    found = studies.run(settings, data_, watcher=display)
            except KeyboardInterrupt:
                display.close()
                _end(
                    f"stopped; {display.kept} finished runs are kept in {settings.folder}, the same command goes on",
                    130,
                )
        answers = found if all_ else [found]
        typer.echo("\n\n".join(map(str, answers)))
        if all_:
            claims = [verdict for answer in answers for verdict in answer.claims]
            typer.echo(f"\n{count(claims)} {multiplicity(claims)}".rstrip())
        typer.echo(f"Report: {settings.folder / 'report.html'}")


@app.command(
    epilog="""
Examples:

    levelhead train recipe.toml --data mnist5k

    levelhead train recipe.toml --data some.csv --target y --out runs/first
"""
)
@_reads
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="The settings of the run.", show_default=False)],
    data: Annotated[str, typer.Option("--data", help="As for levelhead study.")],
    target: TargetOption = None,
    standardize: StandardizeOption = None,
    accelerator: AcceleratorOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of weights, checkpoints and run.json; runs/RECIPE by default.")
    ] = None,
    *,
    reading: dict[str, Any],
) -> None:
    """Train one recipe; stopped at any moment, the same command goes on from its last checkpoint."""
    from rich.console import Console

    from levelhead import training
    from levelhead.studies import single

    with _clear_errors():
        asked = training.Recipe.from_toml(recipe)
        console = Console(stderr=True)
        dataset = _load(data, target, standardize is not False, console, reading)
        folder = out or Path("runs") / recipe.stem
        try:
            run = single.train_one(asked, dataset, folder, console, accelerator=accelerator or "auto")
        except KeyboardInterrupt:
            _end(f"stopped; checkpoints are kept in {folder}, the same command goes on from the last", 130)
        typer.echo(single.sum_up(run))
        typer.echo(f"Run: {folder / 'run.json'}")


@app.command(
    epilog="""
Examples:

    levelhead examine train.py -- --lr 0.1                # any script: run again, with one change at a time

    levelhead examine --patch fix.diff train.py           # what to change, as a patch; the script stays as it is

    levelhead examine train.py:build                      # build() returns levelhead.Program(...)

    levelhead examine train.py:build --treat              # retrain with the remedies, keep what is better

    levelhead examine train.py:build --html report.html   # a page with plots of the evidence

    levelhead examine package.training:build --json --ignore LH404,LH606

Exit status: 0 healthy, 1 findings, 2 could not run.
"""
)
def examine(
    what: Annotated[
        str,
        typer.Argument(metavar="SCRIPT.py | FILE.py:FUNCTION", help="The script; or what builds the program."),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="What the script is given.", show_default=False)
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module as a script, as python -m does.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    select: Annotated[
        list[str] | None, typer.Option("--select", help="Look only for these codes (LH3, LH601) or causes; repeat it.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option("--ignore", help="Leave these codes or causes out.")] = None,
    treat: Annotated[bool, typer.Option("--treat", help="Retrain with the remedies; keep what is better.")] = False,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="SECONDS", help="30 for a program, 120 for a script.", show_default=False),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Updates of a script's run at most.")] = None,
    patch: Annotated[Path | None, typer.Option("--patch", metavar="FILE", help="Write a script's patch.")] = None,
) -> None:
    """What is wrong with this training program, where, why, and what mends it? All is tried on copies.

    A script is run again and again in scratch copies of its folder, each time with one change from outside.
    """
    from rich.console import Console

    from levelhead.doctor import ProgramError, command
    from levelhead.records import to_json, write_text

    try:
        chosen: Any = {"select": select or (), "ignore": ignore or (), "console": Console(stderr=True)}
        if module or command.is_script(what):
            script = _script(what, arguments, module)
            found, treated = command.run_script(script, treat=treat, budget=budget, steps=steps, patch=patch, **chosen)
        else:
            found, treated = command.run(what, treat=treat, budget=30.0 if budget is None else budget, **chosen)
        if html is not None:
            from levelhead.report import render_examination

            write_text(html, render_examination(found, treated, what))
    except ProgramError as error:
        _end(" ".join(str(error).split()), 2)
    except ModuleNotFoundError as error:
        _end(f"the package {error.name} is missing; try: {install.hint('study')}", 2)
    except OSError as error:
        _end(f"{error.filename or html}: {error.strerror or error}", 2)
    except KeyboardInterrupt:
        _end("stopped; nothing was changed, and of a script the same command goes on", 130)
    except Exception as error:  # status 1 would say that faults were found
        traceback.print_exc()
        _end(f"the doctor itself failed ({type(error).__name__}); please report it with the lines above", 2)
    if json_:
        typer.echo(to_json(found.to_dict() | ({} if treated is None else {"treated": treated.to_dict()})))
    else:
        typer.echo(f"{found}" if treated is None else f"{found}\n\n{treated}")
        if html is not None:
            typer.echo(f"Report: {html}")
    raise typer.Exit(0 if found.healthy else 1)


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    epilog="""
Examples:

    levelhead watch train.py -- --lr 0.1            # as python train.py --lr 0.1

    levelhead watch -m package.training -- --lr 0.1 # as python -m package.training --lr 0.1

    levelhead watch --html report.html train.py

Exit status: the script's own.
""",
)
def watch(
    what: Annotated[str, typer.Argument(metavar="SCRIPT.py", help="The script, or with -m the module, to run.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGS]", help="What the script is given.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module, as python -m does.")] = False,
    every: Annotated[int, typer.Option("--every", min=1, help="Measure every so many steps.")] = 16,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the findings as JSON.")] = None,
) -> None:
    """Run a training script as it is, and say what is wrong with its training, when it shows and at the end.

    Models, optimizers, losses and validation passes are seen by themselves; the report goes to standard error.
    """
    from levelhead.doctor import ProgramError
    from levelhead.doctor import script as scripts
    from levelhead.records import to_json, write_text

    try:
        status, found = scripts.watch_script(_script(what, arguments, module), every)
        typer.echo(f"\n{scripts.report(found)}", err=True)
        if json_ is not None:
            write_text(json_, to_json({"examinations": [each.to_dict() for each in found]}))
        if html is not None and found:
            from levelhead.report import render_examination

            write_text(html, render_examination(found[0], None, what))
    except ProgramError as error:
        _end(" ".join(str(error).split()), 2)
    except OSError as error:
        _end(f"{error.filename}: {error.strerror or error}", 2)
    raise typer.Exit(status)


def _script(what: str, arguments: list[str] | None, module: bool) -> Any:
    from levelhead.doctor.script import Script

    given = arguments or []
    return Script(what, tuple(given[1:] if given[:1] == ["--"] else given), module)


@app.command(
    epilog="""
Examples:

    levelhead stats some.csv

    levelhead stats photos/ --json

    levelhead stats mnist5k

    levelhead stats some.csv --save scaler.json      # lh.Standardizer.load("scaler.json")
"""
)
@_reads
def stats(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A CSV, Parquet, Feather, .npy or .npz file, a folder of images, a built-in name, or module:function.",
            show_default=False,
        ),
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Also write a Standardizer of the columns of numbers: .json or .safetensors."),
    ] = None,
    *,
    reading: dict[str, Any],
) -> None:
    """Count, mean, standard deviation, least, greatest and missing values of each feature or channel.

    In constant memory, however large the file is.
    """
    from levelhead import statistics

    with _clear_errors():
        from levelhead.data import Reading

        asked = Reading.of(reading)
        statistics.show(data, as_json=json_, save=save, reading=asked)


@app.command(
    epilog="""
Examples:

    levelhead bench --quick

    levelhead bench dropout

    levelhead bench norms --compile
"""
)
def bench(
    name: Annotated[
        str, typer.Argument(metavar="[norms | dropout | models | memory]", help="What is timed.")
    ] = "norms",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes or turns.")] = False,
    compile_: Annotated[bool, typer.Option("--compile", help="torch.compile too, which takes minutes.")] = False,
) -> None:
    """Time levelhead's layers against PyTorch's on this machine: checked first, ratios of the same run."""
    from levelhead import bench as benches

    with _clear_errors(ValueError, FileNotFoundError):
        raise typer.Exit(benches.run(name, quick, compile_))


@app.command(
    epilog="""
Example:

    levelhead report reports/batch-norm-mnist5k
"""
)
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A study's folder.", show_default=False)],
) -> None:
    """Make the report of a study anew from its files."""
    from levelhead import report as reports

    with _clear_errors(ValueError, FileNotFoundError):
        typer.echo(f"Report: {reports.write(folder)}")


def _load(data: str, target: str | None, standardize: bool, console: Console, reading: Mapping[str, Any]) -> Dataset:
    from levelhead.data import Reading, load

    dataset = load(data, target, standardize=standardize, reading=Reading.of(reading))
    for note in dataset.notes:
        console.print(printable(note), style="dim", highlight=False, markup=False)
    return dataset


def _loads(console: Console, reading: Mapping[str, Any]) -> Any:
    """Loads data by name, and says what was done to them once."""
    return lambda data, *, standardize: _load(data, None, standardize, console, reading)


@contextmanager
def _clear_errors(*kinds: type[Exception]) -> Iterator[None]:
    """What is wrong with the user's files or machine is one line and an exit status, not a traceback."""
    try:
        yield
    except ModuleNotFoundError as error:
        _end(f"the package {error.name} is missing; try: {install.hint('study')}", 1)
    except (ValueError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            _end(f"{error.filename}: {error.strerror}", 2)
        if isinstance(error, kinds + _users_errors()):
            _end(" ".join(str(error).split()), 2)
        raise


def _users_errors() -> tuple[type[Exception], ...]:
    from levelhead.data import DataError
    from levelhead.studies import SettingsError, StudyError
    from levelhead.training import RecipeError
    from levelhead.training.checkpoints import CheckpointError

    return DataError, RecipeError, CheckpointError, SettingsError, StudyError


def _end(text: str, status: int) -> Any:
    typer.echo(f"levelhead: {printable(text)}", err=True)
    raise typer.Exit(status)


def main() -> None:
    """Run the ``levelhead`` command."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
