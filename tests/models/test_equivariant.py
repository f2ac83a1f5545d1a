"""Group convolutions turn with the image, for every element of both groups and any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from aelab.errors import ConfigError, ShapeError
from aelab.models import DecoderEquivariant, EncoderDecoder, EncoderEquivariant
from aelab.models.equivariant import GROUPS, Group, GroupConv2d, doubled, halved

ELEMENTS = [(name, g) for name, group in GROUPS.items() for g in range(group.order)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def turned(images: Tensor, element: int) -> Tensor:
    images = images.flip(-1) if element >= 4 else images
    return torch.rot90(images, element, [-2, -1])


def permuted(codes: Tensor, group: Group, element: int, axis: int = 1) -> Tensor:
    """The group axis as a turn by `element` leaves it: number g was number (element^-1 g)."""
    undo = group.inverse(element)
    order = [group.product(undo, g) for g in range(group.order)]
    parts = codes.unflatten(axis, (-1, group.order))
    return parts.index_select(axis + 1, torch.tensor(order)).flatten(axis, axis + 1)


@pytest.mark.parametrize(("name", "element"), ELEMENTS)
def test_the_elements_are_those_of_torch_and_form_a_group(name: str, element: int) -> None:
    group, square = GROUPS[name], torch.arange(25).view(5, 5)
    assert group.sources(element, 5) == turned(square, element).flatten().tolist()
    assert group.product(element, group.inverse(element)) == 0
    for other in range(group.order):
        both = turned(turned(square, other), element)
        assert torch.equal(turned(square, group.product(element, other)), both)


@pytest.mark.parametrize(("name", "element"), ELEMENTS)
def test_lifting_and_group_convolutions_turn_with_the_image(name: str, element: int) -> None:
    group = GROUPS[name]
    images = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    lifting = GroupConv2d(group, 3, 4, 3, lifting=True).double()
    second = GroupConv2d(group, 4, 2, 5).double()
    first, then = lifting(images), lifting(turned(images, element))
    torch.testing.assert_close(then, permuted(turned(first, element), group, element))
    torch.testing.assert_close(
        second(then), permuted(turned(second(first), element), group, element)
    )


def test_the_first_copy_is_an_ordinary_convolution_and_the_others_are_turned_kernels() -> None:
    layer = GroupConv2d(GROUPS["d4"], 2, 3, 3, lifting=True)
    images = torch.randn(1, 2, 5, 5)
    kernel = layer.weights.weight.view(3, 2, 3, 3)
    found = layer(images).unflatten(1, (3, 8))
    for g in range(8):
        expected = torch.nn.functional.conv2d(images, turned(kernel, g), padding=1)
        torch.testing.assert_close(found[:, :, g], expected)


@pytest.mark.parametrize("size", [5, 8])
def test_halving_and_doubling_commute_with_turns(size: int) -> None:
    maps = torch.randn(1, 2, size, size)
    for g in range(8):
        torch.testing.assert_close(halved(turned(maps, g)), turned(halved(maps), g))
        for to in (2 * size, 2 * size - 1):
            grown = doubled(maps, to)
            assert grown.shape[-1] == to
            torch.testing.assert_close(doubled(turned(maps, g), to), turned(grown, g))
    assert halved(maps).shape[-1] == -(-size // 2)


@pytest.mark.parametrize("size", [9, 16, 28])
@pytest.mark.parametrize(("name", "element"), ELEMENTS)
def test_codes_are_permuted_and_pictures_turn_with_the_image(
    name: str, element: int, size: int
) -> None:
    shape = (2, size, size)
    encoder = EncoderEquivariant(shape, 16, channels=(2, 3), group=name)
    model = EncoderDecoder(encoder, DecoderEquivariant(shape, 16, channels=(3, 2), group=name))
    model = model.double()
    images = torch.rand(2, *shape, dtype=torch.float64)
    output, other = model(images), model(turned(images, element))
    # In double precision only rounding is left; sums have another order.
    exact = {"rtol": 0.0, "atol": 1e-12}
    expected = permuted(output.latent, GROUPS[name], element)
    torch.testing.assert_close(other.latent, expected, **exact)
    pictures = turned(output.reconstruction, element)
    torch.testing.assert_close(other.reconstruction, pictures, **exact)
    if element:  # not because nothing changes at all
        assert (other.latent - output.latent).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "element"), ELEMENTS)
def test_an_invariant_code_does_not_change(name: str, element: int) -> None:
    encoder = EncoderEquivariant((1, 14, 14), 5, (2, 3), group=name, code="invariant").double()
    images = torch.rand(3, 1, 14, 14, dtype=torch.float64)
    codes = encoder(images)
    assert codes.shape == (3, 5) and codes.std(0).min() > 0
    torch.testing.assert_close(encoder(turned(images, element)), codes, rtol=0, atol=1e-12)


def test_c4_does_not_know_mirror_images() -> None:
    encoder = EncoderEquivariant((1, 8, 8), 4, (2,), group="c4", code="invariant")
    images = torch.rand(1, 1, 8, 8)
    assert (encoder(images) - encoder(images.flip(-1))).abs().max() > 1e-3


def test_the_model_learns_turned_bars_from_upright_ones() -> None:
    shape = (1, 8, 8)
    model = EncoderDecoder(
        EncoderEquivariant(shape, 16, (4, 6)), DecoderEquivariant(shape, 16, (6, 4))
    )
    upright = torch.zeros(8, *shape)
    for column in range(8):
        upright[column, 0, 1:5, column] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        loss = (model(upright).reconstruction - upright).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    never_seen = turned(upright, 1)
    error = (model(never_seen).reconstruction - never_seen).square().mean().item()
    assert loss.item() < 0.2 * upright.var().item()
    assert error == pytest.approx(loss.item(), rel=0.1)


def test_stacked_models_equal_single_ones() -> None:
    models = [EncoderEquivariant((1, 8, 8), 8, (2, 3)) for _ in range(2)]
    images = torch.rand(2, 3, 1, 8, 8)
    parameters, buffers = stack_module_state(models)
    together = torch.vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,)))(
        parameters, buffers, images
    )
    for index, model in enumerate(models):
        torch.testing.assert_close(together[index], model(images[index]))


def test_what_cannot_turn_is_refused_with_the_way_out() -> None:
    with pytest.raises(ShapeError, match=r"8x31 images change their size .* must be square"):
        EncoderEquivariant((1, 8, 31), 8)
    with pytest.raises(ShapeError, match="code_size must be a multiple of 8") as told:
        DecoderEquivariant((1, 8, 8), 12, group="d4")
    assert "use code_size=16" in str(told.value.hint)
    with pytest.raises(ShapeError, match="kernel_size 4 has no middle"):
        EncoderEquivariant((1, 8, 8), 8, kernel_size=4)
    with pytest.raises(ConfigError, match="group must be 'c4' or 'd4', not 'D4'"):
        EncoderEquivariant((1, 8, 8), 8, group="D4")
    with pytest.raises(ConfigError, match="code must be 'equivariant' or 'invariant'"):
        EncoderEquivariant((1, 8, 8), 8, code="pooled")
