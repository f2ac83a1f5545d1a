"""Reads experiment files, follows `$extends`, merges them, and writes a resolved one."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aelab.config.document import (
    Entry,
    Items,
    Text,
    Tree,
    YamlMapping,
    given_tree,
    old_booleans,
    parse,
)
from aelab.config.settings import FILTER, is_block_key, is_known_key, with_settings_names
from aelab.errors import ConfigError, Problems, RefusedError, Where, did_you_mean, one_of
from aelab.findings import Finding
from aelab.roots import real
from aelab.settings import setting_of

EXTENDS = "$extends"
#: Keys with their own command-line option; others are given by `--set`.
OPTIONS = {"load": "--load", "max_images": "--max-images"}
#: Chains of `$extends` longer than this are a mistake.
MOST_PARENTS = 20


@dataclass(frozen=True)
class ExperimentSource:
    """A file merged with its parents.

    Attributes:
        table: top-level keys; a key of the child replaces the parent's as a whole.
        text: text of the file itself, as given.
        parents: path -> text of each parent, nearest first.
        findings: findings about all of these files.
    """

    table: YamlMapping
    text: str
    parents: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def read_source(path: Path, *, trust: bool = False) -> ExperimentSource:
    """Read a file and the files that it extends.

    Args:
        path: path of the YAML file; messages show it as given.
        trust: allow `$extends` to leave the file's folder.

    Raises:
        Problems: unreadable, not YAML, a duplicate key, a cycle of `$extends`, leaving the folder.
    """
    text = _read(path, Where(str(path)))
    table = _parsed(text, path)
    findings = old_booleans(table)
    root = real(path).parent
    chain, parents = [real(path)], {}
    merged, child = dict(table.entries), path
    entry = merged.pop(EXTENDS, None)
    while entry is not None:
        parent = _parent_path(entry, child, root, trust=trust)
        if real(parent) in chain or len(chain) > MOST_PARENTS:
            names = " -> ".join(p.name for p in [*chain, parent])
            raise Problems([ConfigError(f"extends itself: {names}", where=entry.where)])
        chain.append(real(parent))
        parents[str(parent)] = _read(parent, entry.where)
        above = _parsed(parents[str(parent)], parent)
        findings += old_booleans(above)
        entry, child = above.entries.get(EXTENDS), parent
        inherited = {k: e for k, e in above.entries.items() if k != EXTENDS}
        merged = {**inherited, **merged}
    return ExperimentSource(YamlMapping(merged, table.where), text, parents, tuple(findings))


def _parsed(text: str, path: Path) -> YamlMapping:
    """The tree of a file, with old names of settings replaced by the present ones."""
    errors: list[ConfigError] = []
    table = with_settings_names(parse(text, str(path)), errors)
    if errors:
        raise Problems(errors)
    return table


def option_of(key: str) -> str:
    """The command-line option that gives a key, as the place in error messages."""
    return OPTIONS.get(key, f"--set {key}")


def overridden(table: YamlMapping, changes: Mapping[str, Any]) -> YamlMapping:
    """A copy of the table with some values replaced by command-line options.

    Args:
        table: the whole file.
        changes: value by key, old or new; `globals.RES` is the key `RES` inside `globals`, which
            must exist. `matrix.lr` may be one value instead of a list.

    Raises:
        Problems: a key does not exist, cannot be replaced, or two keys mean the same setting.
    """
    entries = dict(table.entries)
    given: dict[str, str] = {}
    for key, value in changes.items():
        where = Where(option_of(key))
        other = given.setdefault(setting_of(key), key)
        if other != key:
            message = f"is given as {option_of(other)} too: two names of one setting"
            raise Problems([ConfigError(message, where=where, hint="leave one of them out")])
        outer, _, inner = key.partition(".")
        outer = setting_of(outer)
        if mistake := _misplaced(key, table):
            raise Problems([mistake])
        is_filter = (outer, inner) == ("matrix", FILTER)
        is_code = is_filter or (inner and outer == "globals") or is_block_key(outer)
        tree = given_tree(value, where, is_code=bool(is_code))
        if outer == "matrix" and inner and isinstance(tree, Text) and not is_filter:
            tree = Items((tree,), where)
        entry = Entry(where, tree)
        mapping = entries[outer].tree if inner and outer in entries else None
        if not isinstance(mapping, YamlMapping):
            entries[key if inner else outer] = entry
            continue
        if inner not in mapping.entries and not is_filter:
            message = f"{outer} has no {inner!r}{did_you_mean(inner, mapping.entries)}"
            hint = f"possible: {one_of(mapping.entries)}"
            raise Problems([ConfigError(message, where=where, hint=hint)])
        inside = YamlMapping({**mapping.entries, inner: entry}, mapping.where)
        entries[outer] = Entry(entries[outer].where, inside)
    return YamlMapping(entries, table.where)


def _misplaced(key: str, table: YamlMapping) -> ConfigError | None:
    """The error for a key that only a file may have, or that belongs inside a mapping."""
    where = Where(option_of(key))
    if key == EXTENDS:
        hint = f"write it into a file: {EXTENDS}: FILE.yml; that file may replace further keys"
        return ConfigError("only a file can extend another", where=where, hint=hint)
    if is_known_key(key):
        return None
    for outer in ("matrix", "globals"):
        tree = table.entries[outer].tree if outer in table.entries else None
        if isinstance(tree, YamlMapping) and (
            key in tree.entries or (key, outer) == (FILTER, "matrix")
        ):
            hint = f"type: --set '{outer}.{key}=...'"
            return ConfigError(f"is a key of {outer}", where=where, hint=hint)
    return None


def write_yaml(keys: Mapping[str, Any]) -> str:
    """Writes YAML that `parse` reads back unchanged; multi-line texts become `|` blocks."""
    lines: list[str] = []
    for key, value in keys.items():
        lines += _write_entry(key, value, 0)
    return "\n".join(lines) + "\n"


def _write_entry(key: str, value: Any, depth: int) -> list[str]:
    pad = "  " * depth
    name = key if key.replace("_", "").isalnum() and not key[0].isdigit() else json.dumps(key)
    if isinstance(value, dict) and value:
        below = [line for k, v in value.items() for line in _write_entry(str(k), v, depth + 1)]
        return [f"{pad}{name}:", *below]
    if isinstance(value, str) and "\n" in value and _fits_literally(value):
        keep = "|" if value.endswith("\n") else "|-"
        return [
            f"{pad}{name}: {keep}",
            *(f"{pad}  {line}".rstrip() for line in value.rstrip("\n").split("\n")),
        ]
    return [f"{pad}{name}: {_inline(value)}"]


def _fits_literally(text: str) -> bool:
    """Whether a `|` block can represent exactly this text."""
    body = text.removesuffix("\n")
    return (
        not body.startswith((" ", "\n"))
        and not body.endswith("\n")
        and body.replace("\n", "").isprintable()
        and not any(line != line.rstrip() for line in body.split("\n"))
    )


def _inline(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else (".inf" if value > 0 else "-.inf")
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(str(k))}: {_inline(v)}' for k, v in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def _read(path: Path, where: Where) -> str:
    try:
        return _decoded(path.read_bytes())
    except FileNotFoundError:
        nearby = (
            sorted(p.name for p in path.parent.glob("*.y*ml"))[:12] if path.parent.is_dir() else []
        )
        hint = f"in {path.parent} there is: {', '.join(nearby)}" if nearby else None
        raise Problems([ConfigError(f"there is no file {path}", where=where, hint=hint)]) from None
    except UnicodeDecodeError as error:
        raise Problems([_no_text(path, error, where)]) from None
    except OSError as error:
        raise Problems(
            [ConfigError(f"cannot read {path}: {error.strerror}", where=where)]
        ) from None


def _decoded(content: bytes) -> str:
    """Decodes UTF-8, or UTF-16 with a byte order mark, as some editors on Windows write it."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _no_text(path: Path, error: UnicodeDecodeError, where: Where) -> ConfigError:
    before: bytes = error.object[: error.start]
    line, byte = before.count(b"\n") + 1, error.object[error.start]
    if b"\0" in error.object[:1000]:
        return ConfigError(f"{path} is not a text file", where=where, hint="an experiment is YAML")
    return ConfigError(
        f"this is not UTF-8 text (byte {byte:#04x}, which is "
        f"{bytes([byte]).decode('latin-1')!r} in Latin-1)",
        where=Where(str(path), line),
        hint="save it as UTF-8 in your editor, or type: iconv -f latin1 -t utf-8 OLD.yml > NEW.yml",
    )


def _parent_path(entry: Entry, child: Path, root: Path, *, trust: bool) -> Path:
    name = _file_name(entry.tree)
    if name is None:
        raise Problems([ConfigError("must be the path of another YAML file", where=entry.where)])
    parent = child.parent / name
    if not trust and not real(parent).is_relative_to(root):
        message = f"given {name!r}; without --trust it must stay in the folder {root.name}/"
        raise Problems([RefusedError(message, where=entry.where)])
    return parent


def _file_name(tree: Tree) -> str | None:
    return (
        tree.text if isinstance(tree, Text) and isinstance(tree.value, str) and tree.text else None
    )
