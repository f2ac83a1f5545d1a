"""Checks of validations: randomness, dependence on the batch, and tiny batches."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aelab.doctor.checks.subject import BuiltRun, worded
from aelab.findings import Finding
from aelab.ops.layers import leaves
from aelab.ops.random import seed_default
from aelab.train.forward import forward
from aelab.train.validation import noise_shape_of, validation_of

#: Outputs of one image count as different above this share of their spread.
SAME = 1e-3
#: Least number of values in a channel for the statistics of a normalisation.
FEW_VALUES = 16


def live_in_validation(run: BuiltRun) -> Iterator[Finding]:
    """Finds validation losses with dropout, sampling or batch statistics."""
    if not run.parts.validation:
        return
    if validation_of(run.settings).training_mode:
        live = _live(run.model)
        if not live:
            return
        low, high = _losses(run)
        spread = "" if low is None else (
            f"; the same images give losses from {low:.4g} to {high:.4g} at the start"
        )  # fmt: skip
        yield Finding(
            "warning",
            "validation-in-training-mode",
            f"validation is in training mode, with {worded(live)}: it measures chance, and the "
            f"batch, beside the model{spread}",
            "leave out 'legacy: true' and the old trainer, or legacy: [kl] to keep only the "
            "objective; numbers then differ from the old tables",
            run.place("legacy", "trainer"),
        )
        return
    apart = _apart(run, run.first_pictures[1])
    if apart > SAME:
        yield Finding(
            "warning",
            "random-in-evaluation",
            f"the model is random in evaluation mode: the same images come out {apart:.1%} of "
            "their spread apart in two passes",
            "use nn.Dropout, or F.dropout(x, training=self.training); draw noise from the "
            "argument `noise` only",
            run.place("model"),
        )


def depends_on_batch_mates(run: BuiltRun) -> Iterator[Finding]:
    """Finds outputs that depend on the other images of the batch."""
    if _apart(run, run.first_pictures[1]) > SAME:
        return
    images = run.inputs
    mates = torch.cat([images[:1], images[1:].flip(-1)])
    apart = _apart(run, run.first_picture(mates, 1))
    if apart <= SAME:
        return
    norms = [
        f"{type(m).__name__} '{name}'"
        for name, m in leaves(run.model)
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and not m.track_running_stats
    ]
    why = f" ({worded(norms)} takes its statistics from the batch)" if norms else ""
    yield Finding(
        "warning",
        "batch-mates",
        f"the output for an image depends on the other images of its batch: with other mates it "
        f"changes by {apart:.1%} of its spread in evaluation mode{why}. Losses depend on the batch "
        "size, and a single image cannot be encoded",
        "attend over the patches of one image, not over the batch (PatchTransformerAutoencoder); "
        "GroupNorm or track_running_stats=True in place of batch statistics",
        run.place("model"),
    )


def tiny_last_batch(run: BuiltRun) -> Iterator[Finding]:
    """Finds a last batch of an epoch that is too small for the statistics of a normalisation."""
    size, count = run.settings.batch_size, run.count
    if count is None:
        return
    last = count % size or size
    if count < size:
        last = count
    if last >= FEW_VALUES or last < 2 or (run.end is not None and run.end.images < count):
        return
    few = [
        (f"'{name}' ({type(module).__name__})", values)
        for name, module, values in _values_per_image(run)
        if values * last < FEW_VALUES
    ]
    if not few:
        return
    share = max(0.1 if m.momentum is None else m.momentum for _, m, _ in _values_per_image(run))
    yield Finding(
        "warning",
        "tiny-last-batch",
        f"each epoch ends with a batch of {last} images, of which {worded([n for n, _ in few])} "
        f"takes means of {few[0][1] * last} values a channel; they count {share:.0%} of the "
        "running statistics that validation uses",
        f"batch_size: {_better(count, size)}, or a norm without batch statistics: GroupNorm, "
        "LayerNorm",
        run.place("batch_size", "train_set"),
    )


def _live(model: nn.Module) -> list[str]:
    """The differences between training mode and evaluation mode, in words."""
    dropped = Counter(
        m.p for _, m in leaves(model) if isinstance(m, nn.modules.dropout._DropoutNd) and m.p
    )
    dropouts = [
        f"dropout {share:g} in {count} layer{'s' * (count > 1)}" for share, count in dropped.items()
    ]
    norms = [
        f"'{name}'"
        for name, m in leaves(model)
        if isinstance(getattr(m, "running_mean", None), Tensor)
    ]
    sampling = ["the latent's noise"] if noise_shape_of(model) is not None else []
    batch = [f"batch statistics of {len(norms)} norms"] if norms else []
    return [*dropouts, *sampling, *batch]


def _losses(run: BuiltRun) -> tuple[float | None, float | None]:
    """Least and greatest reconstruction loss of a batch in four validation passes."""
    if run.train is None:
        return None, None
    found = []
    model = copy.deepcopy(run.model).train()
    batch = run.batch()
    for seed in range(4):
        seed_default(seed)
        drawn = None if batch.noise is None else torch.randn_like(batch.noise)
        redrawn = batch._replace(noise=drawn)
        with torch.no_grad():
            _, values, _ = forward(model, run.objective, *redrawn, images_seen=0)
            found.append(run.of_images(values))
    return min(found), max(found)


def _apart(run: BuiltRun, picture: Tensor) -> float:
    """The largest difference between two pictures of the first image, as a share of the spread.

    Args:
        picture: (C, H, W), compared with the first of `run.first_pictures`.
    """
    first = run.first_pictures[0]
    spread = float(first.std()) + float(run.inputs[0].std()) + 1e-6
    return float((first - picture).abs().max()) / spread


def _values_per_image(run: BuiltRun) -> list[tuple[str, nn.modules.batchnorm._BatchNorm, int]]:
    """Normalisations with running statistics, and the values per channel of one image."""
    model = copy.deepcopy(run.model).eval()
    found: list[tuple[str, nn.modules.batchnorm._BatchNorm, int]] = []
    hooks = []
    images = run.inputs

    def note(name: str, module: nn.modules.batchnorm._BatchNorm) -> None:
        """Counts the inputs of the module."""

        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            """One call of the norm."""
            values = inputs[0].numel() // max(1, module.num_features) // len(images)
            found.append((name, module, max(1, values)))

        hooks.append(module.register_forward_pre_hook(hook))

    for name, module in leaves(model):
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            note(name, module)
    if hooks:
        with torch.no_grad():
            model(images, None)
    return found


def _better(count: int, size: int) -> int:
    """The batch size nearest to `size` with a large enough last batch."""
    others = sorted(range(max(2, size // 2), 2 * size), key=lambda near: abs(near - size))
    return next((n for n in others if (count % n or n) >= FEW_VALUES), size)
