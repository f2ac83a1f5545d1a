"""The system calls that change the disk; nothing else in `runs` changes it.

Each call is a point at which a process can die or a machine lose its power. `tests/runs` replaces
these names to do so at every one of them in turn. In use they are the functions of `os` themselves.
"""

from __future__ import annotations

import os

open = os.open
write = os.write
fsync = os.fsync
truncate = os.ftruncate
replace = os.replace
rename = os.rename
link = os.link
unlink = os.unlink
mkdir = os.mkdir
rmdir = os.rmdir

#: Every name above: what a test replaces.
CALLS = (
    "open", "write", "fsync", "truncate", "replace", "rename", "link", "unlink", "mkdir", "rmdir",
)  # fmt: skip
