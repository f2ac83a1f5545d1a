"""A Hamiltonian autoencoder whose latent has a learned metric (RHVAE)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import ShapeError
from aelab.models.hamiltonian import HamiltonianAutoencoder, refuse_numbers
from aelab.posteriors import FlowPosterior
from aelab.types import Output


class LatentMetric(NamedTuple):
    """A metric G of the latent, given by its inverse.

    G(z)^-1 = sum over i of M_i exp(-|z - c_i|^2 / T^2) + lambda * identity.

    Attributes:
        centres: c, (N, D).
        matrices: M, (N, D, D), symmetric, eigenvalues at least 0.
        temperature, least: T and lambda, above 0.

    Source: Chadebec et al. 2020, arXiv:2010.11518, equation 8.
    """

    centres: Tensor
    matrices: Tensor
    temperature: float
    least: float

    def inverse(self, latent: Tensor) -> Tensor:
        """G^-1 at latents (B, D), (B, D, D)."""
        # Products and sums, not matrix products: those have too few digits under autocast.
        latent = latent.to(torch.promote_types(latent.dtype, torch.float32))
        apart = (latent[:, None] - self.centres).square().sum(2)  # (B, N)
        near = torch.exp(-apart / self.temperature**2)
        learned = (near[..., None, None] * self.matrices).sum(1)
        return learned + self.least * torch.eye(
            latent.shape[1], dtype=latent.dtype, device=latent.device
        )

    def root(self, latent: Tensor) -> Tensor:
        """The lower triangular C with C C^T = G^-1, (B, D, D)."""
        # Without the check of `cholesky`: numbers that are not finite give NaN, which training
        # reports, and the device is not waited for.
        root: Tensor = torch.linalg.cholesky_ex(self.inverse(latent)).L
        return root

    def velocity(self, latent: Tensor, momentum: Tensor) -> Tensor:
        """G^-1 rho, (B, D)."""
        return (self.inverse(latent) * momentum[:, None]).sum(2)


def log_density(root: Tensor, momentum: Tensor) -> Tensor:
    """ln N(rho; 0, G) up to a constant, (B,), from the root C of G^-1."""
    whitened = (root * momentum[:, :, None]).sum(1)  # C^T rho, of unit covariance
    return root.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * whitened.square().sum(1)


def _drawn(root: Tensor, white: Tensor) -> Tensor:
    """A momentum of N(0, G), (B, D), from the root of G^-1 and standard normal numbers."""
    momentum: Tensor = torch.linalg.solve_triangular(root.mT, white[..., None], upper=True)[..., 0]
    return momentum


def _apart(found: Tensor, wanted: Tensor) -> Tensor:
    """The distance of two vectors, relative to their length if that is above 1, (B,)."""
    apart: Tensor = (found - wanted).norm(dim=1) / wanted.norm(dim=1).clamp(min=1)
    return apart


class RiemannianAutoencoder(HamiltonianAutoencoder):
    """A `HamiltonianAutoencoder` in whose latent distances are learned (RHVAE).

    The metric makes steps long where there are codes of images, and short elsewhere. It is a sum of
    bells around codes, see `LatentMetric`: the centres are the encoder's means of images, and a
    second network gives each image its matrix M = L L^T. In training they are those of the batch.
    The latest are kept with the weights, for everything that is not training.

    The momentum is drawn from N(0, G(z)), and moves with the latent by the generalised leapfrog,
    whose two implicit equations are iterated. Where the iterations have not converged, the map does
    not quite keep volumes, and the bound is as inexact; `solver-diverges` of the doctor and of
    validations tells it.

    Args:
        encoder, decoder, steps, inverse_temperature, reconstruction_loss, std: see
            `HamiltonianAutoencoder`.
        step_size: first length of the steps, which are learned. The default is that of the authors'
            library, pythae. The 0.05 of `HamiltonianAutoencoder` is too long here: on digits the
            solver misses its equations, see the lab log.
        metric: maps images to D (D + 1) / 2 numbers: logarithms of the diagonal of L, then the rest
            of its lower triangle, row by row.
        temperature: T, width of the bells in units of the latent, above 0.
        least: lambda, the eigenvalues of G^-1 far from all centres, above 0.
        centres: number of the latest training images that are kept, at least 1. The metric adds
            their bells, so about the batch size keeps it as in training.
        iterations: of the implicit equations, at least 1.

    Raises:
        ConfigError: as `HamiltonianAutoencoder`.
        ShapeError: in `forward`, if `metric` gives another number of values.

    Cost: a training image costs steps * (iterations + 1) passes through the decoder and back.

    Source: Chadebec et al. 2020, arXiv:2010.11518, section 3; generalised leapfrog: Girolami &
        Calderhead 2011, equations 16 to 18. The bound here has the density of the first momentum,
        which depends on z; the library pythae leaves it out.
    """

    centres: Tensor
    matrices: Tensor
    place: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        metric: nn.Module,
        steps: int = 3,
        step_size: float = 0.001,
        inverse_temperature: float = 0.3,
        reconstruction_loss: str = "bce",
        std: float = 0.1,
        temperature: float = 1.5,
        least: float = 0.01,
        centres: int = 100,
        iterations: int = 3,
    ) -> None:
        super().__init__(
            encoder, decoder, steps, step_size, inverse_temperature, reconstruction_loss, std
        )
        refuse_numbers(
            type(self).__name__,
            ("temperature", temperature, temperature > 0, "above 0"),
            ("least", least, least > 0, "above 0"),
            ("centres", centres, centres >= 1 and centres == int(centres), "1, 2.."),
            ("iterations", iterations, iterations >= 1 and iterations == int(iterations), "1, 2.."),
        )
        self.metric = metric
        self.temperature, self.least = float(temperature), float(least)
        self.iterations = int(iterations)
        dims = self.latent_dims
        # Matrices of 0 have no bell: nothing is known before the first batch.
        self.register_buffer("centres", torch.zeros(int(centres), dims))
        self.register_buffer("matrices", torch.zeros(int(centres), dims, dims))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) in 0..1, noise (B, 2 D) or None -> images, latent and posterior."""
        if noise is None:
            return super().forward(images, None)
        normal, white = noise.chunk(2, 1)
        first, (mean, log_std) = self.bottleneck(self.encoder(images), normal)
        metric = self._metric_of(images, mean)
        root = metric.root(first)
        momentum = _drawn(root, white)
        latent, last = self.travelled(images, first, momentum, metric)
        # ln q(z_0) + ln N(first momentum) - ln N(rho_K); constants of the latter two cancel.
        log_q = (-0.5 * normal.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(1)
        log_q = log_q + log_density(root, momentum) - log_density(metric.root(latent), last)
        posterior = FlowPosterior(mean, log_std, latent, log_q)
        return Output(self.decoder(latent), latent, posterior)

    def travelled(
        self, images: Tensor, latent: Tensor, momentum: Tensor, metric: LatentMetric
    ) -> tuple[Tensor, Tensor]:
        """Moves latents by K generalised leapfrog steps, with tempering.

        Args:
            images: (B, C, H, W), 0..1.
            latent: z_0, (B, D).
            momentum: drawn from N(0, G(z_0)), (B, D).

        Returns:
            z_K and rho_K, (B, D).
        """
        return self._travelled(images, latent, momentum, metric)[:2]

    @torch.no_grad()
    def unsolved(self, images: Tensor, noise: Tensor) -> Tensor:
        """By how much the implicit equations are missed, with the metric of these images.

        Args:
            images: (B, C, H, W), 0..1.
            noise: (B, 2 D).

        Returns:
            (B,), the largest distance of both sides of an equation in any step, relative to the
            size of the momentum or the latent, at least 1; not finite where the solver diverges.
        """
        normal, white = noise.chunk(2, 1)
        latent, (mean, _) = self.bottleneck(self.encoder(images), normal)
        metric = self._made_of(images, mean)
        momentum = _drawn(metric.root(latent), white)
        return self._travelled(images, latent, momentum, metric, measure=True)[2]

    def _travelled(
        self,
        images: Tensor,
        latent: Tensor,
        momentum: Tensor,
        metric: LatentMetric,
        measure: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """z_K, rho_K, and by how much the equations are missed, (B,); 0 without `measure`."""
        missed = torch.zeros_like(latent[:, 0])
        if not self.steps:
            return latent, momentum, missed
        step, scale = self.step_sizes(), self._scale(0)

        def energy(z: Tensor, rho: Tensor) -> Tensor:
            """The Hamiltonian, summed over the batch."""
            return -(self._log_joint(images, z) + log_density(metric.root(z), rho)).sum()

        slope = torch.func.grad(energy)
        momentum = momentum * scale
        for number in range(1, self.steps + 1):
            half = momentum
            for _ in range(self.iterations):
                half = momentum - 0.5 * step * slope(latent, half)
            if measure:
                wanted = momentum - 0.5 * step * slope(latent, half)
                missed = torch.maximum(missed, _apart(half, wanted))
            start, there = metric.velocity(latent, half), latent
            for _ in range(self.iterations):
                there = latent + 0.5 * step * (start + metric.velocity(there, half))
            if measure:
                wanted = latent + 0.5 * step * (start + metric.velocity(there, half))
                missed = torch.maximum(missed, _apart(there, wanted))
            latent = there
            momentum = half - 0.5 * step * slope(latent, half)
            before, scale = scale, self._scale(number)
            momentum = momentum * (scale / before)
        return latent, momentum, missed

    def _metric_of(self, images: Tensor, mean: Tensor) -> LatentMetric:
        """The metric of a training batch, which is then kept; else the one that was kept."""
        if not self.training:
            return LatentMetric(self.centres, self.matrices, self.temperature, self.least)
        metric = self._made_of(images, mean)
        self._keep(mean.detach(), metric.matrices.detach())
        return metric

    def _made_of(self, images: Tensor, mean: Tensor) -> LatentMetric:
        """The metric of a batch of images and their mean codes."""
        root = self._roots(self.metric(images))
        matrices = (root[:, :, None] * root[:, None]).sum(3)  # L L^T
        return LatentMetric(mean, matrices, self.temperature, self.least)

    def _roots(self, values: Tensor) -> Tensor:
        """L, (B, D, D), from the numbers of the metric's network."""
        dims = self.latent_dims
        count = dims * (dims + 1) // 2
        values = values.flatten(1).to(torch.promote_types(values.dtype, torch.float32))
        if values.shape[1] != count:
            raise ShapeError(
                f"RiemannianAutoencoder: metric gives {values.shape[1]} numbers per image, and a "
                f"latent of {dims} needs {count}",
                hint=f"D (D + 1) / 2: end the metric with {count} outputs",
            )
        rows, columns = torch.tril_indices(dims, dims, -1, device=values.device)
        root = torch.diag_embed(values[:, :dims].exp())
        return root.index_put(
            (torch.arange(len(values), device=values.device)[:, None], rows, columns),
            values[:, dims:],
        )

    @torch.no_grad()
    def _keep(self, centres: Tensor, matrices: Tensor) -> None:
        """Replaces the oldest centres by those of a batch."""
        size = len(self.centres)
        centres = centres[-size:].to(self.centres.dtype)
        matrices = matrices[-size:].to(self.matrices.dtype)
        rows = (self.place + torch.arange(len(centres), device=centres.device)) % size
        self.centres[rows], self.matrices[rows] = centres, matrices
        self.place.copy_((self.place + len(centres)) % size)
