"""Which folders may be read: `aelab.roots`, under the name that parts of this room use."""

from __future__ import annotations

from aelab.roots import (
    Roots,
    allowed,
    cache_folder,
    check,
    current,
    data_folders,
    entering,
    find,
    resolve,
    shown,
    using,
    way_out,
)

__all__ = [
    "Roots",
    "allowed",
    "cache_folder",
    "check",
    "current",
    "data_folders",
    "entering",
    "find",
    "resolve",
    "shown",
    "using",
    "way_out",
]
