"""What `check` and `run` say about a run's numbers, before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from aelab import lab
from aelab.errors import UserError

FILE = {
    "experiment_name": "odd/${matrix_slug}",
    "matrix": "{seed: [1]}",
    "train_set": "noise_dataset((1, 8, 8), size=65, seed=1)",
    "validation_set": "noise_dataset((1, 8, 8), size=20, seed=2)",
    "model": "EncoderDecoder(EncoderMLP((1, 8, 8), code_size=4), DecoderMLP((1, 8, 8), "
    "code_size=4))",
    "loss_function": "l1",
    "batch_size": "64",
    "learnrate": "0.001",
    "optimizer": "Adam",
    "max_inputs": "200",
}
#: Normalises vectors, maps of 1x1, or maps by the batch.
BATCH_NORMS = {
    "vectors": "nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))",
    "1x1 maps": "nn.Sequential(nn.Conv2d(1, 4, 8), nn.BatchNorm2d(4), nn.Flatten())",
}
DECODER = "DecoderMLP((1, 8, 8), code_size=4)"


def written(folder: Path, **keys: str) -> Path:
    path = folder / "odd.yml"
    entries = {**FILE, **keys}
    path.write_text("".join(f"{key}: {value}\n" for key, value in entries.items()))
    return path


def problems(path: Path) -> str:
    """What `check` refuses; `run` must refuse it as well."""
    with pytest.raises(UserError) as raised:
        list(lab.run(path, runs=path.parent / "runs"))
    found = lab.check(path).problems
    assert "\n".join(found) in str(raised.value)
    return "\n".join(found)


def notes(path: Path) -> list[str]:
    plan = lab.check(path)
    assert plan.problems == []
    return plan.notes


@pytest.mark.parametrize("encoder", BATCH_NORMS.values(), ids=BATCH_NORMS)
def test_a_last_batch_of_one_image_is_refused_where_statistics_need_two(
    tmp_path: Path, encoder: str
) -> None:
    model = f"EncoderDecoder({encoder}, {DECODER})"
    told = problems(written(tmp_path, model=model))
    assert "65 images in batches of 64 leave a last batch of 1 image" in told
    assert "BatchNorm" in told and "batch_size: 65" in told and ".limit(64)" in told
    for good in (
        {"batch_size": "65"},
        {"max_inputs": "64"},
        {"batch_size": "16", "max_inputs": "48"},
    ):
        assert notes(written(tmp_path, model=model, **good)) == []
    told = problems(written(tmp_path, model=model, batch_size="1"))
    assert "every batch is of 1 image" in told


def test_a_last_batch_of_one_image_is_fine_without_such_statistics(tmp_path: Path) -> None:
    norm = "nn.Sequential(nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 4))"
    assert notes(written(tmp_path, model=f"EncoderDecoder({norm}, {DECODER})")) == []
    assert notes(written(tmp_path)) == []


def test_a_number_of_images_that_only_the_run_knows_is_refused_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aelab.data import MEMORY
    from aelab.doctor import reader
    from aelab.execute import events as ev

    monkeypatch.setattr(reader, "READ_SECONDS", 0.0)
    monkeypatch.setattr(reader, "READ_BYTES_SECONDS", 0.0)
    train = '"noise_dataset((1, 8, 8), size=70, seed=3).filter(lambda x: True).limit(65)"'
    model = f"EncoderDecoder({BATCH_NORMS['vectors']}, {DECODER})"
    path = written(tmp_path, model=model, train_set=train)
    assert notes(path) == []
    MEMORY.clear()  # of the images that the doctor tried the model on
    (failed,) = (
        event for event in lab.run(path, runs=tmp_path / "runs") if isinstance(event, ev.RunErred)
    )
    assert failed.impossible and "leave a last batch of 1 image" in failed.message


def test_a_batch_larger_than_the_set_is_noted(tmp_path: Path) -> None:
    (note,) = notes(written(tmp_path, batch_size="4096"))
    assert note.startswith("batch_size: 4,096 is more than the 65 images of the train_set")


def test_warm_ups_longer_than_the_run_are_noted(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        objective="{l1: {weight: 1, warmup_images: 100000}}",
        scheduler="{WarmupCosine: {warmup_images: 5000}}",
    )
    found = notes(path)
    assert [note.split(" is ")[0] for note in found] == [
        "l1: warmup_images", "scheduler WarmupCosine: warmup_images"
    ]  # fmt: skip
    assert "the run sees 200 images" in found[0]
    assert notes(written(tmp_path, scheduler="{WarmupCosine: {warmup_images: 100}}")) == []


def test_a_latent_without_a_number_is_refused(tmp_path: Path) -> None:
    told = problems(written(tmp_path, model=FILE["model"].replace("=4", "=0")))
    assert "the latent has size 0" in told and "odd.yml:5:" in told


@pytest.mark.parametrize(
    ("optimizer", "learnrate", "odd"),
    [("Adam", "1000", True), ("Adam", "1.5", True), ("Adam", "0.05", False),
     ("SGD", "1.0", False), ("SGD", "10", True), ("Adadelta", "1.0", False)],
)  # fmt: skip
def test_a_learning_rate_far_above_the_usual_is_noted(
    tmp_path: Path, optimizer: str, learnrate: str, odd: bool
) -> None:
    found = notes(written(tmp_path, optimizer=optimizer, learnrate=learnrate))
    assert len(found) == odd
    assert not odd or f"the usual one of {optimizer}" in found[0]


def test_text_beside_numbers_in_a_matrix_is_noted(tmp_path: Path) -> None:
    path = written(tmp_path, matrix='{lr: ["1e-3", 0.01], seed: [1]}', learnrate="${lr}")
    assert any("'1e-3' is text beside numbers such as 0.01" in note for note in notes(path))
    path = written(tmp_path, matrix='{net: ["a", "b"], lr: [0.01, 0.1]}', learnrate="${lr}")
    assert not any("text beside" in note for note in lab.check(path).notes)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"train_input_transforms": '"[lambda x: nosuch(x)]"'}, "uses 'nosuch', which is not"),
        ({"train_input_transforms": '"[lambda x: x if x.sum() > -1 else nosuch(x)]"'}, "'nosuch'"),
        ({"train_input_transforms": '"[lambda x: x.view(3, 3)]"'}, "failed on image 0"),
        ({"train_input_transforms": '"[lambda x: x / 0 * 0]"'}, "NaN or infinity"),
        ({"train_input_transforms": '"[lambda x: x * 255]"'}, "values up to"),
        ({"train_set": '"noise_dataset((1, 8, 8), size=64).transform([lambda x: nosuch(x)])"'},
         "'nosuch'"),
        ({"validation_set": '"noise_dataset((1, 8, 8), size=64).transform([lambda x: x @ 3])"'},
         "failed on image 0"),
        ({"train_set": '"noise_dataset((1, 8, 8), size=64).filter(lambda x: nosuch(x))"'},
         "'nosuch'"),
    ],
)  # fmt: skip
def test_functions_of_an_image_are_tried_before_the_run(
    tmp_path: Path, keys: dict[str, str], words: str
) -> None:
    assert words in problems(written(tmp_path, **keys))


def test_good_functions_of_an_image_are_no_news(tmp_path: Path) -> None:
    block = (
        "|\n  from random import random\n  def noisy(x):\n      return scaled(x)\n"
        "  def scaled(x):\n      return x * 0.5\n  [noisy, VT.AddNoise(0.2)]"
    )
    block = block.replace("  from random import random\n", "")
    assert notes(written(tmp_path, train_input_transforms=block)) == []


def test_held_out_images_that_are_drawn_anew_are_noted(tmp_path: Path) -> None:
    drawn = "noise_dataset((1, 8, 8), size=64, seed=2).random_flip()"
    (note,) = notes(written(tmp_path, validation_set=drawn))
    assert "drawn anew in each validation" in note and "freeze_validation_set" in note
    assert notes(written(tmp_path, validation_set=drawn, freeze_validation_set="true")) == []


@pytest.mark.parametrize(
    ("activation", "reaches"), [("sigmoid", False), ("relu", False), ("tanh", True), (None, True)]
)
def test_a_last_activation_that_cannot_reach_the_images_is_noted(
    tmp_path: Path, activation: str | None, reaches: bool
) -> None:
    last = f"code_size=4, activation_last_layer={activation!r}))"
    model = FILE["model"].replace("code_size=4))", last)
    change = ".transform([VT.Normalize([0.5], [0.5])])"
    sets = {name: f'"{FILE[name]}{change}"' for name in ("train_set", "validation_set")}
    found = notes(written(tmp_path, model=model, **sets))
    assert len(found) == (not reaches)
    assert reaches or ("the model ends with" in found[0] and "in -1..1" in found[0])
    of_unit_images = notes(written(tmp_path, model=model))
    assert ["ends with ReLU" in note for note in of_unit_images] == [True] * (activation == "relu")


def test_a_bound_that_only_the_posterior_carries_can_be_learned(tmp_path: Path) -> None:
    encoder = "VariationalEncoder(EncoderMLP((1, 8, 8), code_size=8), 8, 4)"
    model = f"ImportanceWeightedAutoencoder({encoder}, {DECODER[:-1]}, activation_last_layer="
    path = written(tmp_path, model=model + '"sigmoid"), samples=2)', train_set=FILE["train_set"])
    path.write_text(path.read_text().replace("loss_function: l1\n", ""))
    assert notes(path) == []
