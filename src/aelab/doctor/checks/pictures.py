"""Checks of the images that a model outputs, and of its latent."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aelab.doctor.checks.subject import LATENTS, BuiltRun, kept_weights
from aelab.findings import Finding
from aelab.inspect.trials import SHAPES_ONLY
from aelab.ops.layers import leaves
from aelab.ops.random import seed_default
from aelab.ops.value_range import UNIT, limits
from aelab.posteriors import HasLevels
from aelab.train.forward import forward

#: Activations with a flat part, which has no gradient.
_FLAT = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus)
#: Those of them that are flat on both sides and reach their bounds only in the limit.
_SATURATING = (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid)
#: A slope below this counts as no gradient; a value nearer to its target than this as right.
NO_SLOPE, RIGHT = 1e-4, 0.02
#: Share of the values that may be wrong without gradient at the start.
FEW_STUCK = 0.1
#: Such pixels are told if they hold at least this share of the images' variance.
LITTLE_LOST = 0.001
#: An absolute error pulls a pixel to a bound if more than half of the images have that value there;
#: reported if that holds for this share of the pixels.
MOSTLY = 0.5
#: Share of the variance below which the remaining directions of a set count as rounding errors.
ROUNDING = 1e-7
#: Terms that limit what a noisy code can say.
DIVERGENCES = frozenset({"kl", "gaussian_kl", "sampled_kl", "iwae_bound"})


def stuck_output(run: BuiltRun) -> Iterator[Finding]:
    """Finds a last activation that starts in its flat part, or is pulled into it."""
    if run.train is None or not run.train.medium.is_brightness:
        return
    if run.train.value_range != UNIT:  # reported by `output-out-of-reach`
        return
    last = _last_activation(run)
    if last is None:
        return
    name, slopes, values = last
    target = run.batch().target
    if values.shape != target.shape:
        return
    wrong = (values - target).abs() > RIGHT
    share = float(((slopes.abs() < NO_SLOPE) & wrong).float().mean())
    where = run.place("model")
    if share > FEW_STUCK:
        yield Finding(
            "warning",
            "output-stuck",
            f"the model ends with {name}, and {share:.0%} of the output values are wrong at the "
            "start and have no gradient there",
            f"no activation after the last layer of the decoder instead of {name}",
            where,
        )
        return
    bound = _pulled_to_bound(run, name)
    if bound is not None:
        part, value = bound
        alone = float((target - value).abs().mean())
        yield Finding(
            "warning",
            "output-saturates",
            f"the model ends with {name}, and {part:.0%} of the pixels are {value:g} in more than "
            f"half of the images: with l1 the picture of {value:g} everywhere, loss {alone:.3g}, "
            f"pulls {name} into its flat part, which gives no gradient back",
            "activation_last_layer=None (activation_out=None of an implicit decoder), or "
            "loss_function: l2",
            where,
        )


def unreached_pixels(run: BuiltRun) -> Iterator[Finding]:
    """Finds pixels that are the same whatever the latent, although the images vary there.

    A transposed convolution with a stride leaves the last rows and columns to its bias where the
    kernel does not fit. Weights are moved a little first: some decoders begin with zeros.
    """
    if run.train is None or not run.train.medium.is_brightness:
        return
    output, target = run.first_pass.output, run.batch().target
    if not output.latent.is_floating_point() or not output.latent[0].numel():
        return
    model = run.evaluated
    with torch.no_grad(), kept_weights(model):
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        try:
            latents = torch.randn(LATENTS, *output.latent.shape[1:])
            made = model.decode(latents)  # type: ignore[operator]
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):
            return  # no decoder of its own, or one that takes more than the latent
    if made.shape[1:] != target.shape[1:]:
        return
    same = (made == made[:1]).all(0)
    # A ReLU or a limit may be flat there; that is `output-stuck`.
    same &= (made[0] != 0) & (made[0] != 1)
    variance = run.variance.view(same.shape)
    varies = variance > 0
    lost = (same & varies).any(0)  # (H, W)
    share = float(variance[:, lost].sum() / variance.sum().clamp(min=1e-12))
    if share < LITTLE_LOST:
        return
    height, width = lost.shape
    without = lost | ~varies.any(0)  # of a row, what does not vary does not matter
    rows, columns = (int((without.all(axis) & lost.any(axis)).sum()) for axis in (1, 0))
    parts = [
        f"{count} of {size} {name}"
        for count, size, name in ((rows, height, "rows"), (columns, width, "columns"))
        if count
    ]
    yield Finding(
        "warning",
        "pixels-unreached",
        f"{float(lost.float().mean()):.1%} of the pixels are the same whatever the latent, "
        f"although they hold {share:.2g} of the images' variance"
        f"{': ' if parts else ''}{' and '.join(parts)}: no kernel of the decoder reaches them",
        "a kernel_size that is not below the stride, with (size - kernel_size) a multiple of the "
        "stride, for instance 4 with stride 2 for an even size; or stride 1",
        run.place("model"),
    )


def latent_too_wide(run: BuiltRun) -> Iterator[Finding]:
    """Finds a latent with more numbers than the images have directions.

    Levels of a hierarchy describe the same image several times, and where patches were hidden the
    code has to say what it did not see: their size means nothing.
    """
    if run.train is None or not run.train.medium.is_brightness:
        return
    output = run.first_pass.output
    if hasattr(output.posterior, "choices") or not output.latent.is_floating_point():
        return
    if isinstance(output.posterior, HasLevels) or hasattr(output.posterior, "mask"):
        return
    size = output.latent[0].numel()
    pixels = run.sample.shape[1]
    # What a noisy code says is limited by its divergence, however many numbers it has.
    is_charged = any(t.formula_name in DIVERGENCES and t.weight > 0 for t in run.objective.terms)
    if size >= pixels and not is_charged:
        yield Finding(
            "warning",
            "latent-too-wide",
            f"the latent has {size:,} numbers and an image {pixels:,}: nothing is compressed, and "
            "the model can copy its input",
            f"a smaller latent, for instance of {max(1, pixels // 10):,} numbers",
            run.place("model"),
        )
        return
    held = run.spectrum.flip(0).cumsum(0).flip(0)  # variance from this direction on
    rank = int((held > ROUNDING * held[0].clamp(min=1e-12)).sum())
    if rank >= len(run.sample) - 1 or size <= rank:  # the limit may be the size of the sample
        return
    yield Finding(
        "note",
        "latent-too-wide",
        f"the latent has {size:,} numbers, and the images vary in {rank:,} directions only: "
        f"{size - rank:,} numbers have nothing to say",
        f"a latent of {rank:,} numbers or less holds the same",
        run.place("model"),
    )


def _last_activation(run: BuiltRun) -> tuple[str, Tensor, Tensor] | None:
    """The last activation before the images: its name, and its slopes and values as images.

    A decoder may make the images in several calls and put their axes in another order. So the
    slopes take the way of the values: in a second pass the activation outputs its slopes.
    """
    model = copy.deepcopy(run.model).train()
    called: list[tuple[nn.Module, int]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Stores a call and the number of its values."""
        if isinstance(output, Tensor) and not isinstance(module, SHAPES_ONLY):
            called.append((module, output.numel()))

    def images() -> Tensor:
        """The images of a pass, with the same random numbers each time."""
        seed_default(0)
        with torch.no_grad():
            return forward(model, run.objective, *run.batch(), images_seen=0)[0].reconstruction

    hooks = [leaf.register_forward_hook(note) for _, leaf in leaves(model)]
    values = images()
    for hook in hooks:
        hook.remove()
    if not called or not isinstance(called[-1][0], _FLAT):
        return None
    module = called[-1][0]
    sizes = [size for each, size in called if each is module]
    if sizes[-1] == values.numel():
        first = len(sizes) - 1  # earlier calls, if any, are inside of the model
    elif sum(sizes) == values.numel():
        first = 0
    else:
        return None
    if isinstance(module, nn.ReLU | nn.ReLU6 | nn.Hardtanh):
        module.inplace = False  # in place it would overwrite the input of the slopes
    calls = itertools.count()

    def slopes(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Slopes in place of values, in the calls that make the images."""
        if next(calls) < first:
            return output
        given = inputs[0].detach().clone().requires_grad_(True)
        with torch.enable_grad():
            # `forward` of the class: the hook of the module would be called again.
            total = type(module).forward(module, given).sum()
        return torch.autograd.grad(total, given)[0]

    module.register_forward_hook(slopes)
    return type(module).__name__, images(), values


def _pulled_to_bound(run: BuiltRun, name: str) -> tuple[float, float] | None:
    """Share of pixels that an absolute error pulls to a bound of the activation, and the bound."""
    absolute = any(term.formula_name == "l1" and term.weight for term in run.objective.terms)
    others = [t for t in run.objective.terms if t.sees_images and t.weight]
    if name not in [kind.__name__ for kind in _SATURATING] or not absolute or len(others) > 1:
        return None
    assert run.train is not None
    low, high = limits(run.train.value_range)
    middle = run.median
    # 0 is the middle of a tanh, not its bound.
    for value in (high,) if name == nn.Tanh.__name__ else (low, high):
        part = float(((middle - value).abs() < RIGHT * (high - low) / 4).float().mean())
        if part > MOSTLY:
            return part, value
    return None
