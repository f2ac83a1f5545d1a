"""Spectral normalisation: layers whose linear map enlarges no vector."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations, parametrize

from aelab.errors import ConfigError

#: Layers with a `weight` that is one linear map.
NORMALISED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def spectral_norm(module: nn.Module, power_iterations: int = 1) -> nn.Module:
    """Divides the weight of each linear layer and convolution by its largest singular value.

    Each such layer then enlarges no difference of its inputs: with activations that do not either,
    the module has a Lipschitz constant of about 1 (for a convolution that of its weight as a
    matrix of one row for each channel). Biases are free.

    Args:
        module: for instance a decoder; it is changed in place and keeps its type.
        power_iterations: steps of the power method in each pass of training, from 1; its vectors
            are buffers, which are stored with the run.

    Returns:
        `module`.

    Raises:
        ConfigError: it has no such layer left, or `power_iterations` makes no sense.

    Source: Miyato et al. 2018, arXiv:1802.05957, algorithm 1; for decoders of autoencoders Ghosh et
        al. 2020, arXiv:1903.12436, section 3.1 (RAE-SN).
    """
    if isinstance(power_iterations, bool) or not isinstance(power_iterations, int):
        raise ConfigError(
            f"spectral_norm: power_iterations is {power_iterations!r}; it must be a whole number"
        )
    if power_iterations < 1:
        raise ConfigError(f"spectral_norm: power_iterations is {power_iterations}; at least 1")
    layers = [
        layer
        for layer in module.modules()
        if isinstance(layer, NORMALISED) and not parametrize.is_parametrized(layer, "weight")
    ]
    if not layers:
        raise ConfigError(
            f"spectral_norm: {type(module).__name__} has no linear layer or convolution to "
            "normalise, or all are normalised already",
            hint="give it a decoder once, for instance spectral_norm(DecoderMLP(shape, 16))",
        )
    for layer in layers:
        parametrizations.spectral_norm(layer, n_power_iterations=power_iterations)
    return module
