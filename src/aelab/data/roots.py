"""Which folders may be read: `aelab.roots`, under the name that parts of this room use."""

from __future__ import annotations

from aelab.roots import (
    Roots,
    allowed,
    allowed_path,
    cache_folder,
    current,
    data_folders,
    entering,
    find,
    resolve,
    shown_path,
    using,
    way_out,
)

__all__ = [
    "Roots",
    "allowed",
    "allowed_path",
    "cache_folder",
    "current",
    "data_folders",
    "entering",
    "find",
    "resolve",
    "shown_path",
    "using",
    "way_out",
]
