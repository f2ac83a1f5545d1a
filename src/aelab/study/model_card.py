"""The model card of an exported run: a text for people and for model hubs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from aelab.ops.labels import label_classes
from aelab.ops.value_range import UNIT, range_words
from aelab.runs.evaluation import evaluated_over, evaluated_values

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun

_ONNX = """import onnxruntime, numpy
model = onnxruntime.InferenceSession("model.onnx")
reconstructions, latents = model.run(None, {given})"""
_TORCH = """import torch
model = torch.export.load("model.pt2").module()
reconstructions, latents = model({given})"""
_AELAB = """import aelab, torch
model = aelab.open_model("."{trust})  # the folder of this file
reconstructions = model(torch.zeros({shape}, dtype=torch.uint8)).reconstruction"""
_WEIGHTS = """from safetensors.torch import load_file
weights = load_file("checkpoints/best.safetensors")
own_module.load_state_dict({k.removeprefix("model."): v for k, v in weights.items()})"""


@dataclass
class Exported:
    """What a card tells.

    Attributes:
        opened: the run.
        license: name of a licence.
        files: name -> bytes and SHA-256.
        onnx_apart, torch_apart: name of a graph -> its largest difference to the model.
    """

    opened: OpenedRun
    license: str
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    onnx_apart: dict[str, float] = field(default_factory=dict)
    torch_apart: dict[str, float] = field(default_factory=dict)


def model_card(exported: Exported) -> str:
    """The card as Markdown, with the header that model hubs read."""
    opened = exported.opened
    record = opened.run.record
    parameters = record.get("parameters") or {}
    lines = [
        "---",
        f"license: {exported.license}",
        "library_name: aelab",
        f"tags: [autoencoder, {opened.medium.name}]",
        "---",
        "",
        f"# {_plain(record['name'])}",
        "",
        f"An autoencoder of {_size(record['shape'])} {opened.medium.images_are}, trained "
        f"with aelab on {opened.images:,} images.",
        "",
        *_rows("", [
            ("latent", _size(record.get("latent_shape") or ["?"])),
            ("parameters", f"{parameters.get('model', 0):,} (encoder "
             f"{parameters.get('encoder', 0):,}, decoder {parameters.get('decoder', 0):,})"),
            ("objective", f"`{_plain(record.get('objective', ''))}`"),
            ("state", f"{opened.state}, after {opened.images:,} images"),
            ("seed", record.get("seed")),
            ("identity of the run", f"`{record.get('identity')}`"),
            ("torch", torch.__version__),
            ("licence", "not stated" if exported.license == "unknown" else exported.license),
        ]),
        "## Use",
        "",
        *_use(exported),
        "## Images",
        "",
        *_images(exported),
        "## Data",
        "",
        *_data(record.get("data") or {}),
        "## Measures",
        "",
        *_measures(opened),
        "## Files",
        "",
        *_rows("", [(f"`{name}`", f"{size:,} bytes, SHA-256 `{digest}`")
                    for name, (size, digest) in exported.files.items()]),
    ]  # fmt: skip
    return "\n".join(lines).rstrip("\n") + "\n"


def _use(exported: Exported) -> list[str]:
    shape = (1, *exported.opened.run.record["shape"])
    trust = ", trust=True" if exported.opened.run.record.get("trust") else ""
    classes = label_classes(exported.opened.model)
    arrays = f'"images": numpy.zeros({shape}, "float32")'
    tensors = f"torch.zeros{shape}"
    if classes:
        arrays += ', "labels": numpy.zeros(1, "int64")'
        tensors += ", torch.zeros(1, dtype=torch.int64)"
    onnx, torch_export = _ONNX.format(given=f"{{{arrays}}}"), _TORCH.format(given=tensors)
    lines: list[str] = []
    if "model.onnx" in exported.files:
        words = "With ONNX Runtime. Largest difference to the model on random images: "
        lines += [
            words + _apart(exported.onnx_apart),
            "",
            *_code(onnx),
        ]
    if "model.pt2" in exported.files:
        words = "With torch alone. Largest difference to the model: "
        lines += [
            words + _apart(exported.torch_apart),
            "",
            *_code(torch_export),
        ]
    if lines:
        lines += [
            "`encoder` takes `images` and gives `latents`; `decoder` takes `latents` and gives "
            "`images`; `model` does both. Any number of images may be given at once."
            + (f" `labels` are the classes of the images, 0 to {classes - 1}." if classes else ""),
            "",
        ]
    if "run.json" in exported.files:
        open_model = _AELAB.format(shape=shape, trust=trust)
        words = "With aelab, which needs neither the data nor the rest of the run. "
        if trust:
            words += "The run uses Python code of its own, which must be installed, too. "
        words += "The verbs of the command line take the folder as RUN: `aelab encode . photos/`."
        lines += [words, "", *_code(open_model), "With a module of your own:", "", *_code(_WEIGHTS)]
    return lines


def _images(exported: Exported) -> list[str]:
    opened = exported.opened
    medium, channels = opened.medium, int(opened.run.record["shape"][0])
    order = {1: "grey", 3: "red, green, blue", 4: "red, green, blue, alpha"}.get(channels, "")
    numbers = "brightness: bytes / 255" if medium.is_brightness else f"{medium.images_are} / 255"
    lines = [
        f"Graphs take and give float32 of shape (images, {', '.join(map(str, _shape(opened)))})"
        f"{f', channels {order},' if order else ''} in 0..1: {numbers}. Outputs are not clamped.",
    ]
    if opened.value_range != UNIT:
        lines.append(
            f"Inside, the model works with {range_words(opened.value_range)}; the graphs convert. "
            "`aelab.open_model` takes bytes, or floats in that range, and gives such floats."
        )
    lines.append(
        f"Pictures of another size must be brought to {_size(_shape(opened)[1:])} first, as the "
        "training images were; `resolved.yml` of the run says how."
    )
    return [*lines, ""]


def _data(data: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for split, title in (("train", "training"), ("validation", "held-out")):
        for entry in data.get(split) or ():
            note = f", {_plain(entry['note'])}" if entry.get("note") else ""
            lines.append(
                f"- {title}: {_plain(entry.get('name'))}, {entry.get('count', 0):,} images"
                f"{note}; source SHA-256 `{entry.get('sha256')}`"
            )
        if data.get(f"{split}_content"):
            lines.append(f"  - as trained on: SHA-256 `{data[f'{split}_content']}`")
    return [*(lines or ["Not recorded."]), ""]


def _measures(opened: OpenedRun) -> list[str]:
    best = opened.run.status.get("best") or {}
    rows: list[tuple[str, Any]] = []
    if isinstance(best.get("loss"), int | float):
        held = "held-out" if (opened.run.record.get("data") or {}).get("validation") else "training"
        words = f"{best['loss']:.6g}, after {best.get('images', 0):,} images"
        rows.append((f"best {held} loss", words))
    over = evaluated_over(opened.run)
    for name, value in evaluated_values(opened.run).items():
        count, total = over.get(name, (0, 0))
        rows.append((name, f"{value:.6g}" + (f", over {count:,} of {total:,} held-out images"
                                             if count else "")))  # fmt: skip
    if not evaluated_values(opened.run):
        more = "`aelab evaluate` adds reconstruction, samples and codes to a later export."
        return [*_rows("", rows), more, ""] if rows else ["None.", ""]
    return _rows("", rows)


def _rows(head: str, rows: Sequence[tuple[str, Any]]) -> list[str]:
    return [f"| {head} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _code(text: str) -> list[str]:
    return ["```python", *text.splitlines(), "```", ""]


def _apart(found: dict[str, float]) -> str:
    return f"{max(found.values(), default=0.0):.1e}."


def _shape(opened: OpenedRun) -> list[int]:
    return [int(size) for size in opened.run.record["shape"]]


def _size(sizes: Sequence[Any]) -> str:
    return "x".join(map(str, sizes))


def _plain(text: Any) -> str:
    """A text of the run without signs that Markdown or HTML would read."""
    return "".join(" " if sign in "\r\n|<>`[]" else sign for sign in str(text))
