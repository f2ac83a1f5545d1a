"""Flow matching and diffusion over the latents of a run: maps from noise to latents."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.shapes import image_shape
from aelab.posteriors import Normal
from aelab.stages.medium import Latents
from aelab.types import Output, TermSpec


class NoisePosterior(NamedTuple):
    """The noise that a model turns into an image; its prior is the standard normal.

    Attributes:
        noise: (B, D).
    """

    noise: Tensor

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) standard normal numbers."""
        return normal((count, self.noise.shape[1]))


class _Block(nn.Module):
    """A residual block whose channels are scaled and shifted by the time."""

    def __init__(self, width: int, kernel: tuple[int, int], embedding: int) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.norm = nn.GroupNorm(1, width)
        self.time = nn.Linear(embedding, 2 * width)
        self.first = nn.Conv2d(width, width, kernel, padding=padding)
        self.second = nn.Conv2d(width, width, kernel, padding=padding)
        # Zero: each block starts as the identity.
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, width, H, W), embedding of the time (B, E) -> (B, width, H, W)."""
        scale, shift = self.time(time)[..., None, None].chunk(2, 1)
        hidden = self.norm(x) * (1 + scale) + shift
        hidden = self.second(nn.functional.silu(self.first(nn.functional.silu(hidden))))
        result: Tensor = x + hidden
        return result


class TimeNetwork(nn.Module):
    """Residual convolutions over a map, or linear layers over a vector, that know the time.

    Args:
        shape: (C, H, W); axes of length 1 have kernels of length 1.
        width: channels of each block.
        blocks: number of residual blocks of two layers.
    """

    def __init__(self, shape: Sequence[int], width: int, blocks: int) -> None:
        super().__init__()
        channels, height, long = shape
        kernel = (3 if height > 1 else 1, 3 if long > 1 else 1)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.start = nn.Conv2d(channels, width, 1)
        self.blocks = nn.ModuleList(_Block(width, kernel, width) for _ in range(blocks))
        self.norm = nn.GroupNorm(1, width)
        self.end = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, C, H, W), time (B,) in 0..1 -> (B, C, H, W)."""
        rates = torch.exp(torch.arange(32, device=x.device) * (math.log(1000.0) / 31))
        angles = time[:, None] * rates  # (B, 32)
        embedding = nn.functional.silu(self.time(torch.cat([angles.sin(), angles.cos()], 1)))
        hidden = self.start(x)
        for block in self.blocks:
            hidden = block(hidden, embedding)
        result: Tensor = self.end(nn.functional.silu(self.norm(hidden)))
        return result


class _Denoiser(nn.Module, ABC):
    """A path from noise (time 0) to images (time 1), and a network that predicts its direction.

    x_t = a(t) image + b(t) noise. The network predicts a'(t) image + b'(t) noise, up to a constant
    factor. Integrating it from 0 to 1 turns noise into an image, backwards an image into noise.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"noise_shape", "shape"})
    medium = Latents()
    #: Speed along the path: dx/dt = speed * prediction.
    speed: ClassVar[float]
    #: Name of the loss term: values of different paths have different scales, so that tables must
    #: not rank them.
    term: ClassVar[str]

    def __init__(
        self, shape: Sequence[int], width: int = 256, blocks: int = 3, steps: int = 20
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.shape = image_shape(shape, owner)
        if min(int(width), int(blocks), int(steps)) < 1:
            raise ConfigError(
                f"{owner}: width, blocks and steps are at least 1, not {width}, {blocks}, {steps}"
            )
        self.steps, size = int(steps), math.prod(self.shape)
        #: The noise of an image, and one number for the time.
        self.noise_shape: tuple[int, ...] | None = (size + 1,)
        self.terms = (TermSpec(self.term, "denoising_error"),)
        self.network = TimeNetwork(self.shape, int(width), int(blocks))

    @abstractmethod
    def path(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, b, and their derivatives over `speed`, at times 0..1; a b' - b a' must be -1."""

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """(B, C, H, W), noise (B, D + 1) or None -> what the network predicts at a random time.

        The reconstruction is the image that the prediction implies. Without noise it is the image
        decoded from the noise that the image is encoded to.
        """
        if noise is None:
            latent = self.encode(images)
            drawn, time = latent, torch.full_like(latent[:, 0], 0.5)
        else:
            # A normal number's share of the distribution is uniform.
            drawn, time = noise[:, 1:], torch.special.ndtr(noise[:, 0])
            latent = drawn
        drawn = drawn.reshape(images.shape)
        a, b, a_slope, b_slope = (each[:, None, None, None] for each in self.path(time))
        between = a * images + b * drawn
        predicted = self.network(between, time)
        details = {"predicted": predicted, "wanted": a_slope * images + b_slope * drawn}
        # The two equations of `between` and `predicted`, solved for the image.
        made = b * predicted - b_slope * between if noise is not None else self.decode(latent)
        return Output(made, latent.flatten(1), NoisePosterior(latent.flatten(1)), details)

    def decode(self, latent: Tensor) -> Tensor:
        """Noise (B, D) -> images (B, C, H, W), by Heun's method."""
        return self._integrated(latent.reshape(-1, *self.shape), 0.0, 1.0)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> noise (B, D), the way back."""
        return self._integrated(images, 1.0, 0.0).flatten(1)

    def _integrated(self, x: Tensor, start: float, end: float) -> Tensor:
        step = (end - start) / self.steps
        for number in range(self.steps):
            now = x.new_full((len(x),), start + step * number)
            slope = self.speed * self.network(x, now)
            tried = self.speed * self.network(x + step * slope, now + step)
            x = x + 0.5 * step * (slope + tried)
        return x

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"shape={self.shape}, steps={self.steps}"


class FlowMatching(_Denoiser):
    """Flow matching on straight paths: x_t = t image + (1 - t) noise.

    Args:
        shape: (C, H, W) of the latents, as `latents_of` gives them.
        width: channels of the network.
        blocks: residual blocks of two layers, with 3x3 kernels on maps.
        steps: of Heun's method for a sample, two evaluations of the network each.

    Raises:
        ConfigError: a size below 1.

    Source: Lipman et al. 2023, arXiv:2210.02747, section 4.1; Liu et al. 2022, arXiv:2209.03003;
        over latents: Dao et al. 2023, arXiv:2307.08698.
    """

    speed, term = 1.0, "flow_error"

    def __init__(
        self, shape: Sequence[int], width: int = 256, blocks: int = 3, steps: int = 20
    ) -> None:
        super().__init__(shape, width, blocks, steps)

    def path(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """t, 1 - t, 1, -1."""
        one = torch.ones_like(time)
        return time, 1 - time, one, -one


class LatentDiffusion(_Denoiser):
    """Diffusion with a cosine schedule and prediction of the velocity, sampled by its flow.

    x_t = sin(pi t / 2) image + cos(pi t / 2) noise, with t = 1 at the image.

    Args:
        shape: (C, H, W) of the latents, as `latents_of` gives them.
        width: channels of the network.
        blocks: residual blocks of two layers, with 3x3 kernels on maps.
        steps: of Heun's method for a sample, two evaluations of the network each.

    Raises:
        ConfigError: a size below 1.

    Source: Salimans & Ho 2022, arXiv:2202.00512, section 4 and appendix D; sampling by the
        probability flow: Song et al. 2021, arXiv:2011.13456, section 4.3; over latents: Rombach
        et al. 2022, arXiv:2112.10752.
    """

    speed, term = math.pi / 2, "velocity_error"

    def __init__(
        self, shape: Sequence[int], width: int = 256, blocks: int = 3, steps: int = 20
    ) -> None:
        super().__init__(shape, width, blocks, steps)

    def path(self, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """sin, cos, cos, -sin of the angle."""
        angle = time * (math.pi / 2)
        return angle.sin(), angle.cos(), angle.cos(), -angle.sin()
