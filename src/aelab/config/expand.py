"""Expands a file to its runs: matrix, substitution, settings, blocks, names, identities."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from aelab.config.blocks import Block, ParsedBlock, Scope, evaluate_block, inspect_block
from aelab.config.document import Entry, Items, Text, Tree, YamlMapping, to_python
from aelab.config.experiment import Experiment, RunSpec
from aelab.config.guards import CORE_ATTRIBUTES, CORE_NAMES
from aelab.config.identity import identity
from aelab.config.load import ExperimentSource, overridden, read_source, write_yaml
from aelab.config.matrix import Cell, Matrix, read_matrix
from aelab.config.old_programs import old_numbers
from aelab.config.settings import (
    BLOCK_KEYS,
    DATA_KEY,
    REQUIRED_KEYS,
    SETTING_KEYS,
    WITHOUT_EFFECT,
    Stated,
    is_known_key,
    read_settings,
    unknown_key,
    with_settings_names,
)
from aelab.config.slugs import climbs_out, legible_folder, old_folders, why_never_found
from aelab.config.substitute import Substitution, unquoted
from aelab.config.twins import with_twins
from aelab.errors import AelabError, ConfigError, Problems, RefusedError, Where, shown, visible
from aelab.findings import Finding
from aelab.roots import real
from aelab.settings import MOST_RUNS, RULES, Settings, first_name, setting_of


def load(
    path: Path | str,
    *,
    trust: bool = False,
    changes: Mapping[str, Any] | None = None,
    names: Iterable[str] = (),
    home: Path | None = None,
    without: Iterable[str] = (),
) -> Experiment:
    """Read, expand and check an experiment file; nothing is built and no block is evaluated.

    Args:
        path: path of the YAML file.
        trust: blocks may be any Python, and `$extends` may leave the folder.
        changes: top-level keys that the command line replaces (`max_inputs`, `load`, `seed`, ...).
        names: names of the catalogue's parts, which matrix keys must not shadow.
        home: the original folder of the file; its present folder if left out.
        without: top-level keys to ignore.

    Raises:
        Problems: every error of the file at once, each with file, line, column and key.
    """
    path = Path(path)
    source = read_source(path, trust=trust)
    left_out = frozenset(without)
    kept = {k: e for k, e in source.table.entries.items() if k not in left_out}
    source = ExperimentSource(
        overridden(YamlMapping(kept, source.table.where), changes or {}),
        source.text,
        source.parents,
        source.findings,
    )
    builder = _Builder(path, source, trust=trust, home=home)
    runs = builder.runs(names)
    if builder.errors:
        different = {str(error): error for error in builder.errors}.values()
        raise Problems(sorted(different, key=lambda error: _order(error, path)))
    findings = dict.fromkeys([*source.findings, *(own for run in runs for own in run.findings)])
    return Experiment(path, source.text, source.parents, builder.matrix.values,
                      tuple(source.table.entries), tuple(findings), tuple(runs))  # fmt: skip


def _order(error: AelabError, path: Path) -> tuple[bool, int]:
    """Sort key: errors in the order of the file, then those of parent files."""
    where = error.where or Where()
    return where.file != str(path), where.line or 0


#: A loss written as Python: a function, a call, or a name of torch (`F.l1_loss`).
_PYTHON = re.compile(r"lambda\b|[A-Za-z_]\w*\.|.*\(")
#: With these a trusted block may use a matrix value without mentioning its name.
_LOOKS_UP = re.compile(r"\b(eval|exec|globals|locals|vars|inspect)\b")


#: `${PATH}` of old files, there the folder of the program. A relative path keeps a run the same on
#: every machine; files below it are also found by their names (`roots.find_elsewhere`).
HERE = "."


class _Builder:
    """Builds the runs of one file and collects all errors."""

    def __init__(
        self, path: Path, source: ExperimentSource, *, trust: bool, home: Path | None = None
    ) -> None:
        self.path = path
        self.home = home
        self.source = source
        self.trust = trust
        self.errors: list[ConfigError] = []
        self.matrix = Matrix()
        self.number_of_runs = 0
        self.apart = False
        self.of_old_program: Mapping[str, str] = {}

    def runs(self, names: Iterable[str]) -> list[RunSpec]:
        """All runs of the matrix that the filter keeps; problems are added to `errors`."""
        entries = dict(self.source.table.entries)
        matrix_entry = entries.pop("matrix", None)
        self.matrix = read_matrix(matrix_entry and matrix_entry.tree, names, self.errors)
        self.check_keys(entries)
        cells = [cell for cell in self.matrix.cells() if self.matrix.keeps(cell, self.errors)]
        if not cells and not self.errors and self.matrix.filter is not None:
            where = self.matrix.filter.where
            self.errors.append(ConfigError("$filter removes every combination", where=where))
        if _is_old(entries):
            self.of_old_program = {"PATH": HERE}
            self.apart = len(cells) > 1 and _is_constant("experiment_name", entries)
        table = YamlMapping(entries, self.source.table.where)
        found = [self.cell_runs(cell, table) for cell in cells]
        # All are counted before the first is made: 100,000 take a minute.
        counted = self.number_of_runs <= MOST_RUNS
        runs = [run for trials in found for run in trials] if counted else []
        self.check_folders(runs)
        hidden = self.trust and any(
            _LOOKS_UP.search(block.text) for run in runs for block in run.blocks.values()
        )
        return runs if hidden else with_twins(runs)

    def check_keys(self, entries: Mapping[str, Entry]) -> None:
        """Checks for unknown and missing keys, before substitution."""
        unknown = [k for k in entries if not is_known_key(k) and "${" not in k]
        self.errors += [
            _fallen_out(key, entries[key].where, owner)
            if (owner := self.owner(key))
            else unknown_key(key, entries[key].where)
            for key in unknown
        ]
        missing = [k for k in REQUIRED_KEYS if k not in entries or _is_missing(k, entries[k].tree)]
        if missing:
            where = Where(str(self.path))
            self.errors.append(ConfigError(f"missing or empty: {', '.join(missing)}", where=where))

    def owner(self, key: str) -> str | None:
        """The empty `matrix:` or `globals:` above `key`, if `key` should be indented below it."""
        above = None
        for other, item in self.source.table.entries.items():
            tree = item.tree
            if other == key:
                break
            if other in ("matrix", "globals"):
                above = other if isinstance(tree, Text) and tree.value is None else None
            elif is_known_key(other):
                above = None
        return above

    def cell_runs(self, cell: Cell, template: YamlMapping) -> Iterable[RunSpec]:
        """The run, or the trials, of one matrix entry, made when asked; empty if it has errors."""
        before = len(self.errors)
        values = {**self.of_old_program, **cell.substitutions}
        table = Substitution(values, self.errors).table(template)
        substituted = len(self.errors) == before
        table = with_settings_names(table, self.errors)  # a key may have been a ${name}
        places = _places(table) | {f"matrix.{k}": w for k, w in self.matrix.places.items()}
        name = self.name(table)
        blocks = self.blocks(table)
        plain = self.plain_values(table, cell, blocks)
        stated = read_settings(plain, places, self.errors)
        if not substituted:  # errors of values that were not substituted only follow from that
            self.errors = [e for e in self.errors if not e.message.startswith("given '${")]
        parsed = self.parse(blocks if substituted else {}, cell.variables)
        if stated is None or not name or len(self.errors) > before:
            return []
        settings = stated.settings
        self.number_of_runs += settings.trials
        if self.number_of_runs > MOST_RUNS:
            message = f"more than {MOST_RUNS:,} runs with their trials; no file may have more"
            where = places.get("trials", Where(str(self.path)))
            self.errors.append(ConfigError(message, where=where))
            return []
        folders = self.old_folders(template, cell)
        findings = _findings(table, settings)
        if self.apart:
            findings.append(_named_apart(name, places["experiment_name"]))
            name = f"{name}_{cell.slug}"

        def made(trial: int) -> RunSpec:
            """The run of one trial, from 1."""
            seed = (settings.fit.seed + trial - 1) % 2**32
            repeated = settings.trials > 1
            own = settings
            if repeated or seed != settings.fit.seed:
                own = replace(settings, fit=replace(settings.fit, seed=seed), trials=1)
            full_name = f"{name}_trial-{trial}" if repeated else name
            return RunSpec(
                name=full_name,
                folder=legible_folder(full_name),
                matrix={key: unquoted(value) for key, value in cell.values.items()},
                matrix_id=cell.id,
                matrix_slug=cell.slug,
                trial=trial if repeated else None,
                seed=seed,
                settings=own,
                blocks=blocks,
                resolved_text=_resolved_text(
                    cell, full_name, seed, _spelled(blocks, table), _spelled(plain, table)
                ),
                identity=identity(Stated(own, stated.names), seed, parsed, cell.variables),
                file=str(self.path),
                text=self.source.text,
                home=self.home,
                old_folders=folders,
                findings=tuple(findings),
                places=places,
            )

        return map(made, range(1, settings.trials + 1))

    def name(self, table: YamlMapping) -> str:
        """`experiment_name`, or an empty string if it is missing or illegal."""
        entry = table.entries.get("experiment_name")
        if entry is None or _is_empty(entry.tree):
            return ""  # reported by check_keys
        if not isinstance(entry.tree, Text):
            self.errors.append(ConfigError("must be text", where=entry.where))
            return ""
        name = entry.tree.text.strip()
        if climbs_out(name):
            message = f"given {name!r}; a run cannot be outside runs/"
            self.errors.append(RefusedError(message, where=entry.where))
        elif reason := why_never_found(name):
            message = f"given {shown(name)}; {reason}"
            hint = "choose another name for that part"
            self.errors.append(ConfigError(message, where=entry.where, hint=hint))
        elif visible(name) != name:
            message = f"given {name!r}; holds control characters"
            self.errors.append(ConfigError(message, where=entry.where))
        elif not legible_folder(name):
            self.errors.append(ConfigError(f"given {name!r}; names no folder", where=entry.where))
        return name

    def blocks(self, table: YamlMapping) -> dict[str, Block]:
        """All values that are Python, `globals` first."""
        found: dict[str, Block] = {}
        if entry := table.entries.get("globals"):
            found |= self.globals(entry)
        for key, entry in table.entries.items():
            tree = entry.tree
            if key == "model" or DATA_KEY.match(key):
                if isinstance(tree, Text) and isinstance(tree.value, str):
                    found[key] = _block(key, tree)
                elif not _is_empty(tree):
                    self.errors.append(ConfigError("must be a block of Python", where=entry.where))
            elif isinstance(tree, Text) and isinstance(tree.value, str):
                is_python = tree.is_code_like or bool(_PYTHON.match(tree.text.strip()))
                if key in BLOCK_KEYS or (key == "loss_function" and is_python):
                    found[key] = _block(_spelling(key, entry), tree)
        return found

    def globals(self, entry: Entry) -> dict[str, Block]:
        """The blocks of `globals:` by `globals.NAME`, in the order of the file."""
        if not isinstance(entry.tree, YamlMapping):
            if not _is_empty(entry.tree):
                self.errors.append(ConfigError("must be 'NAME: value' lines", where=entry.where))
            return {}
        found = {}
        for name, item in entry.tree.entries.items():
            if name.startswith("_") or not name.isidentifier() or keyword.iskeyword(name):
                message = f"'{name}' cannot be a name in blocks"
                self.errors.append(ConfigError(message, where=item.where))
                continue
            found[f"globals.{name}"] = _block(f"globals.{name}", item.tree)
        return found

    def plain_values(
        self, table: YamlMapping, cell: Cell, blocks: Mapping[str, Block]
    ) -> dict[str, Any]:
        """Values of the plain keys; several lines of text are evaluated, as in old files."""
        plain: dict[str, Any] = {}
        for key, entry in table.entries.items():
            if key not in SETTING_KEYS:
                # Others were reported before anything was substituted.
                if not is_known_key(key) and key not in self.source.table.entries:
                    self.errors.append(unknown_key(key, entry.where))
                continue
            if key in blocks:
                plain[key] = blocks[key]
            elif isinstance(entry.tree, Text) and entry.tree.is_code_like:
                scope = Scope(CORE_NAMES, CORE_ATTRIBUTES, cell.variables)
                try:
                    plain[key] = evaluate_block(_block(_spelling(key, entry), entry.tree), scope)
                    _refuse_long_numbers(plain[key], entry.where)
                except Problems as problems:
                    self.errors += [e for e in problems.errors if isinstance(e, ConfigError)]
                except ConfigError as error:
                    self.errors.append(error)
            else:
                plain[key] = to_python(entry.tree)
        return plain

    def parse(
        self, blocks: Mapping[str, Block], variables: Mapping[str, Any]
    ) -> dict[str, ParsedBlock]:
        """All blocks as syntax trees."""
        folder = self.home or real(self.path).parent
        parsed: dict[str, ParsedBlock] = {}
        for key, block in blocks.items():
            errors, tree = inspect_block(block, variables, trust=self.trust, folder=folder)
            self.errors += errors
            if tree is not None:
                parsed[key] = tree
        return parsed

    def old_folders(self, template: YamlMapping, cell: Cell) -> tuple[str, ...]:
        """The folders of this entry in old runners: the name with each dialect's slug."""
        tree = template.entries["experiment_name"].tree
        assert isinstance(tree, Text)
        others = {k: v for k, v in cell.substitutions.items() if k != "matrix_slug"}
        kept = Substitution({**others, "matrix_slug": "${matrix_slug}"}, []).plain(tree.text, tree)
        return old_folders(kept.strip(), cell.values)

    def check_folders(self, runs: list[RunSpec]) -> None:
        """Adds errors for runs that share a folder, or whose folder lies inside another's."""
        sharing: dict[str, list[RunSpec]] = {}
        for run in runs:
            sharing.setdefault(run.folder.casefold(), []).append(run)
        for first, *others in sharing.values():
            if others:
                some = f"{describe(first)} and {describe(others[0])}"
                more = f" and {len(others) - 1} more" if len(others) > 1 else ""
                count = "two" if len(others) == 1 else str(len(others) + 1)
                self.errors.append(
                    ConfigError(
                        f"{count} runs would share the folder {others[0].folder!r}: {some}{more}",
                        where=first.places.get("experiment_name", Where(first.file)),
                        hint="let experiment_name contain ${matrix_slug}, or ${matrix_id}",
                    )
                )
        taken = {folder: some[0] for folder, some in sharing.items()}
        for run in runs:
            for parent in PurePosixPath(run.folder.casefold()).parents:
                if other := taken.get(str(parent)):
                    message = f"the folder {run.folder!r} would be inside the run {other.folder!r}"
                    where = run.places.get("experiment_name", Where(run.file))
                    self.errors.append(ConfigError(message, where=where))


def _is_old(entries: Mapping[str, Entry]) -> bool:
    """Whether a file has a `trainer` line, as only files of old programs have."""
    trainer = entries.get("trainer")
    return trainer is not None and not _is_empty(trainer.tree)


def _is_constant(key: str, entries: Mapping[str, Entry]) -> bool:
    """Whether the text of a key is equal for all runs of the matrix."""
    entry = entries.get(key)
    return entry is not None and isinstance(entry.tree, Text) and "${" not in entry.tree.text


def _named_apart(name: str, where: Where) -> Finding:
    """The note that runs of an old file got names of their own."""
    message = (
        f"experiment_name: {name!r} is the same for all runs of the matrix, so their values are "
        "added; the old program trained all of them in one folder, each from the state before"
    )
    return Finding("note", "named-apart", message, "write it with _${matrix_slug}", where)


def describe(run: RunSpec) -> str:
    """A run by its matrix values, for messages."""
    values = ", ".join(f"{key}={value!r}" for key, value in run.matrix.items())
    return f"#{run.matrix_id} ({values})" if values else f"#{run.matrix_id}"


def _is_missing(key: str, tree: Tree) -> bool:
    """Whether a required key has no value; 0 or false in a setting is a wrong value instead."""
    if key in RULES and isinstance(tree, Text):
        return tree.value is None or tree.value == ""
    return _is_empty(tree)


def _is_empty(tree: Tree) -> bool:
    """Whether a value is empty, zero or false, which old files treated as missing."""
    if isinstance(tree, Text):
        return not tree.value
    return not (tree.items if isinstance(tree, Items) else tree.entries)


def _block(key: str, tree: Tree) -> Block:
    """A value as Python code: text unchanged, other values as a literal."""
    if isinstance(tree, Text) and isinstance(tree.value, str):
        return Block(tree.text, tree.where.at(key=key))
    value = to_python(tree)
    special = (isinstance(value, float) and value != value) or value in (
        float("inf"),
        -float("inf"),
    )
    return Block(f"float('{value}')" if special else repr(value), tree.where.at(key=key))


def _fallen_out(key: str, where: Where, owner: str) -> ConfigError:
    return ConfigError(
        f"is not a key of an experiment, and '{owner}:' above it is empty",
        where=where,
        hint=f"indent the line below {owner}, for instance by two spaces:   {key}: ...",
    )


def _refuse_long_numbers(value: Any, where: Where) -> None:
    """Raise for whole numbers too long for Python's conversion to text (4,300 digits)."""
    if isinstance(value, int) and value.bit_length() > 10_000:
        raise ConfigError("a whole number of more than 3,000 digits", where=where)
    inside = value.values() if isinstance(value, dict) else value
    for item in inside if isinstance(value, dict | list | tuple) else ():
        _refuse_long_numbers(item, where)


def _places(table: YamlMapping, prefix: str = "") -> dict[str, Where]:
    """Key, dotted inside mappings -> its place."""
    found = {}
    for key, entry in table.entries.items():
        found[prefix + key] = entry.where
        if isinstance(entry.tree, YamlMapping):
            found |= _places(entry.tree, f"{prefix}{key}.")
    return found


def _findings(table: YamlMapping, settings: Settings) -> list[Finding]:
    found = [
        Finding(
            "note",
            "key-without-effect",
            f"{key}: is read but has no effect: {reason}",
            where=table.entries[key].where,
        )
        for key, reason in WITHOUT_EFFECT.items()
        if key in table.entries and key != "$visible"
    ]
    if settings.trainer and settings.legacy:
        what = " and ".join(old.words for old in old_numbers(settings.legacy))
        found.append(
            Finding(
                "note",
                "legacy-trainer",
                f"trainer {settings.trainer}: uses the legacy objective ({what})",
                "add 'legacy: false' for the corrected one",
            )
        )
    return found


def _spelled(values: Mapping[str, Any], table: YamlMapping) -> dict[str, Any]:
    """The values by the keys as spelled in the file; those of options by their first names."""
    return {
        _spelling(name, table.entries[name]) if name in table.entries else name: value
        for name, value in values.items()
    }


def _spelling(name: str, entry: Entry) -> str:
    """A setting as spelled in the file; its first name if an option or `${name}` gave it."""
    key = entry.where.key or ""
    return key if setting_of(key) == name else first_name(name)


def _resolved_text(cell: Cell, name: str, seed: int, blocks: Mapping[str, Block],
                   plain: Mapping[str, Any]) -> str:  # fmt: skip
    """YAML text that, when loaded, gives only this run."""
    keys: dict[str, Any] = {}
    if cell.values:
        keys["matrix"] = {key: [value] for key, value in cell.values.items()}
    keys["experiment_name"] = name
    names = {
        k.removeprefix("globals."): b.text for k, b in blocks.items() if k.startswith("globals.")
    }
    if names:
        keys["globals"] = names
    keys |= {key: block.text for key, block in blocks.items() if not key.startswith("globals.")}
    keys |= {
        k: v
        for k, v in plain.items()
        if k not in blocks and k not in ("seed", "trials") and v is not None
    }
    return write_yaml({**keys, "seed": seed})
