"""Names of runs: the slug of a matrix entry, and the folder for a name.

Three dialects of slugs exist in old result folders; all of them can be computed here, so that old
folders are found again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Longer parts of folder names are cut; most file systems allow at most 255 bytes.
LONGEST_PART_BYTES = 200

_ILLEGIBLE = re.compile(
    r'[<>:"|?*\\\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]'
)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z", re.IGNORECASE)


#: Files in a run's directory: a folder with such a name in a run's path would hide the run.
RUN_FILES = frozenset(
    "run.json experiment.yml resolved.yml calls.json environment.json place.json status.json "
    "metrics.jsonl evaluation.json log.txt lock lock.json".split()
)
#: Folders that file systems create at their top; they contain no runs.
FOLDERS_OF_SYSTEMS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})
#: Deepest level below a runs folder at which runs are searched.
DEEPEST = 64


def why_never_found(name: str) -> str:
    """The reason why a run with this name would not be found again; empty if it would."""
    parts = name.replace("\\", "/").split("/")
    for part in parts:
        if part.strip().casefold() in RUN_FILES:
            return f"`{part}` is the name of a file that every run has"
        if part in FOLDERS_OF_SYSTEMS:
            return f"`{part}` is a folder of the file system, where no runs are looked for"
    if len(parts) > DEEPEST:
        return f"it has {len(parts)} folders one in another; at most {DEEPEST} are possible"
    return ""


class SlugForm(NamedTuple):
    """The way in which one version of the runner wrote slugs."""

    separator: str
    longest_value: int
    allowed: str


#: The newest form first, which `${matrix_slug}` uses.
SLUG_FORMS: dict[str, SlugForm] = {
    "current": SlugForm(":", 96, ".,-_:"),
    "2023-11-17": SlugForm("-", 40, ".,-_"),
    "2023-11-12": SlugForm("-", 20, ".,-_"),
}


def matrix_slug(values: Mapping[str, Any], form: str = "current") -> str:
    """`key:value` of every matrix key, joined by `_`, without brackets, blanks, quotes and slashes.

    `{"b": [3, 5], "ds": "mnist"}` gives `b:3,5_ds:mnist`.

    Source: behaviour of nn-experiments, described in docs/experiment-language.md.
    """
    separator, longest, allowed = SLUG_FORMS[form]
    text = "_".join(f"{key}{separator}{str(value)[:longest]}" for key, value in values.items())
    return "".join(letter for letter in text if letter.isalnum() or letter in allowed)


def slug_forms(values: Mapping[str, Any]) -> dict[str, str]:
    """The slug of one matrix entry in every dialect, the current one first."""
    return {form: matrix_slug(values, form) for form in SLUG_FORMS}


def legible_folder(name: str) -> str:
    """The folder, relative to `runs/`, of a run called `name`; legal on every file system.

    `vae/base28_ds:mnist` gives `vae/base28_ds-mnist`. The caller must refuse names that leave
    `runs/` (`climbs_out`).
    """
    return "/".join(_legible_part(part) for part in name.split("/") if part not in ("", "."))


def climbs_out(name: str) -> bool:
    """Whether a run called `name` would lie outside `runs/`."""
    parts = re.split(r"[/\\]", name)
    return (
        ".." in parts
        or name.startswith(("/", "\\", "~"))
        or re.match(r"[A-Za-z]:[/\\]", name) is not None
    )


def old_folders(name_template: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    """All folders that an old runner may have used for this entry, newest dialect first.

    Args:
        name_template: `experiment_name` with `${matrix_slug}` not yet replaced.
        values: the matrix entry.
    """
    names = [name_template.replace("${matrix_slug}", slug) for slug in slug_forms(values).values()]
    return tuple(dict.fromkeys([*names, *map(legible_folder, names)]))


def _legible_part(part: str) -> str:
    part = _ILLEGIBLE.sub("-", part).strip().rstrip(".") or "-"
    if _RESERVED.match(part):
        part = f"{part}-"
    raw = part.encode()
    if len(raw) <= LONGEST_PART_BYTES:
        return part
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return f"{raw[:LONGEST_PART_BYTES].decode(errors='ignore')}-{digest}"
