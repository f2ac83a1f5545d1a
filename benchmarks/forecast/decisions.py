"""What `--stop-hopeless` and `--budget` would have done to recorded matrices.

Every matrix is replayed in many orders of its rows. Forecasts are those without siblings, at each
recorded validation.

    python benchmarks/forecast/decisions.py [--curves FILE] [--orders 20]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from calibrate import CURVES, usable

from aelab.analysis import forecast as fc
from aelab.analysis.spending import Row, next_turns
from aelab.execute.outlook import LEAST_SEEN
from aelab.schedule_forms import planned
from aelab.settings import Choice

Curve = dict[str, Any]


class Recorded(NamedTuple):
    """A row of a matrix with its forecast at each validation."""

    curve: Curve
    forecasts: list[fc.Forecast]

    @property
    def loss(self) -> float:
        """The real last one."""
        return float(self.curve["loss"][-1])

    def seen(self, images: float) -> int:
        """Validations up to so many images."""
        return sum(at <= images for at in self.curve["images"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--orders", type=int, default=20)
    given = parser.parse_args()
    matrices: dict[tuple[str, int], list[Recorded]] = defaultdict(list)
    for curve in usable(json.loads(given.curves.read_text())):
        matrices[curve["matrix"], curve["end"]].append(recorded(curve))
    rows = [rows for rows in matrices.values() if len(rows) > 2]
    print(f"{len(rows)} matrices, {sum(map(len, rows))} runs, {given.orders} orders of each")
    print_stops(rows, given.orders)
    print_budgets(rows, given.orders)
    return 0


def recorded(curve: Curve) -> Recorded:
    """A curve and what was forecast of it at each validation."""
    arguments = {"warmup_images": 1_000} if curve["schedule"] == "WarmupCosine" else {}
    factor = planned(Choice(curve["schedule"], arguments), end=curve["end"])
    assert factor is not None
    told = []
    for count in range(1, len(curve["images"])):
        known = fc.known_curve(
            curve["images"][:count], curve["loss"][:count], end=curve["images"][-1], factor=factor
        )
        told.append(fc.forecast(known))
    return Recorded(curve, told)


def print_stops(matrices: list[list[Recorded]], orders: int) -> None:
    """How many runs are stopped, how many of these wrongly, and what it saves and costs."""
    print("\n| stopped under | runs stopped | of these wronged | images saved | best row lost |"
          "\n|--:|--:|--:|--:|--:|")  # fmt: skip
    for least in (0.001, 0.01, 0.02, 0.05, 0.1):
        stopped = wronged = runs = lost = replays = 0
        saved = total = 0.0
        for matrix in matrices:
            for order in range(orders):
                rows = random.Random(order).sample(matrix, len(matrix))
                best = math.inf
                for row in rows:
                    runs, total = runs + 1, total + 1
                    at = stop_at(row, best, least)
                    if at is None:
                        best = min(best, row.loss)
                        continue
                    stopped, saved = stopped + 1, saved + 1 - at
                    wronged += row.loss < best
                lost += best > min(row.loss for row in rows)
                replays += 1
        print(f"| {100 * least:g} % | {100 * stopped / runs:.0f} % | "
              f"{100 * wronged / max(stopped, 1):.1f} % | {100 * saved / total:.0f} % | "
              f"{100 * lost / replays:.1f} % |")  # fmt: skip


def stop_at(row: Recorded, best: float, least: float) -> float | None:
    """The part of a run at which it is stopped; None where it is not."""
    for told in row.forecasts:
        if told.is_told and told.share >= LEAST_SEEN and told.chance_below(best) < least:
            return told.share
    return None


def print_budgets(matrices: list[list[Recorded]], orders: int) -> None:
    """How near the chosen row is to the best one, after a part of the whole time."""
    print("\n| part of the whole time | way | chosen row is the best | its loss above the best: "
          "mean | 90 % of replays under |\n|--:|:--|--:|--:|--:|")  # fmt: skip
    for part in (0.1, 0.25, 0.5):
        for name, way in (("in order", in_order), ("--budget", in_rounds)):
            regrets = []
            for matrix in matrices:
                for order in range(orders):
                    rows = random.Random(order).sample(matrix, len(matrix))
                    chosen = way(rows, part * len(rows))
                    regrets.append(chosen.loss / min(row.loss for row in rows) - 1)
            found = np.array(regrets)
            best = f"{100 * (found < 1e-9).mean():.0f} % | {100 * found.mean():.1f} %"
            print(
                f"| {100 * part:.0f} % | {name} | {best} | {100 * np.quantile(found, 0.9):.0f} % |"
            )


def in_order(rows: list[Recorded], runs: float) -> Recorded:
    """One row after the other to its end; the last one as far as the time reaches."""
    whole = rows[: max(1, int(runs))]
    return min(whole, key=lambda row: row.loss)


def in_rounds(rows: list[Recorded], runs: float) -> Recorded:
    """As `--budget` spends the time; a unit of it trains one whole run."""
    end = rows[0].curve["images"][-1]
    images = [0] * len(rows)
    left = float(runs)
    while left > 1e-9:
        now = [state(row, at, end) for row, at in zip(rows, images, strict=True)]
        turns = next_turns(now, left)
        moved = False
        for turn in turns:
            step = min(turn.images - images[turn.row], left * end)
            if turn.seconds is not None:
                step = min(step, turn.seconds * end)
            step = int(step)
            images[turn.row] += step
            left -= step / end
            moved |= step > 0
        if not moved:
            break
    now = [state(row, at, end) for row, at in zip(rows, images, strict=True)]
    guess = [row.loss if row.loss is not None else row.forecast.loss for row in now]
    ranked = [math.inf if value is None or math.isnan(value) else value for value in guess]
    return rows[int(np.argmin(ranked))]


def state(row: Recorded, images: int, end: int) -> Row:
    """A recorded row as it was after so many images."""
    setting = tuple(row.curve[key] for key in ("schedule", "optimizer", "rate"))
    if images >= end:
        return Row(setting, 0, end, end, float(end), row.loss)
    seen = row.seen(images)
    told = row.forecasts[seen - 1] if seen else fc.Forecast("not yet validated")
    return Row(setting, 0, images, end, float(end), None, told)


if __name__ == "__main__":
    sys.exit(main())
