"""Sets made of sets, per-sample functions, and random changes that follow a seed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aelab.data import (
    MEMORY,
    METHODS,
    TORCHVISION_DATASETS,
    TRANSFORMS,
    Dataset,
    InterleaveDataset,
    Source,
    TensorDataset,
    TransformDataset,
    augmentations,
    freeze_images,
    noise_dataset,
)
from aelab.data.augment import EachItem, RandomShift, RandomWindow, augmented
from aelab.errors import DataError, ShapeError
from aelab.founding.data import LimitDataset, TransformIterableDataset

VT = TRANSFORMS


@pytest.fixture
def noise() -> Dataset:
    return noise_dataset((1, 8, 8), 50, seed=1)


def counting(items: list[int]) -> Dataset:
    """Images whose every pixel is the number."""
    pixels = torch.tensor(items, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return TensorDataset(pixels, torch.tensor(items))


def numbers(dataset: Dataset) -> list[int]:
    return [int(image[0, 0, 0]) for image in dataset.load().pixels]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rows_are_chosen_as_said() -> None:
    ten = counting(list(range(10)))
    assert numbers(ten.limit(3)) == [0, 1, 2]
    assert numbers(ten.limit(99)) == list(range(10)) and len(ten.limit(99)) == 10
    assert numbers(ten.skip(7)) == numbers(ten.offset(7)) == [7, 8, 9]
    assert numbers(ten.limit(2).repeat(3)) == [0, 0, 0, 1, 1, 1]
    assert sorted(numbers(ten.shuffle())) == list(range(10)) != numbers(ten.shuffle())
    assert numbers(ten.shuffle(10_000, seed=1)) != numbers(ten.shuffle(seed=2))
    assert len(set(numbers(ten.sample(4)))) == 4 and numbers(ten.sample(4)) == sorted(
        numbers(ten.sample(4))
    )
    assert numbers(LimitDataset(ten, 2)) == [0, 1] and ten.to_iterable() is ten
    assert numbers(ten.filter(lambda image: image.max() > 6)) == [7, 8, 9]


def test_labels_follow_their_images() -> None:
    images = counting(list(range(10))).shuffle().skip(2).repeat(2).load()
    assert images.labels is not None
    assert images.labels.tolist() == [int(image[0, 0, 0]) for image in images.pixels]


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_wrong_number_is_told(noise: Dataset, size: object) -> None:
    with pytest.raises(DataError, match="limit takes a whole number from 1 up"):
        noise.limit(size)  # type: ignore[arg-type]


def test_an_empty_result_is_told(noise: Dataset) -> None:
    with pytest.raises(DataError, match="noise holds no images"):
        noise.skip(50).load()


def test_sets_take_turns_until_each_is_exhausted() -> None:
    dataset = counting([1, 2, 3, 4, 5]).interleave(counting([11, 12]), counting([21, 22, 23]))
    assert numbers(dataset) == [1, 11, 21, 2, 12, 22, 3, 23, 4, 5]
    assert len(dataset) == 10 and len(dataset.load().provenance) == 3


def test_sets_of_other_shapes_do_not_mix(noise: Dataset) -> None:
    with pytest.raises(ShapeError, match="cannot interleave"):
        noise.interleave(noise.resize((4, 4)))


def test_the_documents_mixture_of_crops_and_shifted_tiles(noise: Dataset) -> None:
    crops = noise_dataset((1, 16, 16), 30, seed=2).random_crop_all((1, 8, 8))
    tiles = noise.random_shift(3).random_flip().repeat(2)
    mixed = InterleaveDataset(crops, tiles)
    images = mixed.load()
    assert mixed.shape == images.shape == (1, 8, 8) and len(images) == 130
    assert images.augment == () and images.pixels.dtype == torch.uint8
    same = InterleaveDataset(noise.random_flip(), noise.limit(5).random_flip()).load()
    assert len(same.augment) == 1


def test_sizes_change_by_name(noise: Dataset) -> None:
    assert noise.resize((3, 12, 5)).shape == (3, 12, 5)
    assert noise.resize((12, 5), "nearest").load().facts["filter"] == "nearest"
    assert noise.scale(0.5).shape == (1, 4, 4)
    assert noise.center_crop((4, 6)).shape == (1, 4, 6) == noise.center_crop((9, 4, 6)).shape
    middle = noise.center_crop((4, 4)).load().pixels
    assert torch.equal(middle, noise.load().pixels[:, :, 2:6, 2:6])
    assert noise.random_crop_all((5, 5)).shape == (1, 5, 5)
    with pytest.raises(ShapeError, match="cannot crop 9x9 out of 8x8"):
        _ = noise.random_crop_all((9, 9)).shape


def test_the_form_of_the_documents_gives_the_same_pixels(noise: Dataset) -> None:
    pixels = noise.load().pixels
    old = TransformDataset(
        TensorDataset(pixels[:, 0]), transforms=[lambda x: x.unsqueeze(0).float() / 255.0]
    )
    assert old.shape == (1, 8, 8)
    images = old.load()
    assert images.pixels.dtype == torch.uint8 and images.augment == ()
    assert images.content_sha256 == noise.load().content_sha256
    other = TransformDataset(
        TensorDataset(pixels), dtype=torch.float, multiply=1 / 255.0, num_repeat=2
    ).load()
    assert torch.equal(other.pixels, pixels.repeat_interleave(2, 0))


def test_torchvision_names_are_descriptions() -> None:
    sets = TORCHVISION_DATASETS["MNIST"]("~/somewhere", train=False)
    assert TensorDataset(sets.data, sets.targets).item_shape() == (28, 28)
    assert sets.shape == (1, 28, 28) and len(sets.data) == 10_000
    with pytest.raises(ShapeError, match="unsqueeze"):
        _ = TensorDataset(sets.data).shape


def test_functions_get_float_images_and_run_once(noise: Dataset) -> None:
    calls: list[tuple[torch.dtype, tuple[int, ...], float]] = []

    def invert(image: Tensor) -> Tensor:
        calls.append((image.dtype, tuple(image.shape), float(image.max())))
        return 1.0 - image

    dataset = noise.transform([invert])
    images = dataset.load()
    assert all(c[:2] == (torch.float32, (1, 8, 8)) and c[2] <= 1 for c in calls)
    asked = len(calls)
    assert dataset.load() is images and len(calls) == asked
    assert torch.equal(images.pixels, 255 - noise.load().pixels)


def test_the_same_function_text_is_loaded_once_but_other_values_are_not_mixed_up() -> None:
    source = noise_dataset((1, 4, 4), 5)

    def scaled(factor: float) -> Dataset:
        return source.transform([lambda image: image * factor])

    assert scaled(0.5).load() is scaled(0.5).load()
    assert scaled(0.5).load().content_sha256 != scaled(0.25).load().content_sha256
    tensors = [torch.zeros(1, 4, 4), torch.ones(1, 4, 4)]
    first, second = (source.transform([lambda image, t=t: image * 0 + t]).load() for t in tensors)
    assert first.content_sha256 != second.content_sha256


def test_random_functions_become_augmentations_and_follow_the_seed(noise: Dataset) -> None:
    dataset = noise.transform(
        [lambda image: image * 0.5, lambda image: image + torch.rand(1), lambda image: image + 1]
    )
    images = dataset.load()
    (change,) = images.augment
    assert isinstance(change, EachItem) and len(change.functions) == 2
    batch = images.pixels[:4].float()
    before = torch.get_rng_state()
    assert torch.equal(change(batch, generator(1)), change(batch, generator(1)))
    assert not torch.equal(change(batch, generator(1)), change(batch, generator(2)))
    assert torch.equal(torch.get_rng_state(), before)
    frozen = dataset.freeze()
    assert frozen.load().augment == () and frozen.load().pixels.min() >= 1


def test_a_function_that_draws_only_for_some_images_is_found_out() -> None:
    dataset = counting([0, 0, 200]).transform(
        [lambda x: x.float() / 255 + (torch.rand(1) if x.max() > 100 else 0)]
    )
    assert len(dataset.load().augment) == 1


def test_our_transforms_are_batched_and_mean_the_same_for_one_image(noise: Dataset) -> None:
    images = noise.load().pixels.float() / 255
    for transform in (
        VT["CenterCrop"](5),
        VT["Pad"]([1, 2], fill=0.5),
        VT["Resize"]((4, 6)),
        VT["Resize"](4, "bicubic"),
        VT["Grayscale"](3),
        VT["Normalize"]([0.5], [0.25]),
        VT["ToTensor"](),
    ):
        single = torch.stack([transform(image) for image in images])
        assert torch.allclose(transform.batch(images), single, atol=1e-6), transform
        loaded = noise.transform([transform]).load()
        assert loaded.augment == () and loaded.shape == single.shape[1:]


def test_random_transforms_become_augmentations_with_the_final_shape(noise: Dataset) -> None:
    steps = VT["Compose"]([VT["Pad"](2), [VT["RandomCrop"](6, padding=1)], VT["Resize"]((4, 4))])
    dataset = noise.transform([steps, VT["RandomHorizontalFlip"](1.0), VT["RandomVerticalFlip"]()])
    assert dataset.shape == (1, 4, 4)
    images = dataset.load()
    assert images.pixels.shape == (50, 1, 12, 12) and images.shape == (1, 4, 4)
    assert len(images.augment) == 4
    batch = augmented(images.pixels[:5], images.augment, generator())
    assert batch.shape == (5, 1, 4, 4) and batch.dtype == torch.float32
    frozen = freeze_images(images, seed=3)
    assert frozen.shape == (1, 4, 4) and frozen.facts["frozen_seed"] == 3
    assert frozen.content_sha256 == freeze_images(images, seed=3).content_sha256
    assert frozen.content_sha256 != freeze_images(images, seed=4).content_sha256


def test_random_changes_come_before_later_functions(noise: Dataset) -> None:
    dataset = noise.random_shift(2).transform([lambda image: image + 1.0], multiply=2.0)
    images = dataset.load()
    assert images.augment[0] == RandomShift(2) and len(images.augment) == 3
    batch = augmented(images.pixels[:20], images.augment, generator())
    assert batch.min() == 1.0 and batch.max() <= 3.0


def test_a_float_set_stays_float_and_an_eight_bit_one_becomes_bytes() -> None:
    half = TensorDataset(torch.full((3, 1, 2, 2), 0.123))
    assert half.load().pixels.dtype == torch.float32
    assert half.transform([lambda x: (x > 1).float()]).load().pixels.dtype == torch.uint8


def test_input_transforms_of_training_are_augmentations() -> None:
    changes = augmentations([VT["RandomCrop"](4), lambda image: image * 0.5])
    batch = augmented(torch.ones(3, 1, 8, 8), changes, generator())
    assert batch.shape == (3, 1, 4, 4) and batch.max() == 0.5
    assert augmentations(None) == ()
    noisy = augmented(torch.zeros(2, 1, 8, 8), augmentations(VT["AddNoise"](0.5)), generator())
    assert noisy.min() == 0 and 0.1 < noisy.mean() < 0.3


def test_a_failing_function_is_told_with_image_and_argument(noise: Dataset) -> None:
    dataset = noise.transform([lambda image: image.view(7, 7)])
    with pytest.raises(
        DataError, match=r"noise: the function <lambda> failed on image 0"
    ) as raised:
        dataset.load()
    assert "torch.float32 (1, 8, 8)" in str(raised.value)
    with pytest.raises(DataError, match="must return a tensor, got float"):
        _ = noise.transform([lambda image: float(image.mean())]).shape
    with pytest.raises(ShapeError, match="tensors of one shape"):
        noise.transform([lambda image: image[:, : 3 + int(image[0, 0, 0] > 0.5)]]).load()
    with pytest.raises(DataError, match="a transform is a function"):
        noise.transform([3])  # type: ignore[list-item]


def test_wrong_sources_are_told() -> None:
    with pytest.raises(DataError, match="needs a data set, got str"):
        TransformDataset("mnist")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="TensorDataset takes tensors"):
        TensorDataset([1, 2])
    with pytest.raises(DataError, match="different or no length"):
        TensorDataset(torch.zeros(3, 1, 2, 2), torch.zeros(2))
    with pytest.raises(DataError, match="not supported"):
        TransformIterableDataset(counting([1]), transform_all=True)


def test_descriptions_read_nothing_until_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouchable(Source):
        name = "untouchable"

        def item_shape(self) -> tuple[int, ...]:
            return (1, 8, 8)

        def fingerprint(self) -> str:
            return self.name

        def count(self) -> int:
            return 100

        def read(self):  # type: ignore[no-untyped-def]
            raise AssertionError("read")

    source = Dataset(Untouchable())
    calls = {
        "limit": (5,), "skip": (5,), "offset": (5,), "repeat": (2,), "shuffle": (), "sample": (3,),
        "freeze": (), "transform": ([lambda x: x + 1],), "resize": ((4, 4),), "scale": (2,),
        "filter": (lambda x: True,), "center_crop": ((4, 4),), "random_crop_all": ((4, 4),),
        "random_shift": (2,), "random_flip": (), "interleave": (source,), "to_iterable": (),
        "collage": ((16, 16),), "binarize": (), "roll": (2, 2),
            "values_between": (-1, 1),
    }  # fmt: skip
    assert set(calls) | {"mirror"} == set(METHODS)  # mirror is of characters only
    for name, arguments in calls.items():
        made = getattr(source, name)(*arguments)
        made.verify()
        assert len(made.shape) == 3 and made.fingerprint() and made.sources()
        assert made.count() is None or made.count() > 0


def test_the_least_recently_used_set_leaves_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MEMORY, "limit_bytes", 2 * 50 * 64)
    sets = [noise_dataset((1, 8, 8), 50, seed=seed) for seed in range(3)]
    first = sets[0].load()
    sets[1].load()
    assert sets[0].load() is first
    sets[2].load()  # number 1 leaves
    assert sets[0].load() is first
    assert RandomWindow((2, 2)) == RandomWindow((2, 2))


def test_a_resize_after_a_random_crop_follows_it(noise: Dataset) -> None:
    dataset = noise.random_crop_all((6, 6)).resize((3, 4, 4), "nearest")
    images = dataset.load()
    assert dataset.shape == images.shape == (3, 4, 4)
    assert images.pixels.shape == (50, 1, 8, 8) and images.facts["filter"] == "nearest"
    assert augmented(images.pixels[:5], images.augment, generator()).shape == (5, 3, 4, 4)
    unchanged = noise.random_flip().resize((8, 8)).load()
    assert len(unchanged.augment) == 1


def test_equal_random_functions_print_equally_in_records(noise: Dataset) -> None:
    first, second, other = (
        noise.transform([lambda image, f=f: image + f * torch.rand(1)]).load().augment
        for f in (1.0, 1.0, 2.0)
    )
    assert repr(first) == repr(second) != repr(other)
