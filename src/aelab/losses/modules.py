"""Losses as objects with settings, for a `loss_function:` block of a file."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from aelab.losses.names import Formula, callable_name, find_reconstruction
from aelab.losses.reconstruction import same_shape


class PerceptualLoss(nn.Module):
    """A loss between the features of the reconstruction and of the target.

    The feature module is frozen and in evaluation mode. It is not part of the autoencoder, and its
    parameters are drawn with the run's seed. Features may have any shape.

    Args:
        model: module or function, (B, C, H, W) -> (B, ...); complex features allow only `l1`.
        loss: name of a reconstruction loss for such features, or a function of two tensors.

    Raises:
        ConfigError: unknown loss.

    Source: `perceptual_model` of the documents' `TrainAutoencoderSpecial`; Johnson, Alahi & Fei-Fei
        2016, arXiv:1603.08155, with trained networks.
    """

    def __init__(
        self, model: nn.Module | Callable[[Tensor], Tensor], loss: str | Formula = "l1"
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.compare = find_reconstruction(loss)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in evaluation mode, because the features must not change during training."""
        return super().train(False)

    def forward(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """The loss per image: (B, C, H, W) twice -> (B,)."""
        same_shape(reconstruction, target)
        features: Tensor = self.model(reconstruction)
        wanted: Tensor = self.model(target)
        return self.compare(features, wanted)

    def extra_repr(self) -> str:
        """The settings, as written in a file."""
        loss = self.loss if isinstance(self.loss, str) else callable_name(self.loss)
        function = "" if isinstance(self.model, nn.Module) else f"{callable_name(self.model)}, "
        return f"{function}loss={loss!r}"
