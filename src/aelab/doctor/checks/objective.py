"""Checks of the objective: noise in targets, floors, a false KL, terms without influence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from aelab.doctor.checks.subject import LATENTS, BuiltRun, kept_weights
from aelab.findings import Finding
from aelab.losses.names import PENALTIES
from aelab.medium import medium_of
from aelab.ops.layers import leaves
from aelab.ops.random import seed_default
from aelab.posteriors import Deterministic, GaussianPosterior
from aelab.train.forward import encoding_of
from aelab.train.optimizers import make_optimizer
from aelab.train.solver import has_solver
from aelab.types import Encoding, Output

if TYPE_CHECKING:
    from aelab.losses.objective import Term

#: A floor of at least this share of the initial loss is reported. That of `bce` on grey noise is
#: 0.71, which is no mistake.
HIGH_FLOOR = 0.75
#: A term outweighs another at this ratio, in value and in gradient.
OUTWEIGHED = 100.0
#: A KL weight collapses the code if its noise is this many times the largest variance.
COLLAPSE = 2.0
#: It has no effect if its noise is below this share of the images' variance.
NOTHING = 1e-7
#: Scales of the code to try.
SCALES = (0.3, 0.1, 0.01, 0.001)
#: And the other way: a term that wants codes of a certain size falls there first.
LARGER = (3.0, 10.0, 100.0)


def noise_in_target(run: BuiltRun) -> Iterator[Finding]:
    """Finds noise in the targets that no model can predict."""
    if not (run.settings.noise_in_target and run.settings.training_noise) or run.train is None:
        return
    clean, noisy = run.targets(), run.batch().target
    output = run.first_pass.output
    latent, pixels = output.latent[0].numel(), clean[0].numel()
    share = max(0.0, 1 - latent / pixels)  # noise that the code cannot hold
    with torch.no_grad():
        perfect = run.objective(_perfect(output, clean, run.model), noisy, 0, *run.factors_given())
    floor, start = share * run.of_images(perfect), run.of_images(run.first_pass.values)
    yield Finding(
        "warning",
        "noise-in-target",
        f"about {floor:.3g} of the training reconstruction loss is noise: training_noise: "
        f"{run.settings.training_noise:g} is in the target too, and a latent of {latent:,} numbers "
        f"cannot hold the noise of {pixels:,} values. It is {start:.3g} at the start and cannot "
        f"get below about {floor:.3g}",
        "leave out 'legacy: true' (or keep only 'legacy: [validation]'): then the noise is in the "
        "input alone; or training_noise: 0",
        run.place("training_noise", "legacy"),
    )


def kl_is_none(run: BuiltRun) -> Iterator[Finding]:
    """Finds a penalty called a KL that is not 0 at the prior, or is lower elsewhere."""
    if run.train is None or not isinstance(run.first_pass.output.posterior, GaussianPosterior):
        return
    mean = run.first_pass.output.posterior.mean[:1]
    for term in run.objective.terms:
        if term.kind != "penalty" or "kl" not in term.formula_name or not term.weight:
            continue
        if term.options.get("free_bits_nats") or term.formula_name == "kl_sparse":
            continue
        zero = torch.zeros_like(mean)
        at_prior = _value(run, term, GaussianPosterior(zero, zero))
        tiny = GaussianPosterior(zero, torch.full_like(mean, math.log(1e-4)))
        at_tiny = _value(run, term, tiny)
        true = float(tiny.kl().sum())
        tolerance = 1e-4 * mean.numel()
        if abs(at_prior) <= tolerance and at_tiny >= -tolerance:
            continue
        dims = mean.numel()
        yield Finding(
            "warning",
            "kl-no-divergence",
            f"{term.name} is no KL divergence: it is {at_prior / dims:.3g} a dimension at the "
            f"prior, where a divergence is 0, and {at_tiny / dims:.3g} at a standard deviation of "
            f"0.0001, where the true one is {true / dims:.3g} nats. The code becomes noiseless, "
            "and samples of the prior mean nothing",
            "leave out 'legacy: true' and set kl_loss_weight to about "
            f"0.1 / {run.batch().target[0].numel():,} (values of an image)",
            run.place("legacy", "trainer", "objective", "model"),
        )


def free_rescaling(run: BuiltRun) -> Iterator[Finding]:
    """Finds a loss that falls without limit when the code shrinks and the decoder grows.

    Tries it: the latent times c, the weights of the decoder's first layer / c, for falling c.
    Not with a penalty of the decoder's slope, which grows as the decoder does, nor with an
    optimizer that decays the weights.
    """
    if run.train is None or not _scalable(run.first_pass.output):
        return
    penalties = [PENALTIES.get(term.formula_name) for term in run.objective.terms]
    if any(getattr(penalty, "of_decoder", False) for penalty in penalties):
        return
    optimizer = make_optimizer(run.model, run.settings.optimizer, run.settings.learnrate)
    if any(group.get("weight_decay") for group in optimizer.param_groups):
        return
    latent = run.first_pass.output.latent[:LATENTS].detach()
    with torch.no_grad(), kept_weights(run.evaluated):
        if not _same_pictures(run.evaluated, latent, SCALES):
            return
    with torch.no_grad():
        losses = [_final_loss(run, scale) for scale in (1.0, *SCALES)]
    falls = [before - after for before, after in itertools.pairwise(losses)]
    gain, rounding = losses[0] - losses[-1], 1e-6 * abs(losses[0])
    if min(falls) < -rounding or gain <= max(100 * rounding, 1e-4 * abs(losses[0])):
        return
    with torch.no_grad():
        for scale in LARGER:  # `mmd` of a fresh encoder's small codes
            if _final_loss(run, scale) < losses[-1]:
                return
    shrinking = [t.name for t in run.objective.terms if t.kind == "penalty" and t.weight]
    yield Finding(
        "warning",
        "free-rescaling",
        f"the loss falls from {losses[0]:.4g} to {losses[-1]:.4g} when the latent is multiplied by "
        f"{SCALES[-1]:g} and the decoder's first layer divided by it; the pictures stay the same. "
        f"So {' and '.join(shrinking)} shrinks the code without end, and the loss has no minimum",
        "a true KL (leave out 'legacy: true'), or optimizer: {AdamW: {weight_decay: 0.01}} against "
        "growing decoder weights, or feature_loss_weight in place of the penalty",
        run.objective_place,
    )


def floor_of_terms(run: BuiltRun) -> Iterator[Finding]:
    """Finds a term that cannot fall far: most of it remains for perfect pictures."""
    if run.train is None:
        return
    target, output = run.batch().target, run.first_pass.output
    medium = medium_of(run.model)
    perfect, worst = (medium.made(output, each) for each in (target, medium.wrong(target)))
    if perfect is None or worst is None:
        return
    for term in run.objective.terms:
        if not term.sees_images or term.formula_name in run.objective.bounds or not term.weight:
            continue
        with torch.no_grad():
            floor = float(term(perfect, target).mean())
            ceiling = float(term(worst, target).mean())
        start = run.at_start(term)
        if _is_of_logits(term, output, target, floor):
            continue  # the images themselves are not the best output there
        if floor < HIGH_FLOOR * start or not math.isfinite(ceiling) or start <= 0:
            continue
        share = floor / start
        yield Finding(
            "warning",
            "term-bounded",
            f"{term.name} can only lie between {floor:.4g} (all right) and {ceiling:.4g} (all "
            f"wrong); it is {start:.4g} at the start, so that {share:.0%} of it stay whatever is "
            "learned",
            "a term that is 0 for a right output: character_ce instead of legacy_character_ce, "
            "l1 or l2 instead of bce on grey images",
            run.objective_place,
        )


def terms_without_gradient(run: BuiltRun) -> Iterator[Finding]:
    """Finds a term without gradient at the start of the run."""
    if run.train is None:
        return
    for term, size in run.gradients:
        if has_solver(run.model) and not math.isfinite(size):
            continue  # `solver-diverges` tells the cause
        free = term.options.get("free_bits_nats") or term.course.goal(None) is not None
        if size > 0 or free or (term.kind == "penalty" and term.module is not None):
            continue
        yield Finding(
            "warning",
            "term-without-gradient",
            f"{term.name} has no gradient at the start of the run: its value is "
            f"{run.at_start(term):.4g}, and no weight changes it",
            "look for round, argmax, comparisons, detach or a saturated activation before it; or "
            "take the term out",
            run.objective_place,
        )


def outweighed(run: BuiltRun) -> Iterator[Finding]:
    """Finds a term that outweighs another 100 to 1 on the first batch, in value and gradient."""
    if run.train is None:
        return
    sizes = {
        term.name: (
            abs(term.weight) * abs(run.at_start(term)),
            abs(term.weight) * size,
            term,
        )
        for term, size in run.gradients
        if size > 0
    }
    seeing = {name: entry for name, entry in sizes.items() if entry[2].sees_images}
    for name, (value, gradient, _) in seeing.items():
        for other, (more, steeper, strong) in sizes.items():
            if more <= OUTWEIGHED * value or steeper <= OUTWEIGHED * gradient:
                continue
            if strong.formula_name in ("kl", "gaussian_kl"):
                continue  # reported by `kl-collapse`
            yield Finding(
                "warning",
                "term-outweighed",
                f"{other} outweighs {name} {steeper / gradient:,.0f} to 1 on the first batch "
                f"({more:.3g} beside {value:.3g}): {name} has no say",
                f"a smaller weight of {other}: about "
                f"{strong.weight * 10 * gradient / steeper:.2g} instead of {strong.weight:g}",
                run.objective_place,
            )
            break


def kl_weight(run: BuiltRun) -> Iterator[Finding]:
    """Finds a KL weight that collapses the code at this image size, or has no effect.

    A linear model with a squared error averaged over n pixels, and a KL summed over the latent
    with weight w, uses a direction of the images only if its variance is above n w / 2 (Lucas et
    al. 2019, arXiv:1911.02469, section 4). An absolute error counts as the squared error that
    gives the same loss for the mean image.
    """
    if run.train is None or not run.train.medium.is_brightness:
        return
    kls = [
        t for t in run.objective.terms
        if t.formula_name in ("kl", "gaussian_kl") and t.weight > 0
        and t.options.keys() <= {"reduction"} and t.course.goal(None) is None
        and not t.course.cycle_images
    ]  # fmt: skip
    pixel = [t for t in run.objective.terms if t.formula_name in ("l1", "l2", "bce") and t.weight]
    if not isinstance(run.first_pass.output.posterior, GaussianPosterior) or not kls or not pixel:
        return
    kl, pixels = kls[0], run.sample.shape[1]
    dims = run.first_pass.output.posterior.mean[0].numel()
    weight = kl.weight / (dims if kl.options.get("reduction") == "mean" else 1)
    gain = sum(t.weight * _curvature(run, t) for t in pixel)  # loss per unit of variance
    noise = weight / (2 * gain)  # least variance that is worth its nats
    largest, total = float(run.spectrum[0]), float(run.spectrum.sum())
    place = run.place("objective", "model")
    good = 0.1 * kl.weight * largest / noise if noise else 0.0
    if noise > COLLAPSE * largest:
        yield Finding(
            "warning",
            "kl-collapse",
            f"the weight {kl.weight:.3g} of {kl.name} collapses the code: at {pixels:,} pixels an "
            f"image a direction of the latent pays only if it explains a variance above "
            f"{noise:.3g}, and the largest of these images has {largest:.3g}. Every picture "
            "becomes the mean picture",
            f"a weight of about {good:.1g} (per image beta {good * pixels:.2g}), or less",
            place,
        )
    elif noise < NOTHING * total:
        yield Finding(
            "note",
            "kl-without-effect",
            f"the weight {kl.weight:.3g} of {kl.name} is so small at {pixels:,} pixels an image "
            f"that it does nothing: it asks for noise of a variance of {noise:.1g} in images of "
            f"{total:.3g}",
            "an EncoderDecoder without KL is the same and simpler; for a VAE that can be sampled "
            f"a weight of about {good:.1g}",
            place,
        )


def _is_of_logits(term: Term, output: Output, target: Tensor, floor: float) -> bool:
    """Whether a pixel loss is lower for values outside the images' range, so expects logits."""
    if term.kind != "reconstruction":
        return False
    try:
        with torch.no_grad():
            beyond = output._replace(reconstruction=3 * target - 1)
            return float(term(beyond, target).mean()) < floor
    except Exception:  # a loss that refuses such values does not expect logits
        return False


def _curvature(run: BuiltRun, term: Term) -> float:
    """The loss of the mean picture per unit of variance, summed over pixels."""
    target = run.sample.view(len(run.sample), *run.batch().target.shape[1:])
    low = float(target.min())
    mean = target.mean(0, keepdim=True).expand_as(target)
    middle = target.median(0, keepdim=True).values.expand_as(target)
    best = middle if term.formula_name == "l1" else mean
    if term.formula_name == "bce":
        best = best.clamp(1e-3, 1 - 1e-3)
        if low < 0:
            return 1.0
    output = run.first_pass.output
    alone = float(term(output._replace(reconstruction=best), target).mean())
    perfect = float(term(output._replace(reconstruction=target), target).mean())
    return max(alone - perfect, 1e-12) / max(float(run.spectrum.sum()), 1e-12)


def _perfect(output: Output, target: Tensor, model: nn.Module) -> Output:
    made = medium_of(model).made(output, target)
    return output if made is None else made


def _value(run: BuiltRun, term: Term, posterior: GaussianPosterior) -> float:
    output = run.first_pass.output
    with torch.no_grad():
        latent = posterior.mean.view(1, *output.latent.shape[1:])
        return float(
            term(
                output._replace(
                    reconstruction=output.reconstruction[:1], latent=latent, posterior=posterior
                ),
                output.reconstruction[:1],
            ).mean()
        )


def _scalable(output: Output) -> bool:
    """Whether the latent consists of numbers that an encoder can output at any scale."""
    known = isinstance(output.posterior, GaussianPosterior | Deterministic)
    return known and output.latent.is_floating_point() and output.latent[0].numel() > 0


def _scaled(output: Output, scale: float) -> Output:
    """The output with a rescaled latent and a matching posterior.

    For a Gaussian `exp(log_std)` is multiplied: an encoder whose last layers are linear can do so.
    """
    posterior = output.posterior
    if isinstance(posterior, GaussianPosterior):
        posterior = GaussianPosterior(posterior.mean * scale, posterior.log_std + math.log(scale))
    return output._replace(latent=output.latent * scale, posterior=posterior)


def _final_loss(run: BuiltRun, scale: float) -> float:
    """The loss of the first batch with the final weights, were the encoder's codes `scale` times.

    Random directions of penalties are the same for each scale.
    """
    output, batch = run.first_pass.output, run.batch()
    more: dict[str, Any] = {}
    if run.objective.needs_encoder:
        images, encode = encoding_of(run.model, batch.inputs, batch.labels)
        more["encoding"] = Encoding(images, lambda given: scale * encode(given))
    with torch.random.fork_rng(devices=[]):
        seed_default(0)
        values = run.objective(
            _scaled(output, scale), batch.target, 0, *batch.factors_given, **more
        )
    return float(run.objective.final_total(values).mean())


def _same_pictures(model: nn.Module, latent: Tensor, scales: Sequence[float]) -> bool:
    """Whether a decoder with its first layer / c gives the same pictures for the latent times c.

    It changes the weights of the model.
    """
    first: list[nn.Module] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: first.append(module))
        for _, module in leaves(model)
        if isinstance(getattr(module, "weight", None), Tensor)
    ]
    try:
        before = model.decode(latent)  # type: ignore[operator]
        for hook in hooks:
            hook.remove()
        if not first or not isinstance(first[0], _LINEAR):
            return False
        weight, close = first[0].weight.clone(), 1e-3 * float(before.std()) + 1e-6
        for scale in scales:
            first[0].weight.copy_(weight / scale)  # in vain if spectral_norm computes the weight
            after = model.decode(latent * scale)  # type: ignore[operator]
            if not torch.allclose(before, after, rtol=1e-3, atol=close):
                return False
    except Exception:  # a model without a separate decoder, or one that cannot be called so
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return True


_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
