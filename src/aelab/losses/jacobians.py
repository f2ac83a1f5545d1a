"""Penalties on slopes: squared Frobenius norms of the Jacobians of encoder and decoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.losses.draws import numeric_latents
from aelab.posteriors import code_of
from aelab.types import Encoding, Output

#: How the norm of the encoder's Jacobian is found.
Estimate = Literal["projection", "difference", "exact"]
ESTIMATES: tuple[Estimate, ...] = ("projection", "difference", "exact")


def contractive_term(
    output: Output,
    encoding: Encoding | None = None,
    estimate: Estimate = "projection",
    probes: int = 1,
    step: float = 0.01,
) -> Tensor:
    """Squared Frobenius norm of the encoder's Jacobian at the images: sum_ij (dz_i / dx_j)^2.

    The encoder is taken in evaluation mode and without noise: each image has a Jacobian of its own.

    Args:
        output: of the model.
        encoding: the images and the encoder that made the output; training gives it. None: 0.
        estimate: `projection`: |J^T v|^2 for random normal v of the latent, right on average
            (Hutchinson 1990); `difference`: |z(x + step u) - z(x)|^2 / step^2 for random normal u
            of the image, right on average for a small step, without a second derivative; `exact`:
            one backward pass for each number of the latent.
        probes: random directions per image, from 1; not for `exact`.
        step: of `difference`, in units of the images; above 0.

    Returns:
        (B,), in squared units of the latent per unit of the image; at least 0.

    Raises:
        ConfigError: the encoder gives no numbers with a gradient, or an option makes no sense.

    Source: Rifai et al. 2011, Contractive auto-encoders, ICML, equations 6 and 7; Hutchinson 1990,
        10.1080/03610919008812866.
    """
    numeric_latents(output, "contractive")
    if estimate not in ESTIMATES:
        raise ConfigError(
            f"contractive: estimate is {estimate!r}; possible: {', '.join(ESTIMATES)}",
        )
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise ConfigError(f"contractive: probes is {probes!r}; it must be a whole number from 1")
    if step <= 0:
        raise ConfigError(f"contractive: step is {step}; it must be above 0")
    if encoding is None:  # as in checks of the objective alone
        return 0 * output.latent.flatten(1).sum(1)
    if estimate == "difference":
        return _by_difference(encoding, probes, step)
    with torch.enable_grad():
        images = encoding.images.detach().requires_grad_()
        codes = encoding.encode(images).flatten(1)  # (B, D)
        if not codes.requires_grad:
            raise ConfigError(
                "the term contractive needs an encoder with a gradient, and this one has none",
                hint="give the term the option estimate: difference, or take it out",
            )
        total: Tensor | float = 0.0
        if estimate == "exact":
            for unit in range(codes.shape[1]):
                total = total + _pulled_back(codes[:, unit].sum(), images)
            return torch.as_tensor(total)
        for _ in range(probes):
            total = total + _pulled_back((codes * torch.randn_like(codes)).sum(), images)
        return torch.as_tensor(total) / probes


def _pulled_back(value: Tensor, images: Tensor) -> Tensor:
    """The squared norm (B,) of the gradient of a value at the images, which can be learned from."""
    (gradient,) = torch.autograd.grad(value, images, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def _by_difference(encoding: Encoding, probes: int, step: float) -> Tensor:
    """The squared slope (B,) in random directions, a mean over `probes`."""
    images = encoding.images
    codes = encoding.encode(images).flatten(1)
    total = torch.zeros_like(codes[:, 0])
    for _ in range(probes):
        moved = encoding.encode(images + step * torch.randn_like(images)).flatten(1)
        total = total + ((moved - codes) / step).square().sum(1)
    return total / probes


def decoder_gradient_term(output: Output) -> Tensor:
    """Squared Frobenius norm of the decoder's Jacobian at the latent, by one random projection.

    J is that of the code, without a class that the model was told.
    |J^T v|^2 for standard normal v has the expectation sum_ij J_ij^2 (Hutchinson's estimate).

    Args:
        output: of a model whose reconstruction was computed from its latent.

    Returns:
        (B,), in squared units of the image per unit of the latent; at least 0. Where gradients are
        disabled, 0.

    Raises:
        ConfigError: the model gives no latent of numbers.

    Source: Ghosh et al. 2020, arXiv:1903.12436, section 3.1 (RAE-GP); Hutchinson 1990,
        10.1080/03610919008812866.
    """
    latent = output.latent
    numeric_latents(output, "decoder_gradient")
    if not output.reconstruction.requires_grad:
        return output.reconstruction.new_zeros(len(latent))
    probe = torch.randn_like(output.reconstruction)
    (through,) = torch.autograd.grad(
        output.reconstruction, latent, probe, create_graph=True, allow_unused=True
    )
    if through is None:  # another reconstruction, as in checks of the objective alone
        return output.reconstruction.new_zeros(len(latent)) + 0 * latent.flatten(1).sum(1)
    return code_of(through, output.posterior).square().sum(1)


#: Penalties that differentiate the model itself: validation keeps gradients for them.
contractive_term.needs_gradients = True  # type: ignore[attr-defined]
decoder_gradient_term.needs_gradients = True  # type: ignore[attr-defined]
#: Penalties called with (output, encoding).
contractive_term.of_encoder = True  # type: ignore[attr-defined]
#: Penalties that grow as the decoder's weights do.
decoder_gradient_term.of_decoder = True  # type: ignore[attr-defined]
