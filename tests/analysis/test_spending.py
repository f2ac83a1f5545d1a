"""A limited time goes to the rows that may still be the best."""

from __future__ import annotations

import math

from aelab.analysis.forecast import Forecast, Guess
from aelab.analysis.spending import Row, chances, next_turns


def _row(setting: str, images: int = 500, loss: float = 0.1, spread: float = 0.2) -> Row:
    """A half-trained row whose forecast is near `loss`."""
    guess = Guess(math.log(loss), spread, spread)
    told = Forecast("", loss, loss / 2, loss * 2, 1000, images / 1000, 9, guess)
    return Row(setting, 0, images, 1000, 10.0, None, told)


def _fresh(setting: str) -> Row:
    return Row(setting, 0, 0, 1000)


def _done(setting: str, loss: float) -> Row:
    return Row(setting, 0, 1000, 1000, 10.0, loss)


def _turns(rows: list[Row], seconds: float = 1e6) -> list[tuple[int, int]]:
    return [(turn.row, turn.images) for turn in next_turns(rows, seconds)]


def test_every_setting_begins_before_any_goes_on() -> None:
    rows = [_row("a"), _fresh("b"), _fresh("b"), _fresh("c")]
    assert _turns(rows) == [(1, 50), (3, 50)]


def test_only_undecided_rows_go_on_twice_as_far_the_likeliest_first() -> None:
    rows = [_row("bad", 100, 0.5), _row("good", 100, 0.1), _row("better", 100, 0.09)]
    assert _turns(rows) == [(2, 200), (1, 200)]


def test_what_is_decided_has_its_turn_when_nothing_else_is_left() -> None:
    rows = [_done("best", 0.01), _row("bad", 100, 0.5), _row("worse", 100, 0.9)]
    assert _turns(rows) == [(1, 200)]
    rows = [_done("best", 0.01), _done("bad", 0.5)]
    assert _turns(rows) == []


def test_the_best_row_is_finished_while_there_is_time_for_it() -> None:
    rows = [_row("good", 500, 0.10), _row("better", 500, 0.09), _fresh("other")]
    rows[2] = _row("other", 100, 0.5)
    assert _turns(rows, 55.0) == [(1, 1000)]  # it needs 50 s
    assert len(next_turns(rows, 200.0)) == 2


def test_further_seeds_are_begun_where_two_settings_remain() -> None:
    rows = [_done("a", 0.10), _fresh("a"), _done("b", 0.10), _fresh("b"), _done("c", 0.9)]
    rows[2] = _row("b", 900, 0.1)
    assert _turns(rows) == [(2, 1000)]
    rows = [_row("a", 900, 0.1), _fresh("a"), _row("b", 900, 0.1), _fresh("b")]
    rows[0], rows[2] = _done("a", 0.1), _done("b", 0.1)
    turns = _turns(rows)
    assert turns and {number for number, _ in turns} <= {1, 3}


def test_chances_count_settings_and_leave_out_what_cannot_be_told() -> None:
    told = chances([_row("a", loss=0.1), _row("b", loss=0.1), _fresh("c"), _row("d", loss=0.9)])
    assert abs(told[0] - 0.5) < 0.05 and told[3] < 0.01 and math.isnan(told[2])
    assert abs(sum(chance for chance in told if not math.isnan(chance)) - 1) < 1e-9
