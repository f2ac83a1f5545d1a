"""Models that write in files: what does not fit is refused early, and noise survives a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from aelab import lab
from aelab.execute import events as ev
from aelab.execute.stop import StopRequest

WRITES = """CharacterAutoencoder(
      EncoderMLP((3, 6, 7), 4, hidden=(8,)), None, DecoderMLP((95, 6, 7), 4, hidden=(8,)),
      CharacterEmbedding(3), GumbelSoftmax(1.0, rate_per_image=0.001, floor=0.5),
  )"""
PAINTS = "EncoderDecoder(EncoderMLP((1, 6, 7), 4), DecoderMLP((1, 6, 7), 4))"

TEXT = """
experiment_name: writes
train_set: {data}
model: |
  {model}
objective: {objective}
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_inputs: 64
"""

CHARACTERS, PICTURES = "ascii_art_dataset('art', res=(6, 7))", "noise_dataset((1, 6, 7), 20)"
BOTH = "{character_ce: 1, rendered_l2: 1}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "art").mkdir()
    for number in range(40):
        lines = ["/\\" * (number % 3 + 1), "#" * (number % 5 + 1), chr(40 + number)]
        (tmp_path / "art" / f"{number}.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "writes.yml"


def write(file: Path, data: str, model: str, objective: str) -> Path:
    file.write_text(TEXT.format(data=data, model=model, objective=objective), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("data", "model", "objective", "words"),
    [
        (
            PICTURES,
            WRITES,
            BOTH,
            ["train_set", "the images are pictures, but the model outputs characters"],
        ),
        (
            CHARACTERS,
            PAINTS,
            "{l1: 1}",
            ["train_set", "grids of characters, but the model outputs pixels"],
        ),
        (CHARACTERS, WRITES, "{l1: 1}", ["objective", "the pixel loss l1 gives no gradient"]),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    file: Path, data: str, model: str, objective: str, words: list[str]
) -> None:
    (plan,) = lab.check(write(file, data, model, objective)).runs
    assert len(plan.problems) == 1
    assert all(word in plan.problems[0] for word in words), plan.problems[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "train_input_transforms: '[VT.CenterCrop((6, 7)), lambda x: 1 - x]'",
            ["train_input_transforms", "<lambda> would change the numbers of characters"],
        ),
        ("training_noise: 0.1", ["training_noise would change the numbers of characters"]),
    ],
)
def test_brightness_of_the_input_alone_is_not_changed_where_it_is_characters(
    file: Path, line: str, words: list[str]
) -> None:
    path = write(file, CHARACTERS, WRITES, BOTH)
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    (plan,) = lab.check(path).runs
    assert len(plan.problems) == 1
    assert all(word in plan.problems[0] for word in [*words, ".roll, .mirror"]), plan.problems[0]
    painted = write(file, PICTURES, PAINTS, "{l1: 1}")
    painted.write_text(painted.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    assert lab.check(painted).runs[0].problems == []


def test_check_tells_size_and_latent_of_a_model_that_writes(file: Path) -> None:
    (plan,) = lab.check(write(file, CHARACTERS, WRITES, BOTH)).runs
    assert plan.problems == []
    assert plan.latent_shape == (4,)
    embedding = 95 * 3
    assert plan.parameters["encoder"] == embedding + (3 * 42 * 8 + 8) + (8 * 4 + 4)
    assert plan.parameters["decoder"] == (4 * 8 + 8) + (8 * 95 * 42 + 95 * 42)


def train(file: Path, runs: Path, stop_at: int | None = None) -> set[str]:
    """Trains, and names the events that there were."""
    stop, seen = StopRequest(), set()
    for event in lab.run(file, runs=runs, device="cpu", stop=stop):
        seen.add(type(event).__name__)
        if isinstance(event, ev.RunProgress) and event.images == stop_at:
            stop.ask()
    return seen


def test_a_run_with_noise_that_stops_goes_on_to_the_same_weights(
    file: Path, tmp_path: Path
) -> None:
    text = write(file, CHARACTERS, WRITES, BOTH).read_text(encoding="utf-8")
    file.write_text(text + "num_train_loss_steps: 8\n", encoding="utf-8")
    assert "RunFinished" in train(file, tmp_path / "once")
    assert "RunInterrupted" in train(file, tmp_path / "twice", stop_at=24)
    assert "RunFinished" in train(file, tmp_path / "twice")
    once, twice = (sorted((tmp_path / name).rglob("*.safetensors")) for name in ("once", "twice"))
    assert once and [path.name for path in once] == [path.name for path in twice]
    for first, second in zip(once, twice, strict=True):
        ours, theirs = load_file(first), load_file(second)
        assert ours.keys() == theirs.keys()
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours)
