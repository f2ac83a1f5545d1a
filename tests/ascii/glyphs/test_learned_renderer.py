"""The learned renderer draws what is meant, is frozen, and is stored between processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from aelab.ascii.glyphs import (
    ALPHABET,
    LearnedRenderer,
    font_renderer,
    learned,
    learned_renderer,
    noisy_onehots,
    renderer_error,
)
from aelab.errors import ShapeError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    learned._shared.cache_clear()
    yield
    learned._shared.cache_clear()


def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "_STEPS", 20)


def _weights(renderer: LearnedRenderer) -> list[torch.Tensor]:
    return [weight.clone() for weight in renderer.state_dict().values()]


def test_it_is_nearer_to_the_hard_rendering_than_soft_rendering_is() -> None:
    error = renderer_error(learned_renderer(6, hidden=128))
    assert error.learned < 0.02
    assert error.learned < 0.6 * error.soft
    assert error.cells == 19_000


def test_it_is_differentiable_in_its_input_and_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    _quickly(monkeypatch)
    renderer = learned_renderer(6)
    assert not renderer.training
    assert not any(weight.requires_grad for weight in renderer.parameters())
    weights = torch.rand(2, 95, 1, 2, dtype=torch.float64).softmax(1).requires_grad_()
    assert torch.autograd.gradcheck(renderer, (weights,), fast_mode=True)
    renderer(weights).sum().backward()
    assert weights.grad is not None and float(weights.grad.abs().max()) > 0


def test_it_has_the_shape_of_the_exact_one_and_its_hard_rendering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _quickly(monkeypatch)
    renderer, exact = learned_renderer(7, 21), font_renderer(7, 21)
    weights = torch.rand(2, 95, 3, 4)
    assert renderer.cell == exact.cell
    assert renderer(weights).shape == exact(weights).shape
    numbers = torch.arange(12).view(1, 3, 4)
    assert torch.equal(renderer.draw(numbers), exact.draw(numbers))
    with pytest.raises(ShapeError, match="and not"):
        renderer(torch.rand(2, 94, 3, 4))


def test_a_cell_is_drawn_alike_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    _quickly(monkeypatch)
    renderer = learned_renderer(6)
    weights = torch.rand(1, 95, 2, 3)
    moved = renderer(weights.roll((1, 1), (2, 3)))
    height, width = renderer.cell
    assert torch.allclose(moved, renderer(weights).roll((height, width), (2, 3)), atol=1e-6)


def test_the_same_seed_gives_the_same_weights_and_the_random_state_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _quickly(monkeypatch)
    state = torch.get_rng_state()
    first = _weights(learned_renderer(6, seed=4))
    assert torch.equal(torch.get_rng_state(), state)
    learned._shared.cache_clear()
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "another"))
    again = _weights(learned_renderer(6, seed=4))
    other = _weights(learned_renderer(6, seed=5))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))


def test_it_is_trained_once_and_read_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _quickly(monkeypatch)
    with torch.inference_mode():
        first = _weights(learned_renderer(6))
    (stored,) = (tmp_path / "cache/renderers").iterdir()
    assert stored.suffix == ".safetensors"
    learned._shared.cache_clear()
    monkeypatch.setattr(learned, "_train", lambda *_: pytest.fail("trained again"))
    assert all(map(torch.equal, _weights(learned_renderer(6)), first))


@pytest.mark.parametrize("content", [b"", b"\x08" + b"\x00" * 7 + b"{}      "])
def test_a_damaged_file_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    _quickly(monkeypatch)
    first = _weights(learned_renderer(6))
    (stored,) = (tmp_path / "cache/renderers").iterdir()
    whole = stored.read_bytes()
    stored.write_bytes(content)
    learned._shared.cache_clear()
    assert all(map(torch.equal, _weights(learned_renderer(6)), first))
    assert stored.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_only_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _quickly(monkeypatch)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "file"))
    assert learned_renderer(6)(torch.rand(1, 95, 1, 1)).shape == (1, 1, 8, 4)


def test_noisy_one_hots_sum_to_one_and_keep_the_character_meant() -> None:
    numbers = torch.arange(len(ALPHABET)).repeat(4)
    noisy = noisy_onehots(numbers, 0.45, torch.Generator().manual_seed(0))
    assert torch.allclose(noisy.sum(1), torch.ones(len(numbers)))
    assert torch.equal(noisy.argmax(1), numbers)
    assert float(noisy.min()) >= 0 and float(noisy.max()) < 1
