"""The signature is the schema: what a part accepts, and how it complains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from aelab import catalogue
from aelab.arguments import annotation_words, fit_annotation
from aelab.catalogue.parts import Part
from aelab.config import Block, Scope, evaluate_block, load
from aelab.data import DATASETS
from aelab.errors import AelabError, ConfigError, Where
from aelab.models import MODELS


def make(
    shape: tuple[int, int, int],
    size: int = 3,
    *,
    rate: float = 0.1,
    mode: Literal["nearest", "bilinear"] = "nearest",
    name: str | None = None,
    flag: bool = False,
    sizes: int | Sequence[int] = (1, 2),
    act: type[nn.Module] | Callable[..., Any] | None = None,
) -> dict[str, Any]:
    return dict(locals())


def value(text: str) -> Any:
    scope = Scope({**catalogue.names(), "make": Part("make", make)}, catalogue.attributes())
    return evaluate_block(Block(text, Where("f.yml", 5, 3, "model")), scope)


def test_arguments_arrive_in_the_form_that_is_meant() -> None:
    found = value("make([1, 28, 28], 4, rate=1, sizes=[3], act=nn.GELU)")
    assert found["shape"] == (1, 28, 28)
    assert found["act"] is nn.GELU
    assert (found["size"], found["rate"], found["mode"]) == (4, 1, "nearest")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("make((1, 2, 3), sise=3)",
         "make: no argument 'sise'; did you mean 'size'? Possible: shape, size, rate, mode, name, "
         "flag, sizes, act"),
        ("TensorDataset(torch.rand(4, 1, 2, 2), shape=3)",
         "TensorDataset: no argument 'shape'; it takes none by name"),
        ("make()", "make: missing a required argument: 'shape'; it takes shape, size=3, rate=0.1"),
        ("make((1, 2, 3), 4, 5)", "make: too many positional arguments"),
        ("make((1, 2))", "make: shape = (1, 2) does not fit; possible: (a whole number, a whole "),
        ("make((1, 2, 3), '4')", "make: size = '4' does not fit; possible: a whole number"),
        ("make((1, 2, 3), 4.5)", "make: size = 4.5 does not fit"),
        ("make((1, 2, 3), True)", "make: size = True does not fit"),
        ("make((1, 2, 3), rate='x')", "make: rate = 'x' does not fit; possible: a number"),
        ("make((1, 2, 3), mode='bilinaer')",
         "possible: 'nearest', 'bilinear'; did you mean 'bilinear'?"),
        ("make((1, 2, 3), flag=1)", "make: flag = 1 does not fit; possible: True or False"),
        ("make((1, 2, 3), name=1)", "possible: text or None"),
        ("make((1, 2, 3), sizes=['a'])", "possible: a whole number or a sequence, each a whole"),
        ("nn.Linear(3, 4, device='cuda')", "nn.Linear: 'device' cannot be given in a block"),
        ("torch.zeros(3, out=torch.ones(3))", "torch.zeros: 'out' cannot be given"),
        ("nn.Linear(3, '4')", "nn.Linear: out_features = '4' does not fit"),
        ("nn.Linear(3, 4, bais=False)", "did you mean 'bias'?"),
        ("EncoderConv2d((1, 28, 28), code_size=10, chanels=(3, 4))", "did you mean 'channels'?"),
        ("EncoderConv2d((1, 4, 4), 8, kernel_size=9)", "f.yml:5:3: model"),
        ("nn.Sequential(nn.ReLU(), 5)", "nn.Sequential: int is not a Module subclass"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(text: str, message: str) -> None:
    with pytest.raises(AelabError) as caught:
        value(text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("f.yml:5:3: model: ")


@pytest.mark.parametrize(
    ("given", "annotation", "fits"),
    [
        (1, int, True), (True, int, False), (1, float, True), (True, float, False),
        (1.0, int, False),
        ("a", str, True), (1, str, False), (True, bool, True), (1, bool, False), (None, None, True),
        (None, int | None, True), ([1, 2], tuple[int, int], True), ([1], tuple[int, int], False),
        ((1, 2, 3), tuple[int, ...], True), ((1, "a"), tuple[int, ...], False),
        ("ab", Sequence[str], False),
        ([1], Sequence[int], True), (["a"], list[int], False),
        ({"a": 1}, Mapping[str, int], True),
        (1, dict, False), (len, Callable[..., int], True), (1, Callable[..., int], False),
        (int, type[int], True), (1, type[int], False), ("a", Literal["a", 1], True),
        (True, Literal["a", 1], False), (torch.zeros(1), torch.Tensor, True),
        (1, torch.Tensor, False),
        (1, Any, True), (1, "unknown", True),
    ],
)  # fmt: skip
def test_values_fit_annotations(given: Any, annotation: Any, fits: bool) -> None:
    assert fit_annotation(given, annotation)[0] is fits


def test_annotations_are_told_in_words() -> None:
    assert (
        annotation_words(int | Sequence[str] | None)
        == "a whole number or a sequence, each text or None"
    )
    assert annotation_words(tuple[int, float]) == "(a whole number, a number)"
    assert annotation_words(Callable[..., int]) == "a function"
    assert annotation_words(type[nn.Module]) == "the class Module"


def test_parts_behave_like_classes_under_trust() -> None:
    names = catalogue.names()
    linear, encoder = names["EncoderConv2d"], names["EncoderMLP"]
    assert isinstance(linear((1, 8, 8), 4), linear)
    assert not isinstance(linear((1, 8, 8), 4), encoder)

    class Own(linear):  # type: ignore[misc, valid-type]
        pass

    assert issubclass(Own, linear.target)


def test_one_registers_ones_own_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODELS, "_own", {})
    monkeypatch.setattr(catalogue, "_OWN_ATTRIBUTES", {})

    class Mine(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size

    catalogue.register("Mine", Mine, ["size"])
    assert value("m = Mine(3)\nm.size + len(list(m.parameters()))") == 3
    with pytest.raises(ConfigError, match="size = 'a' does not fit"):
        value("Mine('a')")
    for name, part in (("EncoderConv2d", Mine), ("_x", Mine), ("Other", 3), ("Mine", print)):
        with pytest.raises(ConfigError):
            catalogue.register(name, part)


def test_every_name_of_the_rooms_is_there() -> None:
    names = catalogue.names()
    libraries = {"torch", "nn", "F", "math", "torchvision", "VT"}
    assert set(DATASETS) | set(MODELS) | libraries <= set(names)
    assert catalogue.is_data_part("mnist_dataset")
    assert not catalogue.is_data_part("EncoderConv2d")


@pytest.mark.parametrize(
    ("name", "parameters"), [("histogram-loss", 5_053_491), ("comparing-datasets", 4_034_705)]
)
def test_the_models_of_the_founding_documents_are_built(name: str, parameters: int) -> None:
    path = Path(__file__).parents[1] / "config" / "founding" / f"{name}.yml"
    run = load(path).runs()[0]
    scope = run.scope(catalogue.names(), catalogue.attributes())
    for key, block in run.blocks.items():
        if key.startswith("globals."):
            scope.define(key.removeprefix("globals."), evaluate_block(block, scope))
    with torch.device("meta"):
        model = evaluate_block(run.blocks["model"], scope)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_matrix_value_that_would_hide_a_part_is_reported_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "f.yml"
    path.write_text(
        "experiment_name: a\nmodel: f(1)\ntrain_set: f(1)\nbatch_size: 1\nlearnrate: 1\n"
        "optimizer: Adam\nmax_inputs: 1\nmatrix:\n  Reshape: [1]\n"
    )
    (run,) = load(path).runs()
    with pytest.raises(ConfigError, match=r"f\.yml:9:3: matrix\.Reshape: the matrix key 'Reshape'"):
        run.scope(catalogue.names(), catalogue.attributes())
