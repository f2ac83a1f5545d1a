"""One table type for all kinds of part, and one registration for each part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from aelab import catalogue, config, lab, parts, register
from aelab.cli.main import app
from aelab.config.old_programs import OldProgram
from aelab.data import TensorDataset
from aelab.data.listed import listed
from aelab.data.overview import PathReader
from aelab.errors import ConfigError
from aelab.metrics import Metric
from aelab.study.figures import Figure
from aelab.types import Output

FILE = """
experiment_name: own
train_set: grey_dataset(24)
validation_set: grey_dataset(12)
model: EncoderDecoder(HalfEncoder(), DecoderMLP((1, 4, 4), code_size=HalfEncoder().size))
objective: {quartic: 1, sparse: 0.01}
optimizer: Plain
scheduler: halved
learnrate: 0.1
batch_size: 6
max_inputs: 48
"""


class HalfEncoder(nn.Module):
    """The upper half of a picture, (1, 4, 4) to 8 numbers."""

    block_attributes = frozenset({"size"})
    size = 8

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, :2].flatten(1)


@listed("grey", {"count": 5}, {"count": 3})
def grey_dataset(count: int) -> TensorDataset:
    """Grey pictures of 4 x 4. Each has another brightness."""
    return TensorDataset(torch.linspace(0, 1, count).view(-1, 1, 1, 1).expand(-1, 1, 4, 4))


def quartic(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Fourth power of the error."""
    return (reconstruction - target).pow(4).flatten(1).mean(1)


def sparse(output: Output) -> Tensor:
    """Mean absolute value of the latent."""
    return output.latent.abs().mean(1)


class Plain(torch.optim.SGD):
    """Gradient descent."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)


def halved(*, max_images: int | None) -> Any:
    """Half the rate."""
    return lambda images: 0.5


OWN: dict[str, tuple[str, Any]] = {
    "model part": ("HalfEncoder", HalfEncoder),
    "data set": ("grey_dataset", grey_dataset),
    "reconstruction loss": ("quartic", quartic),
    "penalty": ("sparse", sparse),
    "optimizer": ("Plain", Plain),
    "scheduler": ("halved", halved),
    "metric": ("brightness", Metric(lambda subject: {"mean": 1.0}, "mean brightness")),
    "figure": ("blank", Figure(lambda subject: b"\x89PNG", "nothing")),
    "sampler": ("zeros", lambda latents, generator: None),
    "bridge": ("log", lambda **options: None),
    "comparison loss": ("sameness", nn.Module),
    "validation": ("none_at_all", object()),
    "helper": ("halve", abs),
    "set of sets": ("twice", grey_dataset),
    "data set of torchvision": ("Grey", TensorDataset),
    "loss": ("Quartic", nn.Module),
    "table layout": ("upside_down", object()),
    "loss name": ("fourth_power", "quartic"),
    "writer": ("palette", object()),
    "path reader": ("sprites", PathReader(lambda path: False, grey_dataset, "a folder of sprites")),
    "verb": ("sleep", print),
    "old program": ("older", OldProgram(("older",))),
}


@pytest.fixture
def registered() -> Iterator[None]:
    for kind, (name, part) in OWN.items():
        register(name, part, kind=kind)
    yield
    for kind, (name, _) in OWN.items():
        parts.table_of(kind).forget(name)


def listing(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["parts", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_kinds_are_those_of_the_tables_and_each_has_its_group() -> None:
    tables = parts.tables()
    assert [table.kind for table in tables.values()] == list(tables) == list(parts.kinds())
    assert len({table.group for table in tables.values()}) == len(tables)
    assert set(OWN) == set(tables)


def test_one_registration_is_found_by_the_listing_and_by_the_evaluator(registered: None) -> None:
    rows = {(row["kind"], row["name"]): row for row in json.loads(listing("--json"))}
    for kind, (name, _) in OWN.items():
        assert rows[kind, name]["package"] == ""
        assert name not in parts.table_of(kind).ours
    assert rows["penalty", "sparse"]["description"] == "Mean absolute value of the latent"
    assert rows["metric", "brightness"]["description"] == "mean brightness"
    assert rows["data set", "grey_dataset"]["description"] == "Grey pictures of 4 x 4"
    assert {"HalfEncoder", "grey_dataset"} <= catalogue.names().keys()
    assert "size" in catalogue.attributes()[HalfEncoder]
    assert "grey" in {entry["name"] for entry in lab.data()["datasets"]}


def test_parts_registered_once_train_by_name_without_trust(
    registered: None, tmp_path: Path
) -> None:
    (tmp_path / "own.yml").write_text(FILE)
    list(lab.run(tmp_path / "own.yml", runs=tmp_path / "runs"))
    (run,) = lab.Lab(tmp_path / "runs").find()
    assert run.state == "finished"
    assert {"quartic", "sparse"} <= run.metrics("validation")[-1].keys()
    assert run.metrics("train")[-1]["learnrate"] == pytest.approx(0.05)


def test_without_the_registration_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(FILE)
    plan = lab.check(tmp_path / "own.yml", runs=tmp_path / "runs")
    for name in ("HalfEncoder", "grey_dataset"):
        assert any(name in problem for problem in plan.problems), plan.problems
    assert len(config.load(tmp_path / "own.yml").runs()) == 1


def test_a_part_is_explained_with_its_arguments_and_defaults() -> None:
    text = listing("huber")
    assert text.startswith("reconstruction loss huber(reconstruction, target, reduction='mean'")
    assert "Source: Huber 1964" in text
    assert listing("FSQ").startswith("model part FSQ(levels=(8, 5, 5, 5))")
    assert "figure samples(subject, count=" in listing("samples")
    assert len(listing("penalty").splitlines()) == 2 + len(parts.table_of("penalty"))


def test_a_part_that_does_not_exist_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(app, ["parts", "hubber"])
    assert "did you mean 'huber'" in str(result.exception)


@pytest.mark.parametrize("kind", parts.kinds())
def test_every_part_says_in_a_sentence_what_it_is(kind: str) -> None:
    table = parts.table_of(kind)
    silent = [name for name in table.ours if not table.summary(name)]
    assert not silent, f"give these a docstring, or a summary: {silent}"


def test_parts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the same name"):
        parts.by_name(quartic, quartic)
    with pytest.raises(ConfigError, match="there is no kind of part 'optimiser'; did you mean"):
        parts.table_of("optimiser")


def test_the_python_page_lists_every_kind_with_its_group() -> None:
    page = (Path(__file__).parents[1] / "docs/python.md").read_text("utf-8")
    rows = set(re.findall(r"^\| `([^`]+)` \| `(aelab\.\w+)` \|", page, re.M))
    assert rows == {(kind, table.group) for kind, table in parts.tables().items()}
