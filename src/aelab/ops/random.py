"""Keyed random numbers: every draw is a function of (seed, purpose, index), so no state is stored.

`index` is usually the number of images seen. A run that is stopped and continued draws the same
numbers; so does a run that trains in a stack of runs.

torch's CPU generator ignores seed bits above 32 (`seed << 32 | step` repeats itself), so the key
is hashed to 32 well-distributed bits first. Tests fix the values: they must never change.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def keyed_seed(seed: int, purpose: str, index: int = 0) -> int:
    """The 32-bit seed of one draw, a hash of its key.

    Args:
        seed: the seed of the run; any integer (its low 64 bits are used).
        purpose: name of the draw, for instance `latent`; different names give independent numbers.
        index: number of the draw, usually the images seen (its low 64 bits are used).

    Returns:
        0 .. 2**32 - 1, the same on every machine and version.
    """
    wide = 0xFFFFFFFFFFFFFFFF
    key = (seed & wide).to_bytes(8, "little") + (index & wide).to_bytes(8, "little")
    return murmur3(key + purpose.encode())


def murmur3(key: bytes, seed: int = 0) -> int:
    """MurmurHash3_x86_32 of `key`.

    Returns:
        0 .. 2**32 - 1.

    Source: Austin Appleby, SMHasher, MurmurHash3.cpp (public domain), 2011.
    """
    mixed = seed
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        mixed ^= _scramble(int.from_bytes(key[start : start + 4], "little"))
        mixed = _rotate(mixed, 13) * 5 + 0xE6546B64 & _MASK
    if whole < len(key):
        mixed ^= _scramble(int.from_bytes(key[whole:], "little"))
    mixed ^= len(key)
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _MASK
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _MASK
    return mixed ^ mixed >> 16


def keyed_generator(
    seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A new generator on `device`, seeded by `keyed_seed(seed, purpose, index)`.

    In a loop, reseed one generator instead: `generator.manual_seed(keyed_seed(...))`.
    """
    return torch.Generator(device=device).manual_seed(keyed_seed(seed, purpose, index))


def seed_default(seed: int) -> None:
    """Seeds the default generators, as `torch.manual_seed`, of this machine's devices.

    Without a GPU `torch.manual_seed` keeps a stack trace for each kind of GPU, in case that one
    appears later: 0.24 ms and some memory at every call.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The shuffled order of `n` images in one epoch.

    Returns:
        (n,) int64 on the CPU, a permutation of 0 .. n-1.
    """
    return torch.randperm(n, generator=keyed_generator(seed, "order", epoch))


def block_permutation(n: int, seed: int, epoch: int, block: int, together: int) -> Tensor:
    """An order of `n` images in one epoch in which close images are read at about the same time.

    Blocks of `block` neighbours are shuffled; then the images of each `together` blocks. With all
    blocks together it is a full shuffle. For sets larger than memory: in the order of
    `permutation` every image would be read from the disk alone.

    Returns:
        (n,) int64 on the CPU, a permutation of 0 .. n-1.
    """
    generator = keyed_generator(seed, "order of blocks", epoch)
    count = -(-n // block)
    order = []
    for group in torch.split(torch.randperm(count, generator=generator), together):
        rows = (group[:, None] * block + torch.arange(block)).flatten()
        rows = rows[rows < n]
        order.append(rows[torch.randperm(len(rows), generator=generator)])
    return torch.cat(order)


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _MASK


def _scramble(word: int) -> int:
    return _rotate(word * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK
