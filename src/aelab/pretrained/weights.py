"""Reads weights by name or path: finds, downloads, checks by SHA-256, without running pickles.

A published file is searched in `AELAB_WEIGHTS`, then (only with the right checksum) under
`AELAB_DATA`, in torch's download folder and in the cache; otherwise it is downloaded to the cache.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pooch
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from aelab import roots
from aelab.errors import ConfigError, DataError, did_you_mean, one_of
from aelab.files import read_file
from aelab.roots import from_home, real

_SECONDS = 60
_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Published:
    """One published file of weights.

    Attributes:
        name: its name, for instance `IMAGENET1K_V1`.
        file: its name on disk.
        address: the address to download it from.
        sha256: hexadecimal SHA-256 of the file.
        megabytes: its size.
    """

    name: str
    file: str
    address: str
    sha256: str
    megabytes: int


#: Weights of torchvision's ResNet-18. The first 8 digits of the checksum are in the file's name;
#: the complete one is that used by several public projects.
RESNET18: Mapping[str, Published] = {
    "IMAGENET1K_V1": Published(
        "IMAGENET1K_V1",
        "resnet18-f37072fd.pth",
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        47,
    )
}


@dataclass(frozen=True)
class Weights:
    """The requested weights: an existing file, or a published one that can be downloaded.

    Attributes:
        path: the file; None until it is downloaded.
        published: the published file; None for the user's own file.
        places: the places that were searched, for messages.
    """

    path: Path | None
    published: Published | None = None
    places: tuple[str, ...] = ()


# One switch for the whole process, like the roots.
_restoring: list[bool] = []


@contextmanager
def restoring() -> Iterator[None]:
    """Context manager: models are built for a stored state, so files of weights are not needed."""
    _restoring.append(True)
    try:
        yield
    finally:
        _restoring.pop()


def is_restoring() -> bool:
    """Whether models built now get all their weights from a stored state afterwards."""
    return bool(_restoring)


def find_weights(given: Any, known: Mapping[str, Published]) -> Weights:
    """Finds the file of weights for a name or a path.

    Args:
        given: a name of `known` in any letter case, `default`, torchvision's own object of that
            name, or a path (.pth, .pt, .safetensors) below the folders that may be read.
        known: published weights by name.

    Raises:
        ConfigError: neither a name nor a path.
        DataError: the path does not exist or may not be read.
    """
    name = getattr(given, "name", given) if not isinstance(given, os.PathLike) else given
    if isinstance(name, str) and name.upper() in (*known, "DEFAULT"):
        return _find_published(known.get(name.upper()) or next(iter(known.values())))
    if isinstance(name, os.PathLike) or (isinstance(name, str) and _is_path(name)):
        return Weights(_own_file(os.fspath(name)))
    near = did_you_mean(str(name).upper(), known)
    raise ConfigError(
        f"there are no weights {name!r}{near}",
        hint=f"possible: {one_of(known)}, or the path of a {', '.join(_SUFFIXES)} file, or None",
    )


def weights_note(weights: Weights) -> str:
    """A note on these weights for readers of results: name and SHA-256, or that they are missing.

    Raises:
        DataError: the file cannot be read.
    """
    published = weights.published
    if weights.path is None:
        assert published is not None
        return (
            f"weights {published.file} are not here yet; a run downloads them "
            f"({published.megabytes} MB)"
        )
    sha256 = _sha256(weights.path, weights.path.stat().st_mtime_ns)
    if published is not None and sha256 == published.sha256:
        return f"weights {published.name}, sha256 {sha256[:12]}"
    note = f"weights of {weights.path.name}, sha256 {sha256[:12]}"
    return note if published is None else f"{note}: not the published {published.name}"


def read_weights(weights: Weights) -> tuple[Weights, dict[str, Tensor]]:
    """Reads the tensors by name, on the CPU; downloads a missing published file first.

    Returns:
        The weights with their path, and the tensors.

    Raises:
        DataError: it cannot be downloaded (the message says which file to put where) or read.
    """
    if weights.path is None:
        weights = replace(weights, path=_fetch(weights))
    assert weights.path is not None
    content = _content(weights.path)
    with torch.device("cpu"):  # even if the model is built on the meta device
        return weights, _tensors(weights.path, content)


def _is_path(text: str) -> bool:
    return text.lower().endswith(_SUFFIXES) or "/" in text or os.sep in text


def _find_published(published: Published) -> Weights:
    family = published.file.partition("-")[0]
    names = [published.file, f"{Path(published.file).stem}.safetensors"]
    names += [f"{family}.pth", f"{family}.safetensors"]
    places = []
    for given in _given_places():
        candidates = [given] if given.is_file() else [given / name for name in names]
        for path in candidates:
            if path.is_file():
                return Weights(path, published)
            places.append(str(path))
    for path in _checked_places(published):
        if not path.is_file():
            places.append(str(path))
        elif _sha256(path, path.stat().st_mtime_ns) == published.sha256:
            return Weights(path, published)
        else:
            places.append(f"{path} (another or a damaged file: its sha256 differs)")
    return Weights(None, published, tuple(places))


def _given_places() -> list[Path]:
    """The files and folders of `AELAB_WEIGHTS`, separated as in PATH.

    Raises:
        DataError: one of them does not exist.
    """
    parts = [part for part in os.environ.get("AELAB_WEIGHTS", "").split(os.pathsep) if part]
    places = [real(from_home(part)) for part in parts]
    for place in places:
        if not place.exists():
            raise DataError(
                f"AELAB_WEIGHTS names {place}, which does not exist",
                hint="set it to a file of weights or to a folder of such files, or unset it",
            )
    return places


def _checked_places(published: Published) -> list[Path]:
    """Places from which a file with this name is used if its checksum is right."""
    folders = [folder / "weights" for folder in roots.data_folders()]
    folders += [Path(torch.hub.get_dir()) / "checkpoints", roots.cache_folder() / "weights"]
    return [folder / published.file for folder in folders]


def _own_file(given: str) -> Path:
    """Resolves a given path, restricted to the current roots and those of `AELAB_WEIGHTS`."""
    places = _given_places()
    now = roots.current()
    wider = None if now is None else replace(now, folders=(*now.folders, *places))
    with roots.entering(wider):
        path = roots.resolve(given)
        if not path.is_file():
            candidates = [place / given for place in places]
            found = [candidate for candidate in candidates if candidate.is_file()]
            path = roots.allowed_path(found[0]) if found else path
    if not path.is_file():
        looked = ", ".join(str(place) for place in (path, *places))
        raise DataError(
            f"there is no file of weights {given}; looked at {looked}",
            hint="give the path of a state_dict as .pth or .safetensors, "
            "or set AELAB_WEIGHTS to its folder",
        )
    return path


def _fetch(weights: Weights) -> Path:
    """Downloads into the cache; keeps the file only if its checksum is right."""
    published = weights.published
    assert published is not None
    target = roots.cache_folder() / "weights" / published.file
    try:
        _download(published, target)
    except Exception as error:
        # Any failure of the network or the disk: refused, unknown host, timeout, certificates,
        # full.
        looked = "\n    ".join(weights.places) or "nothing"
        reason = f"{type(error).__name__}: {str(error)[:160]}"
        raise DataError(
            f"the weights {published.name} ({published.file}) are on no local place and could not "
            f"be fetched\n  looked at:\n    {looked}\n  tried:\n    {published.address}: {reason}",
            hint=f"download {published.address} elsewhere and put it at {target}, or set "
            "AELAB_WEIGHTS to the file or its folder",
        ) from error
    return target


def _download(published: Published, target: Path) -> None:

    pooch.get_logger().setLevel(logging.ERROR)
    pooch.retrieve(
        published.address,
        known_hash=f"sha256:{published.sha256}",
        fname=target.name,
        path=target.parent,
        downloader=pooch.HTTPDownloader(timeout=_SECONDS, progressbar=False),
    )


def _content(path: Path) -> bytes:
    return read_file(path)


@lru_cache(maxsize=16)
def _sha256(path: Path, changed_ns: int) -> str:
    """SHA-256 of the file's bytes, cached; `changed_ns` makes a changed file be read again."""
    return hashlib.sha256(_content(path)).hexdigest()


def _tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Reads a state_dict from safetensors, or from torch's format without running pickled code."""
    try:
        if path.suffix.lower() == ".safetensors":
            loaded: Any = safetensors.torch.load(content)
        else:
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (
        SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError
    ) as error:  # fmt: skip
        reason = str(error).strip().splitlines()
        raise DataError(
            f"cannot read weights from {path}: {reason[0] if reason else type(error).__name__}",
            hint="a state_dict written by torch.save or safetensors is expected",
        ) from None
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()
    ):
        raise DataError(
            f"{path} holds no state_dict (tensors by name)",
            hint="write one with torch.save(model.state_dict(), path)",
        )
    return dict(loaded)
