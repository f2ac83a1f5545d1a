"""What to run: one YAML file in, a list of fully resolved runs out.

`load` reads the file with positions, `$extends`, `matrix` and `$filter`; `evaluate_block` turns a
block of Python into a value under restriction. This room knows no torch: the names that a block
may use, and the attributes it may read, are handed to it by the catalogue.
"""

from __future__ import annotations

from aelab.config.blocks import Block, Scope, evaluate_block, evaluate_blocks
from aelab.config.expand import load
from aelab.config.experiment import Experiment, RunSpec
from aelab.config.guards import FrozenModule
from aelab.config.identity import FORMAT_VERSION
from aelab.config.late import mistake_of, passes_through
from aelab.config.schema import json_schema
from aelab.config.settings import UnknownKey
from aelab.config.slugs import legible_folder, matrix_slug, old_folders, slug_forms
from aelab.settings import Choice, Clipping, Settings

__all__ = [
    "FORMAT_VERSION",
    "Block",
    "Choice",
    "Clipping",
    "Experiment",
    "FrozenModule",
    "RunSpec",
    "Scope",
    "Settings",
    "UnknownKey",
    "evaluate_block",
    "evaluate_blocks",
    "json_schema",
    "legible_folder",
    "load",
    "matrix_slug",
    "mistake_of",
    "old_folders",
    "passes_through",
    "slug_forms",
]
