"""The system calls that change the disk; nothing else in `runs` changes it.

Each call is a point at which a process can be killed or a machine lose power. `tests/runs` replaces
these names to simulate that at each point. In normal use they are the functions of `os`.
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

#: All names above, which tests replace.
CALLS = (
    "open", "write", "fsync", "truncate", "replace", "rename", "link", "unlink", "mkdir", "rmdir",
)  # fmt: skip
