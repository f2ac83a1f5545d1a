"""Reconstruction error by spatial frequency, which measures blur."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aelab.errors import ShapeError


class FrequencyError(NamedTuple):
    """Errors by spatial frequency: one number for each ring of the spectrum, float64 on the CPU.

    Attributes:
        frequency: (F,) mean radius of the ring, cycles per pixel: 0 is the mean of the image, 0.5
            the finest stripes along an axis; the corners reach 0.71.
        error: (F,) squared error in the ring; all rings sum up to the mean squared error.
        target: (F,) mean square of the targets in the ring; all rings sum up to that of the images.
        reconstruction: (F,) mean square of the reconstructions in the ring.
        transfer: (F,) least-squares gain from target to reconstruction: 1 is full amplitude, 0
            nothing (blur), above 1 exaggerated.
        coherence: (F,) 0..1, correlation of reconstruction and target in the ring. Near 0 the
            detail is invented, however strong it is.
    """

    frequency: Tensor
    error: Tensor
    target: Tensor
    reconstruction: Tensor
    transfer: Tensor
    coherence: Tensor

    @property
    def relative(self) -> Tensor:
        """(F,) error / target: 0 is exact, 1 as bad as leaving the ring out, above 1 worse."""
        return _ratio(self.error, self.target)


def error_by_frequency(reconstruction: Tensor, target: Tensor) -> FrequencyError:
    """Splits the squared error of images into rings of the spectrum.

    Rings are 1 / min(H, W) cycles per pixel wide; the first contains only frequency 0. Images are
    treated as periodic, without a window: a step between opposite borders counts as detail, in
    target and reconstruction alike.

    Args:
        reconstruction, target: (B, C, H, W); the reconstruction of the model, not clamped.

    Returns:
        F = about 0.71 min(H, W) + 1 rings.

    Raises:
        ShapeError: the shapes differ, or there is no image.

    Source: Parseval's theorem; transfer and coherence as in Bendat & Piersol 2010, Random data,
        section 6.1.4 (single input, single output).
    """
    if reconstruction.shape != target.shape or target.ndim != 4 or not target.numel():
        raise ShapeError(
            "errors by frequency need two equal shapes (B, C, H, W), not "
            f"{tuple(reconstruction.shape)} and {tuple(target.shape)}"
        )
    # Both (H * W,), in the order of `fft2` flattened row by row.
    ring, radius = _rings(target.shape[2], target.shape[3])
    ours, wanted = _spectrum(reconstruction), _spectrum(target)
    pixels = target.shape[2] * target.shape[3]
    numbers = {
        "error": _power(ours - wanted),
        "target": _power(wanted),
        "reconstruction": _power(ours),
        # The cross spectrum, real and imaginary part apart: bincount takes no complex weights.
        "real": (ours * wanted.conj()).real.mean((0, 1)),
        "imaginary": (ours * wanted.conj()).imag.mean((0, 1)),
    }
    sums = {
        # bincount with weights sums the values of each ring.
        name: torch.bincount(ring, values.flatten()) / pixels
        for name, values in numbers.items()
    }
    both = sums["real"].square() + sums["imaginary"].square()
    return FrequencyError(
        frequency=torch.bincount(ring, radius) / torch.bincount(ring),
        error=sums["error"],
        target=sums["target"],
        reconstruction=sums["reconstruction"],
        transfer=_ratio(sums["real"], sums["target"]),
        coherence=_ratio(both, sums["target"] * sums["reconstruction"]).clamp(max=1.0),
    )


def _rings(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The ring number and the radius of each frequency, both (H * W,)."""
    rows, columns = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    radius = torch.hypot(rows[:, None], columns[None, :]).flatten()
    # At least 1, so that ring 0 holds only the mean of the image.
    ring = (radius * min(height, width)).round().long().clamp(min=1)
    ring[0] = 0
    # In long narrow images some rings have no frequency; only the others are numbered.
    return torch.unique(ring, return_inverse=True)[1], radius


def _spectrum(values: Tensor) -> Tensor:
    """The orthonormal spectrum, complex128 (B, C, H, W) on the CPU."""
    # `ortho`: squares sum to those of the pixels (Parseval), without a factor of H * W.
    spectrum: Tensor = torch.fft.fft2(values.detach().cpu().double(), norm="ortho")
    return spectrum


def _power(spectrum: Tensor) -> Tensor:
    """The power at each frequency, mean over images and channels: (B, C, H, W) -> (H, W)."""
    return (spectrum.real.square() + spectrum.imag.square()).mean((0, 1))


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """above / below; NaN where the denominator is 0."""
    return torch.where(below > 0, above / below.clamp(min=1e-300), torch.nan)
