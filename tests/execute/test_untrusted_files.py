"""Experiment files of strangers: what their functions do while a run trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from aelab import lab, roots
from aelab.assembly.parts import build
from aelab.assembly.workspace import Workspace
from aelab.doctor.experiment import specs_of
from aelab.errors import StoreError
from aelab.execute import events as ev

FILE = """
experiment_name: stranger
globals:
  READ: |
    def read(path):
        return len(image_folder_dataset(path, shape=(1, 4, 4)))
    read
train_set: noise_dataset((1, 4, 4), size=20, seed=1)
model: EncoderDecoder(EncoderMLP((1, 4, 4), code_size=2), DecoderMLP((1, 4, 4), code_size=2))
batch_size: 10
learnrate: 0.001
optimizer: Adam
max_inputs: 20
"""

LATE = {
    "loss_function": "loss_function: |\n  lambda a, b: (a - b).abs().mean() * READ(PATH)\n",
    "train_input_transforms": "train_input_transforms: |\n  [lambda x: x * READ(PATH)]\n",
    "train_set": "train_set: |\n  noise_dataset((1, 4, 4), 20).transform([lambda x: x * READ(PATH)])\n",  # noqa: E501
    "random transform": "train_set: |\n  noise_dataset((1, 4, 4), 20).transform([lambda x: x * READ(PATH) + torch.rand(1)])\n",  # noqa: E501
    "filter": "train_set: |\n  noise_dataset((1, 4, 4), 20).filter(lambda x: READ(PATH) == 1)\n",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The experiment's folder with pictures, and another folder beside it."""
    for name in ("home/pictures", "other"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("L", (4, 4), 99).save(tmp_path / name / "a.png")
    return tmp_path / "home"


def trained(home: Path, late: str, path: str) -> list[ev.Event]:
    text = FILE
    if late.startswith("train_set"):
        text = "".join(f"{line}\n" for line in FILE.splitlines() if "train_set" not in line)
    file = home / "file.yml"
    file.write_text(text + late.replace("PATH", repr(path)), encoding="utf-8")
    return list(lab.run(file, device="cpu", runs=home / "runs"))


@pytest.mark.parametrize("key", LATE)
def test_functions_that_run_while_training_read_only_below_the_file(key: str, home: Path) -> None:
    outside = str(home.parent / "other")
    try:
        found = trained(home, LATE[key], outside)
        (error,) = [event for event in found if isinstance(event, ev.RunErred)]
        message = error.message
    except Exception as refused:  # nothing can run: told before a directory is made
        message = str(refused)
    assert "outside the folders" in message


@pytest.mark.parametrize("key", LATE)
def test_functions_that_run_while_training_may_read_below_the_file(key: str, home: Path) -> None:
    found = trained(home, LATE[key], "pictures")
    assert [event for event in found if isinstance(event, ev.RunFinished)], found


def test_blocks_are_evaluated_under_the_roots_of_their_file(home: Path) -> None:
    file = home / "file.yml"
    file.write_text(FILE + "validation_set: image_folder_dataset('../other', (1, 4, 4))\n")
    (spec,) = specs_of(file, Workspace())
    with pytest.raises(Exception, match="outside the folders"):
        build(spec, Workspace())
    build(spec, Workspace(data=(home.parent / "other",)))
    assert roots.current() is None


def test_a_file_loads_runs_of_its_store_only(home: Path) -> None:
    trained(home, "", "")
    elsewhere = home.parent / "elsewhere"
    (home / "runs").rename(elsewhere)
    file = home / "file.yml"
    text = file.read_text()
    for reference in ("../elsewhere/stranger", str(elsewhere / "stranger")):
        file.write_text(f"{text}load: {reference}\n")
        with pytest.raises(Exception, match=r"only load runs|no run"):
            list(lab.run(file, device="cpu", runs=home / "runs"))
    file.write_text(text)
    found = list(lab.run(file, device="cpu", runs=home / "runs", load=str(elsewhere / "stranger")))
    assert [event for event in found if isinstance(event, ev.RunFinished)], found


@pytest.mark.parametrize(
    "calls", ["[1]", "[{}]", '[{"name": "nn.Linear", "arguments": []}]', '{"a": 1}']
)
def test_a_damaged_call_log_is_named(calls: str, home: Path) -> None:
    trained(home, "", "")
    (home / "runs/stranger/calls.json").write_text(f'{{"calls": {calls}}}')
    with pytest.raises(StoreError, match="is not a call log"):
        lab.open_model("stranger", runs=home / "runs")


def test_a_name_with_control_characters_is_refused(home: Path) -> None:
    file = home / "file.yml"
    file.write_text(FILE.replace("experiment_name: stranger", 'experiment_name: "a\\e[2J"'))
    with pytest.raises(Exception, match="control characters") as caught:
        lab.check(file)
    assert "\x1b" not in str(caught.value)


def test_a_run_on_pictures_beside_its_file_opens_as_a_model(home: Path) -> None:
    trained(home, "train_set: image_folder_dataset('pictures', (1, 4, 4))\n", "")
    assert not lab.open_model("stranger", runs=home / "runs").training
