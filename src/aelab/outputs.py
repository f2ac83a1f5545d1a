"""Writes output files of users; never replaces a file that aelab did not make.

PNG, GIF, SVG and HTML files contain a seal: the word aelab and a hash of the rest. So aelab
recognises its own files on every machine, and notices changes. For formats without space for a seal
(CSV, Markdown, JSON, text, WebP, MP4) the hash is stored in the cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aelab import roots
from aelab.errors import AelabError, UserError
from aelab.roots import real
from aelab.runs.atomic import write_bytes

_MARK = rb"aelab ([0-9a-f]{32})"
#: Suffix -> pattern of the seal inside such a file.
_SEALS = {
    ".png": re.compile(rb"\x00\x00\x00\x2ftEXtSoftware\x00" + _MARK + rb".{4}", re.DOTALL),
    ".gif": re.compile(rb"\x21\xfe\x26" + _MARK + rb"\x00"),
    ".html": re.compile(rb"<!-- " + _MARK + rb" -->\n"),
    ".svg": re.compile(rb"<!-- " + _MARK + rb" -->\n"),
}

# One switch for the whole process, as for `roots`.
_replacing: list[bool] = []


@contextmanager
def replacing(force: bool = True) -> Iterator[None]:
    """Context manager: with `force`, `write_output` also replaces files that aelab did not make."""
    _replacing.append(force)
    try:
        yield
    finally:
        _replacing.pop()


def write_output(
    path: Path, content: bytes | str, *, inputs: Iterable[str | os.PathLike[str]] = ()
) -> Path:
    """Writes a file for the user, atomically; creates its folders.

    Args:
        path: output path. A link is followed; a device or a pipe is written to directly.
        content: of the file; text is written as UTF-8.
        inputs: files that are read for it; they are never replaced, not even with force.

    Returns:
        `path`.

    Raises:
        UserError: it is one of `inputs`; it exists and aelab did not make it, or it was changed
            since; or it cannot be written.
    """
    refuse_to_replace(path, inputs=inputs)
    data = content.encode("utf-8", errors="replace") if isinstance(content, str) else content
    try:
        target = real(path)
        if target.is_symlink():
            raise OSError(errno.ELOOP, "a loop of links")
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("wb") as device:
                device.write(data)
            return path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, _sealed(data, path.suffix.lower()))
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}", hint=_ANOTHER) from error
    except AelabError as error:
        reason = error.message.partition(": ")[2] or error.message
        raise UserError(f"cannot write {path}: {reason}", hint=_ANOTHER) from error
    if path.suffix.lower() not in _SEALS:
        _remember(target, data)
    return path


def refuse_to_replace(path: Path, *, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Raises if `write_output` would refuse the path; to be called before long work.

    Raises:
        UserError: see `write_output`.
    """
    if any(_same(path, Path(given)) for given in inputs):
        raise UserError(
            f"{path} is an input of this command, so it is not replaced",
            hint="give another name with --out",
        )
    if _replacing and _replacing[-1]:
        return
    if path.is_file() and not made_by_aelab(path):
        raise UserError(
            f"{path} exists, and aelab did not make it, or it was changed since: it is kept",
            hint="give another name with --out, or add --force to replace it",
        )


def made_by_aelab(path: Path) -> bool:
    """Whether a file is unchanged since aelab wrote it, by its seal or the stored hash."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    pattern = _SEALS.get(path.suffix.lower())
    if pattern is None:
        return _remembered(real(path)) == hashlib.sha256(content).hexdigest()
    found = pattern.search(content)
    if found is None:
        return False
    rest = content[: found.start()] + content[found.end() :]
    return _hash(rest) == found[1]


_ANOTHER = "type a path in a folder that you may write to, with --out"


def _sealed(content: bytes, ending: str) -> bytes:
    """The content with a seal, if its format has space for one."""
    mark = b"aelab " + _hash(content)
    if ending == ".png" and content.endswith(b"IEND\xaeB`\x82"):
        chunk = b"tEXtSoftware\x00" + mark
        check = zlib.crc32(chunk).to_bytes(4, "big")
        size = (len(chunk) - 4).to_bytes(4, "big")
        return content[:-12] + size + chunk + check + content[-12:]
    if ending == ".gif" and content.endswith(b"\x3b"):
        return content[:-1] + b"\x21\xfe" + bytes([len(mark)]) + mark + b"\x00\x3b"
    if ending in (".html", ".svg"):
        return content + b"<!-- " + mark + b" -->\n"
    return content


def _hash(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:32].encode()


def _note_of(target: Path) -> Path:
    name = hashlib.sha256(os.fsencode(target)).hexdigest()[:32]
    return roots.cache_folder() / "outputs" / name


def _remember(target: Path, content: bytes) -> None:
    # Without a cache the next call needs --force; that is no reason to fail now.
    note = _note_of(target)
    with contextlib.suppress(OSError, AelabError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(note, hashlib.sha256(content).hexdigest().encode(), durable=False)


def _remembered(target: Path) -> str:
    try:
        return _note_of(target).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _same(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.abspath(first) == os.path.abspath(second)
