"""The values of one run in a table, by column, and how they are printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from aelab.analysis.curves import judged
from aelab.errors import StoreError
from aelab.findings import Finding
from aelab.runs.evaluation import evaluated_values
from aelab.runs.notes import read_notes
from aelab.runs.record import Run

if TYPE_CHECKING:
    from aelab.analysis.forecast import Forecast
    from aelab.analysis.trend import Trend

#: Before a name: the result of `aelab evaluate`, not the logged term of that name.
EVALUATED = "evaluated_"

Format = Literal["text", "value", "loss", "count", "minutes", "rate", "share", "spread", "percent"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: its fixed name; `matrix.NAME` for matrix keys, `term.NAME` for included terms.
        header: its title.
        format: how its values are written and aligned.
        aliases: other names for sorting and excluding.
    """

    key: str
    header: str
    format: Format = "text"
    aliases: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        """Whether it is right-aligned."""
        return self.format not in ("text", "value")

    def named(self, header: str) -> Column:
        """The same column with another header; the old header becomes an alias."""
        return replace(self, header=header, aliases=(*self.aliases, self.header))


@dataclass(frozen=True)
class OutlookCell:
    """The forecast of an unfinished run, and the best finished run that it compares with."""

    forecast: Forecast
    best: float | None

    @property
    def words(self) -> str:
        """Text such as `0.021 (0.019 to 0.024), will not reach 0.018`; empty without a forecast."""
        if not self.forecast.is_told:
            return ""
        target = "" if self.best is None else f", {self.forecast.against(self.best)}"
        return f"{self.forecast.interval}{target}"


@dataclass(frozen=True)
class Facts:
    """All values that a table may show of one run; `cells` by column key, None if unknown."""

    run: Run
    cells: dict[str, Any]
    trend: Trend | None
    problems: list[Finding]
    outlook: OutlookCell | None = None

    @property
    def loss(self) -> float | None:
        """The last validation loss."""
        loss: float | None = self.cells["loss"]
        return loss

    @property
    def seed(self) -> int | None:
        """The run's seed."""
        seed: int | None = self.run.record.get("seed")
        return seed


@dataclass
class RunsTable:
    """A table before it is printed.

    Attributes:
        columns: in order.
        rows: for each row a dictionary of values by column key; None is an empty cell.
        facts: for each row, the facts of its runs.
        notes: lines below the table.
    """

    columns: list[Column]
    rows: list[dict[str, Any]]
    facts: list[list[Facts]]
    notes: list[str] = field(default_factory=list)


def gather(run: Run, no_effect: set[str], outlook: OutlookCell | None = None) -> Facts:
    """Reads one run; a damaged metrics file is noted for the run and does not fail the table.

    Args:
        run: a stored run, finished or not.
        no_effect: matrix keys that have no effect on it; their cells stay empty.
        outlook: forecast of an unfinished run.
    """
    from aelab.analysis.trend import run_trend

    record, status = run.record, run.status
    problems = _problems(run)
    trend = None
    try:
        trend = run_trend(run)
    except StoreError as error:
        problems.append(Finding.of_error(error))
    problems += [Finding("problem", "run-damaged", words) for words in run.damage]
    problems = list({found.message: found for found in problems}.values())
    last, best = status.get("last") or {}, status.get("best") or {}
    seconds, cpu_seconds = status.get("seconds"), status.get("cpu_seconds")
    written = read_notes(run)
    cells: dict[str, Any] = {
        "tags": ", ".join(written.tags) or None,
        "notes": written.first_line or None,
        "id": record.get("matrix_id") or None,
        "run": run.folder,
        "slug": record.get("matrix_slug") or None,
        "loss": _float(last.get("loss")),
        "train_loss": None if last else _train_loss(run),
        "images": clock(run),
        "best": _float(best.get("loss")),
        "best_at": best.get("images"),
        "parameters": (record.get("parameters") or {}).get("model"),
        "minutes": None if seconds is None else seconds / 60,
        "throughput": _throughput(status),
        "usage": _float(last.get("codebook_usage")),
        "perplexity": _float(last.get("codebook_perplexity")),
        "accuracy": _float(last.get("accuracy")),
        "accuracy_without_spaces": _float(last.get("accuracy_without_spaces")),
        "blank": _float(last.get("blank_share")),
        "trend": None
        if is_diverged(run) or not trend or trend.verdict == "too few points"
        else trend.verdict,
        "forecast": (outlook.words or None) if outlook else None,
        "state": _state(run, problems),
        "objective": f"legacy ({', '.join(old)})" if (old := old_formulas(record)) else None,
        "seed": record.get("seed"),
        "trial": record.get("trial"),
        "epoch": status.get("epoch"),
        "seconds": seconds,
        "cpu_minutes": None if cpu_seconds is None else cpu_seconds / 60,
        "experiment": record.get("experiment"),
        "flops": record.get("flops_per_image"),
        "encoder": (record.get("parameters") or {}).get("encoder"),
        "decoder": (record.get("parameters") or {}).get("decoder"),
        "latent": record.get("latent_shape"),
        "data": data_words(record),
    }
    for key, value in record["matrix"].items():
        cells[f"matrix.{key}"] = None if key in no_effect else value
    for key, value in (record.get("extra") or {}).items():
        cells[f"extra.{key}"] = value
    return Facts(run, cells, trend, problems, outlook)


def is_diverged(run: Run) -> bool:
    """Whether training diverged: its losses are shown, but neither ranked nor continued."""
    return run.state == "failed" and (run.status.get("error") or {}).get("type") == "DivergedError"


def clock(run: Run) -> int | None:
    """The number of images at the loss, at most `max_inputs` (the last batch may exceed it)."""
    last = run.status.get("last") or {}
    images = last.get("images", run.status.get("images"))
    if images is None:
        return None
    limit = run.record.get("max_inputs")
    return min(int(images), int(limit)) if limit else int(images)


def term_value(run: Run, name: str) -> float | None:
    """The last logged value of a term, of validation or else of training.

    For a term that was not logged, the result of `aelab evaluate` is used if there is one.

    Args:
        run: a stored run.
        name: a term (`kl`), or `validation_kl`, `train_kl`, `validation.kl` for one split only;
            `evaluated_l2` is the result of `aelab evaluate`, even if a term has that name.
    """
    split, bare = _split_of(name)
    if name.startswith(EVALUATED):
        return _float(evaluated_values(run).get(name.removeprefix(EVALUATED)))
    if split != "train":
        last = run.status.get("last") or {}
        for candidate in (bare, name):
            if _float(last.get(candidate)) is not None:
                return _float(last[candidate])
    for source in ("validation", "train"):
        if split in (None, source):
            for row in reversed(run.metrics(source)):
                if bare in row:
                    return _float(row[bare])
    return _float(evaluated_values(run).get(name))


def validated_value(run: Run, name: str) -> float | None:
    """The unweighted value of a term at the last validation; None if it was not logged."""
    return _float((run.status.get("last") or {}).get(name))


def terms_with_values(runs: Sequence[Run]) -> list[str]:
    """Names that `term_value` knows for at least one of the runs."""
    names: dict[str, None] = {}
    for run in runs:
        for row in (run.status.get("last") or {}, *run.metrics("train")[-1:]):
            names.update(dict.fromkeys(name for name in row if name != "split"))
        names.update(dict.fromkeys(evaluated_values(run)))
    return [name for name in names if name not in ("images", "seconds", "epoch")]


def data_words(record: Mapping[str, Any]) -> str | None:
    """The training data in a few words: `mnist, 60,000 images`; None if not recorded."""
    entries = (record.get("data") or {}).get("train") or []
    words = [f"{entry.get('name')}, {entry.get('count', 0):,} images" for entry in entries]
    return " + ".join(words) or None


def cell_text(value: Any, format: Format) -> str:
    """The text of a cell."""
    if value is None:
        return ""
    if format == "percent" and isinstance(value, tuple):
        return _percent(*value)
    if isinstance(value, list | tuple):
        return ", ".join(cell_text(entry, format) for entry in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return " ".join(str(value).split())
    if not math.isfinite(value):
        return str(value)
    if format == "minutes":
        return f"{value:.2f}"
    if format == "spread":
        return f"{value:.2g}"
    if format == "share":
        return f"{value:.1%}"
    if format in ("count", "rate"):
        return f"{round(value):,}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _percent(middle: float, low: float | None, high: float | None) -> str:
    """Text such as `+3.2 %`, or `+3.2 % (-1.1 to 7.5)` with an interval."""
    interval = "" if low is None or high is None else f" ({_figure(low)} to {_figure(high)})"
    return f"{_figure(middle)} %{interval}".replace("+0 %", "0 %")


def _figure(percent: float) -> str:
    """A percentage with sign and two digits, three from 100 on, without further decimals."""
    size = abs(percent)
    if size >= 9.95 or size == 0:
        return f"{percent:+,.0f}"
    return f"{percent:+.1f}" if size >= 0.095 else f"{percent:+.1g}"


def _split_of(name: str) -> tuple[str | None, str]:
    for split in ("validation", "train"):
        if name.startswith((f"{split}_", f"{split}.")):
            return split, name[len(split) + 1 :]
    return None, name


def _problems(run: Run) -> list[Finding]:
    problems = []
    error = run.status.get("error")
    if error:
        kind, message = error.get("type"), error.get("message", "")
        told = f"{kind}: {message}" if kind else str(message)
        code, hint = str(error.get("code") or "failed"), str(error.get("hint") or "")
        problems.append(Finding("problem", code, told, hint))
    loss = _float((run.status.get("last") or {}).get("loss"))
    if loss is not None and not math.isfinite(loss):
        problems.append(Finding("problem", "diverged", f"the loss is {loss}"))
    if run.status.get("note"):
        problems.append(Finding("problem", "run-damaged", str(run.status["note"])))
    return problems


def _state(run: Run, problems: Sequence[Finding]) -> str:
    words = run.state_words
    if run.state == "running":
        words += progress_words(run) + time_left(run)
    stopped = run.status.get("stopped") or {}
    if run.state == "interrupted" and stopped.get("chance") is not None:
        from aelab.analysis.forecast import percent

        words = f"stopped: chance {percent(stopped['chance'])}"
    if run.state in ("failed", "unreadable") and problems:
        first = " ".join(problems[0].message.split())
        words += f": {first[:97]}..." if len(first) > 100 else f": {first}"
    return words


def progress_words(run: Run) -> str:
    """Text ` 43 %`, the progress to `max_inputs`; empty if not known."""
    images, limit = run.status.get("images"), run.record.get("max_inputs")
    return f" {100 * min(images / limit, 1):.0f} %" if images is not None and limit else ""


def time_left(run: Run) -> str:
    """Text `, 3:05 h left` at the present speed; empty if not known."""
    images, limit = run.status.get("images"), run.record.get("max_inputs")
    rate = run.status.get("images_per_second")
    if not (images and limit and rate):
        return ""
    minutes = max(0.0, (limit - images) / rate) / 60
    if minutes < 1:
        return f", {60 * minutes:.0f} s left"
    whole, rest = divmod(round(minutes), 60)
    return f", {whole}:{rest:02d} h left" if whole else f", {rest} min left"


def old_formulas(record: Mapping[str, Any]) -> list[str]:
    """The options of the key `legacy` that a run uses."""
    return [str(name) for name in record.get("legacy") or []]


def _train_loss(run: Run) -> float | None:
    """The last logged training loss with the final weights, for runs without validation."""
    try:
        rows = judged(run.metrics("train"))
    except StoreError:  # the table reports the damage
        return None
    return next((_float(row["loss"]) for row in reversed(rows) if "loss" in row), None)


def _throughput(status: Mapping[str, Any]) -> float | None:
    rate = _float(status.get("images_per_second"))
    if rate is None and status.get("seconds") and status.get("images"):
        rate = status["images"] / status["seconds"]
    return rate


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
