"""A stored run with its trained model: encode, decode, sample, evaluate, draw, render, write."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from aelab.assembly.parts import functions_of, load_images
from aelab.assembly.recorded import recorded_range
from aelab.errors import UserError
from aelab.medium import Medium, medium_of
from aelab.metrics import flat
from aelab.ops.classes import common_classes
from aelab.ops.labels import label_classes
from aelab.ops.value_range import as_given, from_unit, to_unit
from aelab.outputs import refuse_to_replace, replacing, write_output
from aelab.parts import Table
from aelab.posteriors import code_of
from aelab.study.codes import codes_file, refuse_ending
from aelab.study.evaluation import Evaluated, chosen_metrics, evaluate_run, subject_of
from aelab.study.explorer import explorer_of
from aelab.study.exporting import FORMATS, export_run
from aelab.study.figures.stored import draw_of_run, shown_of_run
from aelab.study.inputs import (
    FolderReading,
    class_number,
    inputs_of,
    labels_of,
    refuse_classes,
    through,
)
from aelab.study.looker import Looker
from aelab.study.made import (
    numbered,
    path_between,
    refuse_frames,
    write_frames,
    write_pictures,
    write_reconstructions,
)
from aelab.study.neighbours import Neighbours, neighbours_of, refuse_files
from aelab.study.rendering import Rendered, Request, region_of, render_run
from aelab.study.sampling import latents_of_second_stage, sampled_images
from aelab.study.superresolution_score import score_run

if TYPE_CHECKING:
    from aelab.assembly.parts import Parts
    from aelab.config import RunSpec
    from aelab.metrics import Subject
    from aelab.roots import Roots
    from aelab.runs.record import Run
    from aelab.types import Images, ValueRange


class Written(Protocol):
    """A text that a model has generated."""

    @property
    def written(self) -> list[str]:
        """The lines of the text."""

    def beside(self) -> list[str]:
        """The model's input and its output side by side, line by line."""


class Writer(Protocol):
    """The interface of a writer, which generates texts with models of one medium."""

    def art(self, opened: OpenedRun, source: Path, **options: Any) -> Written:
        """Encodes and decodes a file with the model of a run."""

    def frames(self, opened: OpenedRun, ends: tuple[Path, Path], **options: Any) -> list[list[str]]:
        """Texts decoded along a latent path from one file to another."""

    def save(self, shown: Sequence[list[str]], out: Path) -> Path:
        """Writes one text, or frames, to a file."""


#: Name of a medium -> its writer.
WRITERS: Table[Writer] = Table("writer", "aelab.writers", {})


@dataclass(frozen=True)
class OpenedRun:
    """One stored run with its model, in evaluation mode; `Lab.open` returns it.

    Images are (B, C, H, W): inputs are uint8, or floats in `value_range`; outputs are such floats.

    Attributes:
        run: its directory.
        spec: its resolved text.
        parts: the trained model, the objective, and the data sets (pixels are not read yet).
        reading: folders that may be read, and the base of relative paths.
        images: training images that the model has seen.
        state: `best`, `latest`, or images seen.
        epoch: whole passes over the training set.
        open_other: opens another run of the same workspace, for samplers that are runs.
    """

    run: Run
    spec: RunSpec
    parts: Parts
    reading: Roots
    images: int
    state: str = "best"
    epoch: int = 0
    open_other: Callable[[str], OpenedRun] | None = None

    @property
    def medium(self) -> Medium:
        """The meaning of its images' numbers, see `aelab.medium`."""
        sets = [*self.parts.train, *self.parts.validation]
        return sets[0].dataset.medium if sets else medium_of(self.model)

    @property
    def model(self) -> nn.Module:
        """The trained model, see `types.Model`; averaged weights if the run has them."""
        return self.parts.model

    @property
    def value_range(self) -> ValueRange:
        """Values of black and white for the model; 0 and 1 unless its data set declares others."""
        return recorded_range(self.run.record)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the run's sets, by number; () if they have none."""
        with functions_of(self.spec):
            train, held_out = load_images(self.parts)
        return common_classes([images for _, images in [*train, *held_out]]).names

    @torch.no_grad()
    def encode(
        self,
        images: Any,
        *,
        classes: Sequence[str | int] | str | int | None = None,
        out: str | Path | None = None,
        skip_corrupt: bool = False,
        background: str = "black",
        force: bool = False,
    ) -> Tensor:
        """Encodes images to mean codes (B, ...), the input of the decoder.

        Args:
            images: a tensor (B, C, H, W), or anything else that `inputs` takes: the path of a
                folder, a data set, Pillow pictures, an array, a torch Dataset.
            classes: the class of each image, or one for all, by name or number, for a model that
                is conditioned on classes; by default those of the set `images`.
            out: also write file names, classes and codes, as `.csv`, `.npz` or `.parquet`; see
                `study.codes.codes_file`.
            skip_corrupt, background: as for `inputs`.
            force: replace a file `out` that aelab did not make.

        Raises:
            UserError, DataError: `images` cannot be read, or `out` cannot be written.
        """
        encode: Any = self.model.encode
        if isinstance(images, Tensor) and out is None:
            latent: Tensor = encode(self._given(images), *self._labels(images, classes))
            return latent
        with replacing(force):
            if out is not None:
                refuse_ending(Path(out))
                refuse_to_replace(Path(out), inputs=_paths(images))
            given = self.inputs(images, skip_corrupt=skip_corrupt, background=background)
            given = self._of_classes(given, classes)
            latent = through(self, given, encode, "encoding")
            if out is not None:
                content = codes_file(Path(out), given, latent)
                write_output(Path(out), content, inputs=_paths(images))
        return latent

    def _codes(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Mean codes (B, D) of a model input batch, without a class that the model was told."""
        if label_classes(self.model) is None:
            codes: Tensor = self.model.encode(images)  # type: ignore[operator]
            return codes
        output = self.model(images, None, *labels)
        return code_of(output.latent, output.posterior)

    def inputs(
        self, images: Any, *, skip_corrupt: bool = False, background: str = "black"
    ) -> Images:
        """Converts images to the run's size and medium, with their file and class names.

        Args:
            images: `train` or `validation` for the run's own sets; the path of a folder or a
                picture; the name of a data set as for `aelab data`; an expression as in an
                experiment file; a data set, Pillow pictures, a list of paths, a tensor, an
                array, or a torch Dataset.
            skip_corrupt: leave unreadable files of a folder out.
            background: colour behind transparent pixels; without effect where the run keeps them.

        Raises:
            UserError, DataError: it does not exist, or cannot be read.
            ConfigError, ShapeError: its medium or shape does not fit the run.
        """
        with functions_of(self.spec):
            return inputs_of(self, images, FolderReading(skip_corrupt, background))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decodes latents (B, ...) of `encode` to images (B, C, H, W), not clamped."""
        images: Tensor = self.model.decode(latents.to(self.parts.device))  # type: ignore[operator]
        return images

    @torch.no_grad()
    def reconstruct(
        self,
        images: Any,
        *,
        classes: Sequence[str | int] | str | int | None = None,
        out: str | Path | None = None,
        count: int | None = None,
        beside: bool = False,
        skip_corrupt: bool = False,
        background: str = "black",
        force: bool = False,
    ) -> Tensor:
        """Reconstructions of images, (B, C, H, W) in `value_range`, not clamped.

        Args:
            images: a tensor (B, C, H, W), or anything else that `inputs` takes.
            classes: as for `encode`.
            out: also write them into this folder, the worst first: one PNG file each, a sheet of
                the worst and a table of the errors; see `study.made.write_reconstructions`.
            count: with `out`: write the pictures of this many of the worst only.
            beside: with `out`: each file shows the original to the left.
            skip_corrupt, background: as for `inputs`.
            force: replace files in `out` that aelab did not make.

        Raises:
            UserError, DataError: `images` cannot be read, or `out` cannot be written.
        """
        if isinstance(images, Tensor) and out is None:
            return self._reconstruct(self._given(images), *self._labels(images, classes))
        if count is not None and count < 1:
            raise UserError(f"--count {count}: at least one picture")
        with replacing(force):
            given = self.inputs(images, skip_corrupt=skip_corrupt, background=background)
            given = self._of_classes(given, classes)
            made = through(self, given, self._reconstruct, "reconstructing")
            if out is not None:
                unit = to_unit(made, self.value_range)
                inputs = _files(images, given)
                write_reconstructions(
                    Path(out), given, unit, count=count, beside=beside, inputs=inputs
                )
        return made

    def _reconstruct(self, given: Tensor, *labels: Tensor) -> Tensor:
        reconstruction: Tensor = self.model(given, None, *labels).reconstruction.float()
        return reconstruction

    def _labels(
        self, images: Tensor, classes: Sequence[str | int] | str | int | None
    ) -> tuple[Tensor, ...]:
        """The labels of single images as further arguments of the model."""
        found = labels_of(self, len(images), _of_each(classes, len(images)))
        return tuple(each.to(self.parts.device) for each in found)

    def _of_classes(
        self, images: Images, classes: Sequence[str | int] | str | int | None
    ) -> Images:
        """The set with the given classes in place of its own."""
        given = _of_each(classes, len(images))
        if given is None:
            return images
        refuse_classes(self)
        numbers = torch.tensor([class_number(self, each) for each in given])
        facts = {**images.facts, "label_names": self.classes}
        return replace(images, labels=numbers, facts=facts)

    def sample(
        self,
        count: int = 16,
        sampler: str = "auto",
        *,
        of_class: str | int | None = None,
        seed: int = 0,
        out: str | Path | None = None,
        force: bool = False,
    ) -> Tensor:
        """Sampled images (count, C, H, W) in `value_range`, not clamped.

        Args:
            count: number of images.
            sampler: as for the figure `sample`: `auto`, `prior`, `gaussian`, ..., or `run:RUN`, a
                run that was trained on the codes of this one (see `latents_of`).
            of_class: only images of this class, by name or number: from the prior of a model that
                is conditioned on classes, else from a distribution fitted to the codes of the
                class.
            seed: another seed draws other images.
            out: also write them into this folder, one PNG file each, with transparency where the
                run has it.
            force: replace files in `out` that aelab did not make.

        Raises:
            UserError: an unknown sampler or class, no count, or `out` cannot be written.
            DataError: the sampler must be fitted, and the run's images cannot be read.
        """
        if count < 1:
            raise UserError(f"{count} samples: at least one")
        with replacing(force), functions_of(self.spec):
            names = numbered("sample", count)
            for name in names if out is not None else ():
                refuse_to_replace(Path(out or "") / f"{name}.png")
            unit = sampled_images(self, sampler, count, seed, of_class)
            if out is not None:
                write_pictures(Path(out), names, unit, self.medium)
        return from_unit(unit, self.value_range)

    def codes_of_other(self, reference: str, count: int, seed: int) -> Tensor:
        """Codes (count, ...) of this run, drawn from a run that was trained on them.

        Args:
            reference: that run: RUN, RUN@best, RUN@latest or RUN@images.
            count, seed: of the draw.

        Raises:
            UserError: that run was trained on something else.
        """
        return latents_of_second_stage(self, reference, count, seed)

    @torch.no_grad()
    def interpolate(
        self,
        first: Any,
        second: Any,
        *,
        steps: int = 16,
        path: str = "linear",
        out: str | Path | None = None,
        background: str = "black",
        force: bool = False,
    ) -> Tensor:
        """Interpolates from one image to another through their codes: images (steps, C, H, W).

        Args:
            first, second: single images: pictures, or anything else that `inputs` takes.
            steps: images, the reconstructions of both ends included.
            path: straight (`linear`) or along the great circle (`spherical`).
            out: also write a film (`.gif`, `.webp`, `.mp4`), a row (`.png`), or a folder of PNG
                files; see `study.made.write_frames`.
            background: as for `inputs`.
            force: replace files that aelab did not make.

        Returns:
            In `value_range`, not clamped.

        Raises:
            UserError: an unknown path, no single images, or `out` cannot be written.
        """
        inputs = _paths(first, second)
        with replacing(force):
            if out is not None:
                refuse_frames(Path(out), steps, inputs)
            codes = [self.encode(end, background=background) for end in (first, second)]
            for end, code in zip((first, second), codes, strict=True):
                if len(code) != 1:
                    raise UserError(
                        f"an interpolation has one image at each end, {end} holds {len(code):,}",
                        hint="give two pictures",
                    )
            start, end = (flat(code)[0].cpu() for code in codes)
            way = path_between(start, end, steps, path)
            made = self.decode(way.reshape(steps, *codes[0].shape[1:]).to(codes[0])).float().cpu()
            if out is not None:
                unit = to_unit(made, self.value_range)
                write_frames(Path(out), unit, self.medium, inputs=inputs)
        return made

    def neighbours(
        self,
        images: Any,
        *,
        among: Any = None,
        count: int = 20,
        out: str | Path | None = None,
        skip_corrupt: bool = False,
        background: str = "black",
        force: bool = False,
    ) -> Neighbours:
        """Pairs of images with similar codes, the most similar first.

        Args:
            images: anything that `inputs` takes.
            among: find the nearest of each image in this set; None among the images themselves.
            count: pairs on the sheet.
            out: also write a table of all pairs and a sheet of the first into this folder.
            skip_corrupt, background: as for `inputs`.
            force: replace files that aelab did not make.

        Raises:
            UserError, DataError: `images` cannot be read, or `out` cannot be written.
        """
        if count < 1:
            raise UserError(f"--count {count}: at least one pair")
        read: dict[str, Any] = {"skip_corrupt": skip_corrupt, "background": background}
        with replacing(force):
            if out is not None:
                refuse_files(Path(out), _paths(images, among))
            given = self.inputs(images, **read)
            codes = through(self, given, self._codes, "encoding")
            others, other_codes = None, None
            if among is not None:
                others = self.inputs(among, **read)
                other_codes = through(self, others, self._codes, "encoding")
            found = neighbours_of(given, codes, others, other_codes, count)
            if out is not None:
                found.write(Path(out), count, _files(images, given))
        return found

    def subject(self, limit: int = 10_000, *, every_class: bool = False) -> Subject:
        """Model and images in the form that metrics and figures use; see `metrics.Subject`."""
        return subject_of(self, limit=limit, every_class=every_class)

    def evaluate(
        self,
        metrics: Sequence[str] = (),
        *,
        all_metrics: bool = False,
        limit: int = 10_000,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Evaluated:
        """Measures the run on its held-out images; the numbers are stored with it.

        Arguments as for `Lab.evaluate`.
        """
        names = chosen_metrics(metrics, all_metrics)
        with functions_of(self.spec):
            return evaluate_run(self, names, limit=limit, options=options, asked=bool(metrics))

    def figure(
        self,
        name: str,
        *,
        out: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        limit: int = 10_000,
        force: bool = False,
    ) -> Path:
        """Draws a figure of the model and returns its file; arguments as for `Lab.figure`."""
        with replacing(force):
            return draw_of_run(name, self, None if out is None else Path(out), options or {}, limit)

    def draw(self, name: str, *, limit: int = 10_000, **options: Any) -> Any:
        """Draws a figure of the model without writing it, for a notebook or further drawing.

        Args:
            name: of `study.figures.FIGURES`.
            limit: at most this many held-out images.
            options: keyword arguments of the figure, for instance `method="tsne"`.

        Returns:
            A matplotlib figure for maps and diagrams, a Pillow image for sheets of images.

        Raises:
            UserError: no such figure or option, or the run lacks what it needs.
        """
        return shown_of_run(name, self, options, limit)

    def explorer(self, *, decoder: bool | None = None) -> dict[str, Any]:
        """The latent space for a web page, as plain data; see `study.explorer.explorer_of`."""
        return explorer_of(self, decoder=decoder)

    def looker(self) -> Looker:
        """What answers for a web page: a picture through the model, and latents decoded."""
        return Looker(self)

    def export(
        self,
        out: str | Path = "exported",
        formats: Sequence[str] = FORMATS,
        *,
        license: str = "unknown",
        force: bool = False,
    ) -> list[Path]:
        """Writes the model into a folder for other programs, with a model card.

        Args:
            out: the folder.
            formats: some of `onnx`, `torch-export`, `safetensors`; see `study.exporting`.
            license: name of a licence for the card.
            force: replace files of these names that aelab did not make.

        Returns:
            The files written.

        Raises:
            UserError: an unknown format, or a model that cannot be traced as a graph.
            MissingExtra: `onnx` without its packages.
        """
        with replacing(force):
            return export_run(self, Path(out), formats, license)

    def _repr_html_(self) -> str:
        about = f"<p>state <b>{self.state}</b>, after {self.images:,} training images</p>"
        return self.run._repr_html_() + about

    def render(
        self,
        sizes: Sequence[int | str] = (),
        *,
        zoom: str | Sequence[float] | None = None,
        images: int | None = None,
        split: Literal["train", "validation"] = "validation",
        out: str | Path = "renders",
        truth: bool | str = False,
        force: bool = False,
    ) -> Rendered:
        """Renders images at any size, next to enlargements of the reconstructions.

        Args:
            sizes: `64` (width), `"96x64"` (width x height) or `"2x"`; by default 2x and 4x.
            zoom: x0, y0, x1, y1 of the window to show: -1 is the centre of the image's first
                pixel, 1 that of its last; None: the whole image, border to border.
            images: number of images; default 8, or 200 for scores.
            split: images of the `validation` set or of `train`.
            out: folder for the PNG sheets.
            truth: score the renders against larger originals: True uses the run's own set with a
                larger shape in its globals; a text is an expression for a data set.
            force: replace files of these names that aelab did not make.

        Returns:
            The files written, and the scores where larger originals were given.

        Raises:
            UserError: the decoder has a fixed grid, or the sizes, the window or the set do not fit.
        """
        window = None if zoom is None else region_of(zoom)
        request = Request(tuple(sizes), window, images, split, Path(out), truth)
        with replacing(force), functions_of(self.spec):
            return score_run(self, request) if truth else render_run(self, request)

    def write(
        self,
        source: str | Path,
        *,
        out: str | Path | None = None,
        beside: bool = False,
        force: bool = False,
        **options: Any,
    ) -> Any:
        """Encodes and decodes an image or a text with a model that outputs text.

        Args:
            source: an image in any format of Pillow, or a text file.
            out: output file; its suffix selects the format. None: no file.
            beside: whether `out` contains the model's input beside its output.
            force: replace a file `out` that aelab did not make; never `source`.
            options: of the writer of the run's medium, for instance `AsciiWriter.art`.

        Returns:
            The result of the writer: the model's input and output.

        Raises:
            UserError: no such file, neither image nor text, or the run does not output text.
        """
        writer = self._writer()
        with replacing(force):
            if out is not None:
                refuse_to_replace(Path(out), inputs=[source])
            art = writer.art(self, Path(source), **options)
            if out is not None:
                writer.save([art.beside() if beside else art.written], Path(out))
        return art

    def write_between(
        self,
        first: str | Path,
        second: str | Path,
        *,
        out: str | Path | None = None,
        force: bool = False,
        **options: Any,
    ) -> list[list[str]]:
        """Texts decoded along a latent path from one image or text to another.

        Args:
            first, second: files as for `write`.
            out: output file; its suffix selects the format. None: no file.
            force: as for `write`.
            options: of the writer of the run's medium, for instance `AsciiWriter.frames`.

        Returns:
            The lines of each frame.

        Raises:
            UserError: as for `write`.
        """
        writer, ends = self._writer(), (Path(first), Path(second))
        with replacing(force):
            if out is not None:
                refuse_to_replace(Path(out), inputs=ends)
            frames = writer.frames(self, ends, **options)
            if out is not None:
                writer.save(frames, Path(out))
        return frames

    def _writer(self) -> Writer:
        medium = self.medium
        if medium.name in WRITERS:
            return WRITERS[medium.name]
        raise UserError(
            f"run {self.run.folder} outputs {medium.images_are}, which are not written",
            hint=f"choose a run that outputs {' or '.join(WRITERS) or 'something else'}; to see "
            f"this run's reproductions: aelab figure reproductions {self.run.folder}",
        )

    def _given(self, images: Tensor) -> Tensor:
        return as_given(images, self.value_range).to(self.parts.device)


def _files(source: Any, images: Images) -> list[str | os.PathLike[str]]:
    """The files from which images of a path are read."""
    folders = [Path(path) for path in _paths(source) if Path(path).is_dir()]
    return _paths(source) + [folder / name for folder in folders for name in images.file_names]


def _of_each(
    classes: Sequence[str | int] | str | int | None, count: int
) -> Sequence[str | int] | None:
    """The class of each of `count` images."""
    return [classes] * count if isinstance(classes, str | int) else classes


def _paths(*given: Any) -> list[str | os.PathLike[str]]:
    """The given values that are paths."""
    return [each for each in given if isinstance(each, str | os.PathLike)]
