"""`did you mean` is right, or silent."""

from __future__ import annotations

import pytest

from aelab import catalogue
from aelab.config.settings import ALL_KEYS, unknown_key
from aelab.errors import Where, did_you_mean, or_possible
from aelab.train import OPTIMIZERS

PARTS = {
    "noize_dataset": "noise_dataset",
    "noisedataset": "noise_dataset",
    "mnist_data": "mnist_dataset",
    "mnist_datset": "mnist_dataset",
    "image_folder": "image_folder_dataset",
    "Encoderconv2d": "EncoderConv2d",
    "EncoderConv2D": "EncoderConv2d",
    "EncoderConv": "EncoderConv2d",
    "EncodrMLP": "EncoderMLP",
    "ConvVae": "ConvVAE",
    "VariationalEncodr": "VariationalEncoder",
}
#: Names of other projects: nothing here means the same.
STRANGERS = (
    "pexels_photos_of_mine", "EnsembleDecoder2d", "ConvUpscaleDecoder", "PatchAutoencoder2d",
    "TeletextMatrixIterableDataset", "TrainGAN", "TextTrainer", "MLPEncoder", "VAE", "LPIPS",
    "DataLoader", "x", "", "cifar100_dataset",
)  # fmt: skip


@pytest.mark.parametrize(("given", "meant"), PARTS.items())
def test_a_slip_in_a_part_names_the_part(given: str, meant: str) -> None:
    assert f"'{meant}'" in did_you_mean(given, catalogue.names())


@pytest.mark.parametrize("given", STRANGERS)
def test_a_name_that_means_something_else_gets_no_advice(given: str) -> None:
    names = [name for name in catalogue.names() if name != given]
    assert did_you_mean(given, [*names, "Trainer", "TrainAutoencoder"]) == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("Adamw", "AdamW"), ("adam", "Adam"), ("Adaam", "Adam"), ("sgd", "SGD"),
        ("rmsprop", "RMSprop"), ("Nadam", "NAdam"), ("muon", "Muon"),
    ],
)  # fmt: skip
def test_upper_and_lower_case_come_first(given: str, meant: str) -> None:
    assert did_you_mean(given, OPTIMIZERS) == f"; did you mean '{meant}'?"


@pytest.mark.parametrize("given", ["Lion", "SOAP", "Lamb", "Shampoo", "LARS"])
def test_an_optimizer_that_there_is_not_gets_no_advice(given: str) -> None:
    assert did_you_mean(given, OPTIMIZERS) == ""


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr", "learnrate"), ("learning_rate", "learnrate"), ("epochs", "max_epochs"),
        ("batch", "batch_size"), ("batchsize", "batch_size"), ("optim", "optimizer"),
        ("criterion", "loss_function"), ("val_set", "validation_set"), ("trian_set", "train_set"),
        ("accumulate_grad_batches", "gradient_accumulation"), ("max_image", "max_images"),
    ],
)  # fmt: skip
def test_keys_of_other_tools_are_translated(given: str, meant: str) -> None:
    assert did_you_mean(given, ALL_KEYS) == f"; did you mean '{meant}'?"


@pytest.mark.parametrize("given", ["gpu", "workers", "dropout", "wandb"])
def test_a_key_without_counterpart_gets_no_advice(given: str) -> None:
    assert did_you_mean(given, ALL_KEYS) == ""


@pytest.mark.parametrize(
    ("given", "choices", "meant"),
    [
        ("nun", ["num", "matrix_id"], "num"),
        ("validate", ["kl", "validation"], "validation"),
        ("Cosinus", ["constant", "cosine", "step"], "cosine"),
        ("Conv3d", ["Conv2d", "Conv1d"], None),
        ("wave-1", ["vae", "waves"], "waves"),
        ("2e13fa8", ["20717f2", "2e13fa9"], "2e13fa9"),
        ("l7", ["l1", "l2"], None),
        ("TrainGAN", ["Trainer", "TrainAutoencoder"], None),
    ],
)
def test_short_names_and_other_endings(given: str, choices: list[str], meant: str | None) -> None:
    assert did_you_mean(given, choices) == (f"; did you mean '{meant}'?" if meant else "")


def test_the_likely_word_stands_before_the_list_and_a_long_list_is_cut() -> None:
    few = ["width", "height", "depth"]
    assert or_possible("widht", few) == "; did you mean 'width'? Possible: width, height, depth"
    assert or_possible("foo", few) == "; possible: width, height, depth"
    said = str(unknown_key("bathc_size", Where("a.yml")))
    assert said.index("did you mean 'batch_size'") < said.index("possible: batch_size, ")
    assert f"... ({len(ALL_KEYS)} in all); all of them: aelab schema" in said
    listed = said.partition("possible: ")[2].partition(", ...")[0].split(", ")
    assert len(listed) == 12 and set(listed) < set(ALL_KEYS)
