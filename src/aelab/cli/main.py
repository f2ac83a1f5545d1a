"""Verbs, options and exit codes.

Exit codes: 0 all well; 1 at least one run failed; 2 a mistake in the file or the call;
75 other processes still train some of the runs (try later, or --wait);
130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 138 after SIGUSR1, with everything saved.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aelab._version import __version__
from aelab.cli import listing, mistakes
from aelab.cli.bridge import bridge
from aelab.cli.evaluate import evaluate
from aelab.cli.export import export, pull
from aelab.cli.figure import figure
from aelab.cli.options import (
    Data,
    Device,
    File,
    Force,
    Jobs,
    Json,
    Only,
    Out,
    Runs,
    Set,
    Sources,
    Trust,
    Verbs,
    XAxis,
    comma_separated,
    jobs_of,
    key_values,
    with_address,
)
from aelab.cli.output import answers_only, print_or_write, spoken, tell_damage, terminal
from aelab.cli.parts import parts
from aelab.cli.progress import runs_text, show_progress
from aelab.cli.render import ManySizes, render
from aelab.cli.text import show
from aelab.cli.ui import ui
from aelab.cli.use import encode, interpolate, neighbours, reconstruct, sample
from aelab.config import json_schema
from aelab.config.document import Written
from aelab.errors import AelabError, ConfigError, UserError, Where
from aelab.execute.engines.ray import Cluster
from aelab.execute.engines.slurm import Array, command_of
from aelab.execute.events import MatrixFinished, RunInterrupted
from aelab.execute.stop import StopRequest
from aelab.lab import Lab, TableQuery
from aelab.late_compiler import postpone_compiler
from aelab.parts import Table

if TYPE_CHECKING:
    from aelab.execute.events import Event

#: Verbs of optional parts and packages, by name.
VERBS: Table[Callable[..., None]] = Table("verb", "aelab.verbs", {})

app = Verbs(
    name="aelab",
    help="A laboratory for autoencoders: one YAML file in, a trained comparison out.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        print(f"aelab {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command()
def check(
    file: File,
    only: Only = None,
    runs: Runs = Path("runs"),
    data: Data = None,
    replaced: Set = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """List a file's runs with parameters, FLOPs (forward), time, memory, and all mistakes."""
    with _progress_line("building models"):
        plan = Lab(runs, data or (), trust).check(file, only=only, changes=_changes(replaced))
    print_or_write(listing.plan_json(plan) if as_json else listing.plan_text(plan), None)
    if plan.problems:
        raise typer.Exit(2)


@app.command()
def run(
    file: File,
    only: Only = None,
    max_images: Annotated[
        int | None,
        typer.Option(
            "--max-images", "--max-inputs", help="Train for this many images instead of the file's."
        ),
    ] = None,
    device: Device = "auto",
    load: Annotated[
        str | None, typer.Option("--load", help="Start from the weights of RUN or RUN@IMAGES.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Train failed runs again.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Delete the stored results of the selected runs and start again."
        ),
    ] = False,
    jobs: Jobs = "auto",
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="CPU threads of a run; default 1 with several jobs."),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait for runs that other processes train; take over what they leave."
        ),
    ] = False,
    stop_hopeless: Annotated[
        str | None,
        typer.Option(
            "--stop-hopeless",
            metavar="PERCENT",
            help="End a run whose chance of beating the best finished run is under this, as in 1%.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="Spend this time, as in 30m or 2h, on the runs that may still be the best.",
        ),
    ] = None,
    slurm: Annotated[
        bool,
        typer.Option("--slurm", help="Train in a Slurm array; --jobs is its number of tasks."),
    ] = False,
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch", help="Options of sbatch, as in --sbatch 'time=4:00:00 mem=4G'. Repeatable."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="[ADDRESS]",
            help="Train on a Ray cluster: HOST:PORT, auto (this machine's) or local; --jobs is "
            "the most runs at once.",
        ),
    ] = None,
    run_needs: Annotated[
        list[str] | None,
        typer.Option(
            "--run-needs",
            help="On Ray, what a run needs, as in 'cpu=2 gpu=0.25 memory=4G'. Repeatable.",
        ),
    ] = None,
    runs: Runs = Path("runs"),
    data: Data = None,
    replaced: Set = None,
    trust: Trust = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only results and failures.")
    ] = False,
    text: Annotated[
        bool, typer.Option("--text", help="ASCII art: print an example whenever one is stored.")
    ] = False,
) -> None:
    """Train every run of a file. Repeat the command to continue; finished runs are skipped."""
    in_slurm, on_ray = bool(slurm or sbatch), bool(ray or run_needs)
    if in_slurm and on_ray:
        raise UserError("--slurm and --ray are two places to train; give one of them")
    with StopRequest() as stop:
        events = Lab(runs, data or (), trust, device).run(
            file,
            only=only,
            max_images=max_images,
            load=load,
            retry_failed=retry_failed,
            restart=restart,
            changes=_changes(replaced),
            stop=stop,
            jobs=jobs_of(jobs),
            threads=threads,
            wait=wait,
            stop_hopeless=_chance(stop_hopeless),
            budget=_seconds(budget),
            slurm=_array(sbatch, jobs_of(jobs)) if in_slurm else None,
            ray=_cluster(ray, jobs_of(jobs), run_needs) if on_ray else None,
        )
        code = _follow(events, quiet=quiet, text=text)
    if stop.exit_code or code:
        raise typer.Exit(stop.exit_code or code)


def _seconds(given: str | None) -> float | None:
    """Converts `90s`, `30m`, `1.5h`, `2d` to seconds."""
    if given is None:
        return None
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
    text = given.strip().lower().removesuffix("in")  # 30min is 30m
    try:
        seconds = float(text[:-1]) * units[text[-1]]
    except (IndexError, KeyError, ValueError):
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise ConfigError(
            f"given {given}; possible: a time with its unit s, m, h or d",
            where=Where(key="--budget"),
            hint="type: --budget 30m",
        )
    return seconds


def _chance(given: str | None) -> float | None:
    """Converts `1%`, `1 %` or `0.01` to 0.01."""
    if given is None:
        return None
    text = given.strip()
    try:
        chance = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        chance = -1.0
    if not 0 < chance <= 0.5:
        raise ConfigError(
            f"given {given}; possible: a chance above 0, at most 50%",
            where=Where(key="--stop-hopeless"),
            hint="type: --stop-hopeless 1%",
        )
    return chance


#: Exit code if nothing failed and other processes still train some runs: "try later".
HELD = 75


def _follow(events: Iterator[Event], *, quiet: bool, text: bool) -> int:
    """Shows a matrix until its end and how to continue; returns the exit code, except signals'."""
    code, told = 0, False
    try:
        for event in show_progress(events, quiet=quiet, text=text):
            if isinstance(event, RunInterrupted) and not told:
                told = True
                print(f"continue with: {_same_command()}", file=sys.stderr)
            elif isinstance(event, MatrixFinished):
                code = 1 if event.failed + event.failed_before else HELD * (event.held > 0)
                if code == HELD and not event.interrupted:
                    print(f"wait for them with: {_same_command()} --wait", file=sys.stderr)
                if event.failed > event.impossible:
                    print(f"retry with: {_same_command()} --retry-failed", file=sys.stderr)
    except KeyboardInterrupt:
        said = f"ended; what was saved is kept; continue with: {_same_command()}"
        print(said, file=sys.stderr)
        raise
    return code


@app.command()
def table(
    sources: Sources = None,
    sort: Annotated[
        list[str] | None,
        typer.Option("--sort", "-s", help="Sort column; -NAME or NAME-: descending. Repeatable."),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", "-i", help="Another column: any logged term. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", "-x", help="Drop a column. Repeatable.")
    ] = None,
    average: Annotated[
        str | None,
        typer.Option("--average", "-a", help="Average over the values of this matrix key."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            "-c",
            help="Only these, in this order, separated by commas: matrix keys, terms, columns. "
            "Repeatable.",
        ),
    ] = None,
    interval: Annotated[
        bool,
        typer.Option(
            "--interval", help="Also the 95% interval of included terms over repeated runs."
        ),
    ] = False,
    average_std: Annotated[
        list[str] | None,
        typer.Option(
            "--average-std",
            help="With --average: also min, max and std of this column. Repeatable.",
        ),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="One row per run, repeats not merged.")
    ] = False,
    legacy_headers: Annotated[
        bool, typer.Option("--legacy-headers", help="Column names of the old runner.")
    ] = False,
    output: Annotated[
        str, typer.Option("--format", "-f", help="terminal, markdown, csv, json or html.")
    ] = "terminal",
    text: Annotated[
        bool, typer.Option("--text", help="ASCII art: an example of each run below the table.")
    ] = False,
    only: Only = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
    out: Out = None,
    force: Force = False,
) -> None:
    """Print one row per run: settings, losses, meter, trend, parameters, minutes, images/s."""
    if as_json and output not in ("terminal", "json"):
        raise UserError(f"--json and --format {output} are two forms; give one of them")
    if output == "terminal" and not sys.stdout.isatty():
        output = "markdown"
    lab = Lab(runs)
    found = lab.find(sources or (), only=only)
    query = TableQuery(
        sort=sort or (),
        include=include or (),
        exclude=exclude or (),
        columns=comma_separated(columns),
        interval=interval,
        average=average,
        average_std=average_std or (),
        each=each,
        layout="legacy" if legacy_headers else "usual",
        format="json" if as_json else output,
        text=text,
    )
    print_or_write(lab.table(found, query), out, force=force)
    tell_damage(found, listed=True)


@app.command()
def plot(
    sources: Sources = None,
    term: Annotated[
        str, typer.Option("--term", "-t", help="Logged term: loss, l1, kl, learnrate ...")
    ] = "loss",
    x: Annotated[XAxis, typer.Option("--x", help="What the x axis counts.")] = XAxis.images,
    group: Annotated[
        str | None, typer.Option("--group", "-g", help="One colour per value of this key.")
    ] = None,
    log_y: Annotated[
        bool | None, typer.Option("--log-y/--linear-y", help="The y axis; default: by the data.")
    ] = None,
    log_x: Annotated[
        bool | None, typer.Option("--log-x/--linear-x", help="The x axis; default: linear.")
    ] = None,
    band: Annotated[
        bool, typer.Option("--band/--no-band", help="Seeds as a mean line with a band.")
    ] = True,
    only: Only = None,
    runs: Runs = Path("runs"),
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG or SVG file.")] = Path("plot.png"),
    force: Force = False,
) -> None:
    """Draw curves of a logged term, training and validation side by side, as PNG or SVG."""
    lab = Lab(runs)
    found = lab.find(sources or (), only=only)
    path = lab.plot(
        found,
        out=out,
        term=term,
        x=x.value,
        group=group,
        log_y=log_y,
        log_x=log_x,
        band=band,
        force=force,
    )
    print(path)
    tell_damage(found)


@app.command()
def report(
    sources: Sources = None,
    title: Annotated[
        str | None, typer.Option("--title", help="Heading; default: the experiment.")
    ] = None,
    only: Only = None,
    runs: Runs = Path("runs"),
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file.")] = Path("report.html"),
    figures: Annotated[
        bool, typer.Option("--figures", help="Draw the quick figures of every run first.")
    ] = False,
    explorer: Annotated[
        bool,
        typer.Option("--explorer", help="Add the best runs' latent spaces, to be dragged offline."),
    ] = False,
    data: Data = None,
    trust: Trust = False,
    force: Force = False,
) -> None:
    """Write one HTML page with table, curves, reproductions and settings. Opens offline."""
    lab = Lab(runs, data or (), trust)
    found = lab.find(sources or (), only=only)
    if figures:
        for told in lab.figures(found):
            print(told, file=sys.stderr, flush=True)
    print(lab.report(found, out=out, title=title, explorer=explorer, force=force))
    tell_damage(found, listed=True)


@app.command()
def ls(
    sources: Sources = None,
    only: Only = None,
    runs: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """List stored runs: state, images, best loss, age, size on disk."""
    print_or_write(
        Lab(runs).ls(sources or (), only=only, format="json" if as_json else "text"), None
    )


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="Data set; default: list them all.")] = None,
    resize: Annotated[
        int | None,
        typer.Option("--resize", help="Compare native, nearest and bilinear at N pixels."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="PNG file; default: NAME-contact-sheet.png."),
    ] = None,
    roots: Data = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Folders: leave unreadable files out.")
    ] = False,
    background: Annotated[
        str | None,
        typer.Option(
            "--background", help="Colour behind transparent pixels: white, #rrggbb, checker."
        ),
    ] = None,
    tile: Annotated[
        str | None, typer.Option("--tile", help="Sheets: side of a tile, or HxW; default 32.")
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option("--stride", help="Sheets: tile distance, N or HxW; default: the tile."),
    ] = None,
    offset: Annotated[
        str | None, typer.Option("--offset", help="Sheets: margin, N or HxW; default 0.")
    ] = None,
    as_json: Json = False,
    force: Force = False,
) -> None:
    """List data sets, or show one: contact sheet, statistics, effect of resizing."""
    with _progress_line("reading data"):
        shown = Lab(data=roots or ()).data(
            name,
            resize=resize,
            out=out,
            skip_corrupt=skip_corrupt,
            background=background,
            tile=_size("--tile", tile),
            stride=_size("--stride", stride),
            offset=_size("--offset", offset),
            force=force,
        )
    print_or_write(listing.data_json(shown) if as_json else listing.data_text(shown), None)


app.command(cls=ManySizes)(render)
app.command()(evaluate)
app.command()(parts)
app.command()(export)
app.command()(pull)
app.command()(bridge)
app.command()(figure)
app.command()(show)
app.command()(ui)
for _use in (encode, reconstruct, neighbours, sample, interpolate):
    app.command()(_use)
# Verbs of optional parts and packages: functions with the annotations of typer. They are imported
# in every call, so that help lists them, and must be fast: they import torch inside.
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)


@app.command()
def note(
    run: Annotated[str, typer.Argument(help="A run's folder.", show_default=False)],
    text: Annotated[
        str | None, typer.Argument(help="The note; left out, it stays.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="Another tag, one word; repeatable.")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="First remove the text and the tags there are.")
    ] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Write a note and tags about a run, or print them; `ls`, `table` and the page show them."""
    found = Lab(runs).note(run, text, tag or (), clear=clear)
    told = "\n".join(filter(None, [found.text, " ".join(f"[{each}]" for each in found.tags)]))
    print_or_write(told or "no notes", None)


@app.command()
def rm(
    sources: Annotated[list[str], typer.Argument(help="Run folders or globs.", show_default=False)],
    checkpoints_only: Annotated[
        bool,
        typer.Option("--checkpoints", help="Delete only the states; keep curves and pictures."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Delete stored runs, or only their checkpoints."""
    lab = Lab(runs)
    found = lab.find(sources)
    what = "the checkpoints of " if checkpoints_only else ""
    print("\n".join(run.folder for run in found))
    if not yes and not typer.confirm(f"delete {what}{runs_text(len(found))}?"):
        raise typer.Exit(2)
    lab.rm(found, checkpoints_only=checkpoints_only)


@app.command()
def schema() -> None:
    """Print the JSON schema of the file format, for editors."""
    print_or_write(json.dumps(json_schema(), indent=2), None)


def _changes(given: list[str] | None) -> dict[str, Written]:
    """Converts `["batch_size=128"]` to values by key, each read as in a file."""
    texts = key_values("--set", given or (), "batch_size=128")
    return {key: Written(value) for key, value in texts.items()}


def _array(options: list[str] | None, tasks: int | None) -> Array:
    """The job array that runs this same command on Slurm."""
    words = [word for text in options or () for word in shlex.split(text)]
    given = (word if word.startswith("-") else f"--{word}" for word in words)
    return Array(tuple(given), command_of(sys.argv[1:]), tasks)


def _cluster(address: str | None, runs: int | None, needs: list[str] | None) -> Cluster:
    """The Ray cluster, and the resources of a run there."""
    return Cluster.of(address or "auto", runs, needs or ())


def _size(option: str, text: str | None) -> int | tuple[int, int] | None:
    """Converts `32` or `32x16` (height x width) to a size."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and len(side) < 7 for side in sides):
        raise UserError(f"{option} {text}: a number of pixels, or HEIGHTxWIDTH, as in 32x16")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _same_command() -> str:
    """The command to continue with: without options that would delete stored results."""
    kept = [word for word in sys.argv[1:] if word not in ("--restart", "--retry-failed")]
    return shlex.join(["aelab", *kept])


@contextmanager
def _progress_line(what: str) -> Iterator[None]:
    """Context manager: shows a spinner on a terminal, nothing elsewhere."""
    console = terminal()
    if console is None:
        yield
        return
    with console.status(what):
        yield


def main() -> None:
    """Entry point: runs a verb; a mistake of the user gives one message, never a traceback."""
    as_json = mistakes.asks_for_json(sys.argv[1:])
    postpone_compiler()
    try:
        # A program may read standard output, so only the answer goes there.
        with answers_only() if as_json else nullcontext():
            code = _run(as_json)
    except AelabError as error:
        code = mistakes.print_error(error, as_json=as_json)
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        code = mistakes.tell_own_fault(error, as_json=as_json)
    sys.exit(code)


def _run(as_json: bool) -> int:
    """Runs the verb and returns its exit code; reports wrong options."""
    words = with_address(sys.argv[1:])
    if not as_json:
        app(words)
    try:
        return int(app(words, standalone_mode=False) or 0)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not of click, nor of the copy inside typer
            raise
        error.show()  # type: ignore[attr-defined]
        with spoken():
            mistakes.tell_usage(error.format_message(), as_json=True)
        return 2
