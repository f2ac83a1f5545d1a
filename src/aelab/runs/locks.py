"""The right to write a run: a lock of the kernel, or a lease where such locks do not work.

A kernel lock is released when its process ends, for any reason. Some network file systems have no
locks, or only locks visible to one machine. There the right to write is a file in the folder
`lease`, whose name is its owner: renaming is atomic on every file system, and fails if the old name
is gone. So of several processes that take the same free or abandoned lease, only one succeeds.

    lease/free                        nobody
    lease/MACHINE-PID-MARK-TOKEN      a process, which renews the file's time every 10 seconds
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from aelab.hardware import is_there, machine_mark, process_mark
from aelab.runs import disk
from aelab.runs.status import BEAT_SECONDS, SILENCE_SECONDS

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, whose locks are kept by the file server
    fcntl = None

#: Error numbers of file systems without locks.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
#: File systems whose locks other machines do not see, by a pattern of kind and mount options.
_LOCAL = {
    r"nfs\d? .*\bnolock\b": "NFS is mounted with nolock",
    r"nfs\d? .*\blocal_lock=(all|flock)\b": "NFS is mounted with local_lock",
    r"lustre .*\blocalflock\b": "Lustre is mounted with localflock",
    r"(cifs|smb3) .*\bnobrl\b": "the share is mounted with nobrl",
    r"fuse\.(sshfs|rclone|s3fs|gcsfuse|goofys|mount-s3)\b": "a FUSE file system has no locks",
}
_FREE = "free"
_OWNER = re.compile(r"(?P<machine>[0-9a-f]+)-(?P<pid>\d+)-(?P<mark>\w+)-(?P<token>[0-9a-f]+)")
#: Seconds between two tries to take a lease.
_AGAIN_SECONDS = 0.05

_probed: dict[int, str] = {}


class Taken(Exception):
    """Another process may write."""


def why_no_locks(folder: Path) -> str:
    """The reason why kernel locks in a folder do not exclude other machines; empty if they do.

    Checked once for each file system. `AELAB_LOCKS=lease` forces leases everywhere.
    """
    if os.environ.get("AELAB_LOCKS") == "lease":
        return "AELAB_LOCKS=lease"
    try:
        device = os.stat(folder).st_dev
    except OSError:
        return ""
    if device not in _probed:
        _probed[device] = _local(device) or _refused(folder)
    return _probed[device]


def _local(device: int) -> str:
    """The reason, from a file system's mount options, why its locks are local; else empty."""
    number = f"{os.major(device)}:{os.minor(device)}" if hasattr(os, "major") else ""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
            first, _, last = line.partition(" - ")
            if first.split()[2] == number:
                kind, _, options = last.split(" ", 2)
                mounted = f"{kind} {first.split()[5]},{options}"
                return next((why for it, why in _LOCAL.items() if re.match(it, mounted)), "")
    return ""


def _refused(folder: Path) -> str:
    """The reason why the system refuses to lock a file there; empty if it does not."""
    if fcntl is None:
        return ""
    path = folder / f".lock-{secrets.token_hex(4)}.tmp"
    try:
        descriptor = disk.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:  # the next write reports why it is impossible
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"the system says: {error.strerror}" if error.errno in _NO_LOCKS else ""
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            disk.unlink(path)
    return ""


@contextlib.contextmanager
def held(folder: Path, timeout_seconds: float = 0) -> Iterator[Lease | None]:
    """Context manager: holds the right to write in a folder; yields the lease if one is needed.

    Args:
        folder: of a run.
        timeout_seconds: how long to wait for another process.

    Raises:
        Taken: another process has it.
        OSError: the system refuses.
    """
    from filelock import FileLock, Timeout

    why = why_no_locks(folder)
    with contextlib.ExitStack() as stack:
        if not (why and _refused(folder)):
            lock = FileLock(folder / "lock", timeout=timeout_seconds)
            try:
                stack.enter_context(lock)
            except Timeout as error:
                raise Taken from error
        # A folder `lease` was made by a machine on which locks do not work.
        needs_lease = bool(why) or (folder / "lease").is_dir()
        yield stack.enter_context(Lease(folder, timeout_seconds)) if needs_lease else None


class Lease:
    """Context manager: the right to write in a folder without kernel locks.

    Args:
        folder: of a run; it gets a folder `lease`.
        timeout_seconds: how long to wait for another process.
        machine: mark of this machine.

    Attributes:
        is_lost: whether another process has taken it because this one was silent for too long.
    """

    def __init__(
        self, folder: Path, timeout_seconds: float = 0, machine: str | None = None
    ) -> None:
        self._folder, self._timeout = folder, timeout_seconds
        self._machine = machine or machine_mark()
        pid = os.getpid()
        mark = process_mark(pid) or "x"
        self._name = f"{self._machine}-{pid}-{mark}-{secrets.token_hex(6)}"
        self.is_lost = False
        self._over = threading.Event()

    @property
    def _place(self) -> Path:
        return self._folder / "lease"

    def __enter__(self) -> Lease:
        end = time.monotonic() + self._timeout
        while not self._taken():
            if time.monotonic() >= end:
                raise Taken
            time.sleep(_AGAIN_SECONDS)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):  # it was taken, or the run was removed
            disk.rename(self._place / self._name, self._place / _FREE)

    def check(self) -> bool:
        """Whether this process may still write; asks the file system."""
        self.is_lost = self.is_lost or not (self._place / self._name).exists()
        return not self.is_lost

    def _taken(self) -> bool:
        """Takes the lease if it is free or abandoned; returns whether it succeeded."""
        name = self._owner()
        if name is None:
            return self._made()
        if name != _FREE and not self._is_abandoned(name):
            return False
        try:
            # The time first: a file with our name and an old time would look abandoned.
            os.utime(self._place / name)
            disk.rename(self._place / name, self._place / self._name)
        except FileNotFoundError:  # taken by another; or a server repeats a request
            return (self._place / self._name).exists()
        return True

    def _owner(self) -> str | None:
        try:
            names = sorted(n for n in os.listdir(self._place) if not n.startswith("."))
        except FileNotFoundError:
            return None
        return names[-1] if names else None

    def _made(self) -> bool:
        """Makes the folder with this process as owner; false if another made it meanwhile."""
        partial = self._folder / f".lease-{secrets.token_hex(6)}.tmp"
        disk.mkdir(partial)
        try:
            (partial / self._name).touch()
            disk.rename(partial, self._place)  # refused if the target has a file in it
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def _is_abandoned(self, name: str) -> bool:
        """Whether an owner has ended; on another machine, whether it was silent for too long."""
        owner = _OWNER.fullmatch(name)
        if owner and owner["machine"] == self._machine:
            return not is_there(int(owner["pid"]), owner["mark"] if owner["mark"] != "x" else None)
        try:
            renewed = os.stat(self._place / name).st_mtime
        except OSError:
            return False
        return self._now() - renewed > SILENCE_SECONDS

    def _now(self) -> float:
        """The present time by the file system's clock, which may differ from this machine's."""
        path = self._folder / f".now-{secrets.token_hex(6)}.tmp"
        try:
            path.touch()
            return path.stat().st_mtime
        finally:
            with contextlib.suppress(OSError):
                disk.unlink(path)

    def _beat(self) -> None:
        """Renews the file's time regularly, until the end or until another takes the lease."""
        while not self._over.wait(BEAT_SECONDS):
            try:
                os.utime(self._place / self._name)
            except FileNotFoundError:
                self.is_lost = True
                return
            except OSError:
                continue
