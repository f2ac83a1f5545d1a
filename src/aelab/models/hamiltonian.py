"""The Hamiltonian variational autoencoder: latents move along the gradient of ln p(image, z)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, VariationalEncoder
from aelab.models.importance import log_bernoulli
from aelab.models.priors import sampled_kl_terms
from aelab.posteriors import FlowPosterior
from aelab.types import Output, TermSpec

#: Upper limit of a learned step size; the latent's unit is one standard deviation of the prior.
LARGEST_STEP = 0.5
_POSSIBLE_STEPS = f"above 0, below {LARGEST_STEP}"


class HamiltonianAutoencoder(Autoencoder):
    """A variational autoencoder that moves drawn latents towards the true posterior (HVAE).

    A latent of the encoder's Gaussian gets a random momentum. Leapfrog steps follow the gradient of
    ln p(image, z), and tempering takes momentum away after each step. The map from both random
    numbers to latent and momentum keeps volumes, so the bound needs no determinant. With 0 steps
    it is the plain one-sample bound of a VAE.

    The gradient is that of the decoder's likelihood and the standard normal prior, whatever the
    weights of the terms. A training image costs steps + 1 passes through the decoder and back, and
    one more to decode. Without noise the latent is the encoder's mean, and nothing moves.

    Args:
        encoder: a `VariationalEncoder` with a `Gaussian` bottleneck.
        decoder: latent to images; without BatchNorm, because the likelihood is of one image. For
            `bce` to probabilities: use `activation_last_layer="sigmoid"`.
        steps: K, leapfrog steps, 0, 1, ..
        step_size: at the start, above 0 and below 0.5; learned for each dimension.
        inverse_temperature: beta_0 at the start, above 0 and at most 1; learned below 1. With 1 no
            momentum is taken away, and the bound gains almost nothing.
        reconstruction_loss: `bce` or `gaussian_nll`.
        std: of a pixel, for `gaussian_nll`.

    Attributes:
        noise_shape: (2 D,), for latent and momentum.

    Raises:
        ConfigError: no Gaussian bottleneck, BatchNorm in the decoder, another reconstruction, or a
            number out of its range.

    Source: Caterini et al. 2018, arXiv:1805.11328, algorithm 1 and equation 8 (quadratic
        tempering).
    """

    block_attributes: ClassVar[frozenset[str]] = Autoencoder.block_attributes | {"latent_dims"}

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        steps: int = 3,
        step_size: float = 0.05,
        inverse_temperature: float = 0.3,
        reconstruction_loss: str = "bce",
        std: float = 0.1,
    ) -> None:
        name = type(self).__name__
        if not isinstance(encoder, VariationalEncoder) or not isinstance(
            encoder.bottleneck, Gaussian
        ):
            raise ConfigError(
                f"{name}: encoder must be a VariationalEncoder, not {type(encoder).__name__}",
                hint="write VariationalEncoder(encoder, encoder_dims, latent_dims)",
            )
        refuse_numbers(
            name,
            ("steps", steps, steps >= 0 and steps == int(steps), "0, 1, 2.."),
            ("step_size", step_size, 0 < step_size < LARGEST_STEP, _POSSIBLE_STEPS),
            (
                "inverse_temperature",
                inverse_temperature,
                0 < inverse_temperature <= 1,
                "above 0, to 1",
            ),
            ("std", std, std > 0, "above 0"),
        )
        _refuse_statistics(name, decoder)
        options: dict[str, dict[str, object]] = {
            "bce": {"reduction": "sum"},
            "gaussian_nll": {"reduction": "sum", "std": float(std)},
        }
        if reconstruction_loss not in options:
            raise ConfigError(
                f"{name}: reconstruction_loss is {reconstruction_loss!r}, whose "
                f"likelihood it does not know; possible: {', '.join(options)}"
            )
        loss = TermSpec(reconstruction_loss, reconstruction_loss, 1.0, options[reconstruction_loss])
        terms = (loss, *sampled_kl_terms(1.0))
        super().__init__(encoder.encoder, encoder.bottleneck, decoder, terms)
        self.latent_dims, self.steps = encoder.bottleneck.latent_dims, int(steps)
        self.noise_shape = (2 * self.latent_dims,)
        self.std = None if reconstruction_loss == "bce" else float(std)
        if self.steps:
            # A sigmoid keeps the learned steps in 0..LARGEST_STEP: longer ones become unstable.
            start = math.log(step_size / (LARGEST_STEP - step_size))
            self.step_logits = nn.Parameter(torch.full((self.latent_dims,), start))
            self.tempers = inverse_temperature < 1
            if self.tempers:
                logit = math.log(inverse_temperature / (1 - inverse_temperature))
                self.temperature_logit = nn.Parameter(torch.tensor(logit))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) in 0..1, noise (B, 2 D) or None -> images, latent and posterior."""
        if noise is None:
            latent, (mean, log_std) = self.bottleneck(self.encoder(images), None)
            log_q = -log_std.sum(1) - 0.5 * math.log(2 * math.pi) * self.latent_dims
            return Output(self.decoder(latent), latent, FlowPosterior(mean, log_std, latent, log_q))
        normal, momentum = noise.chunk(2, 1)
        first, (mean, log_std) = self.bottleneck(self.encoder(images), normal)
        latent, last = self.moved(images, first, momentum)
        # ln q(z_0) + ln N(noise of the momentum) - ln N(rho_K); constants of the latter two cancel.
        log_q = -0.5 * normal.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_q = log_q + 0.5 * (last.square() - momentum.square())
        posterior = FlowPosterior(mean, log_std, latent, log_q.sum(1))
        return Output(self.decoder(latent), latent, posterior)

    def moved(self, images: Tensor, latent: Tensor, momentum: Tensor) -> tuple[Tensor, Tensor]:
        """Moves latents by the K leapfrog steps, with tempering.

        Args:
            images: (B, C, H, W), 0..1.
            latent: z_0, (B, D).
            momentum: standard normal numbers (B, D), which become rho_0 = momentum / sqrt(beta_0).

        Returns:
            z_K and rho_K, (B, D).
        """
        if not self.steps:
            return latent, momentum
        step = self.step_sizes()
        # torch.func.grad, because it also works where gradients are disabled, and in stacked runs.
        slope = torch.func.grad(lambda z: self._log_joint(images, z).sum())
        scale = self._scale(0)
        momentum = momentum * scale
        uphill = slope(latent)
        for number in range(1, self.steps + 1):
            momentum = momentum + 0.5 * step * uphill
            latent = latent + step * momentum
            uphill = slope(latent)  # also that of the next step's first half
            momentum = momentum + 0.5 * step * uphill
            before, scale = scale, self._scale(number)
            momentum = momentum * (scale / before)
        return latent, momentum

    def step_sizes(self) -> Tensor:
        """(D,), above 0 and below `LARGEST_STEP`."""
        return LARGEST_STEP * self.step_logits.sigmoid()

    def _scale(self, number: int) -> Tensor | float:
        """1 / sqrt(beta_k) after k steps: from 1 / sqrt(beta_0) down to 1."""
        if not self.tempers:
            return 1.0
        hot = self.temperature_logit.sigmoid().rsqrt()
        return hot + (1 - hot) * (number / self.steps) ** 2

    def _log_joint(self, images: Tensor, latent: Tensor) -> Tensor:
        """ln p(image, z) up to a constant, (B,)."""
        decoded: Tensor = self.decoder(latent)
        prior = -0.5 * latent.square().sum(1)
        if self.std is None:
            return prior + log_bernoulli(decoded, images)
        error = (decoded - images).square().flatten(1).sum(1)
        return prior - error / (2 * self.std**2)


def refuse_numbers(model: str, *numbers: tuple[str, float, bool, str]) -> None:
    """Raises a `ConfigError` for a number out of its range.

    Args:
        model: its name.
        numbers: for each its name, its value, whether that is possible, and what is.
    """
    for name, value, fits, possible in numbers:
        if not fits:
            raise ConfigError(f"{model}: {name} is {value}; possible: {possible}")


def _refuse_statistics(model: str, decoder: nn.Module) -> None:
    """Raises a `ConfigError` for a decoder whose images depend on each other."""
    for name, module in decoder.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"{model}: '{name}' of the decoder is a {type(module).__name__}, by "
                "which images of a batch depend on each other",
                hint="the likelihood of one image is needed: leave the normalization out, or take "
                'normalization="layernorm"',
            )
