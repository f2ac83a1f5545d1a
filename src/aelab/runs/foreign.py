"""Checks the files of run directories that may come from somebody else.

Everything that a report shows of a run is checked here once, when it is read. A wrong record makes
the run unreadable, and the message names the entry. Wrong entries of a status are dropped. Control
characters, which could control a terminal or reverse text, are made visible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aelab.errors import StoreError, visible
from aelab.roots import lies_inside
from aelab.runs.files import walk

#: Larger whole numbers are implausible, and some programs that show numbers fail on them.
LARGEST = 10**18

_Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, float) or _whole(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _duration(value: Any) -> bool:
    return _number(value) and 0 <= value < float("inf")


def _pid(value: Any) -> bool:
    return _whole(value) and 0 < value < 2**31


def _size(value: Any) -> bool:
    return _whole(value) and value > 0


def _place(value: Any) -> bool:
    return _whole(value) and value >= 0


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _or_none(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _object_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _anything(value: Any) -> bool:
    return True


def _plain(value: Any) -> bool:
    """Whether a value can be a matrix value or an extra: no huge whole number at any depth."""
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    return value is None or isinstance(value, str | bool) or _number(value)


def _validation(value: Any) -> bool:
    """Whether a value is the losses of one validation, and after how many images it was."""
    return isinstance(value, dict) and is_row(value) and "images" in value


def _ended_early(value: Any) -> bool:
    """Whether a value is the reason of an early end of a run: a chance, and words."""
    return _object_of(_plain)(value) and (
        _or_none(_number)(value.get("chance")) and _or_none(_text)(value.get("reason"))
    )


def _source(value: Any) -> bool:
    """Whether a value is an entry of `data.train`: the source of a set."""
    if not isinstance(value, dict) or not _text(value.get("name")):
        return False
    texts = ("source", "sha256", "note")
    return all(_or_none(_text)(value.get(key)) for key in texts) and _or_none(_whole)(
        value.get("count")
    )


def _data(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    sets = all(_list_of(_source)(value.get(key, [])) for key in ("train", "validation"))
    hashes = ("train_content", "validation_content")
    return sets and all(_or_none(_text)(value.get(key)) for key in hashes)


#: Entry of `run.json` -> (check, expected type in words).
_RECORD: dict[str, tuple[_Check, str]] = {
    **dict.fromkeys(("name", "folder", "identity"), (_text, "text")),
    **dict.fromkeys(
        ("matrix_id", "matrix_slug", "experiment", "effect"), (_or_none(_text), "text")
    ),
    **dict.fromkeys(("seed", "trial", "max_inputs"), (_or_none(_whole), "a whole number")),
    "matrix": (_object_of(_plain), "an object of values"),
    "extra": (_object_of(_plain), "an object of values"),
    "parameters": (_object_of(_or_none(_whole)), "an object of whole numbers"),
    **dict.fromkeys(
        ("shape", "latent_shape", "cell"), (_or_none(_list_of(_size)), "sizes from 1 up")
    ),
    "flops_per_image": (_or_none(_number), "a number"),
    **dict.fromkeys(("notes", "legacy"), (_or_none(_list_of(_text)), "a list of texts")),
    "findings": (_or_none(_list_of(lambda found: isinstance(found, dict))), "a list of findings"),
    "data": (_data, "an object with the lists `train` and `validation` of sources"),
    "trust": (_truth, "true or false"),
    "shown": (_or_none(_object_of(_list_of(_place))), "lists of row numbers"),
}

_COUNTS = ("images", "max_inputs", "epoch")
_NUMBERS = ("seconds", "cpu_seconds", "wall_seconds", "images_per_second")
_STATUS: dict[str, _Check] = {
    **dict.fromkeys(_COUNTS, _or_none(_count)),
    **dict.fromkeys(_NUMBERS, _or_none(_duration)),
    **dict.fromkeys(("best", "last"), _or_none(_validation)),
    **dict.fromkeys(("state", "updated", "note", "reason", "host", "mark"), _or_none(_text)),
    "error": _or_none(_object_of(_text)),
    "stopped": _or_none(_ended_early),
    "pid": _or_none(_pid),
}


def checked_record(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Checks the content of `run.json` and makes control characters visible.

    Raises:
        StoreError: an entry has a wrong type; the message names it.
    """
    legible: dict[str, Any] = _legible(record, path)
    for name, (check, words) in _RECORD.items():
        if name in legible and not check(legible[name]):
            found = type(legible[name]).__name__
            raise StoreError(
                f"{path} is damaged: `{name}` must be {words}, found {found}",
                hint="restore the file from a copy, or move the run's folder away and run again",
            )
    return legible


def checked_status(status: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The content of `status.json` without entries of a wrong type."""
    legible: dict[str, Any] = _legible(status, path)
    return {name: value for name, value in legible.items() if _STATUS.get(name, _anything)(value)}


def is_row(row: Any) -> bool:
    """Whether a row of metrics holds only numbers, apart from the text `split`."""
    if not isinstance(row, dict):
        return False
    for name, value in row.items():  # of hundreds of thousands of rows: no calls where none needed
        kind = type(value)
        if kind is float or value is None or (kind is int and -LARGEST <= value <= LARGEST):
            continue
        if not (_number(value) or (name == "split" and isinstance(value, str))):
            return False
    return True


def _legible(value: Any, path: Path) -> Any:
    try:
        return legible_values(value)
    except RecursionError:
        raise StoreError(f"{path} is damaged: it is nested too deeply") from None


def legible_values(value: Any) -> Any:
    """A copy of texts, lists and objects with control characters made visible."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {legible_values(key): legible_values(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [legible_values(entry) for entry in value]
    return value


def refuse_links(run: Path) -> None:
    """Raises if a file of a run is a link that leads out of it; called before every writing.

    Raises:
        StoreError: naming the link; writing through it would change a file elsewhere.
    """
    for entry in walk(run):
        if entry.is_symlink() and not stays_inside(Path(entry.path), run):
            raise StoreError(
                f"{entry.path} is a link out of the run; nothing is written through it",
                hint="remove the link, or make the runs folder itself a link",
            )


def stays_inside(path: Path, run: Path) -> bool:
    """Whether a file of a run, with links followed, lies inside it."""
    return lies_inside(path, run)
