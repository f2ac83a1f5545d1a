"""The opened runs of the page: a model is loaded once, and used by one thread at a time."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aelab.errors import UserError
from aelab.files import NoPicture
from aelab.lab import Lab
from aelab.report.pictures import data_url

if TYPE_CHECKING:
    from aelab.study.looker import Looker

#: Models that are kept open.
OPEN_MODELS = 2
_Answer = TypeVar("_Answer")


class Models:
    """The opened runs of the page, the last used ones kept.

    Args:
        lab: the workspace; a run that needs trust is opened only where it gives trust.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab, self._lock = lab, threading.Lock()
        self._kept: dict[str, Looker] = {}

    def use(self, folder: str, ask: Callable[[Looker], _Answer]) -> _Answer:
        """What `ask` gives for a run; one at a time, because a model is used by one thread."""
        with self._lock:
            if folder not in self._kept:
                self._kept[folder] = self._lab.open(folder).looker()
            looker = self._kept[folder] = self._kept.pop(folder)
            while len(self._kept) > OPEN_MODELS:
                self._kept.pop(next(iter(self._kept)))
            return ask(looker)


def look(models: Models, folder: str, content: bytes) -> dict[str, Any]:
    """A picture through a model; the pictures of the answer as addresses of their content."""
    found: dict[str, Any] = with_picture(
        content, lambda path: models.use(folder, lambda looker: looker.look(path))
    )
    return {
        **found,
        **{name: data_url(found[name]) for name in ("given", "reconstruction", "nearest")},
    }


def with_picture(content: bytes, ask: Callable[[Path], _Answer]) -> _Answer:
    """What `ask` gives for the path of a picture that was sent, which exists for it alone.

    Raises:
        UserError: it is no picture in one of the formats of image folders.
    """
    with tempfile.TemporaryDirectory(prefix="aelab-ui-") as place:
        path = Path(place) / "dropped.png"  # the content decides what it is, not the name
        path.write_bytes(content)
        try:
            return ask(path)
        except NoPicture:
            raise UserError("this file is no picture that can be read") from None
