"""Files and functions that mean harm, or do it by accident."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from aelab.data import TensorDataset, TransformDataset, augmentations
from aelab.data.functions import function_key
from aelab.data.sources.decode import decode, decode_rgba, file_shape
from aelab.data.sources.noise import noise_dataset
from aelab.data.sources.tiles import load_tensor
from aelab.errors import DataError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) print\n%%EOF\n"


def emptied(image: torch.Tensor) -> torch.Tensor:
    return F.hardtanh(image, 0.0, 0.0, inplace=True)


@pytest.mark.parametrize("read", [lambda p: list(decode(p)), decode_rgba, file_shape])
def test_a_file_that_would_start_another_program_is_no_picture(read, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(DataError, match=r"a\.png"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("read", [lambda p: list(decode(p)), decode_rgba, file_shape])
def test_a_picture_that_unpacks_to_far_too_much_is_refused(  # type: ignore[no-untyped-def]
    read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"):
        read(tmp_path / "a.png")


def test_a_tensor_file_runs_nothing(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "harm",))  # type: ignore[return-value]

    torch.save(Harm(), tmp_path / "a.pt")
    with pytest.raises(DataError, match="cannot read a tensor"):
        load_tensor(tmp_path / "a.pt")
    assert not (tmp_path / "harm").exists()


def test_a_function_that_works_in_place_does_not_change_the_set_it_reads() -> None:
    source = TensorDataset(torch.ones(6, 1, 2, 2), torch.ones(6))
    before = source.load()
    TransformDataset(source, transforms=[emptied]).load()
    assert source.filter(lambda x: bool(emptied(x).sum() == 0)).load().pixels.bool().all()
    image, label = source[0]
    emptied(image)
    emptied(label)
    assert before.pixels.bool().all()
    assert before.labels is not None
    assert before.labels.bool().all()


def test_a_random_function_that_works_in_place_does_not_change_its_batch() -> None:
    (change,) = augmentations([emptied])
    batch = torch.ones(2, 1, 2, 2)
    assert not change(batch, torch.Generator()).any()
    assert batch.all()


def test_a_tensor_changed_after_the_set_was_made_of_it_does_not_change_the_set() -> None:
    tensor = torch.ones(3, 1, 2, 2)
    images = TensorDataset(tensor).load()
    emptied(tensor)
    assert images.pixels.bool().all()


def test_sets_of_equal_pixels_and_different_labels_are_told_apart() -> None:
    pixels = torch.ones(2, 1, 2, 2)
    first, second = (TensorDataset(pixels, torch.full((2,), n)) for n in (1, 2))
    assert first.load().labels is not second.load().labels
    assert first.fingerprint() != second.fingerprint()


def test_functions_that_differ_in_weights_or_in_the_name_underscore_are_told_apart() -> None:
    assert function_key(nn.Conv2d(1, 1, 1)) != function_key(nn.Conv2d(1, 1, 1))
    made = [eval("lambda x: x * _", {"_": factor}) for factor in (1, 2)]
    assert function_key(made[0]) != function_key(made[1])


def test_a_set_transformed_by_layers_follows_their_weights() -> None:
    def made(weight: float) -> torch.Tensor:
        layer = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
        layer.weight.fill_(weight)
        return noise_dataset((1, 2, 2), 3).transform([layer]).load().pixels

    assert not torch.equal(made(0.5), made(0.25))
