"""`aelab bridge`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aelab.bridges import follow, make_bridge
from aelab.cli.options import Only, Runs, Sources
from aelab.cli.output import tell_damage
from aelab.errors import visible
from aelab.lab import Lab


def bridge(
    tool: Annotated[
        str,
        typer.Argument(help="tensorboard, wandb, or a bridge of a package.", show_default=False),
    ],
    sources: Sources = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write; default: tensorboard, or wandb-files."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Continue until every run has ended; Ctrl-C stops.")
    ] = False,
    project: Annotated[str, typer.Option("--project", help="wandb: name of the project.")] = (
        "aelab"
    ),
    online: Annotated[
        bool, typer.Option("--online", help="wandb: upload now, instead of writing files.")
    ] = False,
    only: Only = None,
    runs: Runs = Path("runs"),
) -> None:
    """Export runs to TensorBoard or W&B: curves, pictures and settings."""
    options: dict[str, Any] = {} if out is None else {"out": out}
    if tool == "wandb":
        options |= {"project": project, "mode": "online" if online else "offline"}
    found = Lab(runs).find(sources or (), only=only)
    told = ""
    try:
        for counts in follow(found, make_bridge(tool, **options), live=live):
            told = f"{counts.runs} runs: {counts.rows:,} rows, {counts.pictures} pictures"
            if live:
                print(told, file=sys.stderr, flush=True)
            for reason in counts.left_out:
                print(f"left out: {visible(reason)}", file=sys.stderr)
            counts.left_out.clear()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    tell_damage(found)
    where = out or {"tensorboard": Path("tensorboard"), "wandb": Path("wandb-files")}.get(tool)
    hints = {"tensorboard": f"tensorboard --logdir {where}", "wandb": "wandb sync DIRECTORY"}
    hint = "" if online or tool not in hints else f"; look at it with: {hints[tool]}"
    print(told + (f" in {where}" if where else "") + hint)
