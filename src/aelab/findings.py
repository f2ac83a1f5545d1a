"""What a look at a file, a data set, a run or the store found: one type, told alike everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aelab.errors import Where


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Attributes:
        level: `problem` for what cannot be right (`check` refuses it), `note` for what is odd and
            may be meant.
        code: a short stable name for tests and JSON, for instance `data-not-finite`.
        message: what was found and where: the set, the file, the value.
        way_out: what to type or change; empty where nothing need be done.
        where: the place in the experiment file, if there is one.
    """

    level: Literal["problem", "note"]
    code: str
    message: str
    way_out: str = ""
    where: Where | None = None

    def __str__(self) -> str:
        place = str(self.where) if self.where else ""
        told = f"{place}: {self.message}" if place else self.message
        return f"{told}\n  {self.way_out}" if self.way_out else told

    def as_json(self) -> dict[str, str]:
        """Plain data for `--json` and the record of a run."""
        return {
            "level": self.level,
            "code": self.code,
            "message": self.message,
            "way_out": self.way_out,
        }
