"""The workspace and the opened run: what is said once; verbs and functions are the same."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import aelab
from aelab import lab
from aelab.cli.main import app
from aelab.errors import StoreError, UserError
from aelab.lab import Lab, TableQuery
from aelab.study.opened import OpenedRun

#: Verbs of the command line that ask an opened run, and how its method is called.
OF_OPENED = {"render": "render", "ascii": "write", "encode": "encode",
             "reconstruct": "reconstruct", "neighbours": "neighbours", "sample": "sample",
             "interpolate": "interpolate", "export": "export"}  # fmt: skip
#: Verbs that are neither: other people's viewers and model hubs, the names of parts, and the file
#: format itself.
APART = {"bridge", "parts", "pull", "schema", "ui"}
#: What every function takes besides.
OF_LAB = ["runs", "data", "trust", "device"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    file = folder / "range.yml"
    file.write_text("""
experiment_name: range
train_set: TensorDataset(torch.rand(64, 1, 8, 8) * 2 - 1).values_between(-1, 1)
validation_set: TensorDataset(torch.rand(32, 1, 8, 8) * 2 - 1).values_between(-1, 1)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=4), DecoderMLP((1, 8, 8), code_size=4))
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: 64
""")
    here = Lab(folder / "runs", device="cpu")
    for _ in here.run(file):
        pass
    yield here


def test_every_verb_of_the_command_line_is_a_method() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(OF_OPENED) | APART <= verbs
    for verb in verbs - set(OF_OPENED) - APART:
        assert callable(getattr(Lab, verb)), verb
    for method in OF_OPENED.values():
        assert callable(getattr(OpenedRun, method)), method


def test_the_functions_take_what_the_methods_take_and_say_the_same() -> None:
    for name in ("check", "run", "plot", "report", "ls", "data", "evaluate", "figure", "figures"):
        function, method = getattr(lab, name), getattr(Lab, name)
        assert function.__doc__ == method.__doc__
        taken = list(inspect.signature(method).parameters)[1:]
        assert list(inspect.signature(function).parameters) == [*taken, *OF_LAB]


def test_a_function_works_on_a_lab_of_the_moment(here: Lab) -> None:
    runs = here.workspace.runs
    assert lab.ls(runs=runs) == here.ls() and "range" in aelab.ls(runs=runs)
    query = TableQuery(include=["images"], format="csv")
    assert aelab.table(runs=runs, include=["images"], format="csv") == here.table((), query)
    with pytest.raises(TypeError, match="nothing_known"):
        lab.table(runs=runs, nothing_known=1)


def test_a_query_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TableQuery().each = True  # type: ignore[misc]


def test_an_opened_run_takes_bytes_and_speaks_in_its_own_range(here: Lab) -> None:
    opened = here.open("range@latest")
    assert (opened.state, opened.images, opened.value_range) == ("latest", 64, (-1.0, 1.0))
    bytes_ = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    floats = bytes_.float() / 255 * 2 - 1
    torch.testing.assert_close(opened.encode(bytes_), opened.encode(floats))
    torch.testing.assert_close(opened.decode(opened.encode(bytes_)), opened.reconstruct(floats))
    model = here.open_model("range@latest")
    torch.testing.assert_close(opened.encode(bytes_), model.encode(bytes_))  # type: ignore[operator]


def test_samples_are_in_the_range_of_the_model(here: Lab) -> None:
    drawn = here.open("range").sample(40, "gaussian")
    assert drawn.shape == (40, 1, 8, 8)
    from aelab.metrics.distances import draw_images

    wanted = draw_images(here.open("range").subject(), "gaussian", 40) * 2 - 1
    torch.testing.assert_close(drawn, wanted)
    with pytest.raises(UserError, match="unknown sampler"):
        here.open("range").sample(sampler="gausian")


def test_an_opened_run_is_measured_and_drawn_as_by_the_lab(here: Lab, tmp_path: Path) -> None:
    opened = here.open("range@latest")
    (by_lab,) = here.evaluate("range", metrics=["reproduction"], state="latest")
    assert opened.evaluate(["reproduction"]).values == by_lab.values
    mine = opened.figure("reproductions", out=tmp_path / "a.png")
    theirs = here.figure("reproductions", "range@latest", out=tmp_path / "b.png")
    assert mine.read_bytes() == theirs.read_bytes()


def test_a_run_that_is_not_there_is_told(here: Lab) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        here.open("nowhere")
