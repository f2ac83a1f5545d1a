"""Programs whose experiment files aelab reads: their import paths, trainers and other names.

A wing or a package brings one by the entry-point group `aelab.old_programs`. Its module must not
import torch: files are read without it.
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
    """What a `trainer:` line of an old file implies.

    Attributes:
        legacy: which old numbers it reproduces, see the key `legacy`.
        feature_loss_weight: weight of its penalty on the latent's batch statistics, if it has one.
    """

    legacy: frozenset[str]
    feature_loss_weight: float | None = None


@dataclass(frozen=True)
class OldNumbers:
    """What one option of the key `legacy` brings back.

    Attributes:
        words: what a note calls it, for instance `its KL term`.
        stand_ins: formula of the objective -> the old one, which is used in its place.
        fit: fields of `FitSettings` and their old values.
    """

    words: str
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OldProgram:
    """What the files of another program mean here.

    Attributes:
        packages: its top packages, which are never published packages.
        files: files below its folder, by which a copy of it is known.
        modules: its modules -> those of their names that aelab has too, under the same name. A name
            that stands in another of its modules is another part.
        whole: those modules of which aelab has every name.
        namespaces: modules that files import as a whole -> their names.
        trainers: the last part of a trainer's dotted name -> what it implies.
        old_numbers: options of the key `legacy` -> what they bring back.
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
    """Every program whose files are read."""
    return tuple(OLD_PROGRAMS.values())


def old_packages() -> frozenset[str]:
    """The top packages of those programs."""
    return frozenset(name for program in old_programs() for name in program.packages)


def known_names(module: str) -> tuple[str, ...] | None:
    """Names of an old module that aelab has; None where it is no such module."""
    return next((p.modules[module] for p in old_programs() if module in p.modules), None)


def whole_modules() -> frozenset[str]:
    """Old modules of which aelab has every name."""
    return frozenset(module for program in old_programs() for module in program.whole)


def old_namespaces() -> Mapping[str, tuple[str, ...]]:
    """Modules that old files import as a whole -> their names."""
    return {name: found for program in old_programs() for name, found in program.namespaces.items()}


def old_numbers(options: Iterable[str]) -> list[OldNumbers]:
    """What options of the key `legacy` bring back, in the order of their names.

    Raises:
        ConfigError: no wing or package that is installed brings one of them.
    """
    known = {key: value for program in old_programs() for key, value in program.old_numbers.items()}
    for option in sorted(options):
        if option not in known:
            raise ConfigError(f"legacy: nothing that is installed brings '{option}' back")
    return [known[option] for option in sorted(options)]


def find_trainer(dotted: str) -> OldTrainer:
    """The meaning of a `trainer:` line such as `src.train.TrainAutoencoder`.

    Raises:
        ConfigError: no such trainer; there is only one training loop here, for autoencoders.
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
