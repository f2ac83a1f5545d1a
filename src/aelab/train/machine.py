"""Settings for the machine: threads, precision, memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

import torch

from aelab.hardware import free_cores

#: glibc returns memory to the system at once above these sizes; a training step then pays page
#: faults for every activation. 32 MiB is the largest threshold that glibc accepts.
_MMAP_BYTES = 32 * 1024 * 1024
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: Instructions for products of bfloat16 numbers, as torch names them.
_UNITS = ("amx_bf16", "avx512_bf16")


def choose_threads(jobs: int = 1) -> int:
    """CPU threads for each of `jobs` parallel runs: free cores divided among them, at least 1.

    Too many threads cost far more than too few: beside one other busy process, two threads ran
    at a third of the speed of one thread.
    """
    return max(1, free_cores() // max(1, jobs))


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 numbers in hardware; asks torch, times nothing."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    ask = getattr(torch.cpu, "get_capabilities", None)
    found = ask() if ask is not None else {}
    return any(bool(found.get(name)) for name in _UNITS)


def name_of(device: torch.device) -> str:
    """The name of a processor or a GPU, by which timings are kept; empty where it has none."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    ask = getattr(torch.cpu, "get_capabilities", None)
    return str((ask() if ask is not None else {}).get("cpu_name", ""))


def keep_freed_memory() -> bool:
    """Makes glibc's allocator keep freed memory, for this process; False without glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # mallopt takes an int: 2 GiB - 1 is the most that fits.
    trim = mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(trim and mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES))


@contextlib.contextmanager
def prepared_process(threads: int, device: torch.device, deterministic: bool) -> Iterator[None]:
    """Context manager: sets threads, allocator and determinism; restores all but the allocator."""
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cpu":
        torch.set_num_threads(threads)
        keep_freed_memory()
    if deterministic:
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if deterministic:  # the call imports torch's compiler, which costs 1 s
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
