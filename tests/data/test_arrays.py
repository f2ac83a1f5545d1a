"""NumPy files of images: layouts, kinds of values, labels, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aelab import roots
from aelab.data.combinators import TransformDataset
from aelab.data.overview import named
from aelab.data.sources.arrays import array_dataset, tensor_of_file
from aelab.data.sources.tensors import TensorDataset
from aelab.errors import DataError

RAMP = np.arange(5 * 6 * 7 * 3).reshape(5, 6, 7, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP[..., 0].astype(np.uint8), RAMP[..., 0][:, None] % 256),
        (RAMP.astype(np.uint8), RAMP.transpose(0, 3, 1, 2) % 256),
        (RAMP.transpose(0, 3, 1, 2).astype(np.uint8), RAMP.transpose(0, 3, 1, 2) % 256),
        ((RAMP * 100).astype(np.uint16), RAMP.transpose(0, 3, 1, 2) * 100 >> 8),
        ((RAMP * 100).astype(">u2"), RAMP.transpose(0, 3, 1, 2) * 100 >> 8),
        (RAMP[..., 0] % 2 == 0, (RAMP[..., 0][:, None] % 2 == 0) * 255),
        (np.asfortranarray(RAMP.astype(np.uint8)), RAMP.transpose(0, 3, 1, 2) % 256),
    ],
)
def test_layouts_and_whole_numbers(values: Any, expected: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values)
    dataset = array_dataset(str(tmp_path / "a.npy"))
    images = dataset.load()
    assert images.pixels.dtype == torch.uint8 and len(dataset) == 5
    assert dataset.shape == tuple(expected.shape[1:])
    assert np.array_equal(images.pixels.numpy(), expected)


@pytest.mark.parametrize("kind", ["f2", "<f4", ">f4", "f8"])
def test_floats_of_0_to_1_stay_floats(kind: str, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 5 * 16).reshape(5, 4, 4).astype(kind)
    np.save(tmp_path / "a.npy", values)
    pixels = array_dataset(str(tmp_path / "a.npy"), shape=(3, 4, 4)).load().pixels
    assert pixels.dtype == torch.float32 and pixels.shape == (5, 3, 4, 4)
    assert np.allclose(pixels[:, 0].numpy(), values.astype(float))


def test_images_and_labels_of_one_file(tmp_path: Path) -> None:
    images, labels = RAMP.astype(np.uint8), np.array([2, 0, 1, 1, 0])
    for names in (("images", "labels"), ("x", "y"), ("arr_0", "arr_1")):
        np.savez_compressed(tmp_path / "a.npz", **dict(zip(names, (images, labels), strict=True)))
        loaded = named(str(tmp_path / "a.npz")).load()
        assert loaded.labels is not None and loaded.labels.tolist() == labels.tolist()
    np.savez(tmp_path / "b.npz", first=images, second=images)
    with pytest.raises(DataError, match=r"several arrays[\s\S]*key=.*first, second"):
        array_dataset(str(tmp_path / "b.npz")).verify()
    with pytest.raises(DataError, match="did you mean 'first'"):
        array_dataset(str(tmp_path / "b.npz"), key="frist").verify()
    assert len(array_dataset(str(tmp_path / "b.npz"), key="second").load()) == 5


def test_labels_of_their_own_file_must_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP.astype(np.uint8))
    np.save(tmp_path / "y.npy", np.arange(5))
    paths = str(tmp_path / "a.npy"), str(tmp_path / "y.npy")
    labels = array_dataset(*paths).load().labels
    assert labels is not None and labels.tolist() == [0, 1, 2, 3, 4]
    np.save(tmp_path / "y.npy", np.arange(4))
    with pytest.raises(DataError, match="expected 5 whole numbers"):
        array_dataset(*paths).load()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (RAMP.astype(np.int64), "int64, which have no fixed black and white"),
        (np.zeros((5, 4)), r"array of \(5, 4\)"),
        (np.zeros((0, 4, 4), np.uint8), r"array of \(0, 4, 4\)"),
        (np.full((2, 4, 4), 255.0), "from 255 to 255"),
        (np.full((2, 4, 4), np.nan), "32 of its values are NaN"),
        (np.array([{}] * 3), r"array of \(3,\)"),
        (np.array([[[{}]]] * 3), "object"),
    ],
)
def test_what_has_no_fixed_white_is_refused(values: Any, words: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(DataError, match=words):
        array_dataset(str(tmp_path / "a.npy")).load()


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"text", b"\x93NUMPY\x01\0v\0"]
)
def test_damaged_files_are_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy"):
        array_dataset(str(tmp_path / "a.npy")).load()


def test_a_header_that_promises_more_than_there_is_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RAMP.astype(np.uint8))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-10])
    with pytest.raises(DataError, match="cut off"):
        array_dataset(str(tmp_path / "a.npy")).load()
    (tmp_path / "a.npy").write_bytes(
        content.replace(b"(5, 6, 7, 3), }", b"(5, 9999999999, 7, 3), }")
    )
    with pytest.raises(DataError):
        array_dataset(str(tmp_path / "a.npy")).load()


def test_torch_load_of_a_block_describes_the_tensors_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    torch.save(pixels, tmp_path / "p.pt")
    monkeypatch.setenv("AELAB_DATA", str(tmp_path))
    for given in ("p.pt", "./datasets/p.pt", "~/prog/p.pt", str(tmp_path / "p.pt")):
        data = TensorDataset(tensor_of_file(given, map_location="cpu", weights_only=False))
        assert data.shape == (3, 4, 5) and torch.equal(data.load().pixels, pixels)
    halved = TransformDataset(
        TensorDataset(tensor_of_file("p.pt")), transforms=[lambda x: x / 510.0]
    )
    torch.testing.assert_close(halved.load().pixels, pixels / 510.0)
    with pytest.raises(DataError, match=r"no file ~/prog/q\.pt"):
        tensor_of_file("~/prog/q.pt")


def test_torch_load_of_a_block_runs_nothing_and_reads_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    torch.save([1], tmp_path / "open" / "list.pt")
    torch.save(torch.zeros(2, 4, 4), tmp_path / "away.pt")
    with roots.using([tmp_path / "open"]):
        with pytest.raises(DataError):
            tensor_of_file("list.pt", weights_only=False).load()
        for given in ("../away.pt", str(tmp_path / "away.pt")):
            with pytest.raises(DataError, match="no file"):
                tensor_of_file(given)
