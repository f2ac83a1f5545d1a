"""The folder of a run's experiment file, beside which its pictures and modules lie.

`place.json` stores the folder, so that later verbs find relative paths again, even after the whole
project was moved. But a run directory may come from a stranger, and the place decides which files
may be read. So a place is used only with a valid seal: an HMAC with a key of this user on this
machine, over the place, the text of the run and its call log. Without the key, nobody can change
any of them and seal it again. Without a valid seal, a run reads only from the folders of `--data`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import platformdirs

from aelab.errors import StoreError
from aelab.roots import Roots, from_home, real
from aelab.runs.atomic import to_json
from aelab.runs.files import LARGEST_TEXT, read, read_json

if TYPE_CHECKING:
    from aelab.config import RunSpec
    from aelab.runs.record import Run

FILE = "place.json"
_KEY_BYTES = 32


class Place(NamedTuple):
    """The stored place of a run.

    Attributes:
        folders: existing folders where its file may be, most likely first; empty if none is
            stored or the seal is not valid.
        told: the folder as written in the record, for messages; empty if there is none.
        data: existing folders given by `--data` in training; empty if the seal is not valid.
    """

    folders: tuple[Path, ...]
    told: str
    data: tuple[Path, ...] = ()


def note_place(run: Run, spec: RunSpec, calls: Sequence[Any], data: Sequence[Path]) -> None:
    """Writes `place.json`, sealed if this user's key can be read or made.

    Args:
        run: the caller holds its lock.
        spec: the spec as read from the experiment file.
        calls: the call log of this session, as plain JSON values.
        data: folders given by `--data`, from which it may read, too.
    """
    root = _root_of(run)
    further = dict.fromkeys(real(folder) for folder in data)
    place: dict[str, Any] = _written(spec.base, root)
    place["data"] = [_written(folder, root) for folder in further if folder != spec.base]
    key = _key(make=True)
    text = spec.resolved_text.encode(errors="surrogateescape")
    if key is not None:
        place["seal"] = _seal(key, place, text, calls)
    if _stored(run) != place:
        run.write_json(FILE, place)


def place_of(run: Run, *, trust: bool = False) -> Place:
    """The stored place of a run, if its seal is valid.

    Args:
        run: a stored run, possibly made by somebody else.
        trust: the caller runs its blocks as plain Python, which allows more than any place.
    """
    place = _stored(run)
    told = place.get("folder")
    if not isinstance(told, str) or not told or "\0" in told:
        return Place((), "")
    if not (trust or _is_sealed(run, place)):
        return Place((), told)
    folders, data = _read(place, run), place.get("data")
    further = [f for entry in (data if isinstance(data, list) else ()) for f in _read(entry, run)]
    file = Path(str(run.record.get("experiment") or "")).name
    # The runs may have been moved without the project: then only one folder still holds the file.
    folders.sort(key=lambda folder: not (file and (folder / file).is_file()))
    return Place(tuple(folders), told, tuple(further))


def reading_of(run: Run, place: Place, given: Sequence[Path]) -> Roots:
    """The folders that a stored run's data parts may read, and the start of relative paths.

    Args:
        run: the run that is opened.
        place: the stored place of its file.
        given: the folders of `--data`.
    """
    given = [real(folder) for folder in given]
    places = [real(folder) for folder in place.folders]
    bases = [*places, *given, real(run.path)]
    if places:
        way_out = (
            f"the run was trained with files below {places[0]}: restore them, or type --data "
            "FOLDER, their new folder"
        )
    elif place.told and not from_home(place.told).is_dir():
        way_out = (
            f"its file stood in {place.told}, which is not there: type --data FOLDER, the folder "
            "that its files lie in now"
        )
    elif place.told:
        way_out = (
            f"type: --data {place.told}, the folder of its file (only a run that you "
            "trained yourself on this machine reads from there automatically)"
        )
    else:
        way_out = "type: --data FOLDER, the folder that the experiment file was in"
    return Roots(
        (real(run.path), *places, *place.data, *given),
        bases[0],
        tuple(bases[1 : len(places) + len(given)]),
        way_out,
    )


def key_file() -> Path:
    """The file of this user's key: `AELAB_KEY`, else in the system's folder for program data."""
    given = os.environ.get("AELAB_KEY")
    if given:
        return from_home(given)

    return Path(platformdirs.user_data_dir("aelab")) / "own-runs.key"


def _key(*, make: bool = False) -> bytes | None:
    """The key; None if there is none or the system refuses access."""
    path = key_file()
    with contextlib.suppress(OSError):
        found = path.read_bytes() if path.is_file() else b""
        if len(found) == _KEY_BYTES:
            return found
    if not make:
        return None
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        if path.exists():  # of another length: not a key
            os.replace(temporary, path)
        else:
            with contextlib.suppress(FileExistsError):  # another process made its key first
                os.link(temporary, path)
    except OSError:
        return None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return _key()


def _is_sealed(run: Run, place: dict[str, Any]) -> bool:
    key, seal = _key(), place.get("seal")
    if key is None or not isinstance(seal, str):
        return False
    try:
        text = read(run.path / "resolved.yml", run.path, LARGEST_TEXT)
        calls = read_json(run.path / "calls.json").get("calls")
    except (OSError, StoreError):
        return False
    return hmac.compare_digest(seal.encode(), _seal(key, place, text, calls).encode())


def _seal(key: bytes, place: dict[str, Any], text: bytes, calls: Any) -> str:
    content = [
        "aelab place 1",
        place.get("folder"),
        place.get("from_runs"),
        place.get("data"),
        hashlib.sha256(text).hexdigest(),
        json.loads(to_json(calls)),
    ]
    message = json.dumps(content, sort_keys=True, default=str)
    return hmac.new(key, message.encode(errors="backslashreplace"), hashlib.sha256).hexdigest()


def _stored(run: Run) -> dict[str, Any]:
    try:
        return read_json(run.path / FILE)
    except StoreError:
        return {}


def _written(folder: Path, root: Path) -> dict[str, str | None]:
    """A folder as stored: with `~/` for the home folder, and relative to the runs folder."""
    home = Path.home()
    near_home = folder == home or home in folder.parents
    told = f"~/{folder.relative_to(home).as_posix()}" if near_home else str(folder)
    return {"folder": told, "from_runs": _relative(folder, root)}


def _read(entry: Any, run: Run) -> list[Path]:
    """The existing folders of an entry of the record, the one relative to the runs first."""
    if not isinstance(entry, dict):
        return []
    told, relative = entry.get("folder"), entry.get("from_runs")
    found: list[Path] = []
    if isinstance(relative, str) and "\0" not in relative:
        found.append(real(_root_of(run)) / relative)
    if isinstance(told, str) and told and "\0" not in told:
        found.append(from_home(told))
    existing = (real(folder) for folder in found if folder.is_absolute() and folder.is_dir())
    return list(dict.fromkeys(existing))


def _root_of(run: Run) -> Path:
    """The runs folder, from the run's path and its name in it."""
    root = Path(os.path.abspath(run.path))
    for _ in Path(run.folder).parts:
        root = root.parent
    return root


def _relative(folder: Path, root: Path) -> str | None:
    """`folder` relative to the runs folder; None if that would reveal the user's name."""
    root = real(root)
    try:
        common = Path(os.path.commonpath([folder, root]))
    except ValueError:  # two drives
        return None
    if common in Path.home().parents:
        return None
    return Path(os.path.relpath(folder, root)).as_posix()
