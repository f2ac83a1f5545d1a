"""The metrics of one run: a file to which lines are appended, one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aelab.errors import StoreError
from aelab.runs import disk
from aelab.runs.atomic import explain, sync_folder, to_json, with_numbers, write_all
from aelab.runs.files import LARGEST_METRICS, open_regular, read
from aelab.runs.foreign import is_row, legible_values


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Add `rows` at the end of the file, all or none; a torn last line is removed first.

    Args:
        path: the file; made if it is missing.
        rows: numbers and short texts by name; `split` is written first.

    Returns:
        The file's length in bytes afterwards.

    Raises:
        StoreError: if the system refuses (full disk, permissions); the file is then as before.
    """
    text = "".join(to_json({"split": row.get("split"), **row}) + "\n" for row in rows)
    data = text.encode(errors="backslashreplace")
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            start = _end_of_last_line(descriptor)
            os.lseek(descriptor, start, os.SEEK_SET)
            try:
                write_all(descriptor, data)
            except BaseException:
                with contextlib.suppress(OSError):
                    disk.truncate(descriptor, start)
                raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise explain(error, path) from error
    return start + len(data)


def settled_length(path: Path) -> int:
    """Waits until the file is on the disk; returns its length in bytes, 0 without a file."""
    try:
        descriptor = open_regular(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise explain(error, path) from error
    try:
        disk.fsync(descriptor)
        sync_folder(path.parent)  # the file may be new
        return os.fstat(descriptor).st_size
    except OSError as error:
        raise explain(error, path) from error
    finally:
        os.close(descriptor)


def length_up_to(path: Path, images: int, *, home: Path | None = None) -> int:
    """The file's length in bytes without the rows at its end that are after `images` images.

    Raises:
        StoreError: if the file is unreadable.
    """
    try:
        data = read(path, home or path.parent, LARGEST_METRICS)
    except FileNotFoundError:
        return 0
    end = data.rfind(b"\n") + 1
    while end:
        start = data.rfind(b"\n", 0, end - 1) + 1
        try:
            row = json.loads(data[start:end])
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or int(row.get("images") or 0) <= images:
            break
        end = start
    return end


def truncate_rows(path: Path, length: int) -> None:
    """Cuts the file to `length` bytes, which removes rows newer than a checkpoint.

    Raises:
        StoreError: if the file is shorter than that, or cannot be changed.
    """
    try:
        size = path.stat().st_size if path.exists() else 0
        if size < length:
            raise StoreError(
                f"{path} has {size:,} bytes, but its checkpoint was saved at {length:,}: "
                "rows were deleted by hand",
                hint="restore the file from a copy, or train this run again with --restart",
            )
        if size > length:
            descriptor = open_regular(path, os.O_RDWR)
            try:
                disk.truncate(descriptor, length)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise explain(error, path) from error


#: `json.loads` of bytes would look for their encoding in each line, half of its time.
_decode = json.JSONDecoder().decode


def _parsed(line: bytes) -> Any:
    """The value of a line; most have no number that JSON cannot hold."""
    value = _decode(line.decode("utf-8", "surrogatepass"))
    return with_numbers(value) if b"NaN" in line or b"Inf" in line else value


def read_rows(
    path: Path,
    split: str | None = None,
    *,
    home: Path | None = None,
    damaged: list[str] | None = None,
) -> list[dict[str, Any]]:
    """The rows of the file in order; of one `split` only, if given.

    A torn last line (a process is writing, or was killed) is left out. Reading one split does not
    parse the others, which matters in a table of hundreds of runs.

    Args:
        path: the file.
        split: `train` or `validation`.
        home: the run's directory; left out, the file's own folder.
        damaged: if given, descriptions of damage are appended here and the intact rows are
            returned; otherwise damage is raised. With it, each row must also have its clock.

    Raises:
        StoreError: if the file is unreadable or a line before the last is damaged.
    """
    try:
        data = read(path, home or path.parent, LARGEST_METRICS)
    except FileNotFoundError:
        return []
    except StoreError as error:
        if damaged is None:
            raise
        damaged.append(error.message)
        return []
    data = data[: data.rfind(b"\n") + 1]
    lines = data.splitlines() if split is None else _lines_with(data, f'"{split}"'.encode())
    rows = []
    for line in lines:
        try:
            row = _parsed(line)
            if not is_row(row):
                raise ValueError("not an object of numbers")
            if damaged is not None and not _has_a_moment(row):
                raise ValueError("it has no image count")
        except (ValueError, RecursionError) as error:
            if damaged is None and data.endswith(line + b"\n") and line is lines[-1]:
                break
            number = data[: data.find(line)].count(b"\n") + 1
            words = f"{path}:{number}: this line is not valid JSON: {line[:60]!r}"
            if damaged is not None:
                damaged.append(f"{words}; it is left out")
                continue
            raise StoreError(
                words, hint="delete the line, or restore the file from a copy"
            ) from error
        if split is None or row.get("split") == split:
            # Lines written by aelab have no escapes and no control characters, so only others are
            # checked.
            rows.append(legible_values(row) if b"\\" in line or not line.isascii() else row)
    return rows


def _has_a_moment(row: Mapping[str, Any]) -> bool:
    images = row.get("images")
    return isinstance(images, int) and images >= 0 and isinstance(row.get("split"), str)


def _lines_with(data: bytes, word: bytes) -> list[bytes]:
    lines = []
    found = data.find(word)
    while found >= 0:
        end = data.index(b"\n", found)
        lines.append(data[data.rfind(b"\n", 0, found) + 1 : end])
        found = data.find(word, end)
    return lines


def _end_of_last_line(descriptor: int) -> int:
    """The end of the last complete line; cuts off a torn one, which a killed writer may leave."""
    end = size = os.fstat(descriptor).st_size
    position = size
    while position > 0:
        start = max(0, position - 65536)
        os.lseek(descriptor, start, os.SEEK_SET)
        block = os.read(descriptor, position - start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        position, end = start, start
    if end < size:
        disk.truncate(descriptor, end)
    return end
