"""A stranger's package: a part of every kind, known to aelab by its entry points alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.data import TensorDataset
from aelab.metrics import Metric, Subject
from aelab.report.pictures import png_of
from aelab.study.figures import Figure
from aelab.types import Output, TermSpec

Normal = Callable[[tuple[int, ...]], Tensor]


def _student(freedom: Tensor, location: Any = 0.0, scale: Any = 1.0) -> Any:
    return torch.distributions.StudentT(freedom, location, scale, validate_args=False)


class StudentTPosterior(NamedTuple):
    """Location and log scale (B, D), degrees of freedom (B, 1); the prior is the standard t."""

    location: Tensor
    log_scale: Tensor
    freedom: Tensor

    def kl(self) -> Tensor:
        """(B, D) nats, by the trapezoidal rule."""
        scale = self.log_scale.exp()
        steps = torch.linspace(-60, 60, 2401, device=scale.device)
        value = self.location[..., None] + scale[..., None] * steps
        own = _student(self.freedom[..., None], self.location[..., None], scale[..., None])
        density = own.log_prob(value)
        ratio = density - _student(self.freedom[..., None]).log_prob(value)
        return torch.trapezoid(density.exp() * ratio, steps, dim=-1) * scale

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,)."""
        scale = self.log_scale.exp()
        latent = self.location + scale * self.draw_prior(len(scale), normal)
        prior = _student(self.freedom).log_prob(latent)
        own = _student(self.freedom, self.location, scale).log_prob(latent)
        return latent, (prior - own).double().sum(1)

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """(count, D) of the standard t."""
        shape = (count, self.location.shape[1])
        spread = normal((*shape, int(self.freedom[0]))).square().mean(-1).sqrt()
        return normal(shape) / spread


class HeavyTailed(nn.Module):
    """A bottleneck whose latent has heavy tails; it wishes for its own penalty."""

    def __init__(self, num_features: int, latent_dims: int, freedom: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, 2 * latent_dims)
        self.freedom = freedom
        self.noise_shape = (latent_dims, freedom + 1)
        self.terms = (TermSpec("student_kl", "student_kl", 0.001),)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, StudentTPosterior]:
        location, log_scale = self.linear(features.flatten(1)).chunk(2, 1)
        freedom = torch.full_like(location[:, :1], self.freedom)
        posterior = StudentTPosterior(location, log_scale, freedom)
        if noise is None:
            return location, posterior
        standard = noise[..., 0] / noise[..., 1:].square().mean(-1).sqrt()
        return location + log_scale.exp() * standard, posterior


class ResidualPosterior(NamedTuple):
    """The choices of three codebooks, (B, 1) each, and their commitment (B,)."""

    first: Tensor
    second: Tensor
    third: Tensor
    commitment: Tensor

    def choices(self) -> Mapping[str, Tensor]:
        """Each codebook by itself."""
        return {"0": self.first, "1": self.second, "2": self.third}


class ResidualVQ(nn.Module):
    """Three codebooks, each for what the ones before left."""

    noise_shape = None

    def __init__(self, dims: int, codebook_size: int = 16) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.randn(3, codebook_size, dims))
        self.codebooks = {str(stage): codebook_size for stage in range(3)}
        self.terms = (TermSpec("commitment", "commitment", 1.0),)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, ResidualPosterior]:
        vectors = features.flatten(1)[:, None]  # (B, 1, dims)
        rest, found, chosen = vectors, torch.zeros_like(vectors), []
        for entries in self.entries:
            index = (rest[..., None, :] - entries).square().sum(-1).argmin(-1)
            found, rest = found + entries[index], rest - entries[index]
            chosen.append(index)
        commitment = (vectors - found).square().mean((1, 2))
        latent = (vectors + (found - vectors).detach()).flatten(1)
        return latent, ResidualPosterior(*chosen, commitment)


def student_kl(output: Output, scale: float = 1.0) -> Tensor:
    """The penalty of `HeavyTailed`, (B,) nats."""
    return scale * output.posterior.kl().sum(1)


def cubic(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Mean cubed distance, (B,)."""
    return (reconstruction - target).abs().pow(3).flatten(1).mean(1)


class SignDescent(torch.optim.Optimizer):
    """A step of fixed length against the sign of the gradient."""

    def __init__(self, params: Any, lr: float = 0.001, shrink: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "shrink": shrink})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["shrink"])
                    weight.add_(weight.grad.sign(), alpha=-group["lr"])


def inverse_root(*, max_images: int | None, after_images: int = 100) -> Callable[[int], float]:
    """1 up to `after_images`, then falling as 1 / sqrt(images)."""
    return lambda images: min(1.0, math.sqrt(after_images / max(images, 1)))


def stripes_dataset(count: int = 60, size: int = 8) -> TensorDataset:
    """Horizontal stripes of every brightness."""
    brightness = torch.linspace(0.1, 1, count).view(-1, 1, 1, 1)
    stripes = (torch.arange(size) % 2).view(1, 1, -1, 1).expand(1, 1, size, size)
    return TensorDataset(brightness * stripes)


def _darkness(subject: Subject, power: float = 1.0) -> dict[str, float]:
    return {"darkness": float((1 - subject.reconstructions.clamp(0, 1)).pow(power).mean())}


def _first_picture(subject: Subject) -> bytes:
    from PIL import Image

    pixels = (subject.images[0, 0] * 255).round().byte()
    return png_of(Image.fromarray(pixels.numpy()))


class NearCodes:
    """Draws codes of training images, and moves them a little."""

    def __init__(self, latents: Tensor, width: float) -> None:
        self.latents, self.width = latents, width

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, D) latents."""
        chosen = torch.randint(len(self.latents), (count,), generator=generator)
        noise = torch.randn(count, self.latents.shape[1], generator=generator)
        return self.latents[chosen] + self.width * noise

    def log_density(self, latents: Tensor) -> Tensor:
        """(N, D) -> (N,) nats, a Gaussian around each code."""
        squares = torch.cdist(latents.double(), self.latents.double()).square()
        scale = math.log(len(self.latents)) + latents.shape[1] * math.log(
            self.width * math.sqrt(2 * math.pi)
        )
        return (-squares / (2 * self.width**2)).logsumexp(1) - scale


def near_codes(latents: Tensor, generator: torch.Generator, width: float = 0.05) -> NearCodes:
    """Codes of training images with a little noise: a kernel density."""
    return NearCodes(latents, width)


class LinesOfText:
    """A bridge that writes one line for each row of a run."""

    def __init__(self, out: str | Path = "lines.txt") -> None:
        self.out = Path(out)
        self.out.write_text("")

    def _write(self, *words: object) -> None:
        with self.out.open("a") as file:
            print(*words, file=file)

    def begin(self, run: Any) -> None:
        self._write("begin", run.folder)

    def scalars(self, run: Any, images: int, row: Mapping[str, Any]) -> None:
        self._write(row["split"], images)

    def picture(self, run: Any, images: int, tag: str, picture: Any) -> None:
        self._write(tag, images)

    def rewound(self, run: Any, images: int) -> None:
        self._write("back to", images)

    def end(self, run: Any) -> None:
        self._write("end", run.folder)


DARKNESS = Metric(_darkness, "how dark reproductions are")
FIRST_PICTURE = Figure(_first_picture, "a held-out image as it is")
