"""How many bits of an image a latent holds, and the error of what is decoded from those bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aelab.metrics.subject import Subject, normal_of
from aelab.posteriors import CanDraw, HasChoices, HasDivergence


def rate(subject: Subject) -> dict[str, float]:
    """Bits an image of the latent, and the squared error of the image made from those bits.

    - `rate_bits`: with codebooks, the entropy over the held-out images of the choice at each
      place, summed over the places: the length of an ideal code that has a table for every place.
      A place where all images have the same entry holds nothing. Few images make entropies of
      large codebooks too small. Otherwise the divergence from the prior: the mean length of a
      code for a drawn latent (bits back).
    - `capacity_bits`: with codebooks, the length if all entries were chosen equally often.
    - `rate_l2`: mean squared error of the reconstruction, clamped to 0..1, of a drawn latent, or of
      the chosen entries. A Gaussian's mean latent has a smaller error (`l2`), but no finite rate.

    Args:
        subject: its posterior must have codebooks or allow drawing.

    Source: bits back: Hinton & van Camp 1993, 10.1145/168304.168306.
    """
    books = getattr(subject.model, "codebooks", {})
    if books and isinstance(subject.posterior, HasChoices) and not subject.draws:
        used = capacity = 0.0
        for name, index in subject.posterior.choices().items():
            places = index.flatten(1).unbind(1)
            used += sum(_entropy_bits(place, books[name]) for place in places)
            capacity += len(places) * math.log2(books[name])
        return {
            "rate_bits": used,
            "capacity_bits": capacity,
            "rate_l2": _squared_error(subject.reconstructions, subject.images),
        }
    everything = slice(None)
    latents, log_ratio = subject.drawn(everything, normal_of(subject.generator("rate")))
    if isinstance(subject.posterior, HasDivergence) and isinstance(subject.posterior, CanDraw):
        # exact: the mean over infinitely many draws
        nats = subject.posterior.kl().flatten(1).double().sum(1).mean().item()
    else:
        nats = -log_ratio.mean().item()
    return {
        "rate_bits": nats / math.log(2),
        "rate_l2": _squared_error(subject.decode(latents), subject.images),
    }


def _entropy_bits(index: Tensor, size: int) -> float:
    """Entropy of the choices from one codebook, (N,) -> bits a choice."""
    counts = torch.bincount(index, minlength=size).double()
    shares = counts / counts.sum()
    return (-torch.xlogy(shares, shares).sum() / math.log(2)).item()


def _squared_error(reconstructions: Tensor, images: Tensor) -> float:
    return (reconstructions.clamp(0, 1) - images).square().mean().item()
