"""The matrix against the worked examples of the old program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelab.config import Experiment, legible_folder, load, matrix_slug, slug_forms
from aelab.config.slugs import climbs_out

FOUNDING = Path(__file__).parent / "founding"
Load = Callable[..., Experiment]
Find = Callable[..., list[str]]


def test_the_first_key_varies_slowest(load_text: Load) -> None:
    runs = load_text("matrix: {a: [1, 2], b: [x, y]}\n").runs()
    assert [(run.matrix["a"], run.matrix["b"]) for run in runs] == [
        (1, "x"), (1, "y"), (2, "x"), (2, "y"),
    ]  # fmt: skip
    assert [run.name for run in runs][:2] == ["test/a:1_b:x", "test/a:1_b:y"]
    assert [run.folder for run in runs][:2] == ["test/a-1_b-x", "test/a-1_b-y"]


@pytest.mark.parametrize(("size", "first", "last"), [(1, "1", "1"), (9, "1", "9"), (10, "1", "10"),
                                                     (11, "01", "11"), (100, "01", "100"),
                                                     (101, "001", "101")])  # fmt: skip
def test_ids_are_padded_to_the_logarithm(load_text: Load, size: int, first: str, last: str) -> None:
    runs = load_text(f"matrix: {{n: {list(range(size))}}}\n").runs()
    assert (runs[0].matrix_id, runs[-1].matrix_id) == (first, last)


def test_ids_count_before_the_filter(load_text: Load) -> None:
    runs = load_text("matrix:\n  n: [1, 2, 3, 4]\n  $filter: n % 2 == 0\n").runs()
    assert [run.matrix_id for run in runs] == ["2", "4"]


@pytest.mark.parametrize(
    "condition",
    [
        "'${opt}' == 'Adam'",
        "opt == 'Adam'",
        "${opt} == 'Adam'",
        "opt in ['Adam', 'SGD'] and lr < 1",
        "opt ==\n    'Adam'",
        "'opt:Adam_' in '${matrix_slug}'",
        "math.sqrt(lr) > 0 and len(opt) == 4",
    ],
)
def test_filters_compare_texts(load_text: Load, condition: str) -> None:
    text = f"matrix:\n  opt: [Adam, AdamW]\n  lr: [0.1]\n  $filter: |\n    {condition}\n"
    assert [run.matrix["opt"] for run in load_text(text).runs()] == ["Adam"]


def test_the_transformer_matrix_has_150_runs() -> None:
    runs = load(FOUNDING / "transformer-on-mnist.yml").runs()
    assert len(runs) == 150
    assert runs[0].name == "mnist/tr1_opt:Adam_lr:0.001_patch:4_stride:2_l:2_head:4_hid:64"
    assert all(run.matrix["stride"] <= run.matrix["patch"] for run in runs)
    pairs = {(run.matrix["patch"], run.matrix["stride"]) for run in runs}
    assert pairs == {(4, 2), (4, 4), (8, 2), (8, 4), (8, 8)}
    assert runs[0].matrix_id == "001"
    assert runs[-1].matrix_id == "180"
    assert runs[-1].blocks["model"].text.count("num_hidden=256") == 1


@pytest.mark.parametrize(
    ("name", "count"),
    [("comparing-datasets", 3), ("histogram-loss", 9), ("resnet-manifold", 1)],
)
def test_every_file_of_the_founding_documents_expands(name: str, count: int) -> None:
    assert len(load(FOUNDING / f"{name}.yml").runs()) == count


def test_the_histogram_file_needs_its_nested_quotes_no_more() -> None:
    run = load(FOUNDING / "histogram-loss.yml").runs()[0]
    assert run.name == "ae/hist/hl-bins:100_sigma:100_norm:False_loss:l1"
    assert run.matrix["loss"] == "l1"
    assert "loss='l1', normalize=False" in run.blocks["loss_function"].text


def test_slugs_follow_the_three_dialects() -> None:
    values = {"b": [3, 5], "ds": "mnist", "q": "'l1'", "p": "a/b c", "long": "x" * 200}
    assert matrix_slug({"b": [3, 5]}) == "b:3,5"
    assert matrix_slug(values) == "b:3,5_ds:mnist_q:l1_p:abc_long:" + "x" * 96
    forms = slug_forms(values)
    assert forms["2023-11-17"] == "b-3,5_ds-mnist_q-l1_p-abc_long-" + "x" * 40
    assert forms["2023-11-12"] == "b-3,5_ds-mnist_q-l1_p-abc_long-" + "x" * 20
    assert matrix_slug({"lr": 0.00001, "f": True, "n": None}) == "lr:1e-05_f:True_n:None"


def test_old_folders_of_a_run_are_known() -> None:
    run = load(FOUNDING / "comparing-datasets.yml").runs()[0]
    assert run.old_folders == ("vae/base28_ds:mnist", "vae/base28_ds-mnist")


@given(st.text(max_size=300))
def test_folders_are_legal_everywhere(name: str) -> None:
    folder = legible_folder(name)
    for part in folder.split("/"):
        assert len(part.encode()) <= 255
        assert not set(part) & set('<>:"|?*\\\0')
        assert part not in (".", "..") or folder == ""
        assert not part.endswith((" ", "."))
    assert legible_folder(folder) == folder or len(folder.encode()) > 200


@pytest.mark.parametrize("name", ["../x", "a/../../b", "/etc/x", "~/x", "C:/x", "a\\..\\b"])
def test_names_that_climb_out_are_known(name: str) -> None:
    assert climbs_out(name)
    assert not climbs_out("vae/base..28_x")


def test_mistakes_in_a_matrix_are_named(problems: Find) -> None:
    found = problems(
        "matrix:\n  lr: 0.1\n  ds: mnist\n  e: []\n  matrix_id: [1]\n  m: {a: 1}\n  r: ['${ds}']\n"
    )
    assert found[0].startswith("file.yml:2:3: matrix.lr: given '0.1'; possible: a list of values")
    assert "write: lr: [0.1]" in found[0]
    assert "write: ds: [mnist]" in found[1]
    assert "no run at all" in found[2]
    assert "provided by the lab" in found[3]
    assert "given a mapping" in found[4]
    assert "cannot refer" in found[5]


def test_a_word_of_python_is_substituted_and_no_variable(
    load_text: Callable[..., Experiment],
) -> None:
    text = "matrix:\n  def: [3, 4]\n  lambda: [a, b]\n  $filter: ${def} > 3\nseed: ${def}\n"
    runs = load_text(text).runs()
    assert [run.settings.fit.seed for run in runs] == [4, 4]
    assert [run.variables for run in runs] == [{}, {}]
    assert [run.name for run in runs] == ["test/def:4_lambda:a", "test/def:4_lambda:b"]


def test_mistakes_in_a_filter_are_named_once(problems: Find) -> None:
    assert problems("matrix:\n  size: [1, 2]\n  $filter: sizes > 1\n") == [
        "file.yml:3:12: matrix.$filter: 'sizes' is neither a part nor defined before"
        "; did you mean 'size'?"
    ]
    assert "not Python" in problems("matrix:\n  n: [1]\n  $filter: n >\n")[0]
    assert "removes every combination" in problems("matrix:\n  n: [1]\n  $filter: n > 5\n")[0]
    assert "'open'" in problems("matrix:\n  n: [1]\n  $filter: open('x')\n")[0]


def test_a_matrix_key_cannot_hide_a_part(write: Callable[..., Path]) -> None:
    path = write("matrix: {nn: [1]}\n")
    load(path)
    with pytest.raises(Exception, match=r"matrix\.nn: 'nn' already names a part"):
        load(path, names=["nn"])


def test_two_runs_never_share_a_folder(problems: Find) -> None:
    (message,) = problems("matrix: {p: ['a b', ab]}\n")
    assert "#1 (p='a b') and #2 (p='ab')" in message
    assert message.startswith("file.yml:2:1: experiment_name")
    (message,) = problems("matrix: {p: [a, A]}\n")
    assert "two runs would share the folder 'test/p-A'" in message
    (message,) = problems("matrix: {p: [a b, ab, a  b, A b]}\n")
    assert "4 runs would share the folder" in message and "and 2 more" in message
    (message,) = problems("matrix: {p: [a, a/b]}\nexperiment_name: x/${p}\n", without="experiment")
    assert "would be inside the run" in message


def test_only_old_files_get_names_that_tell_their_runs_apart(
    write: Callable[..., Path], problems: Find
) -> None:
    matrix = "matrix: {p: [a, b]}\nexperiment_name: ae/x\n"
    runs = load(write(matrix + "trainer: TrainAutoencoder\n", without="experiment_name")).runs()
    assert [(run.name, run.folder) for run in runs] == [
        ("ae/x_p:a", "ae/x_p-a"),
        ("ae/x_p:b", "ae/x_p-b"),
    ]
    (note,) = [f for f in runs[0].findings if f.code == "named-apart"]
    assert "'ae/x' is the same for all runs" in note.message and note.where is not None
    one = "matrix: {p: [a]}\nexperiment_name: ae/x\ntrainer: TrainAutoencoder\n"
    (run,) = load(write(one, without="experiment_name")).runs()
    assert run.name == "ae/x" and not [f for f in run.findings if f.code == "named-apart"]
    (message,) = problems(matrix, without="experiment_name")
    assert "two runs would share the folder 'ae/x'" in message


def test_too_many_combinations_are_refused(problems: Find) -> None:
    lists = "".join(f"  k{n}: {list(range(10))}\n" for n in range(9))
    assert "1,000,000,000 combinations" in problems(f"matrix:\n{lists}")[0]
