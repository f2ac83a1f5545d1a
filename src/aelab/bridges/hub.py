"""Copies exported models to a model hub, and loads them from there as runs.

An address is `hf:OWNER/NAME`, of the Hugging Face Hub, or a folder, for instance on a shared disk.
A model that is loaded comes from a stranger: only the files of a run are taken, no links and no
code, and `Lab.open` evaluates its text under restriction like that of any stored run.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from aelab.errors import MissingExtra, StoreError, UserError
from aelab.roots import from_home
from aelab.runs.atomic import make_folder, write_bytes
from aelab.runs.checkpoints import Checkpoint
from aelab.runs.files import LARGEST_METRICS, LARGEST_TENSORS, LARGEST_TEXT, read
from aelab.runs.record import Run
from aelab.runs.store import Store

#: Files of a run that are taken from a hub, with their greatest size; the rest stays there.
_TAKEN = {
    "README.md": LARGEST_TEXT,
    "resolved.yml": LARGEST_TEXT,
    "calls.json": LARGEST_TEXT,
    "status.json": LARGEST_TEXT,
    "evaluation.json": LARGEST_TEXT,
    "metrics.jsonl": LARGEST_METRICS,
}
_STATE = ("checkpoints/best.safetensors", "checkpoints/best.json")
#: A line of every model card of aelab.
_MARK = b"library_name: aelab"


class Hub(Protocol):
    """A place for one model."""

    def push(self, folder: Path, names: Sequence[str], *, private: bool = False) -> str:
        """Copies the files `names` of an exported folder there; returns where people find it.

        Raises:
            UserError: the hub refuses.
        """

    def fetched(self) -> AbstractContextManager[Path]:
        """A folder with the files of the model.

        Raises:
            UserError: there is no such model.
        """


class FolderHub:
    """A folder as a hub.

    Args:
        path: the folder of one model; made if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def push(self, folder: Path, names: Sequence[str], *, private: bool = False) -> str:
        """See `Hub`; replaces files only in the folder of a model of aelab."""
        card = self.path / "README.md"
        if self.path.is_dir() and any(self.path.iterdir()) and _MARK not in _head(card):
            raise UserError(
                f"{self.path} holds other files than a model of aelab: nothing is copied",
                hint="give a new folder",
            )
        for name in names:
            target = self.path / name
            make_folder(target.parent)
            write_bytes(target, read(folder / name, folder, LARGEST_TENSORS))
        return str(self.path)

    @contextlib.contextmanager
    def fetched(self) -> Iterator[Path]:
        """See `Hub`."""
        if not self.path.is_dir():
            raise UserError(
                f"{self.path}: there is no such folder",
                hint="an address is hf:OWNER/NAME, or the folder of an exported model",
            )
        yield self.path


class HuggingFace:
    """The Hugging Face Hub, with the account of `hf auth login`.

    Args:
        name: OWNER/NAME.

    Raises:
        MissingExtra: the package huggingface_hub is not installed.
    """

    def __init__(self, name: str) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise MissingExtra("the Hugging Face Hub", "huggingface_hub", "hub") from None
        self._hub: Any = huggingface_hub
        self.name = name

    def push(self, folder: Path, names: Sequence[str], *, private: bool = False) -> str:
        """See `Hub`; makes the model there if it does not exist."""
        with self._told():
            api = self._hub.HfApi(library_name="aelab")
            made = api.create_repo(self.name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=self.name, folder_path=folder, allow_patterns=list(names),
                commit_message="Model of aelab",
            )  # fmt: skip
        return str(made)

    @contextlib.contextmanager
    def fetched(self) -> Iterator[Path]:
        """See `Hub`; downloads only what `pull` takes."""
        wanted = ["run.json", *_TAKEN, *_STATE]
        with tempfile.TemporaryDirectory(prefix="aelab-hub-") as place:
            with self._told():
                self._hub.snapshot_download(self.name, local_dir=place, allow_patterns=wanted)
            yield Path(place)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Context manager: errors of the hub and of the connection as ours."""
        try:
            yield
        except (OSError, ValueError) as error:  # all errors of huggingface_hub are one of these
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(
                f"hf:{self.name}: {first}",
                hint="to sign in: hf auth login; without a connection: a folder as the address",
            ) from error


def make_hub(address: str) -> Hub:
    """The hub of an address, `hf:OWNER/NAME` or a folder.

    Raises:
        UserError: it is no address.
        MissingExtra: its package is not installed.
    """
    if address.startswith("hf:"):
        name = address.removeprefix("hf:")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise UserError(f"{address!r} is no model of the hub", hint="type hf:OWNER/NAME")
        return HuggingFace(name)
    return FolderHub(from_home(address))


def pull(address: str, runs: str | Path = "runs", name: str | None = None) -> Path:
    """Loads a model that was exported with `safetensors`, as a run that can be opened and used.

    Args:
        address: `hf:OWNER/NAME`, or a folder.
        runs: folder of the runs.
        name: of the run; None: the last part of the address.

    Returns:
        The folder of the run.

    Raises:
        UserError: there is no such model.
        StoreError: it is no run, is damaged, or the name is taken.
    """
    hub, store = make_hub(address), Store(runs)
    chosen = name or re.split(r"[/\\:]", address.rstrip("/\\"))[-1]
    path = store.path_of(chosen)
    if os.path.lexists(path):
        raise StoreError(f"{path} exists", hint="give the run another name with --as NAME")
    with hub.fetched() as folder:
        if not os.path.lexists(folder / "run.json"):
            raise StoreError(
                f"{address} holds no run that aelab could open",
                hint="it must be exported with --safetensors; ONNX files are used without aelab",
            )
        given = Run.at(folder, chosen)
        state = Checkpoint("best", folder / "checkpoints")
        state.read()  # raises if it is missing or damaged
        files = {
            file: content
            for file, largest in _TAKEN.items()
            if (content := _content(folder / file, folder, largest)) is not None
        }
        files |= {file: read(folder / file, folder, LARGEST_TENSORS) for file in _STATE}
        run = store.create({**given.record, "folder": chosen}, files)
    return run.path


def _content(path: Path, home: Path, largest: int) -> bytes | None:
    try:
        return read(path, home, largest)
    except FileNotFoundError:
        return None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1000)
    except OSError:
        return b""
