"""`aelab data`: lists data sets, and shows one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aelab import roots as allowed
from aelab.assembly.workspace import Workspace
from aelab.data import overview
from aelab.errors import DataError
from aelab.outputs import made_by_aelab, refuse_to_replace, write_output
from aelab.roots import from_home, real


def list_data(workspace: Workspace) -> dict[str, Any]:
    """The known data sets: `{"datasets": [{name, status, description}, ...]}`."""
    with allowed.using(workspace.data):
        return {"datasets": overview.list_datasets()}


def show_data(
    name: str,
    workspace: Workspace,
    *,
    resize: int | None,
    out: Path | None,
    reading: Mapping[str, Any],
) -> dict[str, Any]:
    """Statistics of one set; writes its contact sheet, or the comparison of resize filters.

    Raises:
        DataError: unknown set, missing or corrupt files, or `out` does not end in .png.
        UserError: `out` is one of the input files, or a file that aelab did not make.
    """
    given = from_home(name)  # a path typed by the user may be read
    out = out or _default_name(given, "contact-sheet" if resize is None else "filters")
    if out.suffix.lower() != ".png":
        raise DataError(
            f"{out}: a contact sheet is written as .png",
            hint=f"type: --out {out.with_suffix('.png')}",
        )
    inputs = [given, *([out] if _lies_in(out, given) else [])]
    refuse_to_replace(out, inputs=inputs)
    with allowed.using((*workspace.data, given) if given.exists() else workspace.data):
        shown = overview.overview(name, resize=resize, reading=overview.ReadOptions(**reading))
    picture = shown.sheet if shown.comparison is None else shown.comparison
    write_output(out, overview.contact_sheet_png(picture), inputs=inputs)
    found = {**shown.statistics, "picture": str(out)}
    return {**found, "examples": list(shown.examples)} if shown.examples else found


def _lies_in(out: Path, folder: Path) -> bool:
    """Whether `out` is an existing file of the folder that is read, and not made by aelab."""
    inside = folder.is_dir() and real(folder) in real(out).parents
    return inside and out.exists() and not made_by_aelab(out)


def _default_name(given: Path, what: str) -> Path:
    """Default output file in the working folder; `mnist:validation` becomes a valid file name."""
    name = real(given).name if given.name in ("", "..") else given.stem
    return Path(f"{name or 'data'}-{what}.png".replace(":", "-"))
