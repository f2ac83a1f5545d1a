"""An axis that only a function, a choice or a method of the file sees has an effect."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from aelab import lab

HEAD = """
matrix: {p: [1, 3], seed: [1, 2]}
experiment_name: own/${matrix_slug}
seed: ${seed}
train_set: noise_dataset((1, 4, 4), 40, seed=1)
validation_set: noise_dataset((1, 4, 4), 20, seed=2)
batch_size: 20
learnrate: 0.001
optimizer: Adam
max_inputs: 40
"""

PLAIN = "model: EncoderDecoder(EncoderMLP((1, 4, 4), 2), DecoderMLP((1, 4, 4), 2))\n"

Rows = Callable[[str], list[dict[str, str]]]


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Trains the runs of a file and gives the rows of their table."""

    def trained(text: str) -> list[dict[str, str]]:
        file = tmp_path / "own.yml"
        file.write_text(HEAD + text)
        for _ in lab.run(file, runs=tmp_path / "runs", device="cpu"):
            pass
        table = lab.table(file, runs=tmp_path / "runs", format="csv")
        return list(csv.DictReader(io.StringIO(table)))

    return trained


@pytest.mark.parametrize(
    "text",
    [
        "loss_function: |\n  lambda a, b: (a - b).abs().pow(p).mean()\n",
        "globals:\n  POWER: p\nloss_function: |\n"
        "  def loss(a, b):\n      return (a - b).abs().pow(POWER).mean()\n  loss\n",
    ],
    ids=["a lambda", "a function and a global"],
)
def test_losses_of_a_function_that_sees_an_axis_are_not_compared(rows: Rows, text: str) -> None:
    found = rows(text + PLAIN)
    assert [(row["p"], row["group"], row["runs"]) for row in found] == [
        ("1", "p=1", "2"),
        ("3", "p=3", "2"),
    ]


def test_changed_inputs_of_held_out_images_are_not_compared(rows: Rows) -> None:
    text = "train_input_transforms: |\n  [lambda x: x + 0.1 * p * torch.randn_like(x)]\n"
    assert [row["group"] for row in rows(text + PLAIN)] == ["p=1", "p=3"]


@pytest.mark.parametrize(
    "model",
    [
        """
  one = EncoderDecoder(EncoderMLP((1, 4, 4), 2), DecoderMLP((1, 4, 4), 2))
  other = EncoderDecoder(EncoderMLP((1, 4, 4), 2, hidden=(8,)), DecoderMLP((1, 4, 4), 2))
  [one, other][p // 2]
""",
        """
  encoder = EncoderConv2d((1, 4, 4), code_size=2, channels=(4,))
  shape = encoder.convolution.get_output_shape((1, 4, 4))
  EncoderDecoder(encoder, nn.Sequential(
      nn.Linear(2, math.prod(shape)), Reshape(shape),
      encoder.convolution.create_transposed(act_last_layer=p > 2),
  ))
""",
    ],
    ids=["a choice between two that are both made", "a method of a part"],
)
def test_models_that_no_call_of_a_part_tells_apart_have_rows_of_their_own(
    rows: Rows, model: str
) -> None:
    found = rows("loss_function: l1\nmodel: |" + model)
    assert [(row["p"], row["runs"]) for row in found] == [("1", "2"), ("3", "2")]


def test_an_axis_that_changes_no_image_has_still_no_effect(rows: Rows) -> None:
    data = "noise_dataset((1, 4, 4), 40, seed=1)"
    file = PLAIN + "validation_set2: " + data + ".resize((4, 4), interpolation=p > 2)\n"
    found = rows(file)
    assert [(row.get("p"), row["runs"]) for row in found] == [(None, "2")]


LOSS = "loss_function: PerceptualLoss(nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU()))\n"
OF_P = "model: EncoderDecoder(EncoderMLP((1, 4, 4), 2, hidden=(p,)), DecoderMLP((1, 4, 4), 2))\n"


def test_losses_with_other_random_weights_are_not_compared(rows: Rows) -> None:
    found = rows(OF_P + LOSS)  # the network of the loss is drawn after the model's weights
    assert ["differs from best" in row for row in found] == [False, False]
    assert [row["group"] for row in found] == [
        "p=1, seed=1 + p=1, seed=2",
        "p=3, seed=1 + p=3, seed=2",
    ]


def test_losses_with_the_same_random_weights_are_compared_seed_by_seed(rows: Rows) -> None:
    found = rows(LOSS + OF_P)
    assert [row["group"] for row in found] == ["seed=1 + seed=2"] * 2
    assert "best" in [row["differs from best"] for row in found]
