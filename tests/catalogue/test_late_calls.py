"""What a block keeps and calls later is held to the same rules as the block itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from aelab import catalogue, roots
from aelab.catalogue import CallLog
from aelab.config import Block, Scope, evaluate_block
from aelab.errors import ConfigError, DataError


@pytest.fixture
def outside(tmp_path: Path) -> str:
    """A folder with a picture, quoted for a block; the experiment's folder is beside it."""
    for name in ("outside", "inside"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / name / "a.png")
    return repr(str(tmp_path / "outside"))


def value(text: str, inside: Path | None = None) -> Any:
    reading = roots.Roots((inside.resolve(),)) if inside else None
    return evaluate_block(
        Block(text), Scope(catalogue.names(None, reading), catalogue.attributes())
    )


WAYS = [
    "lambda: list(image_folder_dataset(OUT))",
    "lambda: image_folder_dataset(OUT).shape",
    "lambda: len(image_folder_dataset(OUT))",
    "f = VT.Lambda(image_folder_dataset)\nlambda: list(f(OUT))",
    "f = VT.Compose([image_folder_dataset, list])\nlambda: f(OUT)",
    "lambda: [list(d) for d in map(image_folder_dataset, [OUT])]",
    "lambda: max([OUT], key=lambda p: len(image_folder_dataset(p)))",
    "lambda: list(atlas_dataset(OUT + '/a.png', tile=(1, 1)))",
    "lambda: list(rpg_tile_dataset_3x32x32(path=OUT))",
    "lambda: list(idx_dataset(OUT + '/a.png'))",
]


@pytest.mark.parametrize("text", WAYS)
def test_a_function_called_after_the_block_reads_only_what_the_block_may(
    text: str, outside: str, tmp_path: Path
) -> None:
    late = value(text.replace("OUT", outside), tmp_path / "inside")
    assert roots.current() is None  # nobody watches any more
    with pytest.raises(DataError, match="outside the folders"):
        late()


def test_a_function_called_after_the_block_may_read_what_the_block_may(
    outside: str, tmp_path: Path
) -> None:
    inside = tmp_path / "inside"
    late = value(f"lambda: len(image_folder_dataset({str(inside)!r}))", inside)
    assert late() == 1


def test_names_without_roots_read_only_the_data_folders(outside: str) -> None:
    with pytest.raises(DataError, match="outside the folders"):
        value(f"image_folder_dataset({outside})")


@pytest.mark.parametrize(
    "text",
    [
        "VT.Lambda(nn.Linear)(2, 2, device='meta')",
        "VT.Lambda(torch.abs)(torch.ones(2), out=torch.ones(2))",
        "list(map(VT.Lambda, [torch.zeros]))[0](2, device='meta')",
        "list(VT.Compose([nn.Linear]))[0](2, 2)",
        "[*VT.Compose([torch.abs])][0](torch.ones(2))",
        "nn.Linear(2, 2, True, 'meta')",
        "F.normalize(torch.ones(2, 2), 2.0, 1, 1e-12, torch.ones(2, 2))",
    ],
)
def test_no_part_gives_the_bare_class_or_function_of_another(text: str) -> None:
    with pytest.raises(ConfigError):
        value(text)


def test_an_argument_behind_a_withheld_one_is_given_by_name() -> None:
    assert value("nn.Linear(2, 2, dtype=torch.float64)").weight.dtype == torch.float64


def test_annotations_of_functions_are_dropped() -> None:
    text = "def f(x: 'open', *a: 'b', y: nn.Linear = 1, **k: 'c') -> 'exec':\n    return x\nf"
    function: Callable[[int], int] = value(text)
    assert function.__annotations__ == {}
    assert function(3) == 3


def test_fresh_tensors_do_not_show_old_memory() -> None:
    assert not value("torch.empty(5000)").any()


def test_a_data_part_handed_on_is_found_again_in_the_log(tmp_path: Path) -> None:
    def opened(log: CallLog) -> Any:
        scope = Scope(catalogue.names(log, roots.Roots((tmp_path,))), catalogue.attributes())
        return evaluate_block(
            Block("VT.Lambda(noise_dataset)\nTensorDataset(torch.ones(2, 1))"), scope
        )

    log = CallLog()
    opened(log)
    replay = CallLog(log.to_json())
    opened(replay)
    assert replay.to_json() == log.to_json()
    assert any("noise_dataset" in str(call["arguments"]) for call in log)
