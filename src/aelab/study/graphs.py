"""Encoder, decoder and whole model of a run as graphs: ONNX files and programs of torch.export.

The graphs take and give images in 0..1, whatever the value range of the run, and any number of
images. They contain the weights and need no code of aelab.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.assembly.parts import functions_of
from aelab.errors import MissingExtra, UserError
from aelab.ops.labels import label_classes
from aelab.ops.value_range import from_unit, to_unit

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from aelab.study.opened import OpenedRun
    from aelab.types import ValueRange

#: Images in the batch with which a model is traced, and in the batches of the comparison. Not 1:
#: torch.export would then fix the number of images.
TRACED, COMPARED = 3, (1, 5)
#: Graphs agree with the model if at most this share of the numbers differs by more than this.
#: Rounding may choose another entry of a codebook, or another character, in single places.
MOST_APART, SHARE_APART = 1e-3, 0.01


class Graph(NamedTuple):
    """One graph of a run.

    Attributes:
        name: `encoder`, `decoder` or `model`.
        program: of torch.export.
        inputs, outputs: names of the tensors in ONNX.
        apart: largest difference to the model's own numbers, over batches of random latents and
            their images.
        given: the last of these batches, see `given_to`.
    """

    name: str
    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    apart: float
    given: tuple[Tensor, ...]


class _Encoder(nn.Module):
    """`labels`: () or the class numbers (B,), for models that ask for them."""

    def __init__(self, model: nn.Module, value_range: ValueRange) -> None:
        super().__init__()
        self.model, self.value_range = model, value_range

    def forward(self, images: Tensor, *labels: Tensor) -> Tensor:
        given = from_unit(images, self.value_range)
        latents: Tensor = self.model.encode(given, *labels)  # type: ignore[operator]
        return latents


class _Decoder(_Encoder):
    def forward(self, latents: Tensor) -> Tensor:  # type: ignore[override]
        return to_unit(self.model.decode(latents), self.value_range)  # type: ignore[operator]


class _Whole(_Encoder):
    def forward(self, images: Tensor, *labels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        given = from_unit(images, self.value_range)
        output = self.model(given, None, *labels) if labels else self.model(given)
        return to_unit(output.reconstruction, self.value_range), output.latent


#: Name -> module, names of inputs and outputs.
_PARTS: Mapping[str, tuple[type[_Encoder], tuple[str, ...], tuple[str, ...]]] = {
    "encoder": (_Encoder, ("images",), ("latents",)),
    "decoder": (_Decoder, ("latents",), ("images",)),
    "model": (_Whole, ("images",), ("reconstructions", "latents")),
}


def graphs_of(opened: OpenedRun) -> list[Graph]:
    """The graphs of a run.

    Raises:
        UserError: the model cannot be traced, or its graph gives other numbers.
    """
    shape = tuple(int(size) for size in opened.run.record["shape"])
    with functions_of(opened.spec), torch.device("cpu"):
        model = copy.deepcopy(opened.model).to("cpu").eval().requires_grad_(False)
        return list(traced(model, shape, opened.value_range, opened.run.folder))


@torch.no_grad()
def traced(
    model: nn.Module, shape: tuple[int, ...], value_range: ValueRange, owner: str
) -> Iterator[Graph]:
    """Traces a model in evaluation mode, on the CPU.

    Args:
        model: see `types.Model`.
        shape: (C, H, W) of its images.
        value_range: of its images.
        owner: the run, for messages.

    Yields:
        `encoder`, `decoder`, `model`.

    Raises:
        UserError: as for `graphs_of`.
    """
    for name, (kind, inputs, outputs) in _PARTS.items():
        part = kind(model, value_range).eval()
        given = given_to(name, model, shape, value_range, TRACED)
        program = _traced(part, given, name, owner)
        apart = 0.0
        for count in COMPARED:
            given = given_to(name, model, shape, value_range, count)
            found = program.module()(*given)
            apart = max(apart, largest_difference(part(*given), found, f"{owner}: {name}"))
        yield Graph(name, program, (*inputs, "labels")[: len(given)], outputs, apart, given)


@torch.no_grad()
def given_to(
    name: str, model: nn.Module, shape: tuple[int, ...], value_range: ValueRange, count: int
) -> tuple[Tensor, ...]:
    """Inputs of a graph: random latents, or the images in 0..1 that the model makes of them.

    So the images are valid in every medium. A model that asks for classes also gets their numbers.
    """
    blank = from_unit(torch.zeros(1, *shape), value_range)
    latent: Tensor = model.encode(blank)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(count)
    latents = torch.randn((count, *latent.shape[1:]), generator=generator).to(latent.dtype)
    if name == "decoder":
        return (latents,)
    images: Tensor = to_unit(model.decode(latents), value_range).clamp(0, 1)  # type: ignore[operator]
    classes = label_classes(model)
    return (images,) if classes is None else (images, torch.arange(count) % classes)


def largest_difference(wanted: Any, found: Any, owner: str) -> float:
    """The largest difference of two results, each a tensor or several.

    Raises:
        UserError: they differ in shape or in too many numbers.
    """
    most = 0.0
    for one, other in zip(_several(wanted), _several(found), strict=True):
        apart = (one.float() - other.float()).abs() if one.shape == other.shape else None
        if apart is None or float((apart > MOST_APART).float().mean()) > SHARE_APART:
            raise UserError(
                f"{owner}: the exported graph gives other numbers than the model, so nothing is "
                "written",
                hint="models that depend on chance or on earlier images cannot be exported as "
                "graphs; --safetensors can export them",
            )
        most = max(most, float(apart.max()))
    return most


def program_file(graph: Graph) -> bytes:
    """A `.pt2` file, for `torch.export.load`."""
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(graph.program, buffer)
    return buffer.getvalue()


def refuse_onnx() -> None:
    """Before long work.

    Raises:
        MissingExtra: a package for ONNX is not installed.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise MissingExtra("an export to ONNX", package, "export") from None


def onnx_file(graph: Graph) -> bytes:
    """An `.onnx` file; the first dimension of every tensor is `images`, any number.

    Raises:
        UserError: an operation of the model does not exist in ONNX.
    """
    with _quiet():
        try:
            made = torch.onnx.export(
                graph.program, dynamo=True, verbose=False,
                input_names=list(graph.inputs), output_names=list(graph.outputs),
            )  # fmt: skip
        except torch.onnx.errors.OnnxExporterError as error:
            raise UserError(
                f"{graph.name} cannot be written as ONNX: {_first_line(error)}",
                hint="export it with --torch-export or --safetensors instead",
            ) from error
    assert made is not None
    return bytes(made.model_proto.SerializeToString())


def onnx_difference(content: bytes, graph: Graph) -> float:
    """The largest difference between ONNX Runtime and the graph of torch.

    Args:
        content: of the `.onnx` file.
        graph: of which it was made.

    Raises:
        UserError: as for `difference`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    named = {name: tensor.numpy() for name, tensor in zip(graph.inputs, graph.given, strict=True)}
    found = session.run(None, named)
    wanted = graph.program.module()(*graph.given)
    return largest_difference(wanted, [torch.from_numpy(array) for array in found], graph.name)


def _traced(part: nn.Module, given: tuple[Tensor, ...], name: str, owner: str) -> ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    first, *more = ({0: batch} for _ in given)
    shapes = (first, tuple(more)) if more else (first,)  # further ones go to `*labels`
    with _quiet():
        try:
            program = torch.export.export(part, given, dynamic_shapes=shapes)
        except Exception as error:  # torch raises what it likes; own modules, too
            raise UserError(
                f"run {owner}: its {name} cannot be traced: {_first_line(error)}",
                hint="a module whose Python code depends on values, or on the number of images "
                "(`len(x)` instead of `x.shape[0]`), cannot be exported as a graph; "
                "--safetensors can export it",
            ) from error
    for node in program.graph.nodes:  # otherwise the files would name the folders of this machine
        node.meta.pop("stack_trace", None)
    return program


def _several(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: without the notes that exporters print for their own authors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
