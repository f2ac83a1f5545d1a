"""Keyed random numbers: pinned for ever, well mixed, independent of how they are cut."""

from __future__ import annotations

import torch

from aelab.ops.random import keyed_generator, keyed_seed, murmur3, permutation, seed_default


def test_murmur3_equals_published_vectors() -> None:
    assert murmur3(b"") == 0
    assert murmur3(b"", 1) == 0x514E28B7
    assert murmur3(b"hello") == 0x248BFA47
    assert murmur3(b"hello, world") == 0x149BBB7F
    assert murmur3(b"The quick brown fox jumps over the lazy dog", 0x9747B28C) == 0x2FA826CD


def test_keyed_seeds_never_change() -> None:
    assert keyed_seed(0, "latent") == 1559594136
    assert keyed_seed(0, "latent", 64) == 4221186958
    assert keyed_seed(1, "latent", 64) == 3007032259
    assert keyed_seed(-1, "order", 2**33) == 1770704268


def test_the_default_generator_gets_the_seed_that_torch_would_give_it() -> None:
    seed_default(-5)
    ours = torch.rand(3)
    torch.manual_seed(-5)
    assert torch.equal(ours, torch.rand(3))


def test_the_order_of_an_epoch_never_changes() -> None:
    assert permutation(8, 0, 0).tolist() == [7, 5, 1, 4, 3, 6, 0, 2]


def test_keyed_seeds_differ_by_seed_purpose_and_index() -> None:
    purposes = ("latent", "augment", "module", "order")
    seeds = [keyed_seed(s, p, i) for s in range(5) for p in purposes for i in range(0, 64_000, 64)]
    # 20,000 draws of 32 bits collide 0.05 times on average.
    assert len(set(seeds)) >= len(seeds) - 2
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_keyed_seeds_flip_half_of_the_bits_for_the_next_index() -> None:
    flips = [(keyed_seed(0, "x", i) ^ keyed_seed(0, "x", i + 1)).bit_count() for i in range(2000)]
    assert 15.5 < sum(flips) / len(flips) < 16.5


def test_indices_above_32_bits_matter() -> None:
    assert keyed_seed(0, "latent", 1) != keyed_seed(0, "latent", 1 + 2**32)
    assert keyed_seed(1, "latent") != keyed_seed(1 + 2**32, "latent")


def test_a_reseeded_generator_draws_what_a_new_one_draws() -> None:
    reused = torch.Generator().manual_seed(1)
    torch.randn(1000, generator=reused)
    reused.manual_seed(keyed_seed(3, "latent", 128))
    fresh = keyed_generator(3, "latent", 128)
    assert torch.equal(torch.randn(64, 32, generator=reused), torch.randn(64, 32, generator=fresh))


def test_a_permutation_holds_every_image_once_and_differs_between_epochs() -> None:
    first, second = permutation(1000, 0, 0), permutation(1000, 0, 1)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert not torch.equal(first, second)
