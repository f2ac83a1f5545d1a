"""The network of document 004."""

from __future__ import annotations

import pytest
import torch

from aelab.errors import ShapeError
from aelab.founding.conv_vae import ConvVAE
from aelab.losses import make_objective


def count(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def small(**options) -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE(in_ch=1, d_size=4, latent_dim=6, **options).eval()


@pytest.mark.parametrize(
    ("latent_dim", "encoder", "decoder"), [(16, 625_440, 623_233), (256, 748_800, 684_673)]
)
def test_the_network_has_the_published_parameter_counts(latent_dim, encoder, decoder) -> None:
    with torch.device("meta"):
        model = ConvVAE(in_ch=1, d_size=32, latent_dim=latent_dim)
    ours = count(model.encoder, model.bottleneck), count(model.decoder)
    assert ours == (encoder, decoder)
    assert count(model) == {16: 1_248_673, 256: 1_433_473}[latent_dim]


def test_the_defaults_are_those_of_the_document() -> None:
    with torch.device("meta"):
        model = ConvVAE()
    assert model.encoder[0].weight.shape == (32, 3, 3, 3)
    assert model.output_shape == (1, 32, 32)
    assert model.latent_dim == 256


@pytest.mark.parametrize("size", [25, 28, 32])
def test_images_of_25_to_32_pixels_have_the_same_network_and_an_answer_of_32(size) -> None:
    model = small(input_size=size)
    assert count(model) == count(small())
    latent = model.encode(torch.rand(2, 1, size, size))
    assert model.decode(latent).shape == (2, 1, 32, 32)


def test_28_pixels_in_and_32_out_cannot_be_compared_and_the_message_says_what_to_do() -> None:
    with pytest.raises(ShapeError, match=r"1x32x32, but was given 1x28x28") as caught:
        small()(torch.rand(2, 1, 28, 28))
    assert "resize the images to 32x32" in str(caught.value)
    assert "image_size=28" in str(caught.value)


def test_colour_in_and_grey_out_is_answered_with_the_argument_to_give() -> None:
    with pytest.raises(ShapeError, match="out_ch=3"):
        ConvVAE(in_ch=3, d_size=4, latent_dim=6)(torch.rand(2, 3, 32, 32))
    model = ConvVAE(in_ch=3, d_size=4, latent_dim=6, out_ch=3)
    assert model(torch.rand(2, 3, 32, 32)).reconstruction.shape == (2, 3, 32, 32)


def test_an_input_size_that_the_document_cannot_have_is_refused() -> None:
    with pytest.raises(ShapeError, match="image_size=64"):
        ConvVAE(input_size=64)


@pytest.mark.parametrize("size", [1, 2, 7, 28, 32, 45, (31, 64)])
def test_any_size_is_taken_where_it_is_asked_for(size) -> None:
    sides = (size, size) if isinstance(size, int) else size
    model = small(image_size=size)
    assert model(torch.rand(2, 1, *sides)).reconstruction.shape == (2, 1, *sides)


def test_32_pixels_by_arithmetic_is_the_network_of_the_document() -> None:
    ours, theirs = small(image_size=32), small()
    images = torch.rand(2, 1, 32, 32)
    assert torch.equal(ours(images).reconstruction, theirs(images).reconstruction)


def test_a_draw_is_the_mean_and_the_root_of_the_variance_times_the_noise() -> None:
    model = small()
    mu, logvar = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 4.0]]).log()
    noise = torch.tensor([[3.0, 0.5]])
    for draw in (model.reparameterize, model.sample_z):
        torch.testing.assert_close(draw(mu, logvar, noise), torch.tensor([[1.0, -1.0]]))
    torch.manual_seed(3)
    expected = torch.randn(1, 2)
    torch.manual_seed(3)
    assert torch.equal(model.sample_z(mu, torch.zeros(1, 2)), mu + expected)


def test_the_latent_of_a_forward_pass_is_sample_z_of_twice_the_log_std() -> None:
    model = small()
    images, noise = torch.rand(3, 1, 32, 32), torch.randn(3, 6)
    output = model(images, noise)
    logvar = 2 * output.posterior.log_std
    assert torch.equal(logvar, model.bottleneck.linear_sigma(model.encoder(images)))
    again = model.sample_z(output.posterior.mean, logvar, noise)
    torch.testing.assert_close(output.latent, again)


def test_the_objective_is_that_of_the_document() -> None:
    model = small(kld_weight=0.005)
    images, noise = torch.rand(3, 1, 32, 32), torch.randn(3, 6)
    objective = make_objective(model.terms)
    output = model(images, noise)
    loss = objective.total(objective(output, images, 0), 0).mean()

    mu, logvar = output.posterior.mean, 2 * output.posterior.log_std
    kld = torch.mean(-0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1))
    bce = torch.nn.functional.binary_cross_entropy(output.reconstruction, images)
    torch.testing.assert_close(loss, bce + 0.005 * kld)
