"""Models of five other libraries, each by its text: built in the gate, trained with `-m slow`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from aelab.lab import Lab

LISTS: dict[str, dict[str, dict[str, str]]] = YAML(typ="safe").load(
    Path(__file__).with_name("rivals.yml").read_text("utf-8")
)
FILE = """
experiment_name: {name}
globals:
  SHAPE: (3, 16, 16)
train_set: {train}
validation_set: {held}
model: |
  def ENC(dims):
      return EncoderMLP(SHAPE, dims, hidden=(16,))
  def DEC(dims):
      return DecoderMLP(SHAPE, dims, hidden=(16,), activation_last_layer="sigmoid")
{model}
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_images: 320
{rest}
"""


def text_of(entry: dict[str, str]) -> dict[str, str]:
    """The entry whose text stands for this one."""
    if "same" not in entry:
        return entry
    library, _, name = entry["same"].partition("/")
    return text_of(LISTS[library][name])


#: What has a text of its own.
OWN = [
    pytest.param(entry, id=f"{library}-{name}")
    for library, entries in LISTS.items()
    for name, entry in entries.items()
    if "model" in entry
]


def file_of(entry: dict[str, str], folder: Path) -> Path:
    """An experiment file with the entry's text."""
    block = "\n".join(f"  {line}" for line in entry["model"].splitlines())
    rest = entry.get("keys", "")
    rest += f"\nobjective: {entry['objective']}" if "objective" in entry else ""
    path = folder / "rival.yml"
    train = entry.get("train_set", "noise_dataset(SHAPE, 64, seed=1)")
    held = entry.get("train_set", "noise_dataset(SHAPE, 32, seed=2)")
    text = FILE.format(name="rival", model=block, rest=rest, train=train, held=held)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_lists_are_complete_and_most_entries_have_a_text() -> None:
    counts = {library: len(entries) for library, entries in LISTS.items()}
    assert counts == {
        "pythae": 26, "autoencoders": 27, "PyTorch-VAE": 18, "disent": 16,
        "vector-quantize-pytorch": 16,
    }  # fmt: skip
    every = [text_of(entry) for entries in LISTS.values() for entry in entries.values()]
    assert all(("model" in entry) != ("missing" in entry) for entry in every)
    assert sum("model" in entry for entry in every) == 103


@pytest.mark.parametrize("entry", OWN)
def test_a_model_of_another_library_checks_without_problems(
    entry: dict[str, str], tmp_path: Path
) -> None:
    plan: Any = Lab(tmp_path / "runs").check(file_of(entry, tmp_path))
    assert not [problem for run in plan.runs for problem in run.problems]


@pytest.mark.slow
@pytest.mark.parametrize("entry", OWN)
def test_a_model_of_another_library_trains(entry: dict[str, str], tmp_path: Path) -> None:
    lab = Lab(tmp_path / "runs")
    list(lab.run(file_of(entry, tmp_path)))
    opened = lab.open("rival")
    assert opened.run.status["state"] == "finished" and opened.run.metrics()
    assert opened.reconstruct(torch.rand(2, 3, 16, 16)).isfinite().all()


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("pythae", "SVAE"),
        ("pythae", "PoincareVAE"),
        ("vector-quantize-pytorch", "RandomProjectionQuantizer"),
        ("vector-quantize-pytorch", "FSP"),
    ],
)
def test_the_doctor_says_no_more_of_a_new_latent_than_of_a_plain_autoencoder(
    library: str, name: str, tmp_path: Path
) -> None:
    lab = Lab(tmp_path / "runs")
    said: list[list[str]] = []
    for entry in (LISTS["pythae"]["AE"], LISTS[library][name]):
        said.append(lab.check(file_of(entry, tmp_path)).runs[0].notes)
    assert said[0] == said[1]
