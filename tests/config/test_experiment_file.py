"""Whole files: errors at once, $extends, trials, resolved text, changes from the command line."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aelab.config import Block, Experiment, load
from aelab.config.document import Written
from aelab.errors import Problems

FOUNDING = Path(__file__).parent / "founding"
EXPERIMENTS = Path(__file__).parents[2] / "experiments"
Load = Callable[..., Experiment]
Find = Callable[..., list[str]]
Write = Callable[..., Path]


def test_a_run_is_fully_described(load_text: Load) -> None:
    run = load_text("matrix: {ds: [a, b]}\n").runs()[1]
    assert (run.name, run.folder, run.matrix_id, run.matrix_slug) == (
        "test/ds:b", "test/ds-b", "2", "ds:b",
    )  # fmt: skip
    assert (run.seed, run.trial, run.matrix) == (0, None, {"ds": "b"})
    assert list(run.blocks) == ["globals.SHAPE", "model", "train_set"]
    assert run.blocks["model"] == Block("EncoderConv2d(SHAPE, 8)", run.places["model"].at(column=8))
    assert run.settings.fit.validate_every_epochs == 1
    assert pickle.loads(pickle.dumps(run)) == run


def test_all_errors_of_a_file_are_reported_at_once(problems: Find) -> None:
    found = problems(
        """\
        max_epoch_s: 3
        batch_sise: 3
        seed: -1
        precision: float16
        training_noise: lots
        freeze_validation_set: yes
        gradient_clipping: {norn: 1}
        trainer: my.Trainer
        validation_set: |
          import os
          a = 1 +
        train_set: 3
        """,
        without="train_set",
    )
    text = "\n".join(found)
    assert len(found) == 10
    lines = [int(message.split(":")[1]) for message in found]
    assert lines == sorted(lines)
    assert "file.yml:1:1: max_epoch_s: is not a key of an experiment" in found[0]
    assert "did you mean 'max_epochs'?" in found[0]
    assert "did you mean 'batch_size'?" in found[1]
    assert "file.yml:3:1: seed: given -1; possible: a whole number from 0 to 4,294,967,295" in text
    assert "precision: given 'float16'; possible: float32, bfloat16, auto" in text
    assert "did you mean 'bfloat16'?" in text
    assert "training_noise: given 'lots'; possible: a finite number of at least 0" in text
    assert "freeze_validation_set: given 'yes'; possible: true or false" in text
    assert "gradient_clipping.norn: given 'norn'; possible: the entries norm, value" in text
    assert "trainer: given 'my.Trainer'; possible: Trainer, TrainAutoencoder" in text
    assert "file.yml:11:10: validation_set: this is not Python" in text
    assert "file.yml:12:1: train_set: must be a block of Python" in text


def test_what_is_missing_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("batch_size: 0\nmodel:\n")
    with pytest.raises(Problems) as caught:
        load(path)
    assert "missing or empty: experiment_name, model, train_set, learnrate, optimizer" in str(
        caught.value
    )
    assert "batch_size: given 0; possible: a whole number above 0" in str(caught.value)
    assert "max_images: missing: training would never end" in str(caught.value)


def test_a_missing_file_names_its_neighbours(write: Write, tmp_path: Path) -> None:
    write()
    with pytest.raises(Problems, match=r"there is: file\.yml"):
        load(tmp_path / "fiel.yml")
    with pytest.raises(Problems, match="cannot read"):
        load(tmp_path)
    (tmp_path / "bad.yml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(Problems, match="not UTF-8"):
        load(tmp_path / "bad.yml")


def test_words_that_were_booleans_are_warned_about(load_text: Load) -> None:
    notes = load_text("matrix:\n  aa: [yes, Off, 'no']\n").findings
    assert len(notes) == 2
    assert notes[0].told().split("/")[-1].startswith("file.yml:2:8: matrix.aa: 'yes' is text here")
    assert "write false" in notes[1].way_out


def test_extends_merges_shallowly_and_recursively(write: Write) -> None:
    write("seed: 1\nema: 0.9\nmatrix: {a: [1, 2]}\n", "grandparent.yml")
    parent = write("", "parent.yml")
    parent.write_text("$extends: grandparent.yml\nseed: 2\nglobals:\n  SHAPE: (1, 9, 9)\n")
    child = parent.with_name("child.yml")
    child.write_text("$extends: parent.yml\nbatch_size: 9\n")
    experiment = load(child)
    runs = experiment.runs()
    assert len(runs) == 2
    assert (runs[0].seed, runs[0].settings.fit.ema_decay, runs[0].settings.fit.batch_size) == (
        2,
        0.9,
        9,
    )
    assert runs[0].blocks["globals.SHAPE"].text == "(1, 9, 9)"
    assert runs[0].blocks["model"].where.file == str(child.with_name("grandparent.yml"))
    assert [Path(p).name for p in experiment.parents] == ["parent.yml", "grandparent.yml"]
    assert load(child).runs()[1].name == runs[1].name  # a second load keeps the parent


def test_extends_cannot_climb_out_nor_turn_in_circles(write: Write, tmp_path: Path) -> None:
    write("", "above.yml")
    folder = tmp_path / "inner"
    folder.mkdir()
    child = folder / "child.yml"
    child.write_text("$extends: ../above.yml\n")
    with pytest.raises(Problems, match="must stay in the folder inner/"):
        load(child)
    assert len(load(child, trust=True).runs()) == 1
    (folder / "link.yml").symlink_to(tmp_path / "above.yml")
    child.write_text("$extends: link.yml\n")
    with pytest.raises(Problems, match="must stay in the folder"):
        load(child)
    child.write_text("$extends: child.yml\n")
    with pytest.raises(Problems, match="extends itself"):
        load(child)
    child.write_text("$extends: [1, 2]\n")
    with pytest.raises(Problems, match="path of another YAML file"):
        load(child)


def test_trials_repeat_with_paired_seeds(load_text: Load) -> None:
    runs = load_text("matrix: {a: [1, 2]}\ntrials: 3\nseed: 10\n").runs()
    assert [(run.matrix["a"], run.trial, run.seed) for run in runs] == [
        (a, trial, 9 + trial) for a in (1, 2) for trial in (1, 2, 3)
    ]
    assert runs[0].name == "test/a:1_trial-1"
    assert len({run.identity for run in runs}) == 3  # `a` is in the name only: no effect


def test_runs_are_counted_before_the_first_is_made(
    problems: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr("aelab.config.expand.identity", lambda *given: made.append(given))
    found = problems("matrix: {a: [1, 2]}\ntrials: 50_001\n")
    assert "more than 100,000 runs" in found[0] and len(found) == 1
    assert not made


def test_names_cannot_climb_out(problems: Find) -> None:
    message = problems("experiment_name: ../x\n", without="experiment_name")[0]
    assert "file.yml:1:1: experiment_name: given '../x'; a run cannot be outside runs/" in message
    message = problems("experiment_name: ./\n", without="experiment_name")[0]
    assert "names no folder" in message


def test_globals_are_checked(problems: Find) -> None:
    found = problems("globals:\n  _getattr_: 1\n  a b: 2\n  if: 3\n", without="globals")
    assert [message.split(": ", 1)[1] for message in found[:3]] == [
        "globals._getattr_: '_getattr_' cannot be a name in blocks",
        "globals.a b: 'a b' cannot be a name in blocks",
        "globals.if: 'if' cannot be a name in blocks",
    ]


def test_globals_that_are_no_text_pass_through(write: Write) -> None:
    text = "globals:\n  A: [1, 'x']\n  B: true\n  C: .inf\n  D: 1_000\n  E: (1, 8)\n"
    blocks = load(write(text, without="globals")).runs()[0].blocks
    texts = [blocks[f"globals.{name}"].text for name in "ABCDE"]
    assert texts == ["[1, 'x']", "True", "float('inf')", "1000", "(1, 8)"]


def test_old_trainers_imply_the_legacy_objective(load_text: Load) -> None:
    experiment = load_text("trainer: src.train.TrainAutoencoder\n")
    run = experiment.runs()[0]
    assert run.settings.legacy == {"kl", "validation"}
    assert run.settings.feature_loss_weight is None
    assert any("legacy objective" in note for note in map(str, experiment.findings))
    special = load_text("trainer: experiments.ae.trainer.TrainAutoencoderSpecial\n").runs()[0]
    assert special.settings.feature_loss_weight == 0.0001
    mended = load_text("trainer: TrainAutoencoder\nlegacy: false\n")
    assert mended.runs()[0].settings.legacy == frozenset()
    assert not mended.findings
    one = load_text("legacy: [kl]\n").runs()[0]
    assert one.settings.legacy == {"kl"}


def test_keys_without_effect_are_noted(load_text: Load) -> None:
    notes = load_text("num_workers: 4\nhparams: {a: 1}\n$visible: false\n").findings
    assert len(notes) == 2
    assert "num_workers: is read but has no effect" in str(notes[0])


def test_several_lines_of_text_are_evaluated(load_text: Load) -> None:
    text = "matrix: {v: [a, b]}\nseed: |\n  {'a': 3, 'b': 4}[v]\nema: |\n  1 - 1e-3\n"
    runs = load_text(text).runs()
    assert [run.seed for run in runs] == [3, 4]
    assert runs[0].settings.fit.ema_decay == 0.999


def test_the_command_line_replaces_keys(write: Write) -> None:
    path = write()
    run = load(path, changes={"max_images": 7, "load": "other/run@500"}).runs()[0]
    assert (run.settings.fit.max_images, run.settings.load) == (7, "other/run@500")
    assert run.identity != load(path).runs()[0].identity
    with pytest.raises(Problems, match=r"^--max-images: given -7"):
        load(path, changes={"max_images": -7})


def test_the_command_line_replaces_one_key_inside_a_mapping(write: Write) -> None:
    text = "globals:\n  SHAPE: (1, 8, 8)\n  FOLDER: None\nobjective: {l1: 1, kl: 0.1}\n"
    path = write(text, without="globals")
    changes = {"globals.FOLDER": "'mine'", "objective.kl": 0.5}
    run = load(path, changes=changes).runs()[0]
    assert run.blocks["globals.FOLDER"].text == "'mine'"
    assert run.blocks["globals.SHAPE"].text == "(1, 8, 8)"
    assert run.settings.objective == {"l1": 1, "kl": 0.5}
    with pytest.raises(Problems, match="globals has no 'FOLDR'; did you mean 'FOLDER'"):
        load(path, changes={"globals.FOLDR": 1})
    with pytest.raises(Problems, match=r"seed\.x: is not a key of an experiment"):
        load(path, changes={"seed.x": 1})


_SIZES = """\
matrix:
  res: [8, 16]
  net: [a, b]
model: |
  {'a': 1, 'b': 2}[net]
"""


def _slugs(path: Path, changes: dict[str, Any]) -> list[str]:
    return [run.matrix_slug for run in load(path, changes=changes).runs()]


@pytest.mark.parametrize(
    ("key", "written", "slugs"),
    [
        ("matrix", "{net: [a], res: [4]}", ["net:a_res:4"]),
        ("matrix.res", "[4, 5]", ["res:4_net:a", "res:4_net:b", "res:5_net:a", "res:5_net:b"]),
        ("matrix.res", "4", ["res:4_net:a", "res:4_net:b"]),
        ("matrix.$filter", "res > 8 and net == 'b'", ["res:16_net:b"]),
    ],
)
def test_the_command_line_replaces_the_matrix_or_a_part_of_it(
    key: str, written: str, slugs: list[str], write: Write
) -> None:
    path = write(_SIZES, without="model")
    assert _slugs(path, {key: Written(written)}) == slugs


def test_a_mapping_or_a_list_is_written_as_in_a_file(write: Write) -> None:
    path = write(_SIZES, without="model")
    changes = {
        "objective": Written("{l1: 1, kl: 1e-3}"),
        "globals": Written("{SHAPE: '(1, 4, 4)'}"),
        "model": Written("{'a': 3, 'b': 4}[net]"),
    }
    run = load(path, changes=changes).runs()[0]
    assert run.settings.objective == {"l1": 1, "kl": 1e-3}
    assert run.blocks["globals.SHAPE"].text == "(1, 4, 4)"
    assert run.blocks["model"].text == "{'a': 3, 'b': 4}[net]"
    given = load(path, changes={"matrix": {"net": ["b"]}}).runs()
    assert [run.matrix_slug for run in given] == ["net:b"]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("$extends", "only a file can extend another"),
        ("$filter", "is a key of matrix\n  type: --set 'matrix.$filter=...'"),
        ("res", "is a key of matrix\n  type: --set 'matrix.res=...'"),
        ("matrix.size", "matrix has no 'size'\n  possible: net, res"),
    ],
)
def test_a_key_that_the_command_line_cannot_replace_says_what_to_type(
    key: str, told: str, write: Write
) -> None:
    path = write(_SIZES, without="model")
    with pytest.raises(Problems) as caught:
        load(path, changes={key: Written("1")})
    assert f"--set {key}: {told}" in str(caught.value)


@pytest.mark.parametrize(
    "path", sorted([*FOUNDING.glob("*.yml"), *EXPERIMENTS.rglob("*.yml")]), ids=lambda p: p.stem
)
def test_resolved_text_reopens_the_same_run(path: Path, tmp_path: Path) -> None:
    runs = load(path).runs()
    for run in (runs[0], runs[-1]):
        resolved = tmp_path / "resolved.yml"
        resolved.write_text(run.resolved_text, encoding="utf-8")
        (again,) = load(resolved).runs()
        assert again.identity == run.identity
        assert (again.name, again.folder, again.seed, again.matrix) == (
            run.name, run.folder, run.seed, run.matrix,
        )  # fmt: skip
        assert again.settings == run.settings
        assert {k: b.text for k, b in again.blocks.items()} == {
            k: b.text for k, b in run.blocks.items()
        }
        assert again.resolved_text == run.resolved_text


def test_resolved_text_survives_difficult_values(load_text: Load, tmp_path: Path) -> None:
    text = (
        'matrix: {a: ["\'l1\'", \'x: [\', "a\\tb", "\\u00e4"], f: [.inf, 1e-30, null, true]}\n'
        "trials: 2\n"
        'validation_set: "f(1)\\n# ${comment}\\n \\n\\tg"\n'
        "objective: {l1: 1, other: {formula: l2, weight: 1e-3, list: [1, {a: b}]}}\n"
    )
    text = text.replace("\\n\\tg", "\\n(2)")
    for run in load_text(text).runs():
        (tmp_path / "r.yml").write_text(run.resolved_text, encoding="utf-8")
        (again,) = load(tmp_path / "r.yml").runs()
        assert (again.identity, again.matrix, again.settings) == (
            run.identity, run.matrix, run.settings,
        )  # fmt: skip
