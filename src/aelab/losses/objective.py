"""`Objective`: named terms and their weights."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, one_of
from aelab.losses.course import Course, number
from aelab.losses.critics import Critic, CriticFeatures, CriticTraining, seed_of
from aelab.losses.modules import PerceptualLoss
from aelab.losses.names import (
    COMPARISONS,
    OF_DRAWN_LATENTS,
    OF_UNIT_IMAGES,
    PENALTIES,
    TARGET_RANGES,
    TERM_OPTIONS,
    WHOLE_BOUNDS,
    Formula,
    check_options,
    find_formula,
    kind_name,
    mentions_unit_targets,
)
from aelab.losses.sharing import sharing
from aelab.ops.factors import needs_factors
from aelab.types import Encoding, Images, Output, TermSpec

#: Column names of the metrics table, which no term may have.
RESERVED = frozenset(
    {
        *("loss", "loss_now", "loss_final", "images", "seconds", "epoch", "split", "learnrate"),
        *("wall_seconds", "batches"),
    }
)


class Term:
    """One term: a formula with its options, a weight, and a warm-up.

    Args:
        spec: name, formula, weight and options of the term.
        stand_ins: formula -> the formula used instead.

    Attributes:
        kind: which arguments the formula takes, see `names.TermKind`.
        target_range: (least, greatest) valid target value; None: any.
        of_unit_images: whether its constants are chosen for images in 0..1.
        critic: the network that learns beside the model, or None.
        follows_player: whether its values change as a critic learns; states are not judged by it.
        needs_factors: whether it is called with the factors of the images besides.
        needs_encoder: whether it is called with the encoder besides.

    Raises:
        ConfigError: unknown formula or option, or an invalid value.
    """

    def __init__(self, spec: TermSpec, *, stand_ins: Mapping[str, str] | None = None) -> None:
        if not spec.name.isidentifier() or spec.name in RESERVED:
            raise ConfigError(
                f"a term of the objective cannot be called {spec.name!r}",
                hint=f"use letters, digits and _, and none of {one_of(RESERVED)}",
            )
        formula = spec.formula
        if isinstance(formula, str):
            formula = (stand_ins or {}).get(formula, formula)
        options = dict(spec.options)
        self.name = spec.name
        self.weight = number(spec.weight, f"{spec.name}: weight")
        self.course = Course.of(spec.name, options)
        self.formula_name, function, self.kind = find_formula(formula)
        if spec.kind == "penalty" and not isinstance(formula, str):
            self.formula_name, function, self.kind = spec.name, formula, "penalty"
        learning = None
        if isinstance(function, type) and issubclass(function, Critic):
            learning = CriticTraining.of(spec.name, options)
        check_options(self.formula_name, function, options)
        if options.get("reduction", "mean") not in ("mean", "sum"):
            raise ConfigError(
                f"{spec.name}: reduction must be 'mean' or 'sum', not {options['reduction']!r}"
            )
        self.options = options
        self.function: Formula = partial(function, **options)
        known = kind_name(formula)
        self.target_range = TARGET_RANGES.get(known)
        self.of_unit_images = (
            known in OF_UNIT_IMAGES
            or getattr(formula, "of_unit_images", False)
            or mentions_unit_targets(formula)
        )
        self.module = formula if isinstance(formula, nn.Module) else None
        if isinstance(function, type) and issubclass(function, nn.Module):
            self.function = self.module = function(**options)
        self.critic = self.module if isinstance(self.module, Critic) else None
        if self.critic is not None and learning is not None:
            self.critic.learning = learning
        self.follows_player = bool(getattr(self.module, "follows_player", False))
        self.needs_factors = needs_factors(self.module)
        self.needs_encoder = bool(getattr(function, "of_encoder", False))

    @property
    def is_sum(self) -> bool:
        """Whether values are sums over pixels, by the option `reduction` or its default."""
        if getattr(self.module, "is_sum", False):
            return True
        reduction = inspect.signature(self.function).parameters.get("reduction")
        return reduction is not None and reduction.default == "sum"

    @property
    def sees_images(self) -> bool:
        """Whether the term, or the model for it, compares with the images."""
        if getattr(self.module, "of_latents", False):
            return False
        return self.kind != "penalty" or self.formula_name in WHOLE_BOUNDS

    def __call__(
        self,
        output: Output,
        target: Tensor,
        factors: Tensor | None = None,
        encoding: Encoding | None = None,
    ) -> Tensor:
        if self.kind == "reconstruction":
            if output.details:
                raise ConfigError(
                    f"{self.name} compares pixels, but this model's reconstruction has no "
                    f"gradient: it outputs {', '.join(output.details)}",
                    hint=f"possible: {one_of(COMPARISONS)}",
                )
            return self.function(output.reconstruction, target)
        if self.needs_factors:
            if factors is None:
                raise ConfigError(
                    f"{self.name} compares images by their factors, and none were given",
                    hint="use images with factors or classes, such as shapes_dataset()",
                )
            return self.function(output, target, factors)
        if self.kind == "comparison":
            return self.function(output, target)
        if self.needs_encoder:
            return self.function(output, encoding)
        return self.function(output)

    def weight_at(self, images_seen: int | None) -> float:
        """The weight after `images_seen` training images; None: the one states are judged with."""
        if images_seen is None and self.follows_player:
            return 0.0
        return self.weight * self.course.share(images_seen)

    def cost(self, value: Tensor, images_seen: int | None) -> Tensor:
        """The unweighted contribution of a value to the total; None: at the end of the run."""
        goal = self.course.goal(images_seen)
        if self.critic is not None and self.critic.adaptive:
            value = value * self.critic.scale
        return value if goal is None else (value - goal).abs()


class Objective(nn.Module):
    """The training objective: the sum of weight x value over named terms, for each image.

    An nn.Module, so that `to(device)` moves the parameters of formulas; they are frozen.

    Args:
        terms: at least one; names must differ.
        stand_ins: formula -> the formula used instead.

    Attributes:
        names: of the terms, in order.

    Raises:
        ConfigError: no term, a name twice, an unknown formula or option.
    """

    def __init__(
        self, terms: Sequence[TermSpec], *, stand_ins: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.terms = [Term(spec, stand_ins=stand_ins) for spec in terms]
        self.names = tuple(term.name for term in self.terms)
        if not self.terms:
            raise ConfigError("the objective has no term", hint="give a loss_function: l1")
        for name in self.names:
            if self.names.count(name) > 1:
                raise ConfigError(f"the objective has two terms called {name!r}")
        self.modules_of_terms = nn.ModuleList(
            term.module for term in self.terms if term.module is not None
        )
        self.requires_grad_(False)
        self._playing = [term for term in self.terms if term.critic is not None]
        for term in self.terms:
            if isinstance(term.module, CriticFeatures):
                term.module.find(self.players)
        self._shape: tuple[int, ...] | None = None

    @property
    def players(self) -> dict[str, Critic]:
        """The critics, by the name of their terms."""
        return {term.name: term.critic for term in self._playing if term.critic is not None}

    @property
    def losses_of_players(self) -> tuple[str, ...]:
        """Names of the critics' own losses among the values."""
        return tuple(f"{term.name}_loss" for term in self._playing)

    def meet(self, model: nn.Module, seed: int) -> None:
        """Makes the critics' networks for what a model makes of two black images.

        Args:
            model: on its device.
            seed: of the run.

        Raises:
            ConfigError: `prepare` has not told the images' shape.
        """
        if not self._playing:
            return
        if self._shape is None:
            raise ConfigError(
                f"{one_of(self.players)} cannot know what to judge before the images are known",
                hint="call objective.prepare(images) first",
            )
        place = next(model.parameters()).device
        with torch.no_grad(), _evaluating(model):
            output = model(torch.zeros((2, *self._shape), device=place), None)
        for name, critic in self.players.items():
            critic.meet(output, seed_of(seed, name), model)

    def forward(
        self,
        output: Output,
        target: Tensor,
        images_seen: int,
        factors: Tensor | None = None,
        *,
        encoding: Encoding | None = None,
    ) -> dict[str, Tensor]:
        """The unweighted value (B,) of every term, by name, and of every critic's own loss.

        Args:
            output: of the model.
            target: images (B, C, H, W), 0..1.
            images_seen: training images before this batch.
            factors: of the images, (B, F) int64, if `needs_factors`.
            encoding: the images that the model was given and its encoder, if `needs_encoder`. None:
                terms of the encoder are 0.

        Raises:
            ShapeError: reconstruction and target differ in shape.
            ConfigError: a term needs what this model's output does not have.
        """
        with sharing():  # terms with the same features compute them once
            values = {
                term.name: term(output, target, factors, encoding)
                if term.critic is None or term.course.has_begun(images_seen)
                else output.reconstruction.new_zeros(len(target))
                for term in self.terms
            }
        for term in self._playing:
            values |= self._of_player(term, output, target, values, images_seen)
        return values

    def _of_player(
        self,
        term: Term,
        output: Output,
        target: Tensor,
        values: Mapping[str, Tensor],
        images_seen: int,
    ) -> dict[str, Tensor]:
        """The critic's own loss (B,) by name, and the term's adaptive weight, which it sets."""
        critic, own = term.critic, f"{term.name}_loss"
        assert critic is not None
        found: dict[str, Tensor] = {}
        if critic.adaptive:
            seeing = [other for other in self.terms if other.sees_images]
            compared = torch.stack([t.weight_at(images_seen) * values[t.name] for t in seeing])
            critic.balance(compared.sum(0), values[term.name])
            found[f"{term.name}_weight"] = critic.scale.expand(len(target))
        if not term.course.has_begun(images_seen):  # the critic does not learn yet either
            return {**found, own: values[term.name]}
        return {**found, own: critic.own_loss(output, target)}

    def prepare(self, images: Images) -> None:
        """Passes the training images to terms with a method `prepare`, before the first batch."""
        self._shape = images.shape
        for module in self.modules_of_terms:
            prepare = getattr(module, "prepare", None)
            if prepare is not None:
                prepare(images)

    @property
    def needs_gradients(self) -> bool:
        """Whether a term differentiates the model itself, so that validation needs gradients."""
        return any(
            getattr(PENALTIES.get(term.formula_name), "needs_gradients", False)
            for term in self.terms
        )

    @property
    def needs_encoder(self) -> bool:
        """Whether a term calls the encoder itself."""
        return any(term.needs_encoder for term in self.terms)

    @property
    def needs_factors(self) -> bool:
        """Whether a term compares images by their known factors."""
        return any(term.needs_factors for term in self.terms)

    @property
    def bounds(self) -> tuple[str, ...]:
        """Names of the terms that are right on average over draws only: they need noise.

        These are bounds of a likelihood, and formulas whose class sets `of_drawn_latents = True`.
        """
        return tuple(
            term.name
            for term in self.terms
            if term.formula_name in OF_DRAWN_LATENTS
            or getattr(term.module, "of_drawn_latents", False)
        )

    @property
    def target_ranges(self) -> dict[str, tuple[float, float]]:
        """Terms that restrict their targets -> (least, greatest) target value."""
        return {
            term.name: term.target_range for term in self.terms if term.target_range is not None
        }

    @property
    def of_unit_images(self) -> tuple[str, ...]:
        """Names of the terms whose constants are chosen for images in 0..1."""
        return tuple(term.name for term in self.terms if term.of_unit_images)

    @property
    def reconstructions(self) -> dict[str, float]:
        """The terms that compare with the images, by name, and their value for a bad image.

        The value is 1 for means over pixels in 0..1, and 10,000 for sums. It serves as a scale
        for detecting divergence.
        """
        sums = {
            term.name: term.is_sum or term.formula_name in WHOLE_BOUNDS
            for term in self.terms
            if term.sees_images and not term.follows_player
        }
        return {name: 1e4 if is_sum else 1.0 for name, is_sum in sums.items()}

    def is_final(self, images_seen: int | None) -> bool:
        """Whether weights and target values are those that states are judged with."""
        return not any(term.follows_player for term in self.terms) and all(
            term.course.share(images_seen) == term.course.share(None)
            and term.course.goal(images_seen) == term.course.goal(None)
            for term in self.terms
        )

    def weights(self, images_seen: int | None) -> dict[str, float]:
        """The weight of every term after `images_seen` training images, by name; None: final.

        Terms with a critic have none at the end: they change as it learns.
        """
        return {term.name: term.weight_at(images_seen) for term in self.terms}

    def final_total(self, values: Mapping[str, Tensor]) -> Tensor:
        """`total` with the weights after every warm-up; the best state is chosen by it."""
        return self.total(values, None)

    def total(self, values: Mapping[str, Tensor], images_seen: int | None) -> Tensor:
        """The weighted sum (B,) of the values of `forward`; `images_seen` None: final weights."""
        total: Tensor | None = None
        for term in self.terms:
            if images_seen is None and term.follows_player:
                continue
            weight = term.weight_at(images_seen)
            value = term.cost(values[term.name], images_seen)
            # A weight of 1 needs no multiplication: one kernel less in each batch.
            value = value if weight == 1.0 else value * weight
            total = value if total is None else total + value
        assert total is not None  # the constructor refuses an objective without terms
        return total

    def describe(self) -> str:
        """One line in words: `l1 + 0.001 kl (gaussian_kl, reduction=sum)`."""
        return " + ".join(_describe(term) for term in self.terms)


def make_objective(
    model_terms: Sequence[TermSpec] = (),
    *,
    loss_function: str | Callable[..., Tensor] = "l1",
    objective: Mapping[str, Any] | None = None,
    stand_ins: Mapping[str, str] | None = None,
    feature_loss_weight: float | None = None,
    perceptual_model: Any = None,
) -> Objective:
    """The objective of a run, from the terms of the model and of the file.

    Args:
        model_terms: `model.terms`.
        loss_function: the reconstruction loss, if neither model nor `objective` has one.
        objective: terms of the file, which replace all terms of the model: name -> weight, or
            name -> {weight, formula, warmup_images, and options of the formula}. Without
            `formula` it is that of the model's term of this name, else the formula of this name.
        stand_ins: formula -> the formula used instead.
        feature_loss_weight: adds the penalty `feature_statistics` with this weight.
        perceptual_model: a module or function P. The reconstruction terms then compare P of the
            reconstruction with P of the image, as terms called `perceptual`; the plain ones are
            still logged, with weight 0. None: no such terms.

    Raises:
        ConfigError: unknown term, formula or option; nothing compares with the images.
    """
    if perceptual_model is not None and objective is not None:
        raise ConfigError(
            "perceptual_model replaces the reconstruction of the loss_function, and objective too",
            hint="leave one out, or: loss_function: PerceptualLoss(model)",
        )
    if objective is not None:
        specs = [_spec(name, value, model_terms) for name, value in objective.items()]
    else:
        specs = list(model_terms)
        if not any(Term(spec).sees_images for spec in specs):
            name, _, _ = find_formula(loss_function)
            specs.insert(0, TermSpec(name, loss_function))
        if perceptual_model is not None:
            specs = _perceptual(specs, perceptual_model)
    if feature_loss_weight:
        specs.append(
            TermSpec("feature_statistics", "feature_statistics", float(feature_loss_weight))
        )
    result = Objective([_tidy(spec) for spec in specs], stand_ins=stand_ins)
    if not any(term.sees_images and not term.follows_player for term in result.terms):
        raise ConfigError(
            f"no term of the objective compares with the images: {one_of(result.names)}"
            + _why_critics_do_not_count(result),
            hint="add one, for instance l1: 1",
        )
    return result


def _why_critics_do_not_count(objective: Objective) -> str:
    if not any(term.sees_images for term in objective.terms):
        return ""
    return "; features of a critic do not count, because they change as it learns"


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Context manager: evaluation mode, in which nothing of a model changes."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)


def _spec(name: str, value: Any, model_terms: Sequence[TermSpec]) -> TermSpec:
    """The term for one entry of `objective`: a weight, or a mapping with weight and options."""
    # A term that the model has too keeps the model's formula; the file changes its weight.
    same = next((term for term in model_terms if term.name == name), None)
    formula: str | Callable[..., Tensor] = same.formula if same is not None else name
    if isinstance(value, Mapping):
        options = dict(value)
        weight = options.pop("weight", 1.0)
        formula = options.pop("formula", formula)
    else:
        options, weight = {}, value
    if formula is name:
        find_formula(name)  # raises for an unknown name
    return TermSpec(name, formula, number(weight, f"{name}: weight"), options)


def _perceptual(specs: Sequence[TermSpec], model: Any) -> list[TermSpec]:
    """Sets every reconstruction term to weight 0 and adds its perceptual version."""
    if not callable(model):
        raise ConfigError(
            f"perceptual_model must be a module, a function or None, not {model!r}",
            hint="for instance: nn.Sequential(nn.Conv2d(3, 64, 3), nn.GELU())",
        )
    made: list[TermSpec] = []
    for spec in specs:
        if Term(spec).kind != "reconstruction":
            made.append(spec)
            continue
        taken = sum(other.name.startswith("perceptual") for other in made)
        name = f"perceptual_{taken + 1}" if taken else "perceptual"
        options = {k: v for k, v in spec.options.items() if k in TERM_OPTIONS}
        rest = {k: v for k, v in spec.options.items() if k not in TERM_OPTIONS}
        compare = partial(find_formula(spec.formula)[1], **rest) if rest else spec.formula
        made.append(spec._replace(weight=0.0, options=rest))
        made.append(TermSpec(name, PerceptualLoss(model, compare), spec.weight, options))
    return made


def _tidy(spec: TermSpec) -> TermSpec:
    """Replaces an alias by its usual name."""
    if spec.name != spec.formula:
        return spec
    usual, _, _ = find_formula(spec.formula)
    return spec._replace(name=usual)


def _describe(term: Term) -> str:
    options = dict(term.options) | term.course.stated()
    options |= {} if term.critic is None else term.critic.learning.stated()
    details = [f"{key}={value}" for key, value in options.items()]
    if term.module is not None and term.kind != "comparison" and term.critic is None:
        details.insert(0, " ".join(repr(term.module).split()))
    elif term.formula_name != term.name:
        details.insert(0, term.formula_name)
    weight = "" if term.weight == 1.0 else f"{term.weight:g} "
    return f"{weight}{term.name}" + (f" ({', '.join(details)})" if details else "")
