"""`resnet18_open`: ResNet-18 under the name in older files."""

from __future__ import annotations

from typing import Any

from aelab.models.resnet import ResNet18, load_resnet18
from aelab.parts import reads_files


@reads_files
def resnet18_open(weights: Any = None, progress: bool = True) -> ResNet18:
    """ResNet-18 under its name in older files: features of layer 4, without pooling and classifier.

    The input is not normalised, which pretrained weights expect; use `PretrainedResNet18` for that.

    Args:
        weights: as `PretrainedResNet18`, or torchvision's `ResNet18_Weights.IMAGENET1K_V1`; None
            for random ones.
        progress: has no effect.

    Returns:
        A module (B, 3, H, W) -> (B, 512, H/32, W/32), rounded up, of 11,689,512 parameters; the
        classifier's 513,000 are frozen and unused.

    Raises:
        DataError: the weights are missing and cannot be downloaded, or are not ResNet-18's.
    """
    model = ResNet18(head=True)
    model.note = load_resnet18(model, weights)
    if weights is not None:
        model.note += "; input not normalised as they expect"
    return model
