"""Finds the formula of a loss: by name or alias, among functions of torch, or a callable."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, did_you_mean, one_of
from aelab.losses.aggregate import (
    TotalCorrelation,
    dip_term,
    mmd_term,
    sliced_wasserstein_term,
)
from aelab.losses.critics import (
    CRITIC_OPTIONS,
    CorrelationCritic,
    Critic,
    CriticFeatures,
    ImageCritic,
    LatentCritic,
)
from aelab.losses.earlier import EarlierError
from aelab.losses.histograms import histogram, histogram_distance, local_histogram
from aelab.losses.jacobians import contractive_term, decoder_gradient_term
from aelab.losses.latent import (
    code_entropy_term,
    commitment_term,
    feature_statistics_term,
    iwae_bound_term,
    kl_sparse_term,
    kl_term,
    latent_l1_term,
    latent_l2_term,
    level_kl_term,
    sampled_kl_term,
)
from aelab.losses.likelihoods import (
    charbonnier,
    continuous_bernoulli,
    gaussian_nll,
    log_cosh,
    optimal_gaussian_nll,
)
from aelab.losses.masked import MaskedError
from aelab.losses.mixture import LogisticMixture
from aelab.losses.random_features import random_features
from aelab.losses.reconstruction import (
    Reduction,
    bce,
    bce_logits,
    huber,
    l1,
    l2,
    per_image,
    same_shape,
)
from aelab.losses.spectrum import fft, focal_frequency
from aelab.losses.structure import gradient, ms_ssim, ssim
from aelab.losses.triplets import FactorTriplet, OverlapTriplet
from aelab.parts import Table, by_name, reinstall

Formula = Callable[..., Tensor]

#: Arguments of a formula: (reconstruction, target); the model's output; or (output, target).
TermKind = Literal["reconstruction", "penalty", "comparison"]

#: (reconstruction, target) -> (B,).
RECONSTRUCTIONS: Table[Formula] = Table(
    "reconstruction loss",
    "aelab.reconstructions",
    by_name(
        l1,
        l2,
        bce,
        bce_logits,
        huber,
        log_cosh,
        charbonnier,
        gaussian_nll,
        optimal_gaussian_nll,
        continuous_bernoulli,
        histogram,
        histogram_distance,
        local_histogram,
        ssim,
        ms_ssim,
        gradient,
        fft,
        focal_frequency,
        random_features,
    ),
)

#: Output -> (B,), or a class of such functions: its arguments are the term's options, and it may
#: have `prepare(images)`, as in `COMPARISONS`. With the attribute `of_encoder = True` a function is
#: called with (output, encoding). `kl` is the Gaussian one unless `stand_ins`
#: replaces it.
PENALTIES: Table[Formula | type[nn.Module]] = Table(
    "penalty",
    "aelab.penalties",
    {
        "kl": kl_term,
        "gaussian_kl": kl_term,
        "sampled_kl": sampled_kl_term,
        "level_kl": level_kl_term,
        "commitment": commitment_term,
        "code_entropy": code_entropy_term,
        "iwae_bound": iwae_bound_term,
        "feature_statistics": feature_statistics_term,
        "latent_l1": latent_l1_term,
        "latent_l2": latent_l2_term,
        "contractive": contractive_term,
        "decoder_gradient": decoder_gradient_term,
        "kl_sparse": kl_sparse_term,
        "mmd": mmd_term,
        "sliced_wasserstein": sliced_wasserstein_term,
        "dip": dip_term,
        "total_correlation": TotalCorrelation,
        "latent_critic": LatentCritic,
        "correlation_critic": CorrelationCritic,
        "image_critic": ImageCritic,
    },
)

#: Losses that compare whole outputs, usually `Output.details`: classes whose objects map
#: (output, target) to (B,). Options of a term are arguments of the class. If the object has a
#: method `prepare(images)`, it is called with the training images before the first batch. With
#: `of_latents = True` it does not count as a reconstruction.
COMPARISONS: Table[type[nn.Module]] = Table(
    "comparison loss",
    "aelab.comparisons",
    {
        "critic_features": CriticFeatures,
        "earlier_error": EarlierError,
        "factor_triplet": FactorTriplet,
        "logistic_mixture": LogisticMixture,
        "masked_error": MaskedError,
        "overlap_triplet": OverlapTriplet,
    },
)

#: Options of every term, independent of its formula: how its weight or goal changes in training.
TERM_OPTIONS = (
    "start_images",
    "warmup_images",
    "warmup",
    "cycle_images",
    "capacity",
    "capacity_images",
)

#: Penalties that include the reconstruction error, because the model compares with the images.
WHOLE_BOUNDS = frozenset({"iwae_bound"})
#: Penalties that are right on average over drawn latents only: validation draws noise for them.
OF_DRAWN_LATENTS = WHOLE_BOUNDS | {"sampled_kl", "level_kl"}

#: Least and greatest target value that a formula accepts; outside it has no minimum or no meaning.
#: By usual name, and the names of torch's functions and classes.
TARGET_RANGES: dict[str, tuple[float, float]] = {
    "bce": (0.0, 1.0),
    "bce_logits": (0.0, 1.0),
    "iwae_bound": (0.0, 1.0),
    "continuous_bernoulli": (0.0, 1.0),
    "logistic_mixture": (0.0, 1.0),
    "BCELoss": (0.0, 1.0),
    "BCEWithLogitsLoss": (0.0, 1.0),
    "multilabel_soft_margin_loss": (0.0, 1.0),
    "MultiLabelSoftMarginLoss": (0.0, 1.0),
    "kl_div": (0.0, math.inf),
    "KLDivLoss": (0.0, math.inf),
    "poisson_nll_loss": (0.0, math.inf),
    "PoissonNLLLoss": (0.0, math.inf),
}

#: Formulas whose constants are chosen for images in 0..1. Other ranges are allowed, but the weights
#: then differ from the publication. A loss class declares this by `of_unit_images = True`.
OF_UNIT_IMAGES = frozenset(
    {"ssim", "ms_ssim", "histogram", "histogram_distance", "local_histogram"}
)

#: Other names that old files use -> the usual one.
ALIASES: Table[str] = Table(
    "loss name",
    "aelab.loss_names",
    {
        "mae": "l1",
        "mse": "l2",
        "binary_cross_entropy": "bce",
        "binary_cross_entropy_with_logits": "bce_logits",
        "huber_loss": "huber",
        "l1_loss": "l1",
        "mse_loss": "l2",
        "ce": "cross_entropy",
    },
)


@cache
def torch_losses() -> dict[str, Formula]:
    """The functions of `torch.nn.functional` with (input, target, reduction), by name."""
    found = {}
    for name in dir(F):
        function = getattr(F, name)
        if name.startswith("_") or not callable(function):
            continue
        try:
            parameters = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            continue
        if parameters[:2] == ["input", "target"] and "reduction" in parameters:
            found[name] = function
    return found


@cache
def torch_loss_classes() -> dict[str, type[nn.Module]]:
    """The loss classes of `torch.nn`, by name; they are built without arguments."""
    return {
        name: getattr(nn.modules.loss, name)
        for name in nn.modules.loss.__all__
        if name.endswith("Loss")
    }


def loss_names() -> list[str]:
    """All names that the formula of a term may have."""
    own = {*RECONSTRUCTIONS, *PENALTIES, *COMPARISONS, *ALIASES}
    return sorted({*own, *torch_losses(), *torch_loss_classes()})


def find_formula(formula: str | Formula) -> tuple[str, Callable[..., Any], TermKind]:
    """Finds a formula by name, or wraps a callable.

    Args:
        formula: a name of `loss_names()`, or a callable `(reconstruction, target) -> Tensor`.

    Returns:
        Its usual name (`reconstruction` for a callable), the function (for a comparison: its
        class), and its kind.

    Raises:
        ConfigError: unknown name; the message suggests the closest and lists all names.
    """
    if not isinstance(formula, str):
        if not callable(formula):
            raise ConfigError(f"a loss must be a name or a function, not {formula!r}")
        return "reconstruction", partial(apply_callable, formula), "reconstruction"
    name = ALIASES.get(formula, formula)
    if name in RECONSTRUCTIONS:
        return name, RECONSTRUCTIONS[name], "reconstruction"
    if name in PENALTIES:
        return name, PENALTIES[name], "penalty"
    if name in COMPARISONS:
        return name, COMPARISONS[name], "comparison"
    if name in torch_losses():
        return name, partial(apply_torch_loss, torch_losses()[name]), "reconstruction"
    if name in torch_loss_classes():
        function = partial(apply_callable, _build(torch_loss_classes()[name]))
        return name, function, "reconstruction"
    raise ConfigError(
        f"unknown loss {formula!r}{did_you_mean(formula, loss_names())}",
        hint=reinstall(formula)
        or f"possible: {one_of({*RECONSTRUCTIONS, *PENALTIES, *COMPARISONS, *ALIASES})}, "
        "any loss of torch.nn.functional, or a function (reconstruction, target)",
    )


def kind_name(formula: str | Formula) -> str:
    """The key of a formula in `TARGET_RANGES`: usual name, or name of the callable or class."""
    if isinstance(formula, str):
        return find_formula(formula)[0]
    if isinstance(formula, nn.Module):
        return type(formula).__name__
    name = callable_name(formula)
    return ALIASES.get(name, name)


def mentions_unit_targets(formula: str | Formula) -> bool:
    """Whether a custom function calls a formula whose targets must be in 0..1.

    The function may scale its targets first, so this is a reason for a note, not for an error.
    """
    code = getattr(formula, "__code__", None)
    # The restricted evaluator turns F.name into a call with the name as a constant.
    names = () if code is None else (*code.co_names, *code.co_consts)
    words = [name for name in names if isinstance(name, str)]
    return any(TARGET_RANGES.get(ALIASES.get(word, word)) == (0.0, 1.0) for word in words)


def find_reconstruction(name: str | Formula) -> Formula:
    """The function (reconstruction, target) -> (B,) for a name or a callable.

    Raises:
        ConfigError: unknown name, or a formula with other arguments.
    """
    usual, function, kind = find_formula(name)
    if kind != "reconstruction":
        raise ConfigError(
            f"{usual} compares no images; possible: {one_of(RECONSTRUCTIONS)}",
            hint="penalties and comparisons of outputs belong in the objective",
        )
    return function


def apply_torch_loss(
    function: Formula,
    reconstruction: Tensor,
    target: Tensor,
    reduction: Reduction = "mean",
    **options: Any,
) -> Tensor:
    """Applies a loss of `torch.nn.functional`; returns values per image, (B,)."""
    same_shape(reconstruction, target)
    return per_image(function(reconstruction, target, reduction="none", **options), reduction)


def apply_callable(
    function: Formula, reconstruction: Tensor, target: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Applies any callable; returns (B,). A single value is repeated for every image.

    Raises:
        ConfigError: the result is neither one value nor values per image.
    """
    # On a GPU, tensors that the function creates without `device=` must be there too.
    place = contextlib.nullcontext() if target.device.type == "cpu" else target.device
    with place:
        value = function(reconstruction, target)
    num_images = target.shape[0]
    if isinstance(value, Tensor) and value.is_complex():
        raise ConfigError(
            f"the loss {callable_name(function)} returns complex numbers, which have no order",
            hint="take their size: .abs(), or .real and .imag apart",
        )
    if isinstance(value, Tensor) and value.ndim == 0:
        return value.expand(num_images)
    if isinstance(value, Tensor) and value.shape[0] == num_images:
        return per_image(value, reduction)
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise ConfigError(
        f"the loss {callable_name(function)} must return one value, or one per image "
        f"({num_images} here), not {found}"
    )


def callable_name(function: Formula) -> str:
    """The name of a callable in messages."""
    return str(getattr(function, "__name__", type(function).__name__))


def check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raises a `ConfigError` for an option that the formula does not have."""
    if isinstance(function, partial) and function.func is apply_torch_loss:
        function = function.args[0]
    taken = {"output", "encoding", "reconstruction", "input", "target", "size_average", "reduce"}
    parameters = inspect.signature(function).parameters
    # `target` is the images, unless it has a default, as that of `kl_sparse`.
    possible = [
        key
        for key, parameter in parameters.items()
        if key not in taken or (key == "target" and parameter.default is not parameter.empty)
    ]
    for key in options:
        if key not in possible:
            if inspect.isclass(function) and issubclass(function, Critic):
                possible += CRITIC_OPTIONS
            possible_words = one_of([*possible, "weight", "formula", *TERM_OPTIONS])
            raise ConfigError(
                f"the loss {name} has no option {key!r}{did_you_mean(key, possible)}",
                hint=f"possible: {possible_words}",
            )


def _build(loss: type[nn.Module]) -> nn.Module:
    try:
        if "reduction" in inspect.signature(loss).parameters:
            return loss(reduction="none")
        return loss()
    except TypeError as error:
        raise ConfigError(
            f"torch.nn.{loss.__name__} needs arguments: {error}",
            hint=f"write it as a block: nn.{loss.__name__}(...)",
        ) from None
