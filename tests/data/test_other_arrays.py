"""Arrays of torch.save, HDF5 and MATLAB, and pixels in CSV files."""

from __future__ import annotations

import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import pytest
import scipy.io
import torch

from aelab.data import array_dataset, csv_dataset
from aelab.data.overview import named
from aelab.errors import DataError

PIXELS = torch.arange(5 * 3 * 6 * 7).reshape(5, 3, 6, 7).to(torch.uint8)
LABELS = torch.tensor([2, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("saved", "labelled"),
    [
        (PIXELS, False),
        ((PIXELS, LABELS), True),
        ({"images": PIXELS, "labels": LABELS, "epoch": 3}, True),
        (PIXELS.permute(0, 2, 3, 1), False),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_tensors_are_read(saved: Any, labelled: bool, new: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=new)
    dataset = array_dataset(str(path))
    assert dataset.shape == (3, 6, 7) and dataset.count() == 5
    images = named(str(path)).load()
    assert torch.equal(images.pixels, PIXELS)
    assert (images.labels is not None) == labelled
    if images.labels is not None:
        assert torch.equal(images.labels, LABELS)


def test_floats_of_tensors_stay_floats(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        torch.save(torch.linspace(0, 1, 32).view(2, 4, 4).to(dtype), tmp_path / "a.pt")
        images = array_dataset(str(tmp_path / "a.pt"), shape=(3, 4, 4)).load()
        assert images.pixels.dtype == torch.float32 and float(images.pixels.max()) == 1


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch attacked",)


def test_no_pickle_runs_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"images": PIXELS, "trick": Attack()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(
            DataError, match=r"cannot read tensors.*it holds other objects\n.*only tensors are"
        ):
            array_dataset(name).load()
    assert not (tmp_path / "attacked").exists()


def test_a_tensor_that_repeats_few_values_does_not_fill_the_memory(tmp_path: Path) -> None:
    torch.save(
        torch.zeros(1, dtype=torch.uint8).expand(1 << 30, 1 << 20)[:, None], tmp_path / "a.pt"
    )
    with pytest.raises(DataError, match="GB of memory"):
        array_dataset(str(tmp_path / "a.pt")).load()
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "w.pt")
    with pytest.raises(DataError, match="several arrays"):
        array_dataset(str(tmp_path / "w.pt")).load()


def test_hdf5_is_read_but_not_the_files_it_points_to(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["images"] = PIXELS.numpy()
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["group/images"] = PIXELS.permute(0, 2, 3, 1).numpy()
        file["labels"] = LABELS.numpy()
        file["linked"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/images")
        file["soft"] = h5py.SoftLink("/group/images")
        file["name"] = "text"
    images = array_dataset(str(path), key="group/images").load()
    assert torch.equal(images.pixels, PIXELS)
    assert images.labels is not None and torch.equal(images.labels, LABELS)
    with pytest.raises(DataError, match=r"holds no array 'linked'[\s\S]*group/images, labels"):
        array_dataset(str(path), key="linked").load()
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match="cannot read the HDF5 file"):
        array_dataset(str(path), key="group/images").load()


def test_matlab_counts_images_last(tmp_path: Path) -> None:
    grey = PIXELS[:, 0].permute(1, 2, 0).numpy()
    for name, values, shape in (
        ("colour", PIXELS.permute(2, 3, 1, 0).numpy(), (3, 6, 7)), ("grey", grey, (1, 6, 7)),
        ("unit", grey / 255, (1, 6, 7)),
    ):  # fmt: skip
        arrays = {"images": values, "y": LABELS.numpy()[:, None]}
        scipy.io.savemat(tmp_path / f"{name}.mat", arrays)
        dataset = array_dataset(str(tmp_path / f"{name}.mat"))
        assert dataset.shape == shape and dataset.count() == 5
        images = dataset.load()
        wanted = PIXELS if name == "colour" else PIXELS[:, :1]
        scale = 255 if name == "unit" else 1
        assert torch.allclose(images.pixels.double() * scale, wanted.double())
        assert images.labels is not None and torch.equal(images.labels, LABELS)


GREY = PIXELS[:, 0, :4, :4].reshape(5, 16)


def _csv(header: str, rows: list[str]) -> str:
    return "\n".join([*([header] if header else []), *rows]) + "\n"


def _cells(between: str = ",", scale: float = 1) -> list[str]:
    return [between.join(f"{v / scale:.9g}" for v in row) for row in GREY.tolist()]


NAMES = ",".join(f"pixel{n}" for n in range(16))
PAIRS = list(zip(LABELS.tolist(), _cells(), strict=True))
#: The form in words -> (text of the file, further arguments).
CSVS: dict[str, tuple[str, dict[str, Any]]] = {
    "kaggle": (_csv(f"label,{NAMES}", [f"{y},{c}" for y, c in PAIRS]), {}),
    "no header": (_csv("", [f"{y},{c}" for y, c in PAIRS]), {}),
    "label last": (_csv(f"{NAMES},class", [f"{c},{y}" for y, c in PAIRS]), {}),
    "one cell": (
        _csv("emotion,pixels,Usage", [f"{y},{c.replace(',', ' ')},Training" for y, c in PAIRS]),
        {},
    ),
    "semicolons": (_csv("", [f"{y};{c.replace(',', ';')}" for y, c in PAIRS]), {}),
    "fractions": (
        _csv("", [f"{y},{c}" for (y, _), c in zip(PAIRS, _cells(",", 255), strict=True)]), {}
    ),
    "told": (
        _csv(f"{NAMES},kind", [f"{c},{y}" for y, c in PAIRS]),
        {"label": "kind", "stored": (1, 4, 4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", CSVS)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_pixels(form: str, packed: bool, tmp_path: Path) -> None:
    text, options = CSVS[form]
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    dataset = csv_dataset(str(path), **options)
    assert dataset.shape == (1, 4, 4)
    images = dataset.load()
    assert torch.equal(images.pixels.flatten(1), GREY)
    assert images.labels is not None and torch.equal(images.labels, LABELS)
    if not options:
        assert torch.equal(named(str(path)).load().pixels, images.pixels)


def test_rows_of_colours_and_classes_in_words(tmp_path: Path) -> None:
    rows = [f"{word},{','.join(['7'] * 48)}" for word in ("dog", "cat", "dog")]
    (tmp_path / "a.csv").write_text(_csv("label," + ",".join(f"p{n}" for n in range(48)), rows))
    images = csv_dataset(str(tmp_path / "a.csv")).load()
    assert images.shape == (3, 4, 4) and images.class_names == ("dog", "cat", "dog")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no rows of pixels"),
        ("a,b,c\n", "holds no rows of pixels"),
        ("1,2,3\n4,5,6\n", r"2 numbers in a row: neither a square[\s\S]*stored="),
        ("1,2,3,4\n1,2,3\n", "row 2: 3 columns instead of 4"),
        ("1,2,3,4\n1,2,x,4\n", "row 2: could not convert"),
        ("1,2,3,4\n1,2,nan,4\n", "NaN or infinite"),
        ("1,2,3,400\n", "neither whole numbers of 0 to 255"),
        ("0.5,2,3,4\n", "neither whole numbers of 0 to 255"),
        ("label,a,b\n0,1,2\n", "2 numbers in a row"),
    ],
)  # fmt: skip
def test_rows_that_are_no_pixels_are_told(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        csv_dataset(str(tmp_path / "a.csv")).load()
    with pytest.raises(DataError, match="has no column 'lable'; did you mean 'label'"):
        (tmp_path / "b.csv").write_text("label,a,b,c,d\n0,1,2,3,4\n")
        csv_dataset(str(tmp_path / "b.csv"), label="lable").load()
