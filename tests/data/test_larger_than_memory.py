"""Sets that lie in a mapped file give the same as in memory; larger ones are shuffled by blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aelab.data import MEMORY, array_dataset
from aelab.data.memory import mapped_above
from aelab.inspect import as_model
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.ops.random import block_permutation
from aelab.train import FitSettings, batches, fit, make_state
from aelab.train.batches import Batches
from aelab.types import Images, TermSpec


@pytest.mark.parametrize(("n", "block", "together"), [(1000, 8, 5), (1003, 10, 3), (7, 10, 2)])
def test_an_order_by_blocks_is_a_permutation_of_close_neighbours(
    n: int, block: int, together: int
) -> None:
    order = block_permutation(n, 1, 0, block, together)
    assert sorted(order.tolist()) == list(range(n))
    for part in torch.split(order, block * together)[:-2]:
        # A part of the order reads at most the blocks of two groups.
        assert len((part // block).unique()) <= 2 * together
    assert not torch.equal(order, block_permutation(n, 1, 1, block, together))
    assert not torch.equal(order, block_permutation(n, 2, 0, block, together))
    assert torch.equal(order, block_permutation(n, 1, 0, block, together))


def test_only_sets_that_do_not_fit_are_shuffled_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(torch.zeros(4096, 1, 32, 32, dtype=torch.uint8))  # 4 MB
    sets = Batches(images, torch.device("cpu"))
    usual = sets.order(0, 0)
    monkeypatch.setattr(batches, "machine_bytes", lambda: None)
    assert batches.shuffle_memory(images.pixels.nbytes) == 0
    monkeypatch.setattr(batches, "machine_bytes", lambda: 9 << 20)
    assert batches.shuffle_memory(images.pixels.nbytes) == 0
    monkeypatch.setattr(batches, "machine_bytes", lambda: 7 << 20)
    assert torch.equal(sets.order(0, 0), usual)  # asked without a memory
    memory = batches.shuffle_memory(images.pixels.nbytes)
    assert memory == 7 << 20
    blocks = sets.order(0, 0, memory)
    assert not torch.equal(blocks, usual) and torch.equal(sets.order(0, 0), usual)
    # Blocks of 1 MB, two of them together.
    assert len((blocks[:2048] // 1024).unique()) == 2


class Net(nn.Module):
    """One linear layer each way."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
        self.decoder = nn.Sequential(nn.Linear(4, 16), nn.Unflatten(1, (1, 4, 4)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 1, 4, 4) -> the same."""
        made: torch.Tensor = self.decoder(self.encoder(images))
        return made


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_keeps_its_order_on_a_machine_with_other_memory(
    earlier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Images((torch.arange(4096 * 16).reshape(4096, 1, 4, 4) % 251).to(torch.uint8))  # 64 kB
    monkeypatch.setattr(batches, "BLOCK_BYTES", 1024)
    settings = FitSettings(batch_size=64, learnrate=0.01, max_images=512)
    objective = make_objective([TermSpec("l2", "l2")])

    def trained(memory: int, then: int) -> dict[str, torch.Tensor]:
        """Weights after 512 images, the second half of them with another memory."""
        torch.manual_seed(0)
        model = as_model(Net())
        monkeypatch.setattr(batches, "machine_bytes", lambda: memory)
        state = make_state(model, settings)
        list(fit(state, objective, images, None, replace(settings, max_images=256)))
        tensors, numbers = state.stored()
        assert numbers["shuffle_memory"] == (0 if memory > 1 << 17 else memory)
        if earlier:  # a checkpoint of an earlier version
            del numbers["shuffle_memory"]
        again = make_state(model, settings)
        again.load(tensors, numbers)
        monkeypatch.setattr(batches, "machine_bytes", lambda: then)
        list(fit(again, objective, images, None, settings))
        return {name: value.clone() for name, value in model.state_dict().items()}

    small, large = 1 << 16, 1 << 20
    first = large if earlier else small
    kept, moved = trained(first, first), trained(first, large if first == small else small)
    assert all(torch.equal(value, moved[name]) for name, value in kept.items())
    if not earlier:
        other = trained(large, large)
        assert not all(torch.equal(value, other[name]) for name, value in kept.items())


def test_sets_are_mapped_above_a_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: 64 << 30)
    assert mapped_above() == 2 << 30
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: 4 << 30)
    assert mapped_above() == 1 << 30
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: None)
    assert mapped_above() == 2 << 30


FILE = """
experiment_name: trained
train_set: array_dataset("a.npy").random_shift(1)
validation_set: array_dataset("a.npy").limit(20)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=4), DecoderMLP((1, 8, 8), code_size=4))
loss_function: l1
optimizer: Adam
learnrate: 0.01
batch_size: 16
max_images: 480
"""


@pytest.mark.parametrize("last", ["first", "last"])
def test_a_run_on_a_mapped_file_equals_one_in_memory(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values.transpose(0, 2, 3, 1) if last == "last" else values)
    (tmp_path / "a.yml").write_text(FILE, encoding="utf-8")
    states = []
    for name, limit in (("memory", 1 << 30), ("mapped", 1000)):
        MEMORY.clear()
        monkeypatch.setattr("aelab.data.memory.MAPPED_BYTES", limit)
        images = array_dataset(str(tmp_path / "a.npy")).load()
        assert bool(images.facts.get("memory_mapped")) == (name == "mapped")
        lab = Lab(tmp_path / name)
        list(lab.run(tmp_path / "a.yml"))
        states.append(
            {key: value.clone() for key, value in lab.open("trained").model.state_dict().items()}
        )
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_mapped_file_is_not_changed_by_who_writes_into_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.zeros((50, 8, 8), np.uint8))
    before = (tmp_path / "a.npy").read_bytes()
    monkeypatch.setattr("aelab.data.memory.MAPPED_BYTES", 1000)
    images = array_dataset(str(tmp_path / "a.npy")).load()
    assert images.facts["memory_mapped"]
    images.pixels.fill_(7)
    assert (tmp_path / "a.npy").read_bytes() == before
