"""A feature net for images of any size, trained here in seconds, without downloaded weights.

Distances between sets of images need features. The usual ones come from a net for photographs of
299 pixels; it must be downloaded, and its features mean little for small grey images. This net is
trained on the run's training images: to classify them if they have labels, else to recognise by
how much an image was rotated. Every result carries the net's accuracy and weight hash, because
results of different nets cannot be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.metrics.subject import Subject

#: Length of a feature vector.
FEATURES = 64
_BATCH = 128


class FeatureNet(nn.Module):
    """Three convolutions, mean and maximum over the image, and a linear feature layer.

    Args:
        channels: C of the images.
        classes: number of classes to distinguish.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, 96, 3, stride=2, padding=1), nn.BatchNorm2d(96), nn.ReLU(),
        )  # fmt: skip
        # 192 = 96 means and 96 maxima.
        self.embed = nn.Linear(192, FEATURES)
        self.classify = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """Features of images: (B, C, H, W) in 0..1 -> (B, 64), at least 0."""
        maps = self.convolutions(images)  # (B, 96, H / 4, W / 4)
        pooled = torch.cat(
            [maps.mean((2, 3)), maps.amax((2, 3))], 1
        )  # (B, 192), for any image size
        embedded: Tensor = F.relu(self.embed(pooled))
        return embedded

    def forward(self, images: Tensor) -> Tensor:
        """Class logits: (B, C, H, W) -> (B, classes)."""
        logits: Tensor = self.classify(self.features(images))
        return logits


class Trained(NamedTuple):
    """A trained feature net and its quality.

    Attributes:
        net: in evaluation mode.
        task: `classes` or `rotations`.
        accuracy: share of held-out images that it classifies correctly.
        chance: accuracy of always guessing the most frequent class.
        sha256: hash of its weights, hexadecimal.
    """

    net: FeatureNet
    task: str
    accuracy: float
    chance: float
    sha256: str

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features of images, (N, C, H, W), clamped to 0..1 -> (N, 64) float64."""
        # 250 at a time bounds the memory of the convolutions.
        parts = [self.net.features(part.clamp(0, 1)) for part in torch.split(images, 250)]
        return torch.cat(parts).double()


#: The net of the latest training images, by what it was made from: runs on one set share it.
_LATEST: dict[str, Trained] = {}


def train_features(subject: Subject, images: int = 20_000) -> Trained:
    """Trains the feature net of a subject; the same training images give the same net.

    It takes longer than all else about a small run, so the latest one is kept in memory.

    Args:
        subject: with training images; without several classes they must be square.
        images: number of images to train on, with repetition.

    Raises:
        ConfigError: there are neither several classes nor square images.

    Source: rotations as a task: Gidaris et al. 2018, arXiv:1803.07728.
    """
    train, held_out = subject.train_images, subject.images
    has_labels = _tells_classes(subject)
    if not has_labels and train.shape[-1] != train.shape[-2]:
        raise ConfigError(
            "a feature net needs several classes, or square images that can be turned"
        )
    labels = subject.train_labels.long() if has_labels else None  # type: ignore[union-attr]
    test_labels = subject.labels.long() if has_labels else None  # type: ignore[union-attr]
    classes = int(labels.max()) + 1 if labels is not None else 4
    made_from = fingerprint([train, labels, held_out[:2000], test_labels], str(images))
    if made_from in _LATEST:
        return _LATEST[made_from]
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        # A fixed seed: the same training images must always give the same net.
        torch.manual_seed(0)
        net = FeatureNet(train.shape[1], classes)
    _train(net, train, labels, images, generator)
    if labels is not None and test_labels is not None:
        known = torch.isin(
            test_labels, labels
        )  # classes that the net was not trained on are left out
        held_out, test_labels = held_out[known], test_labels[known]
    inputs, wanted = _task(held_out[:2000], None if test_labels is None else test_labels[:2000],
                           generator)  # fmt: skip
    with torch.no_grad():
        logits = torch.cat([net(part) for part in torch.split(inputs, 250)])
    accuracy = (logits.argmax(1) == wanted).double().mean().item()
    chance = torch.bincount(wanted, minlength=classes).max().item() / len(wanted)
    task = "classes" if has_labels else "rotations"
    # Two nets are the same only if every bit of their weights is.
    found = Trained(net, task, accuracy, chance, fingerprint(net.state_dict().values()))
    _LATEST.clear()
    _LATEST[made_from] = found
    return found


def fingerprint(tensors: Iterable[Tensor | None], words: str = "") -> str:
    """The sha256 of the bytes of tensors, in their order, and of words."""
    digest = hashlib.sha256(words.encode())
    for tensor in tensors:
        digest.update(b"-" if tensor is None else tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _tells_classes(subject: Subject) -> bool:
    """Whether there are several training classes, and held-out images of at least one."""
    if subject.labels is None or subject.train_labels is None:
        return False
    seen = torch.unique(subject.train_labels)
    return len(seen) > 1 and bool(torch.isin(subject.labels, seen).any())


def _train(
    net: FeatureNet, train: Tensor, labels: Tensor | None, images: int, generator: torch.Generator
) -> None:
    steps = max(1, images // _BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
    net.train()
    with torch.enable_grad():
        for _ in range(steps):
            index = torch.randint(len(train), (_BATCH,), generator=generator)
            inputs, wanted = _task(
                train[index], None if labels is None else labels[index], generator
            )
            loss = F.cross_entropy(net(inputs), wanted)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    net.eval()


def _task(
    images: Tensor, labels: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of the classifier: images and classes, or rotated images and rotations."""
    if labels is not None:
        return images, labels
    turns = torch.randint(4, (len(images),), generator=generator)
    turned = torch.stack([images.rot90(k, (2, 3)) for k in range(4)])  # (4, B, C, H, W)
    # (B, C, H, W): of each image the rotation that was drawn for it.
    return turned[turns, torch.arange(len(images))], turns
