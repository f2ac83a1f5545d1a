"""The plan of a stored run: its end and the rest of its learning rate schedule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from aelab.errors import ConfigError
from aelab.runs.record import Run
from aelab.schedule_forms import Factor, planned
from aelab.settings import Choice, as_choice, setting_of


class RestOfRun(NamedTuple):
    """The rest of a run by its settings.

    Attributes:
        end: images at its end; None if only a loss ends it.
        factor: factor of the learning rate by images; None if it is not known beforehand.
        schedule: the setting `scheduler`, for texts and for comparing runs.
        least: the setting `min_loss`.
    """

    end: int | None
    factor: Factor | None
    schedule: Choice | None = None
    least: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """A key that is equal for runs with the same schedule up to a factor."""
        name, arguments = self.schedule or Choice("constant")
        return self.end, name, repr(sorted(arguments.items()))


def plan_of(run: Run) -> RestOfRun:
    """The plan of a stored run, from its settings; empty if they are damaged."""
    known = _settings(run)
    settings = known or {}
    end = _end(run, settings)
    given = settings.get("scheduler")
    try:
        choice = as_choice(given) if given is not None else None
    except ConfigError:
        return RestOfRun(end, None)
    batch, rate = _number(settings.get("batch_size")), _number(settings.get("learnrate"))
    factor = None
    if end is not None and known is not None:
        factor = planned(choice, end=end, batch_size=int(batch or 1), learnrate=rate or 1.0)
    return RestOfRun(end, factor, choice, _number(settings.get("min_loss")))


def _settings(run: Run) -> Mapping[str, Any] | None:
    """The settings of its plan that its text holds; None if there is no text, or a damaged one."""
    return _settings_of(run.read_text("resolved.yml"))


#: The settings that make up a plan.
_OF_A_PLAN = frozenset(
    {"batch_size", "learnrate", "max_epochs", "max_images", "min_loss", "scheduler"}
)
#: A key of the file, at the start of its line.
_KEY = re.compile(r"^(?=[A-Za-z_])", re.MULTILINE)


# Each run of a matrix asks for the plans of all that are finished.
@lru_cache(maxsize=4096)
def _settings_of(text: str) -> Mapping[str, Any] | None:
    # YAML takes 4 ms for a whole file, most of it for blocks of code.
    parts = [part for part in _KEY.split(text) if setting_of(part.partition(":")[0]) in _OF_A_PLAN]
    try:
        content = YAML(typ="safe").load("".join(parts))
    except YAMLError:
        return None
    if not isinstance(content, Mapping):
        return {} if content is None and text.strip() else None
    return {setting_of(str(key)): value for key, value in content.items()}


def _end(run: Run, settings: Mapping[str, Any]) -> int | None:
    """The earlier of the ends by images and by epochs, in images; epochs need one training set."""
    ends = []
    images = run.record.get("max_inputs") or _number(settings.get("max_images"))
    if images:
        ends.append(int(images))
    epochs = _number(settings.get("max_epochs"))
    sets = (run.record.get("data") or {}).get("train") or []
    if epochs and len(sets) == 1 and sets[0].get("count"):
        ends.append(int(epochs * sets[0]["count"]))
    return min(ends, default=None)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
