"""`aelab data`: what sets there are, and what one looks like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def list_data(roots: Sequence[Path]) -> dict[str, Any]:
    """`{"datasets": [{name, status, description}, ...]}`."""
    from aelab.data import overview
    from aelab.data import roots as allowed

    with allowed.using(roots):
        return {"datasets": overview.list_datasets()}


def show_data(
    name: str, *, resize: int | None, out: Path | None, roots: Sequence[Path]
) -> dict[str, Any]:
    """Statistics of one set; writes its contact sheet, or the comparison of resize filters."""
    from aelab.data import overview
    from aelab.data import roots as allowed

    given = Path(name).expanduser()  # who types a path may read it
    with allowed.using((*roots, given) if given.exists() else roots):
        return overview.show_dataset(
            name, resize=resize, out=out or Path(f"{given.stem or 'data'}.png".replace(":", "-"))
        )
