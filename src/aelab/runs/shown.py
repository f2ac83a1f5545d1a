"""Shows a run in a notebook, and returns its metrics as a pandas data frame."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aelab.errors import AelabError, MissingExtra, visible
from aelab.runs.files import LARGEST_PICTURE, is_regular, read

if TYPE_CHECKING:
    import pandas

#: First columns of every history.
CLOCKS = ("split", "images", "seconds", "epoch", "loss")
_SPLITS = {"heldout": "held-out images", "train": "training images"}


def history_frame(rows: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Metrics as a data frame with a row for each logged moment; see `Run.history`."""
    try:
        import pandas
    except ImportError:
        raise MissingExtra("a history as a data frame", "pandas", "frames") from None
    names = [*CLOCKS, *dict.fromkeys(key for row in rows for key in row if key not in CLOCKS)]
    return pandas.DataFrame(list(rows), columns=names)


def run_html(folder: str, facts: Mapping[str, Any], home: Path) -> str:
    """A run as HTML: facts as a table, and its latest reproductions under the originals.

    Args:
        folder: name of the run.
        facts: values by name; empty ones are left out.
        home: the directory of the run.
    """
    rows = "".join(
        f"<tr><th>{escape(visible(str(key)))}</th><td>{escape(visible(str(value)))}</td></tr>"
        for key, value in facts.items()
        if value not in (None, "")
    )
    head = f"<p><b>Run</b> <code>{escape(visible(folder))}</code></p>"
    return f"{head}<table>{rows}</table>{_reproductions(home)}"


def _reproductions(home: Path) -> str:
    """The stored rows of held-out images, else of training images; empty without any."""
    for split, words in _SPLITS.items():
        first = home / "images" / f"{split}-originals.png"
        try:
            moments = {
                int(found[1]): path
                for path in (home / "images").iterdir()
                if (found := re.fullmatch(rf"{split}-(\d+)\.png", path.name))
                and is_regular(path, home)
            }
            if not moments or not is_regular(first, home):
                continue
            images = max(moments)
            pictures = [read(path, home, LARGEST_PICTURE) for path in (first, moments[images])]
        except (OSError, AelabError):
            continue
        shown = "".join(map(_picture, pictures))
        return f"<p>{words}, and their reproductions after {images:,} images:</p>{shown}"
    return ""


def _picture(content: bytes) -> str:
    data = base64.b64encode(content).decode()
    style = "display:block;height:48px;max-width:none;margin:1px 0;image-rendering:pixelated"
    return f'<img alt="" style="{style}" src="data:image/png;base64,{data}">'
