"""A learned renderer: from noisy one-hots to the picture of the most likely character."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from functools import cache
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab import roots
from aelab.ascii.glyphs.alphabet import ALPHABET
from aelab.ascii.glyphs.font import find_font
from aelab.ascii.glyphs.renderer import FontRenderer, check_weights, font_renderer, tiled

#: Part of the cache key of a trained network: raise it when training changes.
_RECIPE = 2
_STEPS, _BATCH, _RATE = 2000, 256, 3e-2
_SHARPNESS = 3.0


class LearnedRenderer(nn.Module):
    """The document's onehot2raa: a network that draws each cell from its (noisy) one-hot.

    `FontRenderer` draws the weighted sum of all characters of a cell. This network is trained to
    draw only the most likely one, and still has gradients between them. It has two linear layers
    with SiLU between and a sigmoid at the end, the same for every cell, with frozen weights.

    Args:
        renderer: the exact renderer, which also gives the size of cells.
        hidden: features between the two layers.

    Attributes:
        cell: (h, w), pixels.

    Source: document 002, first paragraph; the architecture is ours, none was published.
    """

    def __init__(self, renderer: FontRenderer, hidden: int = 256) -> None:
        super().__init__()
        self.cell = renderer.cell
        self.hard = renderer
        pixels = renderer.cell[0] * renderer.cell[1]
        # On the CPU and uninitialised, in any device context: draws no random numbers.
        self.first = nn.Linear(len(ALPHABET), hidden, device="meta").to_empty(device="cpu")
        self.second = nn.Linear(hidden, pixels, device="meta").to_empty(device="cpu")

    def forward(self, weights: Tensor) -> Tensor:
        """Draws each cell by the network.

        Args:
            weights: (B, 95, H, W), non-negative, summing to 1 over the characters.

        Returns:
            (B, 1, H * h, W * w), 0..1, of the weights' type and device; with gradient.

        Raises:
            ShapeError: not four axes, or not 95 characters.
        """
        check_weights(weights)
        pixels = self.pixel_logits(weights.flatten(2)).sigmoid()
        return tiled(pixels, self.cell, weights.shape[2:])

    def pixel_logits(self, cells: Tensor) -> Tensor:
        """(B, 95, n) -> (B, h * w, n): logits of the greys, before the sigmoid."""
        hidden = self.first.weight.to(cells) @ cells + self.first.bias.to(cells)[:, None]
        drawn: Tensor = self.second.weight.to(cells) @ F.silu(hidden)
        return drawn + self.second.bias.to(cells)[:, None]

    def draw(self, numbers: Tensor) -> Tensor:
        """The exact picture of character numbers (B, H, W), see `FontRenderer.draw`."""
        return self.hard.draw(numbers)


class RendererError(NamedTuple):
    """Mean absolute error of pixels, 0..1, on noisy one-hots against the exact rendering.

    Attributes:
        learned: error of the learned renderer.
        soft: error of the soft rendering with the same font (a weighted sum of characters).
        cells: number of cells drawn.
    """

    learned: float
    soft: float
    cells: int


def noisy_onehots(
    numbers: Tensor, noise: float, generator: torch.Generator | None = None
) -> Tensor:
    """One-hots from which a random share, up to `noise`, is moved to random characters.

    Args:
        numbers: (n,) int64, character numbers.
        noise: 0..1; below 0.5 the true character remains the most likely.
        generator: random generator on the device of `numbers`.

    Returns:
        (n, 95) float32, non-negative, each row summing to 1.
    """
    count, device = len(numbers), numbers.device
    share = noise * torch.rand((count, 1), device=device, generator=generator)
    normal = torch.randn((count, len(ALPHABET)), device=device, generator=generator)
    spread = (_SHARPNESS * normal).softmax(1)
    return (share * spread).scatter_add_(1, numbers[:, None], 1 - share)


def learned_renderer(
    font_res: int = 9,
    font_zoom: int | None = None,
    font: str | Path | None = None,
    *,
    noise: float = 0.4,
    hidden: int = 256,
    seed: int = 0,
) -> LearnedRenderer:
    """The `LearnedRenderer` with these settings: trained once in a few seconds, then stored.

    It is shared within a process, and kept in the cache (`AELAB_CACHE`) as safetensors. A damaged
    file is replaced. The random state of the process is not changed.

    Args:
        font_res: see `FontRenderer`.
        font_zoom: see `FontRenderer`.
        font: see `FontRenderer`.
        noise: largest share of other characters in training, 0..1.
        hidden: features between the two layers.
        seed: seed of the initial weights and of the noise.

    Raises:
        ConfigError, DataError: see `aelab.ascii.glyphs.glyph_atlas`.
    """
    # Weights made in inference mode could not be used with gradients.
    with torch.inference_mode(False):
        return _shared(font_res, font_zoom, find_font(font), noise, hidden, seed)


@cache
def _shared(
    font_res: int, font_zoom: int | None, font: Path, noise: float, hidden: int, seed: int
) -> LearnedRenderer:
    learned = LearnedRenderer(font_renderer(font_res, font_zoom, font), hidden)
    # The atlas is part of the key: another font file or drawing method gives another network.
    drawn = hashlib.sha256(learned.hard.atlas.cpu().numpy().tobytes()).hexdigest()
    key = json.dumps([_RECIPE, learned.cell, drawn, noise, hidden, seed])
    name = f"onehot2raa-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    path = roots.cache_folder() / "renderers" / name
    if not _read(learned, path):
        _train(learned, noise, seed)
        _store(learned, path)
    return learned.requires_grad_(False).eval()


def _read(learned: LearnedRenderer, path: Path) -> bool:
    """Reads the weights at `path` into `learned`; returns whether that succeeded."""
    try:
        learned.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except (OSError, RuntimeError, safetensors.SafetensorError):
        return False
    return True


def _store(learned: LearnedRenderer, path: Path) -> None:
    """Writes the weights atomically; ignores a cache that cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(safetensors.torch.save(learned.state_dict()))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _train(learned: LearnedRenderer, noise: float, seed: int) -> None:
    """Trains with binary cross-entropy to the exact cell's greys, on the CPU; Adam, linear decay.

    The squared error left twice the error: its gradient through a sigmoid near 0 or 1 is tiny.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        _initialise(learned, generator)
        weights = list(learned.parameters())
        targets = learned.hard.atlas.cpu().flatten(1).T.contiguous()
        optimizer = torch.optim.Adam(weights, lr=_RATE, fused=True)
        for step in range(_STEPS):
            numbers = torch.randint(len(ALPHABET), (_BATCH,), generator=generator, device="cpu")
            drawn = learned.pixel_logits(noisy_onehots(numbers, noise, generator).T[None])[0]
            loss = F.binary_cross_entropy_with_logits(drawn, targets[:, numbers], reduction="sum")
            gradients = torch.autograd.grad(loss / _BATCH, weights)
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.param_groups[0]["lr"] = _RATE * (1 - step / _STEPS)
            optimizer.step()
        for weight in weights:
            weight.grad = None


@torch.no_grad()
def _initialise(learned: LearnedRenderer, generator: torch.Generator) -> None:
    """Sets He's normal weights and zero biases; a one-hot counts as one input, not as 95."""
    for layer, inputs in ((learned.first, 1), (learned.second, learned.second.in_features)):
        layer.weight.normal_(0, (2 / inputs) ** 0.5, generator=generator)
        layer.bias.zero_()


@torch.no_grad()
def renderer_error(
    learned: LearnedRenderer, noise: float = 0.4, cells: int = 19_000, seed: int = 1
) -> RendererError:
    """The error of a learned renderer against the exact one, on new noisy one-hots.

    Args:
        learned: the renderer, on any device.
        noise: largest share of other characters, 0..1.
        cells: number of cells to draw; each character equally often.
        seed: seed of the noise; different from that of training.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(cells) % len(ALPHABET)
    noisy = noisy_onehots(numbers, noise, generator).T[None, :, None]  # (1, 95, 1, cells)
    noisy = noisy.to(learned.first.weight.device)
    exact = learned.draw(numbers[None, None].to(noisy.device))
    return RendererError(
        learned=float((learned(noisy) - exact).abs().mean()),
        soft=float((learned.hard(noisy) - exact).abs().mean()),
        cells=cells,
    )
