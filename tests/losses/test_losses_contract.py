"""Every loss and penalty of the tables: values per image, in range, finite, with a right gradient.

What a formula's values can be stands in its docstring, below `Returns:`; it is read from there.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError, ShapeError
from aelab.losses import PENALTIES, RECONSTRUCTIONS
from aelab.losses.names import TARGET_RANGES
from aelab.posteriors import (
    BinaryPosterior,
    Deterministic,
    FlowPosterior,
    GaussianPosterior,
    ImportancePosterior,
    LearnedCodePosterior,
    LevelsPosterior,
)
from aelab.types import Encoding, Output

SHAPES = [(1, 1, 8, 8), (3, 3, 7, 13), (2, 3, 33, 32), (2, 1, 1, 3)]

#: Those whose least value is that of the target itself: 0 for a target of 0 and 1 alone.
ENTROPIES = {"bce", "bce_logits", "gaussian_nll", "optimal_gaussian_nll", "continuous_bernoulli"}

#: Options without which a formula, as intended, is not the gradient of its value.
WITH_A_GRADIENT = {"focal_frequency": {"alpha": 0}}  # the weight of a frequency is a constant


def declared_range(name: str, formula: Callable[..., Any]) -> tuple[float, float]:
    """The least and greatest value that a docstring names: `at least 0`, `above 0` or `0..2`."""
    text = (inspect.getdoc(formula) or "").replace("\n", " ")
    returns = text.partition("Returns:")[2] or text
    found = re.search(r"(?:at least|above) (-?\d+)|\b(-?\d+)\.\.(\d+)\b", returns)
    assert found, f"say in the docstring of {name} what its values can be: `at least 0`, or `0..2`"
    least, low, high = found.groups()
    return (float(least), math.inf) if least is not None else (float(low), float(high))


def pair(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """An output that is somewhat off, and a target in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(shape, generator=generator, dtype=dtype)
    off = 0.2 * torch.randn(shape, generator=generator, dtype=dtype)
    return (target + off).clamp(0.01, 0.99).requires_grad_(), target


def plain(target: Tensor) -> dict[str, Tensor]:
    """Outputs and targets at the ends: one colour, single pixels, far out of range."""
    dot = torch.zeros_like(target)
    dot[..., 0, 0] = 1
    board = (torch.arange(target.numel()).reshape(target.shape) % 2).to(target.dtype)
    return {
        "black": torch.zeros_like(target),
        "white": torch.ones_like(target),
        "grey": torch.full_like(target, 0.5),
        "dot": dot,
        "board": board,
        "tiny": target * 1e-20,
        "negative": target - 3,
        "huge": target * 1e4,
    }


#: Every formula of the table, and one with an option that changes what is compared.
FORMULAS: dict[str, Callable[..., Tensor]] = {
    **{name: RECONSTRUCTIONS[name] for name in RECONSTRUCTIONS.ours},
    "gradient, sobel": partial(RECONSTRUCTIONS["gradient"], kind="sobel"),
}


@pytest.fixture(params=FORMULAS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_image_has_a_value_in_range_and_a_gradient(name: str, shape: tuple[int, ...]) -> None:
    formula = FORMULAS[name]
    low, high = declared_range(name, RECONSTRUCTIONS[name.partition(",")[0]])
    output, target = pair(*shape)
    values = formula(output, target)
    assert values.shape == shape[:1] and values.dtype == output.dtype
    assert (values >= low).all() and (values <= high).all()
    values.sum().backward()
    assert output.grad is not None and output.grad.isfinite().all()
    assert (output.grad.flatten(1).abs().sum(1) > 0).all()
    for row in range(shape[0]):  # no image knows of the others
        alone = formula(output[row : row + 1], target[row : row + 1])
        torch.testing.assert_close(alone[0], values[row])


def test_equality_costs_least_and_its_gradient_is_finite(name: str) -> None:
    formula = FORMULAS[name]
    _, target = pair(3, 2, 9, 8)
    if name == "bce_logits":
        output = torch.logit(target, 1e-6).requires_grad_()
    else:
        output = target.clone().requires_grad_()
    values = formula(output, target)
    if name not in ENTROPIES:
        torch.testing.assert_close(values, torch.zeros(3), atol=1e-6, rtol=0)
    values.sum().backward()
    assert output.grad is not None and output.grad.isfinite().all()
    assert (values.detach() < formula(output.detach() + 0.3, target)).all() or name.partition(",")[
        0
    ] in BLIND
    assert (values.detach() < formula(output.detach().flip(-1) * 0.7, target)).all()


#: Formulas of slopes do not see that all of an image is brighter.
BLIND = {"gradient"}


def test_values_and_gradients_are_finite_at_the_ends(name: str) -> None:
    formula = FORMULAS[name]
    low, _ = declared_range(name, RECONSTRUCTIONS[name.partition(",")[0]])
    _, random = pair(2, 3, 12, 12)
    targets = plain(random)
    for of_target in ("black", "white", "grey", "dot", "board"):
        for of_output, made in plain(random).items():
            output = made.clone().requires_grad_()
            values = formula(output, targets[of_target])
            assert values.isfinite().all(), (of_output, of_target)
            assert (values >= low - 1e-5).all() or name in TARGET_RANGES, (of_output, of_target)
            values.sum().backward()
            assert output.grad is not None and output.grad.isfinite().all(), (of_output, of_target)


def test_one_nan_in_an_image_is_in_its_value(name: str) -> None:
    """A selection or a comparison that leaves it out would hide a broken model."""
    output, target = (x.detach().clone() for x in pair(3, 3, 12, 12))
    output[1, 0, 3, 4] = math.nan
    assert FORMULAS[name](output, target).isnan().tolist()[1]


def test_the_gradient_is_that_of_the_value(name: str) -> None:
    formula, options = FORMULAS[name], WITH_A_GRADIENT.get(name, {})
    output, target = pair(2, 1, 6, 7, dtype=torch.float64)
    assert formula(output, target, **options).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda r: formula(r, target, **options), output)


def test_the_memory_format_does_not_matter(name: str) -> None:
    output, target = pair(3, 3, 7, 13)
    fast = [x.contiguous(memory_format=torch.channels_last) for x in (output, target)]
    torch.testing.assert_close(FORMULAS[name](*fast), FORMULAS[name](output, target))


def test_shapes_are_never_broadcast(name: str) -> None:
    with pytest.raises(ShapeError, match=r"\(5, 1, 4, 6\)"):
        FORMULAS[name](torch.rand(5, 1, 4, 6), torch.rand(5, 3, 4, 6))


def test_stacked_runs_and_the_meta_device_work(name: str) -> None:
    formula = FORMULAS[name]
    outputs, targets = (x.detach() for x in pair(2, 3, 1, 12, 12))
    stacked = torch.func.vmap(formula)(outputs, targets)
    one_by_one = torch.stack([formula(o, t) for o, t in zip(outputs, targets, strict=True)])
    torch.testing.assert_close(stacked, one_by_one)
    by_functional = torch.func.grad(lambda x: formula(x, targets[0]).sum())(outputs[0])
    assert by_functional.shape == outputs[0].shape
    nowhere = torch.empty(4, 3, 12, 12, device="meta")
    assert formula(nowhere, nowhere).shape == (4,)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def gaussian(*, scale: float = 1.0) -> list[Tensor]:
    return [scale * numbers(3, 4), scale * numbers(3, 4, seed=1)]


#: Penalty -> tensors of a latent, and the output that holds them.
POSTERIORS: dict[str, tuple[list[Tensor], Callable[..., Any]]] = {
    "kl": (gaussian(), GaussianPosterior),
    "gaussian_kl": (gaussian(), GaussianPosterior),
    "legacy_kl": (gaussian(), GaussianPosterior),
    "commitment": (
        [numbers(3).square()],
        lambda commitment: LearnedCodePosterior(torch.zeros(3, 4).long(), commitment),
    ),
    "sampled_kl": (
        [*gaussian(), numbers(3, 4, seed=2), numbers(3, seed=3)],
        FlowPosterior,
    ),
    "level_kl": (
        [numbers(3, 2).square()],
        lambda levels: LevelsPosterior(*[torch.zeros(3, 4)] * 5, levels),
    ),
    "code_entropy": (
        [numbers(3)],
        lambda entropy: BinaryPosterior(torch.zeros(3, 4).long(), torch.zeros(3), entropy),
    ),
    "iwae_bound": (
        [*gaussian(), numbers(3, 5, seed=2)],
        ImportancePosterior,
    ),
    "feature_statistics": ([numbers(3, 4)], lambda latent: Deterministic()),
    "latent_l1": ([numbers(3, 4)], lambda latent: Deterministic()),
    "latent_l2": ([numbers(3, 4)], lambda latent: Deterministic()),
    "contractive": ([numbers(3, 4)], lambda latent: Deterministic()),
    "decoder_gradient": ([numbers(3, 4)], lambda latent: Deterministic()),
    "kl_sparse": ([numbers(3, 4)], lambda latent: Deterministic()),
    "mmd": ([numbers(3, 4)], lambda latent: Deterministic()),
    "sliced_wasserstein": ([numbers(3, 4)], lambda latent: Deterministic()),
    "dip": (gaussian(), GaussianPosterior),
    "total_correlation": (gaussian(), GaussianPosterior),
    "latent_critic": ([numbers(3, 4)], lambda latent: Deterministic()),
    "correlation_critic": ([numbers(3, 4)], lambda latent: Deterministic()),
    "image_critic": ([numbers(3, 4)], lambda latent: Deterministic()),
}


#: Penalties that look at the reconstruction.
OF_IMAGES = {"image_critic", "decoder_gradient"}
#: Penalties that call the encoder.
OF_ENCODERS = {"contractive"}


def value_of(kind: str, output: Output) -> Tensor:
    """The penalty's values, with the same random draws each time."""
    torch.manual_seed(70)
    penalty: Any = PENALTIES[kind]
    if kind in OF_ENCODERS:
        codes = output.latent  # an encoder whose slopes are these
        encoding = Encoding(numbers(3, 4, seed=9), lambda images: (images * codes).sin())
        given: Tensor = penalty(output, encoding)
        return given
    values: Tensor = (penalty() if isinstance(penalty, type) else penalty)(output)
    return values


def output_of(kind: str, *tensors: Tensor) -> Output:
    latent = tensors[0] if tensors[0].ndim > 1 else torch.zeros(3, 4)
    images = latent.reshape(3, 1, 2, 2) if kind in OF_IMAGES else torch.zeros(3, 1, 2, 2)
    images = images.sin() if kind == "decoder_gradient" else images
    return Output(images, latent, POSTERIORS[kind][1](*tensors))


def test_every_penalty_has_a_case_here() -> None:
    missing = set(PENALTIES.ours) - set(POSTERIORS)
    assert not missing, f"add {sorted(missing)} to POSTERIORS: its tensors and its posterior"


@pytest.mark.parametrize("kind", PENALTIES.ours)
def test_a_penalty_has_a_value_for_each_image_and_a_right_gradient(kind: str) -> None:
    tensors = [t.clone().requires_grad_() for t in POSTERIORS[kind][0]]
    values = value_of(kind, output_of(kind, *tensors))
    assert values.shape == (3,) and values.isfinite().all()
    values.sum().backward()
    assert any(t.grad is not None and t.grad.abs().sum() > 0 for t in tensors)
    assert torch.autograd.gradcheck(lambda *given: value_of(kind, output_of(kind, *given)), tensors)


@pytest.mark.parametrize("kind", PENALTIES.ours)
@pytest.mark.parametrize("scale", [0.0, 1e-12, 3.0])
def test_a_penalty_is_finite_and_in_range_at_the_ends(kind: str, scale: float) -> None:
    tensors = [(scale * t).requires_grad_() for t in POSTERIORS[kind][0]]
    values = value_of(kind, output_of(kind, *tensors))
    values.sum().backward()
    assert values.isfinite().all()
    assert all(t.grad is None or t.grad.isfinite().all() for t in tensors)
    if kind != "iwae_bound":  # of a density, it has no bound
        low, high = declared_range(kind, PENALTIES[kind])
        assert (values >= low).all() and (values <= high).all()


@pytest.mark.parametrize("kind", PENALTIES.ours)
def test_one_nan_in_what_a_penalty_takes_is_in_its_value(kind: str) -> None:
    tensors = [t.clone().requires_grad_() for t in POSTERIORS[kind][0]]
    value_of(kind, output_of(kind, *tensors)).sum().backward()
    taken = [n for n, t in enumerate(tensors) if t.grad is not None and t.grad.abs().sum() > 0]
    for number in taken:
        broken = [t.detach().clone() for t in tensors]
        broken[number][1:2].flatten()[-1] = math.nan
        broken = [t.requires_grad_() for t in broken]
        assert value_of(kind, output_of(kind, *broken)).isnan().any(), number


@pytest.mark.parametrize("kind", PENALTIES.ours)
def test_a_model_without_what_a_penalty_needs_is_told_what_to_use(kind: str) -> None:
    details = {"logits": torch.zeros(3, 1)}  # the reconstruction itself has no gradient
    nothing = Output(torch.zeros(3, 1, 2, 2), torch.zeros(3, 0), Deterministic(), details)
    with pytest.raises(ConfigError, match=f"the term .*{kind.removeprefix('gaussian_')}") as told:
        value_of(kind, nothing)
    assert told.value.hint
