"""Objectives: which terms there are, what they weigh, and what a mistake is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aelab.errors import AelabError, ConfigError
from aelab.losses import Objective, loss_names, make_objective
from aelab.losses.names import torch_loss_classes, torch_losses
from aelab.posteriors import Deterministic, GaussianPosterior, changed
from aelab.types import Output, TermSpec

VAE = (TermSpec("l1", "l1"), TermSpec("kl", "kl"))


def output(num_images=4, posterior=True):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.rand(*shape, generator=generator)

    spread = (
        GaussianPosterior(draw(num_images, 3), draw(num_images, 3))
        if posterior
        else Deterministic()
    )
    return Output(draw(num_images, 1, 5, 5), draw(num_images, 3), spread)


TARGET = torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(1))


def test_a_plain_model_is_trained_by_the_loss_function():
    objective = make_objective((), loss_function="mae")
    values = objective(output(posterior=False), TARGET, 0)
    assert objective.names == ("l1",) and list(values) == ["l1"]
    assert values["l1"].shape == (4,)
    assert torch.equal(objective.total(values, 0), values["l1"])


def test_a_model_with_terms_of_its_own_ignores_the_loss_function():
    objective = make_objective((TermSpec("l2", "l2", 2.0), TermSpec("kl", "kl", 0.5)))
    values = objective(output(), TARGET, 0)
    assert list(values) == ["l2", "kl"]
    torch.testing.assert_close(objective.total(values, 0), 2 * values["l2"] + 0.5 * values["kl"])


def test_a_model_that_only_wishes_a_penalty_gets_the_loss_function_too():
    assert make_objective(VAE[1:], loss_function="bce").names == ("bce", "kl")


#: What the setting `legacy: kl` asks for.
LEGACY = {"kl": "legacy_kl"}


def test_legacy_turns_the_undecided_kl_only():
    def formulas(kl):
        terms = (VAE[0], TermSpec("kl", kl))
        return make_objective(terms, stand_ins=LEGACY).terms[1].formula_name

    assert formulas("kl") == "legacy_kl"
    assert formulas("gaussian_kl") == "gaussian_kl"
    assert make_objective(VAE).terms[1].formula_name == "kl"
    own = make_objective(VAE, objective={"l1": 1, "kl": 1}, stand_ins=LEGACY)
    assert own.terms[1].formula_name == "legacy_kl"
    both = make_objective(
        VAE, objective={"l1": 1, "kl": {"formula": "gaussian_kl"}}, stand_ins=LEGACY
    )
    assert both.terms[1].formula_name == "gaussian_kl"


def test_the_files_objective_replaces_the_models():
    objective = make_objective(
        VAE,
        objective={
            "l1": 1,
            "kl": {
                "weight": 1e-3,
                "free_bits_nats": 0.1,
                "warmup_images": 20_000,
                "reduction": "sum",
            },
        },
    )
    assert objective.weights(0) == {"l1": 1.0, "kl": 0.0}
    assert objective.weights(5_000) == {"l1": 1.0, "kl": pytest.approx(2.5e-4)}
    assert objective.weights(20_000) == objective.weights(10**6) == {"l1": 1.0, "kl": 1e-3}
    assert objective.describe() == (
        "l1 + 0.001 kl (free_bits_nats=0.1, reduction=sum, warmup_images=20000)"
    )


def test_a_term_may_have_a_name_of_its_own():
    objective = make_objective(
        (), objective={"pixels": {"formula": "huber", "delta": 0.1}, "l2": {"weight": 0.5}}
    )
    assert objective.names == ("pixels", "l2")
    assert objective.describe() == "pixels (huber, delta=0.1) + 0.5 l2"


def test_the_feature_penalty_is_added_by_its_weight():
    objective = make_objective((), feature_loss_weight=1e-4)
    assert objective.weights(0) == {"l1": 1.0, "feature_statistics": 1e-4}
    assert objective(output(), TARGET, 0)["feature_statistics"].shape == (4,)
    assert make_objective((), feature_loss_weight=None).names == ("l1",)


@pytest.mark.parametrize("name", ["smooth_l1_loss", "SmoothL1Loss", "MSELoss", "mse_loss", "ce"])
def test_losses_of_torch_are_known_by_name(name):
    objective = make_objective((), loss_function=name)
    values = objective(output(), TARGET, 0)
    assert next(iter(values.values())).shape == (4,)


def test_only_losses_with_input_and_target_are_listed():
    assert {"l1_loss", "mse_loss", "kl_div", "smooth_l1_loss"} <= torch_losses().keys()
    assert "relu" not in torch_losses() and "L1Loss" in torch_loss_classes()
    assert "l1" in loss_names() and "mae" in loss_names()


CALLABLES = {
    "scalar": lambda r, t: (r - t).abs().mean(),
    "per image": lambda r, t: (r - t).abs().mean(dim=(1, 2, 3)),
    "per pixel": lambda r, t: (r - t).abs(),
    "module": nn.L1Loss(),
}


@pytest.mark.parametrize("function", CALLABLES.values(), ids=CALLABLES)
def test_ones_own_function_counts_the_same_however_it_reduces(function):
    objective = make_objective((), loss_function=function)
    assert objective.names == ("reconstruction",)
    values = objective(output(), TARGET, 0)["reconstruction"]
    assert values.shape == (4,)
    torch.testing.assert_close(values.mean(), (output().reconstruction - TARGET).abs().mean())


class Perceptual(nn.Module):
    """Distance between the features of a small fixed network."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 3)

    def forward(self, reconstruction, target):
        return (self.features(reconstruction) - self.features(target)).square()


def test_a_formula_with_parameters_moves_with_the_objective_and_stays_frozen():
    objective = make_objective((), loss_function=Perceptual())
    assert len(list(objective.parameters())) == 2
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    objective.to(torch.float64)
    moved = Output(output().reconstruction.double(), output().latent)
    assert objective(moved, TARGET.double(), 0)["reconstruction"].dtype == torch.float64


def test_the_objective_survives_vmap():
    objective = make_objective(VAE, feature_loss_weight=0.1)
    outputs = [output(), Output(*[2 * part for part in output()[:2]], output().posterior)]
    targets = torch.stack([TARGET, TARGET.flip(0)])
    stacked = Output(
        torch.stack([o.reconstruction for o in outputs]),
        torch.stack([o.latent for o in outputs]),
        GaussianPosterior(*map(torch.stack, zip(*(o.posterior for o in outputs), strict=True))),
    )
    values = torch.vmap(lambda o, t: objective(o, t, 0))(stacked, targets)
    for index, single in enumerate(outputs):
        for name, value in objective(single, targets[index], 0).items():
            torch.testing.assert_close(values[name][index], value)


MISTAKES = {
    "unknown": ({"objective": {"hubber": 1}}, "unknown loss 'hubber'; did you mean 'huber'?"),
    "unknown loss_function": ({"loss_function": "l3"}, "possible: bce, bce_logits"),
    "option": (
        {"objective": {"l1": 1, "kl": {"free_bit_nats": 1}}},
        "has no option 'free_bit_nats'; did you mean 'free_bits_nats'?",
    ),
    "torch option": (
        {"objective": {"smooth_l1_loss": {"betta": 1}}},
        "has no option 'betta'; did you mean 'beta'?",
    ),
    "weight": ({"objective": {"l1": "much"}}, "l1: weight must be a number, not 'much'"),
    "warm-up": ({"objective": {"l1": {"warmup_images": -1}}}, "warmup_images must be at least 0"),
    "reduction": ({"objective": {"l1": {"reduction": "none"}}}, "'mean' or 'sum', not 'none'"),
    "no reconstruction": ({"objective": {"kl": 1}}, "compares with the images: kl"),
    "no term": ({"objective": {}}, "has no term"),
    "reserved": ({"objective": {"loss": {"formula": "l1"}}}, "cannot be called 'loss'"),
    "not callable": ({"loss_function": 3}, "must be a name or a function, not 3"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_what_is_possible(settings, message):
    with pytest.raises(ConfigError) as caught:
        make_objective((), **settings)
    assert message in str(caught.value)


def test_a_kl_without_a_gaussian_code_says_what_to_do():
    objective = make_objective((), objective={"l1": 1, "kl": 1})
    with pytest.raises(ConfigError, match="use VariationalAutoencoder"):
        objective(output(posterior=False), TARGET, 0)


def test_two_terms_cannot_share_a_name():
    with pytest.raises(ConfigError, match="two terms called 'l1'"):
        Objective([TermSpec("l1", "l1"), TermSpec("l1", "l2")])


def test_a_function_that_returns_something_else_is_refused():
    for function in (lambda r, t: "text", lambda r, t: torch.rand(3)):
        objective = make_objective((), loss_function=function)
        with pytest.raises(AelabError, match="must return one value, or one per image"):
            objective(output(), TARGET, 0)


@pytest.mark.parametrize("name", ["l1", "l2", "bce", "bce_logits", "huber", "smooth_l1_loss"])
def test_an_objective_can_be_tried_on_the_meta_device(name):
    objective = make_objective(VAE[1:], loss_function=name, feature_loss_weight=1e-4)
    trial = output()
    values = objective(
        Output(
            trial.reconstruction.to("meta"),
            trial.latent.to("meta"),
            changed(trial.posterior, lambda tensor: tensor.to("meta")),
        ),
        TARGET.to("meta"),
        0,
    )
    assert objective.total(values, 0).shape == (4,)


def test_likelihoods_in_nats_are_known_as_sums() -> None:
    terms = Objective(
        [TermSpec("l2", "l2"), TermSpec("nll", "optimal_gaussian_nll"),
         TermSpec("mean", "gaussian_nll", 1.0, {"reduction": "mean"})]
    )  # fmt: skip
    assert terms.reconstructions == {"l2": 1.0, "nll": 1e4, "mean": 1.0}


def test_an_option_may_be_called_target() -> None:
    objective = make_objective(objective={"l2": 1, "kl_sparse": {"weight": 1, "target": 0.1}})
    assert [term.options.get("target") for term in objective.terms] == [None, 0.1]
    with pytest.raises(ConfigError, match="has no option 'target'"):
        make_objective(objective={"l2": {"target": 0.1}})
