"""The table of figures, and a function that draws one."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from aelab.errors import UserError, did_you_mean, one_of
from aelab.metrics.table import Need, lacking_needs
from aelab.parts import Table, reinstall
from aelab.study.figures import maps, sheets
from aelab.study.figures.film import film
from aelab.study.text_options import read_options

if TYPE_CHECKING:
    from aelab.metrics import Subject
    from aelab.runs.record import Run


class Figure(NamedTuple):
    """An entry of `FIGURES`.

    Attributes:
        make: `(subject, **options)`, or `(run, **options)` if `of_run`; returns the bytes of a
            file, a Pillow image or a matplotlib figure.
        summary: one sentence for `aelab figure --list`.
        needs: requirements on the subject.
        medium: name of the required medium of its images; empty for any.
        cost: `cheap` figures are drawn by `aelab report --figures`.
        of_run: whether it needs only the stored files, no model.
    """

    make: Callable[..., Any]
    summary: str
    needs: frozenset[Need] = frozenset()
    cost: Literal["cheap", "slow"] = "cheap"
    of_run: bool = False
    medium: str = ""


class FigureFile(NamedTuple):
    """A finished figure: the bytes of a file, and its suffix."""

    content: bytes
    suffix: str


_POSTERIOR: frozenset[Need] = frozenset({"posterior"})
_LABELS: frozenset[Need] = frozenset({"labels"})
_DIVERGENCE: frozenset[Need] = frozenset({"divergence"})

#: Every figure by name.
FIGURES: Table[Figure] = Table(
    "figure",
    "aelab.figures",
    {
        "reproductions": Figure(
            sheets.reproductions, "worst, median and best held-out reproductions"
        ),
        "interpolation": Figure(
            sheets.interpolation,
            "interpolations between held-out images, straight and on the sphere",
        ),
        "traversals": Figure(sheets.traversals, "one dimension of a code changed per row"),
        "posterior": Figure(sheets.posterior_draws, "draws from images' posteriors", _POSTERIOR),
        "sample": Figure(sheets.samples, "new images, the nearest training image below each"),
        "class_samples": Figure(sheets.class_samples, "new images of each class", _LABELS),
        "class_swap": Figure(
            sheets.class_swap,
            "codes decoded with each class, for models conditioned on classes",
            frozenset({"conditioned"}),
        ),
        "map": Figure(maps.latent_map, "codes in two dimensions: method=pca, tsne or umap"),
        "histogram": Figure(maps.code_histogram, "codes beside the prior"),
        "kl": Figure(maps.kl_bars, "KL divergence of each dimension", _DIVERGENCE),
        "frequency": Figure(maps.frequency, "error by spatial frequency", medium="pixels"),
        "film": Figure(
            film, "reproductions over the course of training: kind=webp, gif or mp4", of_run=True
        ),
    },
)


def find_figure(name: str) -> Figure:
    """A figure by name.

    Raises:
        UserError: there is no figure with this name.
    """
    if name not in FIGURES:
        raise UserError(
            f"there is no figure '{name}'{did_you_mean(name, FIGURES)}",
            hint=reinstall(name)
            or f"possible: {one_of(FIGURES)}; aelab figure --list explains them",
        )
    return FIGURES[name]


def drawn_figure(
    name: str, source: Subject | Run, options: Mapping[str, Any] | None = None
) -> FigureFile:
    """Draws a figure.

    Args:
        name: of `FIGURES`.
        source: a subject, or the run itself for figures `of_run`.
        options: keyword arguments of the figure.

    Raises:
        UserError: no such figure or option, or the run lacks what it needs.
    """
    given = dict(options or {})
    return _finished(made_figure(name, source, given), str(given.get("kind", "webp")))


def made_figure(name: str, source: Subject | Run, given: dict[str, Any]) -> Any:
    """As `drawn_figure`, before it is a file: a matplotlib figure, a Pillow image, or bytes."""
    figure = find_figure(name)
    read_options(f"the figure '{name}'", figure.make, given)
    if figure.needs or figure.medium:
        missing = lacking_needs(source, figure.needs, figure.medium)  # type: ignore[arg-type]
        if missing:
            raise UserError(f"the figure '{name}' cannot be drawn: {missing}")
    return figure.make(source, **given)


def _finished(made: Any, kind: str) -> FigureFile:
    """The result of a figure function (bytes, Pillow image or matplotlib figure) as a file."""
    if isinstance(made, bytes):
        is_png = made.startswith(b"\x89PNG")
        return FigureFile(made, ".png" if is_png else f".{kind}")
    buffer = io.BytesIO()
    if hasattr(made, "savefig"):
        made.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    else:
        made.save(buffer, "PNG", optimize=True)
    return FigureFile(buffer.getvalue(), ".png")
