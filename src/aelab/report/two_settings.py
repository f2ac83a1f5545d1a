"""Compares two settings: the difference of their losses, its interval, and the seeds needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from itertools import zip_longest

from aelab.analysis.effects import matrix_key, seed_keys
from aelab.analysis.seeds import ALPHA, Difference, Spread, difference, seeds_needed, spread
from aelab.errors import UserError
from aelab.report.comparing import apart
from aelab.runs.record import Run


@dataclass(frozen=True)
class TwoSettings:
    """The first setting minus the second: below 0 the first is better.

    Attributes:
        first, second: folders of the compared runs.
        losses: mean and spread of each setting's last validation losses.
        difference: with its 95 % interval, see `analysis.seeds.Difference`.
        seeds_needed: approximate number of seeds of each that would show this difference; None if
            it is already shown, without a spread, or above 1000.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    losses: tuple[Spread, Spread]
    difference: Difference
    seeds_needed: int | None

    @property
    def percent(self) -> float:
        """The difference in per cent of the second loss; NaN where that is 0."""
        second = self.losses[1].mean
        return 100 * self.difference.mean / abs(second) if second else math.nan

    @property
    def verdict(self) -> str:
        """A sentence on which setting is better, or that the runs do not show it."""
        found, names = self.difference, (_name(self.first), _name(self.second))
        size = f"{abs(self.percent):.3g} %"
        if found.distinguishable is None:
            return (
                f"cannot tell: {size} between single runs; train several seeds of each (trials: 5)"
            )
        better, other = names if found.mean < 0 else names[::-1]
        if found.distinguishable:
            return f"{better} is better than {other} by {size}"
        more = f"; about {self.seeds_needed} seeds each would" if self.seeds_needed else ""
        return f"cannot tell: {size} do not show with {found.count} seeds each{more}"

    def __str__(self) -> str:
        found = self.difference
        lines = [
            f"{_name(self.first)}: {self.losses[0]}",
            f"{_name(self.second)}: {self.losses[1]}",
            f"difference: {found.mean:.4g}"
            + (f", 95 % interval {found.low:.4g} to {found.high:.4g}" if found.count > 1 else "")
            + f" ({found.method})",
            self.verdict,
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        *facts, verdict = str(self).split("\n")
        rows = "".join(f"<li>{escape(line)}</li>" for line in facts)
        return f"<p><b>{escape(verdict)}</b></p><ul>{rows}</ul>"


def compare_settings(first: Sequence[Run], second: Sequence[Run]) -> TwoSettings:
    """Compares the last validation losses of two settings, each given by runs with several seeds.

    If both have the same seeds, runs of one seed are compared in pairs.

    Args:
        first, second: finished runs of one setting each.

    Raises:
        UserError: no finished run with a loss on a side, or the losses do not compare.
    """
    sides = [_with_loss(first), _with_loss(second)]
    reason = apart([run.record for side in sides for run, _ in side])
    if reason:
        raise UserError(
            reason.rstrip("."), hint="compare runs of one objective and one validation set"
        )
    losses = [_by_seed(side, number) for number, side in enumerate(sides)]
    found = difference(losses[0], losses[1])
    needed = None
    if found.distinguishable is False:
        paired = found.method == "paired t"
        needed = seeds_needed(
            found.mean, found.error * math.sqrt(found.count), ALPHA, paired=paired
        )
    names = [tuple(run.folder for run, _ in side) for side in sides]
    spreads = [spread(list(values.values())) for values in losses]
    return TwoSettings(names[0], names[1], (spreads[0], spreads[1]), found, needed)


def repeats_of(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The runs that differ from `run` in their seed or trial only, `run` among them."""
    seeds = seed_keys([each.record for each in runs])

    def setting(each: Run) -> Hashable:
        return each.record.get("experiment"), matrix_key(each.record["matrix"], without=seeds)

    same = [each for each in runs if setting(each) == setting(run) and each.folder != run.folder]
    return [run, *same]


def changed_lines(first: Run, second: Run) -> list[tuple[str, str]]:
    """The lines of two runs' resolved files that differ, side by side; `` where one has none."""
    texts = [run.read_text("resolved.yml").splitlines() for run in (first, second)]
    found: list[tuple[str, str]] = []
    for kind, a, b, c, d in SequenceMatcher(None, texts[0], texts[1], autojunk=False).get_opcodes():
        if kind != "equal":
            found += zip_longest(texts[0][a:b], texts[1][c:d], fillvalue="")
    return found


def _with_loss(runs: Sequence[Run]) -> list[tuple[Run, float]]:
    found = []
    for run in runs:
        loss = (run.status.get("last") or {}).get("loss")
        if run.state == "finished" and isinstance(loss, int | float) and math.isfinite(loss):
            found.append((run, float(loss)))
    if not found:
        names = ", ".join(run.folder for run in runs[:3]) or "nothing"
        raise UserError(
            f"no finished run with a validation loss among {names}",
            hint="aelab ls shows the state of every run",
        )
    return found


def _by_seed(side: list[tuple[Run, float]], number: int) -> dict[Hashable, float]:
    """Loss by seed, for comparing pairs; runs that share a seed get separate keys."""
    counted = Counter(run.record.get("seed") for run, _ in side)
    return {
        (seed if counted[seed := run.record.get("seed")] == 1 else (number, place)): loss
        for place, (run, loss) in enumerate(side)
    }


def _name(folders: Sequence[str]) -> str:
    """The folder of a run, or the common pattern of several: `a/lr-1_seed-*`."""
    if len(folders) == 1:
        return folders[0]
    short = min(map(len, folders))
    same = next((i for i in range(short) if len({f[i] for f in folders}) > 1), short)
    return f"{folders[0][:same]}*"
