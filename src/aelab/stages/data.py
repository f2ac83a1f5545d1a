"""The codes of a stored run as a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from aelab.data import Dataset, Source
from aelab.data.base import content_sha256, make_images
from aelab.errors import ConfigError, did_you_mean
from aelab.medium import Medium
from aelab.stages.first import (
    CodeValues,
    FirstStage,
    grid_of_indices,
    index_shape,
    latent_image_shape,
    latents_to_images,
)
from aelab.stages.medium import Codes, Latents
from aelab.types import Images, Provenance

if TYPE_CHECKING:
    from aelab.study.rendering import Split

_POSSIBLE = ("auto", "mean", "drawn", "indices")


class LatentsOf(Source):
    """The codes of a run, see `latents_of`."""

    name = "latents"

    def __init__(
        self, first: FirstStage, split: Split, values: str, standardize: bool, seed: int
    ) -> None:
        super().__init__()
        self.first, self.split, self.standardize, self.seed = first, split, standardize, seed
        shape = first.shape()
        if values == "auto":
            values = "indices" if shape.codebooks else "mean"
        if values == "indices" and not shape.codebooks:
            raise ConfigError(
                f"latents_of: the run {first.folder} has no codebooks, so that its latents have "
                "no indices",
                hint="values='mean' takes the latents themselves",
            )
        if values == "drawn" and not shape.can_draw:
            raise ConfigError(
                f"latents_of: the latents of {first.folder} have no posterior to draw from",
                hint="values='mean' takes the latents themselves",
            )
        self.values: CodeValues = values  # type: ignore[assignment]
        self._medium: Medium = (
            Codes(first)
            if values == "indices"
            else Latents(first, self.values, standardize, seed if values == "drawn" else 0)
        )
        self.name = f"latents of {first.folder}"

    @property
    def medium(self) -> Medium:
        """Latents or indices of the run."""
        return self._medium

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) of the codes."""
        shape = self.first.shape()
        return index_shape(shape) if self.values == "indices" else latent_image_shape(shape.latent)

    def fingerprint(self) -> str:
        """The weights of the run, and what is taken from it."""
        first = self.first
        drawn = self.seed if self.values == "drawn" else 0
        what = (first.folder, first.images, first.sha256, self.split, self.values, drawn)
        return f"latents {what} {self.standardize}"

    def count(self) -> int | None:
        """The number of images of the run's set."""
        return self.first.dataset(self.split).count()

    def reading_seconds(self) -> float | None:
        """Half a second once they are encoded; before that it is not known."""
        return 0.5 if self.first.is_encoded(self.split, self.values, self.seed) else None

    def is_bytes(self) -> bool:
        """They are floats."""
        return False

    def sources(self) -> list[tuple[str, str]]:
        """The run."""
        return [(self.name, f"run {self.first.folder}")]

    def read(self) -> Images:
        """Encodes the images of the run's set, or takes their codes from the cache."""
        given = self.first.dataset(self.split).load()
        codes = self.first.codes(self.split, self.values, self.seed)
        if self.values == "indices":
            pixels = grid_of_indices(codes["values"], self.first.shape()).float().contiguous()
        else:
            pixels = latents_to_images(codes["values"])
            if self.standardize:
                mean, std = self.first.scale(self.values, self.seed)
                pixels = (pixels - mean[:, None, None]) / std[:, None, None]
            pixels = pixels.contiguous()
        sha256 = content_sha256(pixels)
        where = f"run {self.first.reference}, {self.split} set"
        kept = ("label_names", "factor_names", "factor_sizes")
        names = {key: given.facts[key] for key in kept if given.facts.get(key)}
        return make_images(
            pixels,
            labels=given.labels,
            provenance=[Provenance(self.name, where, len(pixels), sha256)],
            facts=names,
            sha256=sha256,
            medium=self.medium,
            file_names=given.file_names,
            factors=given.factors,
        )


def latents_of(
    run: str,
    split: Literal["train", "validation"] = "train",
    values: Literal["auto", "mean", "drawn", "indices"] = "auto",
    standardize: bool = True,
    seed: int = 0,
) -> Dataset:
    """The codes of a finished run as a data set, for a model of their distribution.

    A vector of D numbers is an image (D, 1, 1), a map is an image of its shape, T tokens of D
    numbers are (D, T, 1). Indices of a map are (codebooks, H, W). Labels and file names stay.

    The images are encoded without augmentation, once; later uses read the cache. Pictures of the
    second run are what the first one decodes. `aelab sample FIRST --sampler run:SECOND` draws
    codes from the second run and decodes them with the first.

    Args:
        run: RUN, RUN@best, RUN@latest or RUN@images, in the folder of runs; its best state by
            default. The weights' hash is stored with the second run: if the first one changes,
            the second must be trained again.
        split: which of the run's sets; random changes of its images are not applied.
        values: `mean` codes; codes `drawn` once from each image's posterior; `indices` of the
            entries of its codebooks; `auto`: indices if it has codebooks, else mean codes.
        standardize: latents only: each channel gets mean 0 and standard deviation 1 over the
            training set.
        seed: of drawn codes.

    Raises:
        ConfigError: no such run, it is not finished, or its codes are of another kind.
        RefusedError: the run is outside the folder of runs.
    """
    if values not in _POSSIBLE or split not in ("train", "validation"):
        wrong: Any = values if values not in _POSSIBLE else split
        possible = _POSSIBLE if values not in _POSSIBLE else ("train", "validation")
        raise ConfigError(
            f"latents_of: {wrong!r} is not possible; possible: {', '.join(possible)}"
            f"{did_you_mean(str(wrong), possible)}"
        )
    return Dataset(LatentsOf(FirstStage.find(run), split, values, bool(standardize), int(seed)))
