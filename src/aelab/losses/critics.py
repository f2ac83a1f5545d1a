"""Terms with a network of their own, a critic, that learns beside the model.

A critic judges what the model makes: latents, or images. It has two losses. The model's term is
differentiated by the model's weights alone, the critic's own loss by the critic's alone. So one
backward pass over their sum gives each player the gradient of its own loss.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError, one_of
from aelab.losses.course import number
from aelab.losses.draws import numeric_latents, prior_draws, standard_normal
from aelab.losses.gradients import gradient_through, with_more_gradient
from aelab.losses.reconstruction import Reduction, per_image
from aelab.ops.random import keyed_seed
from aelab.settings import Choice, as_choice
from aelab.types import Output

GameName = Literal["non_saturating", "hinge", "least_squares", "wasserstein"]

#: The slope of the critics' activation for negative numbers, usual since DCGAN (arXiv:1511.06434).
SLOPE = 0.2
#: Keeps the adaptive weight finite (Esser et al. 2021, equation 7), and its largest value, as in
#: their program.
DELTA, MOST_WEIGHT = 1e-6, 1e4


class Game(NamedTuple):
    """The losses of an adversarial game, as functions of scores; more means more like real.

    Attributes:
        real, fake: the critic's loss for real things and for those of the model.
        model: the model's loss for what it makes.
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    model: Callable[[Tensor], Tensor]


#: Sources: non-saturating: Goodfellow et al. 2014, arXiv:1406.2661, section 3, with the score as
#: logit; hinge: Lim & Ye 2017, arXiv:1705.02894; least squares: Mao et al. 2017, arXiv:1611.04076,
#: equation 9; Wasserstein: Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1.
GAMES: dict[str, Game] = {
    "non_saturating": Game(
        lambda score: F.softplus(-score), F.softplus, lambda score: F.softplus(-score)
    ),
    "hinge": Game(lambda score: F.relu(1 - score), lambda score: F.relu(1 + score), torch.neg),
    "least_squares": Game(
        lambda score: 0.5 * (score - 1).square(),
        lambda score: 0.5 * score.square(),
        lambda score: 0.5 * (score - 1).square(),
    ),
    "wasserstein": Game(torch.neg, lambda score: score, torch.neg),
}


_ADAM = Choice("Adam", {"betas": (0.5, 0.9)})


@dataclass(frozen=True)
class CriticTraining:
    """How a critic learns; None takes the run's own setting.

    Attributes:
        learnrate: peak learning rate.
        optimizer: Adam with a short memory, because what is judged keeps changing
            (arXiv:1511.06434, section 4).
        scheduler: of the learning rate.
    """

    learnrate: float | None = None
    optimizer: Choice = _ADAM
    scheduler: Choice | None = None

    @classmethod
    def of(cls, name: str, options: dict[str, Any]) -> CriticTraining:
        """Takes these entries out of the options of the term `name`.

        Raises:
            ConfigError: an invalid value.
        """
        given: dict[str, Any] = {}
        if "learnrate" in options:
            given["learnrate"] = number(options.pop("learnrate"), f"{name}: learnrate")
            if given["learnrate"] <= 0:
                raise ConfigError(f"{name}: learnrate must be above 0")
        for key in ("optimizer", "scheduler"):
            if key in options:
                value = options.pop(key)
                try:
                    given[key] = as_choice(value)
                except ConfigError as error:
                    raise ConfigError(f"{name}: {key}: {error.message}", hint=error.hint) from None
        return cls(**given)

    def stated(self) -> dict[str, Any]:
        """The options that were given, for messages and comparisons."""
        plain, found = CriticTraining(), {}
        for key, value in vars(self).items():
            if value != getattr(plain, key):
                is_choice = isinstance(value, Choice)
                found[key] = {value.name: dict(value.arguments)} if is_choice else value
        return found


#: Options of every term with a critic.
CRITIC_OPTIONS = ("learnrate", "optimizer", "scheduler")


class Critic(nn.Module, ABC):
    """A term with a network that learns: the base of all critics.

    Called with an output it returns the model's loss, (B,). The network is made for the first
    output that it sees, with weights drawn from a seed of its own.

    Attributes:
        learning: its optimiser, learning rate and schedule.
        network: None before the first output.
        scale: a factor of the model's loss, see `balance`.
        adaptive: whether `balance` sets `scale`.
    """

    #: States are not judged by such a term: it changes as the critic learns.
    follows_player = True
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.learning = CriticTraining()
        self.network: nn.Module | None = None
        self.adaptive = False
        self.register_buffer("scale", torch.ones(()))
        # In a list, so that the model's weight does not become one of the critic.
        self._last: list[nn.Parameter] = []

    @abstractmethod
    def seen(self, output: Output) -> Tensor:
        """What the critic judges, (B, ...), made by the model."""

    @abstractmethod
    def make_network(self, shape: tuple[int, ...]) -> nn.Module:
        """A network that maps (B, *shape) to scores (B, ...)."""

    @abstractmethod
    def own_loss(self, output: Output, target: Tensor) -> Tensor:
        """The critic's loss, (B,), with gradient for the critic's weights only."""

    def meet(self, output: Output, seed: int = 0, model: nn.Module | None = None) -> None:
        """Makes the network for such outputs, unless there is one, and tries it.

        Args:
            seed: of its weights.
            model: the model, whose last layer gives an adaptive weight.
        """
        shown = self.seen(output).detach()
        if self.network is None:
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.manual_seed(seed)
                network = self.make_network(tuple(shown.shape[1:]))
            self.network = network.to(shown.device, shown.dtype)
            self.to(shown.device)
            with torch.no_grad():
                network(shown[:1])
        if model is not None and self.adaptive:
            self._last = [last_weight(model)]

    def scores(self, shown: Tensor) -> Tensor:
        """Scores (B, ...) with gradient for the network's weights."""
        assert self.network is not None  # `meet` was called
        scores: Tensor = self.network(shown)
        return scores

    def scores_for_model(self, output: Output) -> Tensor:
        """Scores (B, ...) of what the model made, with gradient for the model only."""
        self.meet(output)
        with self.frozen():
            return self.scores(self.seen(output))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Context manager: what is computed inside has no gradient for the critic's weights."""
        free = [p for p in self.parameters() if p.requires_grad]
        for parameter in free:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in free:
                parameter.requires_grad_(True)

    def balance(self, compared: Tensor, value: Tensor) -> None:
        """Sets `scale` so that both losses move the model's last layer equally.

        Args:
            compared: (B,), the terms that compare with the images, with their weights.
            value: (B,), this term.

        Source: Esser et al. 2021, arXiv:2012.09841, equation 7 (VQ-GAN).
        """
        if not self._last or not compared.requires_grad or not value.requires_grad:
            return  # in validation: that of the latest batch
        theirs, ours = (
            torch.autograd.grad(loss.mean(), self._last, retain_graph=True, allow_unused=True)[0]
            for loss in (compared, value)
        )
        if theirs is None or ours is None:
            return  # a copy of the critic, beside another model
        with torch.no_grad():
            self.scale.copy_((theirs.norm() / (ours.norm() + DELTA)).clamp(max=MOST_WEIGHT))


class LatentCritic(Critic):
    """Judges whether a latent is of the prior: the latents become draws of it (AAE, WAE-GAN).

    Args:
        loss: the game, `non_saturating`, `hinge`, `least_squares` or `wasserstein`.
        hidden: widths of the critic's hidden layers.
        r1: weight of the squared gradient of the scores at draws of the prior.
        gradient_penalty: weight of the penalty of WGAN-GP.

    Returns:
        Called with an output, (B,), the model's loss, at least -1000000 in use; no number below 0
            for `non_saturating` and `least_squares`.

    Raises:
        ConfigError: the model has no latent of numbers, or an option makes no sense.

    Source: Makhzani et al. 2015, arXiv:1511.05644 (AAE); Tolstikhin et al. 2018, arXiv:1711.01558,
        algorithm 1 (WAE-GAN).
    """

    def __init__(
        self,
        loss: GameName = "non_saturating",
        hidden: Sequence[int] = (256, 256),
        r1: float = 0.0,
        gradient_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        self.game = game_of("latent_critic", loss)
        self.hidden = widths("latent_critic: hidden", hidden)
        self.r1, self.gradient_penalty = r1, gradient_penalty

    def seen(self, output: Output) -> Tensor:
        """The latents, (B, D)."""
        return numeric_latents(output, "latent_critic")

    def make_network(self, shape: tuple[int, ...]) -> nn.Module:
        """Dense layers to one score."""
        return dense_network(shape[0], self.hidden)

    def forward(self, output: Output) -> Tensor:
        """The model's loss (B,)."""
        return self.game.model(self.scores_for_model(output)).flatten(1).mean(1)

    def own_loss(self, output: Output, target: Tensor) -> Tensor:
        """The critic's loss (B,), with the penalties of its gradient."""
        fake = self.seen(output).detach()
        real = prior_draws(output, fake)
        return adversarial_loss(self, self.game, real, fake, self.r1, self.gradient_penalty)


class CorrelationCritic(Critic):
    """Estimates the total correlation of the latent by telling latents from mixed ones.

    In mixed latents each dimension comes from another image of the batch, so they follow the
    product of the single distributions. The critic's score estimates ln q(z) - ln prod_d q(z_d).

    Args:
        hidden: widths of the critic's hidden layers.

    Returns:
        Called with an output, (B,) nats, the score of each latent: its mean estimates
        KL(q(z) || prod_d q(z_d)). That of a single image may lie below 0; at least -1000000.

    Raises:
        ConfigError: the model has no latent of numbers.

    Source: Kim & Mnih 2018, arXiv:1802.05983, equation 3 and algorithms 1 and 2 (FactorVAE). There
        the mixed latents are those of a second batch; here those of the same one.
    """

    def __init__(self, hidden: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        self.hidden = widths("correlation_critic: hidden", hidden)

    def seen(self, output: Output) -> Tensor:
        """The latents, (B, D)."""
        return numeric_latents(output, "correlation_critic")

    def make_network(self, shape: tuple[int, ...]) -> nn.Module:
        """Dense layers to one score."""
        return dense_network(shape[0], self.hidden)

    def forward(self, output: Output) -> Tensor:
        """The estimate (B,), in nats."""
        return self.scores_for_model(output).flatten(1).mean(1)

    def own_loss(self, output: Output, target: Tensor) -> Tensor:
        """The cross-entropy (B,) of telling the two kinds apart; ln 2 by chance."""
        latents = self.seen(output).detach()
        # Only the order of these numbers counts: a random permutation for each dimension.
        order = standard_normal(tuple(latents.shape), latents).argsort(0)
        mixed = latents.gather(0, order)
        together = self.scores(torch.cat([latents, mixed])).flatten(1).mean(1)
        joint, product = together.chunk(2)
        return 0.5 * (F.softplus(-joint) + F.softplus(product))


class ImageCritic(Critic):
    """Judges patches of images: are they real, or reconstructed? (PatchGAN, VQ-GAN, VAE-GAN)

    Args:
        loss: the game, `hinge`, `non_saturating`, `least_squares` or `wasserstein`.
        channels: of its layers; each halves the map until it is below 4 pixels.
        r1: weight of the squared gradient of the scores at real images.
        gradient_penalty: weight of the penalty of WGAN-GP.
        adaptive: the weight follows the gradients at the model's last layer, so that this term
            moves it as much as the terms that compare with the images.
        reaches_encoder: whether the model's loss also trains the encoder; in VAE-GAN it does not.

    Returns:
        Called with an output, (B,), the model's loss, a mean over patches, at least -1000000 in
        use; no number below 0 for `non_saturating` and `least_squares`.

    Raises:
        ConfigError: the model's output has no gradient, or an option makes no sense.

    Source: Isola et al. 2017, arXiv:1611.07004, section 3.2.2 (patches); Larsen et al. 2016,
        arXiv:1512.09300 (VAE-GAN); Esser et al. 2021, arXiv:2012.09841 (VQ-GAN).
    """

    def __init__(
        self,
        loss: GameName = "hinge",
        channels: Sequence[int] = (32, 64, 128),
        r1: float = 0.0,
        gradient_penalty: float = 0.0,
        adaptive: bool = False,
        reaches_encoder: bool = True,
    ) -> None:
        super().__init__()
        self.game = game_of("image_critic", loss)
        self.channels = widths("image_critic: channels", channels)
        self.r1, self.gradient_penalty = r1, gradient_penalty
        self.adaptive = adaptive
        self.reaches_encoder = reaches_encoder

    def seen(self, output: Output) -> Tensor:
        """The reconstruction (B, C, H, W)."""
        if output.details:
            raise ConfigError(
                "the term image_critic judges pixels, but this model's reconstruction has no "
                f"gradient: it outputs {one_of(output.details)}",
                hint="use latent_critic, or a model whose output is an image",
            )
        return output.reconstruction

    def make_network(self, shape: tuple[int, ...]) -> nn.Module:
        """Convolutions to one score a patch."""
        if len(shape) != 3:
            raise ShapeError(f"the term image_critic judges images (C, H, W), not {shape}")
        return PatchNetwork(shape, self.channels)

    def forward(self, output: Output) -> Tensor:
        """The model's loss (B,)."""
        value = self.game.model(self.scores_for_model(output)).flatten(1).mean(1)
        return value if self.reaches_encoder else without_gradient_of(value, output.latent)

    def own_loss(self, output: Output, target: Tensor) -> Tensor:
        """The critic's loss (B,), with the penalties of its gradient."""
        fake = self.seen(output).detach()
        return adversarial_loss(self, self.game, target, fake, self.r1, self.gradient_penalty)

    def features(self, images: Tensor, layer: int) -> Tensor:
        """Activations (B, channels[layer], h, w) of a layer, without gradient for the critic."""
        assert isinstance(self.network, PatchNetwork)
        with self.frozen():
            return self.network.features(images)[layer]


class CriticFeatures(nn.Module):
    """The squared difference of the features that a critic of images has learned (VAE-GAN).

    Args:
        critic: name of the term whose critic it is.
        layer: which of the critic's layers, from 0; negative numbers count from the last.
        reduction: `mean` or `sum` over the features of an image.

    Returns:
        Called with (output, target), (B,), at least 0.

    Raises:
        ConfigError: no such term or layer.

    Source: Larsen et al. 2016, arXiv:1512.09300, equation 7: half of the sum, but for a constant.
    """

    follows_player = True

    def __init__(
        self, critic: str = "image_critic", layer: int = -1, reduction: Reduction = "mean"
    ) -> None:
        super().__init__()
        self.critic_name, self.layer, self.reduction = critic, layer, reduction
        # In a list: the critic is a part of its own term.
        self._critic: list[ImageCritic] = []

    def find(self, critics: dict[str, Critic]) -> None:
        """Takes the critic from those of the objective, by the name of their terms."""
        possible = {name: c for name, c in critics.items() if isinstance(c, ImageCritic)}
        if self.critic_name not in possible:
            raise ConfigError(
                f"critic_features needs the term {self.critic_name!r} with a critic of images, and "
                f"the objective has {one_of(possible) if possible else 'none'}",
                hint="for instance: objective: {l2: 0.1, critic_features: 1, image_critic: 0.1}",
            )
        chosen = possible[self.critic_name]
        if not -len(chosen.channels) <= self.layer < len(chosen.channels):
            raise ConfigError(
                f"critic_features: layer is {self.layer}, and the critic has "
                f"{len(chosen.channels)} layers",
                hint=f"possible: 0 to {len(chosen.channels) - 1}, or -1 for the last",
            )
        self._critic = [chosen]

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """Values (B,)."""
        (critic,) = self._critic
        critic.meet(output)
        made = critic.features(critic.seen(output), self.layer)
        with torch.no_grad():
            wanted = critic.features(target, self.layer)
        return per_image((made - wanted).square(), self.reduction)


class PatchNetwork(nn.Module):
    """Convolutions that give one score for each patch of an image.

    Args:
        shape: (C, H, W) of the images.
        channels: of the layers; each halves the map until it is below 4 pixels.
    """

    def __init__(self, shape: tuple[int, ...], channels: Sequence[int]) -> None:
        super().__init__()
        before, *size = shape
        self.layers = nn.ModuleList()
        for width in channels:
            # 4x4 with stride 2, as in PatchGAN; 3x3 where nothing is left to halve.
            halves = min(size) >= 4
            self.layers.append(
                nn.Conv2d(before, width, 4 if halves else 3, 2 if halves else 1, padding=1)
            )
            size = [side // 2 for side in size] if halves else size
            before = width
        self.last = nn.Conv2d(before, 1, 3, padding=1)

    def features(self, images: Tensor) -> list[Tensor]:
        """The activations (B, width, h, w) of every layer."""
        found: list[Tensor] = []
        for layer in self.layers:
            images = F.leaky_relu(layer(images), SLOPE)
            found.append(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> scores (B, 1, h, w)."""
        scores: Tensor = self.last(self.features(images)[-1])
        return scores


def dense_network(dims: int, hidden: Sequence[int]) -> nn.Module:
    """Dense layers from (B, dims) to one score, (B, 1)."""
    layers: list[nn.Module] = []
    before = dims
    for width in hidden:
        layers += [nn.Linear(before, width), nn.LeakyReLU(SLOPE)]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, 1))


def adversarial_loss(
    critic: Critic,
    game: Game,
    real: Tensor,
    fake: Tensor,
    r1: float = 0.0,
    gradient_penalty: float = 0.0,
) -> Tensor:
    """The critic's loss for pairs of real and fake things, (B, ...) each, both without gradient.

    Returns:
        (B,), means over the scores of a thing, with the weighted penalties.
    """
    together = critic.scores(torch.cat([real.to(fake.dtype), fake]))  # one pass for both
    of_real, of_fake = together.flatten(1).chunk(2)
    loss = game.real(of_real).mean(1) + game.fake(of_fake).mean(1)
    if r1:
        loss = loss + r1 * r1_penalty(critic.scores, real)
    if gradient_penalty:
        # Random numbers of 0..1, one an image: the normal distribution's own function of normals.
        normal = standard_normal((len(fake), *[1] * (fake.ndim - 1)), fake)
        share = 0.5 + 0.5 * torch.erf(normal / 2**0.5)
        loss = loss + gradient_penalty * wgan_penalty(critic.scores, real, fake, share)
    return loss


def r1_penalty(scores: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Half of the squared gradient of the summed scores at real things.

    Args:
        scores: maps (B, ...) to (B, ...).
        real: (B, ...).

    Returns:
        (B,), at least 0; with gradient for the critic where gradients are enabled.

    Source: Mescheder et al. 2018, arXiv:1801.04406, equation 9.
    """
    return 0.5 * _gradient(scores, real).square().sum(1)


def wgan_penalty(
    scores: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor
) -> Tensor:
    """(norm of the gradient - 1)² between real and fake things.

    Args:
        scores: maps (B, ...) to (B, ...).
        real, fake: (B, ...).
        share: of the real one, 0..1, such as (B, 1, 1, 1).

    Returns:
        (B,), at least 0.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, equation 3.
    """
    between = share * real + (1 - share) * fake
    # The gradient of a norm is NaN at 0.
    norm = (_gradient(scores, between).square().sum(1) + 1e-12).sqrt()
    return (norm - 1).square()


def _gradient(scores: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient (B, n) of each thing's mean score, also inside of `no_grad`."""
    learns = torch.is_grad_enabled()
    with torch.enable_grad():
        place = at.detach().requires_grad_()
        total = scores(place).flatten(1).mean(1).sum()
        (gradient,) = torch.autograd.grad(total, place, create_graph=learns)
    return gradient.flatten(1)


def without_gradient_of(value: Tensor, node: Tensor) -> Tensor:
    """The same values, whose gradient does not go through `node`.

    Args:
        value: (B,).
        node: (B, ...), a tensor from which `value` was computed.
    """
    through = gradient_through(value, [node])
    return value if through is None else with_more_gradient(value, [node], [-through[0]])


def last_weight(model: nn.Module) -> nn.Parameter:
    """The last matrix or filter bank of the decoder, or of the model if it has no decoder."""
    decoder = getattr(model, "decoder", None)
    where = decoder if isinstance(decoder, nn.Module) else model
    for part in (where, model):
        found = [p for p in part.parameters() if p.ndim > 1 and p.requires_grad]
        if found:
            return found[-1]
    raise ConfigError(
        "image_critic: adaptive needs a last layer with weights, and the model has none to train",
        hint="leave adaptive out and give a weight: image_critic: 0.1",
    )


def game_of(term: str, name: str) -> Game:
    """A game by its name."""
    if name not in GAMES:
        raise ConfigError(f"{term}: loss is {name!r}; possible: {one_of(GAMES)}")
    return GAMES[name]


def widths(what: str, given: Sequence[int]) -> tuple[int, ...]:
    """Widths of layers, at least one and each at least 1."""
    numbers = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    whole = [n for n in numbers if isinstance(n, int) and not isinstance(n, bool) and n > 0]
    if not numbers or len(whole) != len(numbers):
        raise ConfigError(f"{what} must be whole numbers above 0, such as [64, 64], not {given!r}")
    return numbers


def seed_of(seed: int, term: str) -> int:
    """The seed of a critic's first weights."""
    return keyed_seed(seed, f"critic {term}")
