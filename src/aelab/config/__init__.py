"""Reads one YAML experiment file and returns a list of fully resolved runs.

`load` reads the file with positions, `$extends`, `matrix` and `$filter`; `evaluate_block` evaluates
a block of restricted Python. This package does not import torch: the catalogue passes in the names
that a block may use and the attributes it may read.
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
