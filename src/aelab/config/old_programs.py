"""Programs whose experiment files aelab reads: their import paths, trainers and other names.

An optional part or a package adds one by the entry-point group `aelab.old_programs`. Its module
must not import torch, because files are read without it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aelab.errors import ConfigError
from aelab.parts import Table


@dataclass(frozen=True)
class OldTrainer:
    """Settings implied by a `trainer:` line of an old file.

    Attributes:
        legacy: the old formulas it uses, see the key `legacy`.
        feature_loss_weight: weight of its penalty on the latent's batch statistics, if it has one.
    """

    legacy: frozenset[str]
    feature_loss_weight: float | None = None


@dataclass(frozen=True)
class OldNumbers:
    """The old formulas and values selected by one option of the key `legacy`.

    Attributes:
        words: its name in notes, for instance `its KL term`.
        stand_ins: formula of the objective -> the old formula used in its place.
        fit: fields of `FitSettings` and their old values.
    """

    words: str
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OldProgram:
    """The meaning of another program's files.

    Attributes:
        packages: its top-level packages, which are not published packages.
        files: files below its folder, by which a copy of it is recognised.
        modules: its modules -> the names in them that aelab has, too. The same name in another
            module is another part.
        whole: the modules of which aelab has every name.
        namespaces: modules that files import as a whole -> their names.
        trainers: the last part of a trainer's dotted name -> the settings it implies.
        old_numbers: options of the key `legacy` -> the old formulas they select.
    """

    packages: tuple[str, ...]
    files: tuple[str, ...] = ()
    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    whole: frozenset[str] = frozenset()
    namespaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trainers: Mapping[str, OldTrainer] = field(default_factory=dict)
    old_numbers: Mapping[str, OldNumbers] = field(default_factory=dict)


OLD_PROGRAMS: Table[OldProgram] = Table("old program", "aelab.old_programs", {})


def old_programs() -> tuple[OldProgram, ...]:
    """All programs whose files aelab reads."""
    return tuple(OLD_PROGRAMS.values())


def old_packages() -> frozenset[str]:
    """The top-level packages of those programs."""
    return frozenset(name for program in old_programs() for name in program.packages)


def known_names(module: str) -> tuple[str, ...] | None:
    """The names of an old module that aelab has; None if it is no old module."""
    return next((p.modules[module] for p in old_programs() if module in p.modules), None)


def whole_modules() -> frozenset[str]:
    """Old modules of which aelab has every name."""
    return frozenset(module for program in old_programs() for module in program.whole)


def old_namespaces() -> Mapping[str, tuple[str, ...]]:
    """Modules that old files import as a whole -> their names."""
    return {name: found for program in old_programs() for name, found in program.namespaces.items()}


def old_numbers(options: Iterable[str]) -> list[OldNumbers]:
    """The old formulas selected by options of the key `legacy`, sorted by option.

    Raises:
        ConfigError: no installed part or package provides one of them.
    """
    known = {key: value for program in old_programs() for key, value in program.old_numbers.items()}
    for option in sorted(options):
        if option not in known:
            raise ConfigError(f"legacy: nothing that is installed brings '{option}' back")
    return [known[option] for option in sorted(options)]


def find_trainer(dotted: str) -> OldTrainer:
    """The meaning of a `trainer:` line such as `src.train.TrainAutoencoder`.

    Raises:
        ConfigError: unknown trainer; aelab has one training loop, for autoencoders.
    """
    package, _, name = dotted.rpartition(".")
    trainers = {key: value for program in old_programs() for key, value in program.trainers.items()}
    if name in trainers and package.split(".")[0] in ("", *old_packages()):
        return trainers[name]
    near = difflib.get_close_matches(name, trainers, n=1, cutoff=0.9)
    possible = f"possible: {', '.join(trainers)}"
    if near or name in trainers:
        raise ConfigError(f"given '{dotted}'; {possible}; did you mean '{(near or [name])[0]}'?")
    hint = "aelab trains autoencoders; without this line the file would be another experiment"
    if "denois" in name.lower():
        hint = "to restore images, change the input but not the target: input_transforms"
    raise ConfigError(
        f"given '{dotted}': out of scope, it is no autoencoder's trainer; {possible}", hint=hint
    )
