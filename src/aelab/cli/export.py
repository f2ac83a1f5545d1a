"""`aelab export`: a trained run for other programs; `aelab pull`: a run from a model hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aelab.bridges import hub
from aelab.cli.options import Force, Reference, Runs, of_lab
from aelab.cli.output import print_or_write
from aelab.lab import Lab

Address = Annotated[
    str, typer.Argument(help="hf:OWNER/NAME, or a folder.", show_default=False)
]  # fmt: skip


@of_lab
def export(
    lab: Lab,
    run: Reference,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="encoder.onnx, decoder.onnx, model.onnx.")
    ] = False,
    torch_export: Annotated[
        bool, typer.Option("--torch-export", help="The same as .pt2 files of torch.export.")
    ] = False,
    safetensors: Annotated[
        bool,
        typer.Option("--safetensors", help="The run without its training state, for aelab."),
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the files.")] = Path(
        "exported"
    ),
    license: Annotated[
        str, typer.Option("--license", help="Licence for the model card, as in mit, cc-by-4.0.")
    ] = "unknown",
    push: Annotated[
        str | None,
        typer.Option("--push", help="Also copy the folder to hf:OWNER/NAME, or to a folder."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="With --push: a new model is not public.")
    ] = False,
    force: Force = False,
) -> None:
    """Export a trained model to ONNX, torch.export or safetensors, with a model card."""
    chosen = {"onnx": onnx, "torch-export": torch_export, "safetensors": safetensors}
    formats = [name for name, given in chosen.items() if given]
    place = None if push is None else hub.make_hub(push)
    written = lab.open(run).export(out, formats, license=license, force=force)
    for path in written:
        print_or_write(str(path), None)
    if place is not None:
        names = [path.relative_to(out).as_posix() for path in written]
        print_or_write(place.push(out, names, private=private), None)


def pull(
    address: Address,
    name: Annotated[
        str | None,
        typer.Option("--as", help="Name of the run; default: the last part of the address."),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Load a model that `aelab export --safetensors` made, from a model hub, as a run."""
    path = hub.pull(address, runs, name)
    print_or_write(str(path), None)
