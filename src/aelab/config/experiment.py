"""The content of an experiment file as plain data: an `Experiment` of `RunSpec`s."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aelab.config.blocks import Block, ParsedBlock, Scope, inspect_block
from aelab.config.identity import text_behind
from aelab.config.matrix import is_variable
from aelab.config.references import runs_named
from aelab.errors import Where
from aelab.findings import Finding
from aelab.roots import real
from aelab.settings import Settings


class Twin(NamedTuple):
    """Another run of the file with the same identity, and therefore the same result."""

    name: str
    folder: str
    matrix_id: str
    matrix_slug: str
    matrix: dict[str, Any]


@dataclass(frozen=True)
class RunSpec:
    """One run of a file, fully resolved; plain data that can be sent to another process.

    Attributes:
        name: resolved `experiment_name`, with `_trial-N` where there are trials.
        folder: legible path below `runs/`, unique in the file.
        matrix: matrix key -> typed value.
        matrix_id: position from 1 before filtering, zero-padded.
        matrix_slug: `key:value` of every matrix key.
        trial: number from 1; None if nothing is repeated.
        seed: seed of everything random in this run.
        settings: the plain keys.
        blocks: Python by key, `globals.NAME` first, then in the order of the file.
        resolved_text: YAML after substitution; loading it gives this run alone.
        identity: hexadecimal hash of everything that can change the result.
        file: path of the experiment file as given.
        home: the folder of the file when the run was made, if the file was moved since: under
            trust, its modules are imported from there.
        text: text of the file.
        old_folders: where old runners may have put the same run.
        findings: notes and warnings that follow from the text of the file.
        same: the other runs of the file with the same identity: their matrix values differ only
            in keys that no block mentions.
        places: key (dotted inside mappings, `matrix.lr` for variables) -> its place.
    """

    name: str
    folder: str
    matrix: dict[str, Any]
    matrix_id: str
    matrix_slug: str
    trial: int | None
    seed: int
    settings: Settings
    blocks: dict[str, Block]
    resolved_text: str
    identity: str
    file: str
    text: str = ""
    home: Path | None = None
    old_folders: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    same: tuple[Twin, ...] = ()
    places: dict[str, Where] = field(default_factory=dict, repr=False)

    @property
    def base(self) -> Path:
        """The folder that relative paths in the file refer to."""
        return self.home or real(self.file).parent

    @property
    def variables(self) -> dict[str, Any]:
        """The typed variables of blocks."""
        return {key: value for key, value in self.matrix.items() if is_variable(key)}

    def scope(self, names: Mapping[str, Any], attributes: Mapping[type, frozenset[str]], *,
              trust: bool = False) -> Scope:  # fmt: skip
        """A fresh scope for the blocks of this run, over the catalogue's names and attributes."""
        places = {key.removeprefix("matrix."): where for key, where in self.places.items()}
        return Scope(names, attributes, self.variables, trust, self.base, places)

    def text_behind(self, wanted: Callable[[str], bool]) -> dict[str, Any]:
        """The blocks and values that some keys depend on; see `identity.text_behind`."""
        return text_behind(self._parsed(), self.variables, wanted)

    def runs_named(self) -> tuple[str, ...]:
        """Folders of other runs that this one uses; see `references.runs_named`."""
        return runs_named(self._parsed(), self.variables, self.settings.load)

    def words_behind(self, key: str) -> str:
        """One line for one key: the matrix values it uses, then its Python code."""
        blocks = self._parsed()
        found = text_behind(blocks, self.variables, key.__eq__)
        values = ", ".join(f"{name}={value!r}" for name, value in found["variables"].items())
        trees = (t for k in found["blocks"] for t in (*blocks[k].body, blocks[k].value))
        code = " ".join("; ".join(ast.unparse(tree) for tree in trees).split())
        return f"{values}: {code}" if values else code

    def _parsed(self) -> dict[str, ParsedBlock]:
        """The blocks as syntax trees, without checking or running them."""
        parsed = {
            key: inspect_block(block, self.variables, folder=self.base)[1]
            for key, block in self.blocks.items()
        }
        return {key: block for key, block in parsed.items() if block is not None}


@dataclass(frozen=True)
class Experiment:
    """A checked file.

    Attributes:
        path: as given.
        text: of the file.
        parents: path -> text of the files it extends.
        matrix: key -> its values, as in the file.
        keys: top-level keys, including those of parents.
        findings: words that were booleans in YAML 1.1, keys without effect, legacy options.
    """

    path: Path
    text: str
    parents: dict[str, str]
    matrix: dict[str, list[Any]]
    keys: tuple[str, ...]
    findings: tuple[Finding, ...]
    expanded: tuple[RunSpec, ...] = field(repr=False)

    def runs(self) -> list[RunSpec]:
        """Every run, in the order of the matrix."""
        return list(self.expanded)
