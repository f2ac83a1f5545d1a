"""Exports a run to a folder: graphs, weights with their text, and a model card."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from torch import Tensor

from aelab.errors import UserError, did_you_mean, one_of
from aelab.outputs import refuse_to_replace, write_output
from aelab.runs.atomic import to_json
from aelab.runs.checkpoints import about_state
from aelab.study.graphs import (
    graphs_of,
    onnx_difference,
    onnx_file,
    program_file,
    refuse_onnx,
)
from aelab.study.model_card import Exported, model_card

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun

#: What a run can be exported as.
FORMATS = ("onnx", "torch-export", "safetensors")
#: Files of a run that its model does not need, but its tables do; copied as they are.
_BESIDE = ("status.json", "metrics.jsonl", "evaluation.json")


def export_run(
    opened: OpenedRun, out: Path, formats: Sequence[str], license: str = "unknown"
) -> list[Path]:
    """Writes a run into a folder from which others can use its model.

    - `onnx`: `encoder.onnx`, `decoder.onnx`, `model.onnx`, compared with ONNX Runtime.
    - `torch-export`: `encoder.pt2`, `decoder.pt2`, `model.pt2`, for `torch.export.load`.
    - `safetensors`: the run without its training state, so that aelab opens the folder: its text,
      `checkpoints/best.safetensors`, losses and measures. No experiment file, log, place or
      pictures; paths of data sets are reduced to their last part.

    A model card, `README.md`, tells data, hashes, measures, licence, preprocessing, and how each
    file is loaded.

    Args:
        opened: the run.
        out: the folder.
        formats: of `FORMATS`.
        license: for the card, in the words of model hubs: `mit`, `cc-by-4.0`, `other`, ...

    Returns:
        The files, the card last.

    Raises:
        UserError: no or unknown formats, a file that aelab did not make, a model that cannot be
            traced or needs classes, or a run folder.
        MissingExtra: ONNX without its packages.
    """
    for each in formats:
        if each not in FORMATS:
            raise UserError(
                f"unknown format {each!r}{did_you_mean(each, FORMATS)}",
                hint=f"possible: {one_of(FORMATS)}",
            )
    if not formats:
        raise UserError(
            "in which format?", hint="add --onnx, --torch-export, --safetensors, or several"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", license):
        raise UserError(
            f"--license {license!r} is no name of a licence", hint="for instance mit, or other"
        )
    if (out / "place.json").exists():
        raise UserError(
            f"{out} is a run that was trained here", hint="give another folder with --out"
        )
    graph_formats = [each for each in formats if each != "safetensors"]
    if graph_formats and getattr(opened.model, "needs_labels", False):
        raise UserError(
            f"{one_of(graph_formats)} takes images only, and this model needs the class of each",
            hint="export --safetensors, which aelab opens; or train with label_dropping=0.1",
        )
    if "onnx" in formats:
        refuse_onnx()
    refuse_to_replace(out / "README.md")
    contents: dict[str, bytes] = {}
    exported = Exported(opened, license)
    for graph in graphs_of(opened) if {"onnx", "torch-export"} & set(formats) else ():
        if "torch-export" in formats:
            contents[f"{graph.name}.pt2"] = program_file(graph)
            exported.torch_apart[graph.name] = graph.apart
        if "onnx" in formats:
            content = contents[f"{graph.name}.onnx"] = onnx_file(graph)
            exported.onnx_apart[graph.name] = onnx_difference(content, graph)
    if "safetensors" in formats:
        contents |= _run_files(opened)
    for name, content in contents.items():
        refuse_to_replace(out / name)
        exported.files[name] = (len(content), hashlib.sha256(content).hexdigest())
    written = [write_output(out / name, content) for name, content in contents.items()]
    return [*written, write_output(out / "README.md", model_card(exported))]


def _run_files(opened: OpenedRun) -> dict[str, bytes]:
    """The files of a run that can be opened but not continued, by their names in its folder."""
    run = opened.run
    record = {**run.record, "data": _without_folders(run.record.get("data"))}
    files = {"run.json": _json(record)}
    for name in ("resolved.yml", "calls.json", *_BESIDE):
        text = run.read_text(name)
        if text:
            files[name] = text.encode("utf-8", errors="surrogateescape")
    weights = {f"model.{name}": _plain(value) for name, value in opened.model.state_dict().items()}
    numbers = {"images": opened.images, "epoch": opened.epoch}
    tensors = safetensors.torch.save(weights, metadata={"format": "pt"})
    offset = len(files.get("metrics.jsonl", b""))
    about = about_state(opened.images, tensors, numbers, offset)
    return files | {
        "checkpoints/best.safetensors": tensors,
        "checkpoints/best.json": _json(about),
    }


def _json(value: Any) -> bytes:
    return to_json(value, indent=2).encode(errors="backslashreplace")


def _plain(value: Tensor) -> Tensor:
    # safetensors refuses tensors that share memory, such as tied weights.
    return value.detach().cpu().contiguous().clone()


def _without_folders(data: Any) -> Any:
    """A record of data sets in which a path is only its last part."""
    if isinstance(data, dict):
        return {
            key: re.split(r"[/\\]", value.rstrip("/\\"))[-1]
            if key == "source" and isinstance(value, str) and "://" not in value
            else _without_folders(value)
            for key, value in data.items()
        }
    return [_without_folders(each) for each in data] if isinstance(data, list) else data
