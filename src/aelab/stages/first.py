"""The first stage: a stored run that encodes images to latents and decodes latents to images."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from aelab import roots
from aelab.assembly.parts import Parts, build
from aelab.assembly.workspace import Workspace
from aelab.config.slugs import legible_folder
from aelab.data import Dataset
from aelab.errors import ConfigError, NotTrained, RefusedError, StoreError
from aelab.inspect.trials import try_anywhere
from aelab.models.combined_quantizers import indices_to_latent
from aelab.ops.random import keyed_generator
from aelab.posteriors import CanDraw, HasChoices
from aelab.roots import lies_inside
from aelab.runs.atomic import write_bytes
from aelab.runs.find import RUNS

if TYPE_CHECKING:
    from aelab.config import RunSpec
    from aelab.study.opened import OpenedRun
    from aelab.study.rendering import Split

#: Which numbers of an image: its mean code, a code drawn from its posterior, or the indices of
#: its entries in the codebooks.
CodeValues = Literal["mean", "drawn", "indices"]

#: Runs kept open, so that each picture of a second stage does not read the weights again.
_MOST_OPEN = 4
_open: OrderedDict[FirstStage, OpenedRun] = OrderedDict()
_described: list[str] = []


class CodeShape(NamedTuple):
    """What the codes of a run look like.

    Attributes:
        latent: of one image's latent.
        vectors: number of vectors that each codebook has a choice for; 0 without codebooks.
        codebooks: number of entries of each.
        can_draw: whether latents can be drawn from a posterior.
    """

    latent: tuple[int, ...]
    vectors: int
    codebooks: tuple[int, ...]
    can_draw: bool


@dataclass(frozen=True)
class FirstStage:
    """A state of a run, or a run of the same command that is not trained yet.

    Attributes:
        runs: the folder of runs.
        folder: of the run in it.
        images: that the state has seen; -1 before it is trained.
        state: reference of the state: `best`, `latest`, or images.
        sha256: of its weights; the identity of the planned run before it is trained.
        trust: whether it may be opened if it was made with trust.
        data: folders that may be read to open it.
        planned: the run that is not trained yet.
    """

    runs: Path
    folder: str
    images: int
    state: str
    sha256: str
    trust: bool = False
    data: tuple[Path, ...] = ()
    planned: RunSpec | None = field(default=None, compare=False, repr=False)

    @classmethod
    def find(cls, reference: str) -> FirstStage:
        """The run called `reference`: RUN, RUN@best, RUN@latest or RUN@images.

        Raises:
            ConfigError: there is no such run.
            NotTrained: it is not finished.
            RefusedError: it is not in the folder of runs.
        """
        reading = roots.current() or roots.Roots(())
        runs = reading.runs or RUNS
        name = reference.partition("@")[0]
        planned = next(
            (spec for spec in reading.planned if spec.folder == legible_folder(name)), None
        )
        store = Workspace(runs).store
        try:
            run, checkpoint = store.resolve(_legible(reference))
        except StoreError as error:
            if planned is not None:
                return cls._of_plan(planned, runs, reading)
            raise ConfigError(
                f"latents_of: {error.message}",
                hint=f"train it first; runs are searched in {runs}/. {error.hint or ''}".strip(),
            ) from error
        if not lies_inside(run.path, store.root) and not reading.trust:
            raise RefusedError(
                f"latents_of: given {reference!r}; a file can only use runs that are in "
                f"{store.root}/",
                hint="name a run of that folder, or choose another folder with --runs",
            )
        if run.state != "finished":
            if planned is not None:
                return cls._of_plan(planned, runs, reading)
            raise NotTrained(
                f"latents_of: the run {run.folder} is not finished, it is {run.state}",
                hint="train it to its end with the command that began it: aelab run FILE",
            )
        about = checkpoint.about()
        return cls(
            runs,
            run.folder,
            int(about["images"]),
            reference.partition("@")[2] or checkpoint.name,
            str(about.get("tensors", {}).get("sha256", "")),
            reading.trust,
            reading.folders,
        )

    @classmethod
    def _of_plan(cls, spec: RunSpec, runs: Path, reading: roots.Roots) -> FirstStage:
        """A run of the same command that is not trained yet."""
        return cls(
            runs, spec.folder, -1, "best", spec.identity, reading.trust, reading.folders, spec
        )

    @property
    def reference(self) -> str:
        """The run and the images that its state has seen: `vae@20000`."""
        return f"{self.folder}@{self.images}"

    def record(self) -> dict[str, Any]:
        """What a second stage stores of it: equal entries mean equal codes."""
        return {"run": self.folder, "images": self.images, "weights_sha256": self.sha256}

    def opened(self) -> OpenedRun:
        """The run with its model, on the CPU; the last few stay open.

        Raises:
            NotTrained: it is not trained yet.
            StoreError: it cannot be opened.
        """
        if self.planned is not None:
            raise NotTrained(
                f"latents_of: the run {self.folder} is not trained yet",
                hint="aelab run trains the runs of one file in the right order",
            )
        if self in _open:
            _open.move_to_end(self)
            return _open[self]
        # Every block asks for the names of second stages, and few open a run.
        from aelab.study.reopen import reopen_run

        # On the CPU, so that codes are the same whatever trains on them.
        workspace = Workspace(self.runs, self.data, self.trust, "cpu")
        with _apart(self.folder):
            opened = reopen_run(f"{self.folder}@{self.state}", workspace)
        _open[self] = opened
        while len(_open) > _MOST_OPEN:
            _open.popitem(last=False)
        return opened

    def parts(self) -> Parts:
        """Model and data sets; before training a model without values (on the meta device)."""
        if self.planned is None:
            return self.opened().parts
        reading = roots.current() or roots.Roots(())
        workspace = Workspace(
            self.runs, self.data, self.trust, "cpu", reading.planned
        )  # fmt: skip
        with _apart(self.folder):
            return build(self.planned, workspace, meta=True)

    def shape(self) -> CodeShape:
        """What its codes look like."""
        found = _shapes.get(self)
        if found is None:
            parts = self.parts()
            with _apart(self.folder):
                output = try_anywhere(parts.model, parts.train[0].dataset.shape).output
            posterior = output.posterior
            choices = posterior.choices() if isinstance(posterior, HasChoices) else {}
            sizes = getattr(parts.model, "codebooks", {})
            found = _shapes[self] = CodeShape(
                tuple(output.latent.shape[1:]),
                next((value.shape[1] for value in choices.values()), 0),
                tuple(int(sizes[name]) for name in choices),
                isinstance(posterior, CanDraw),
            )
        return found

    def dataset(self, split: Split) -> Dataset:
        """One of its data sets.

        Raises:
            ConfigError: it has no such set.
        """
        parts = self.parts()
        sets = parts.train if split == "train" else parts.validation
        if not sets:
            raise ConfigError(
                f"latents_of: the run {self.folder} has no {split} set",
                hint="possible: train" if split == "validation" else None,
            )
        return sets[-1].dataset

    def codes(self, split: Split, values: CodeValues, seed: int) -> dict[str, Tensor]:
        """The codes of a set, from the cache if they were computed before.

        Args:
            split: which of its sets.
            values: which numbers.
            seed: of drawn codes.

        Returns:
            `values` (N, ...): latents float32, or indices (N, vectors, codebooks) int64; for
            latents also `mean` and `std` of each channel, (C,).
        """
        path = self._kept(split, values, seed)
        if path.is_file():
            try:
                return dict(safetensors.torch.load_file(path))
            except (OSError, SafetensorError):
                path.unlink(missing_ok=True)  # cut off: made again
        made = self._encoded(split, values, seed)
        found = {"values": made.contiguous()}
        if values != "indices":
            channels = latents_to_images(made).movedim(1, 0).flatten(1).double()
            std = channels.std(1) if channels.shape[1] > 1 else torch.ones(len(channels))
            # A lower bound, so that constant channels are not divided by 0.
            least = max(1e-3 * float(std.max()), 1e-9)
            found["mean"] = channels.mean(1).float().contiguous()
            found["std"] = std.clamp(min=least).float().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, safetensors.torch.save(found), durable=False)
        return found

    def is_encoded(self, split: Split, values: CodeValues, seed: int) -> bool:
        """Whether the codes of a set are in the cache."""
        return self.planned is None and self._kept(split, values, seed).is_file()

    def scale(self, values: CodeValues, seed: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (C,) of each channel of the training codes."""
        path = self._kept("train", values, seed)
        if path.is_file():
            try:
                with safe_open(path, "pt") as file:
                    return file.get_tensor("mean"), file.get_tensor("std")
            except (OSError, SafetensorError):
                path.unlink(missing_ok=True)
        codes = self.codes("train", values, seed)
        return codes["mean"], codes["std"]

    def latent_of_indices(self, index: Tensor) -> Tensor:
        """Indices (B, vectors, codebooks) -> latents (B, ...).

        Raises:
            ConfigError: its quantizer has no entries to look up.
        """
        opened, shape = self.opened(), self.shape()
        bottleneck: Any = getattr(opened.model, "bottleneck", None)
        most = torch.tensor(shape.codebooks)
        with torch.no_grad():
            index = index.clamp(min=torch.zeros_like(most), max=most - 1)
            size = torch.Size((len(index), *shape.latent))
            return indices_to_latent(bottleneck, index, size).float()

    def _kept(self, split: Split, values: CodeValues, seed: int) -> Path:
        """The file of the codes in the cache."""
        what = self.dataset(split).fingerprint()
        # The name says all that decides the codes: weights, images, kind.
        text = f"1 {self.sha256} {what} {split} {values} {seed if values == 'drawn' else 0}"
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        return roots.cache_folder() / "latents" / f"{key}.safetensors"

    def _encoded(self, split: Split, values: CodeValues, seed: int) -> Tensor:
        """The codes of a set, (N, ...)."""
        from aelab.study.inputs import through

        opened = self.opened()
        images = self.dataset(split).load()
        generator = keyed_generator(seed, f"latents-{split}")

        def code(batch: Tensor, *labels: Tensor) -> Tensor:
            """The codes of one batch (B, C, H, W), and of its labels for a model of classes."""
            if values == "mean":
                mean: Tensor = opened.model.encode(batch, *labels)  # type: ignore[operator]
                return mean.float()
            output = opened.model(batch, None, *labels) if labels else opened.model(batch)
            if values == "indices":
                return torch.stack(list(output.posterior.choices().values()), 2)  # (B, n, Q)
            drawn, _ = output.posterior.draw(lambda size: torch.randn(size, generator=generator))
            latent: Tensor = drawn.float().reshape(output.latent.shape)
            return latent

        with _one_thread():
            return through(opened, images, code, f"encoding with {self.folder}")


_shapes: dict[FirstStage, CodeShape] = {}


def latents_to_images(latents: Tensor) -> Tensor:
    """Latents (B, ...) as images (B, C, H, W).

    Vectors (B, D) become (B, D, 1, 1), tokens (B, T, D) become (B, D, T, 1), maps stay.
    """
    if latents.ndim == 4:
        return latents
    if latents.ndim == 3:
        return latents.movedim(2, 1)[..., None]
    return latents.flatten(1)[..., None, None]


def images_to_latents(images: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `latents_to_images`: (B, C, H, W) -> (B, *shape)."""
    if len(shape) == 2:
        return images[..., 0].movedim(1, 2)
    return images.reshape(len(images), *shape)


def latent_image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) of `latents_to_images` for latents of `shape`."""
    channels, height, width = latents_to_images(torch.empty(1, *shape, device="meta")).shape[1:]
    return channels, height, width


def index_shape(shape: CodeShape) -> tuple[int, int, int]:
    """(C, H, W) of the indices of one image: a row of the map is a row of the picture.

    A pixel with several vectors, or several codebooks, has several channels.
    """
    books = len(shape.codebooks)
    if len(shape.latent) == 3 and shape.vectors % (shape.latent[1] * shape.latent[2]) == 0:
        height, width = shape.latent[1:]
        return shape.vectors // (height * width) * books, height, width
    return books, shape.vectors, 1


def grid_of_indices(index: Tensor, shape: CodeShape) -> Tensor:
    """Indices (B, vectors, codebooks) -> (B, C, H, W) of `index_shape`."""
    channels, height, width = index_shape(shape)
    return index.reshape(len(index), height, width, channels).movedim(3, 1)


def indices_of_grid(grid: Tensor, shape: CodeShape) -> Tensor:
    """The inverse of `grid_of_indices`."""
    return grid.movedim(1, 3).reshape(len(grid), shape.vectors, len(shape.codebooks))


def _legible(reference: str) -> str:
    """A reference with the folder's name in place of the run's: `ds:mnist` is `ds-mnist`."""
    name, at, state = reference.partition("@")
    return legible_folder(name) + at + state


@contextmanager
def _apart(folder: str) -> Iterator[None]:
    """Context manager: what is built inside changes no random numbers outside.

    Raises:
        ConfigError: a run is its own first stage.
    """
    if folder in _described:
        raise ConfigError(
            f"latents_of: the run {folder} would be its own first stage",
            hint="name the run that was trained on images",
        )
    _described.append(folder)
    try:
        # The model around it may be built on the meta device.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            yield
    finally:
        _described.remove(folder)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Context manager: codes do not depend on the number of threads, to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forget_open_runs() -> None:
    """Closes the runs that are kept open."""
    _open.clear()
    _shapes.clear()
