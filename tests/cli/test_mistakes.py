"""A user's mistake ends in one message that tells the way out: exit code 2, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str, str]]

#: (what is replaced, by what, words the message must hold)
MISTAKES = {
    "unknown key": ("batch_size: 16", "batchsize: 16", ["tiny.yml:9", "batchsize", "batch_size"]),
    "wrong type": ("batch_size: 16", "batch_size: many", ["tiny.yml:9", "many", "whole number"]),
    "unknown optimizer": ("optimizer: Adam", "optimizer: Adaam", ["tiny.yml:11", "Adaam", "Adam"]),
    "unknown part": ("noise_dataset(SHAPE, size=200", "noize_dataset(SHAPE, size=200",
                     ["tiny.yml:6", "noize_dataset", "noise_dataset"]),
    "wrong argument": ("code_size=4), D", "code=4), D", ["tiny.yml:8", "code", "code_size"]),
    "wrong argument type": ("size=200", "size='big'", ["tiny.yml:6", "size", "big"]),
    "impossible shape": (
        "EncoderMLP(SHAPE, code_size=4)",
        "EncoderConv2d(SHAPE, code_size=4, channels=(4, 4), kernel_size=7)",
        ["tiny.yml:8", "7"],
    ),
    "decoder for another shape": ("DecoderMLP(SHAPE", "DecoderMLP((1, 9, 9)", ["tiny.yml:8", "9"]),
    "matrix value no list": ("lr: [0.001, 0.002]", "lr: 0.001", ["tiny.yml:2", "lr"]),
    "unknown name": ("learnrate: ${lr}", "learnrate: ${rate}", ["tiny.yml:10", "rate", "lr"]),
    "two runs of one name": ("tiny/${matrix_slug}", "tiny/same", ["same"]),
    "broken YAML": ("batch_size: 16", "batch_size: [16", ["tiny.yml"]),
    "forbidden import": ("model: Enc", "model: __import__('os').getcwd() or Enc", ["tiny.yml:8"]),
    "missing file": ("noise_dataset(SHAPE, size=200, seed=1)", "image_folder_dataset('nowhere')",
                     ["tiny.yml:6", "nowhere"]),
    "endless training": ("max_inputs: 320", "", ["max_images", "max_epochs", "min_loss"]),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_file_tells_the_way_out(
    mistake: str, verb: str, tiny: Path, aelab: Call
) -> None:
    before, after, words = MISTAKES[mistake]
    text = tiny.read_text()
    assert before in text
    tiny.write_text(text.replace(before, after))
    code, out, err = aelab(verb, "tiny.yml")
    said = out + err
    assert code == 2, said
    assert "Traceback" not in said
    assert all(word in said for word in words), said


@pytest.mark.parametrize("verb", ["check", "run"])
def test_all_mistakes_of_a_file_are_told_at_once(verb: str, tiny: Path, aelab: Call) -> None:
    text = tiny.read_text().replace("optimizer: Adam", "optimizer: Adaam\nloss_function: l7")
    text = text.replace("size=200", "size='big'") + "scheduler: Cosinus\n"
    tiny.write_text(text)
    code, out, err = aelab(verb, "tiny.yml")
    assert code == 2
    for word in ("Adaam", "Cosinus", "'big'"):
        assert (out + err).count(word) == 1, out + err
    tiny.write_text(text.replace("size='big'", "size=200").replace("code_size=4), D", "code=4), D"))
    _, out, err = aelab(verb, "tiny.yml")
    assert all(word in out + err for word in ("Adaam", "Cosinus", "code_size")), out + err
    tiny.write_text(text.replace("size='big'", "size=200"))
    _, out, err = aelab(verb, "tiny.yml")
    assert all(word in out + err for word in ("Adaam", "Cosinus", "l7")), out + err


def test_a_missing_experiment_file_is_named(tiny: Path, aelab: Call) -> None:
    code, _, err = aelab("run", "tinny.yml")
    assert code == 2 and "tinny.yml" in err


def test_an_unknown_device_names_the_possible_ones(tiny: Path, aelab: Call) -> None:
    code, _, err = aelab("run", "tiny.yml", "--device", "gpu")
    assert code == 2 and "cuda" in err and "gpu" in err


def test_an_unknown_run_to_load_is_found_before_training(tiny: Path, aelab: Call) -> None:
    code, _, err = aelab("run", "tiny.yml", "--load", "nobody@100")
    assert code == 2 and "--load: there is no run 'nobody'" in err and "nobody" in err


def test_no_stored_runs_say_how_to_make_some(tiny: Path, aelab: Call) -> None:
    code, _, err = aelab("table")
    assert code == 2 and "aelab run" in err


def test_runs_that_fail_in_training_give_exit_code_one(tiny: Path, aelab: Call) -> None:
    tiny.write_text(tiny.read_text().replace("lr: [0.001, 0.002]", "lr: [0.001, 1e30]"))
    code, _, err = aelab("run", "tiny.yml", "--device", "cpu")
    assert code == 1
    assert "FAILED" in err and "--retry-failed" in err and "1 finished" in err
    assert "diverged" in aelab("table", "tiny.yml")[1]


def test_an_unwritable_runs_folder_is_named(tiny: Path, aelab: Call) -> None:
    Path("runs").write_text("a file, not a folder")
    code, _, err = aelab("run", "tiny.yml")
    assert code == 2 and "runs" in err


def test_impossible_runs_are_counted_and_no_retry_is_offered(tiny: Path, aelab: Call) -> None:
    text = tiny.read_text().replace("lr: [0.001, 0.002]", "ks: [3, 9]")
    text = text.replace("EncoderMLP(SHAPE,", "EncoderConv2d(SHAPE, kernel_size=ks, channels=(4,),")
    tiny.write_text(text.replace("${lr}", "0.001"))
    for summary in (
        "1 finished, 0 skipped, 1 failed (1 impossible)",
        "0 finished, 2 skipped (1 failed before), 0 failed",
    ):
        code, _, err = aelab("run", "tiny.yml", "--device", "cpu")
        assert code == 1 and summary in err and "Traceback" not in err
        assert "retry with" not in err


def test_every_answer_to_a_wrong_word_says_what_to_type(tiny: Path, aelab: Call) -> None:
    tiny.write_text(tiny.read_text().replace("max_inputs: 320", "max_inputs: 64"))
    assert aelab("run", "tiny.yml", "--quiet")[0] == 0
    said = {
        ("ls", "--only", "zzz"): ["match 'zzz'", "aelab ls"],
        ("plot", "--term", "nope"): ["'nope'", "type: aelab plot --term "],
        ("plot", "--term", "losss"): ["type: aelab plot --term loss"],
        ("plot", "--group", "nope"): ["'nope'", "type: aelab plot --group lr"],
        ("run", "tiny.yml", "--device", "foo"): ["'foo'", "type: --device auto"],
        ("run", "tiny.yml", "--set", "bogus=3"): ["--set bogus: is not a key"],
        ("data", "noise", "--out", "d.bmpx"): ["d.bmpx", "type: --out d.png"],
        ("data", "/nonexistent"): ["there is no such path: /nonexistent"],
        ("report", "--out", "/proc/x.html"): ["/proc/x.html", "type a path in a folder that"],
    }
    for call, words in said.items():
        code, _, err = aelab(*call)
        assert code == 2 and all(word in err for word in words), (call, err)
    assert not (tiny.parent / "d.bmpx").exists()


def test_a_film_of_a_run_without_held_out_images_says_which_split_there_is(
    tiny: Path, aelab: Call
) -> None:
    lines = [line for line in tiny.read_text().splitlines() if "validation" not in line]
    tiny.write_text("\n".join(lines).replace("lr: [0.001, 0.002]", "lr: [0.001]"))
    assert aelab("run", "tiny.yml", "--quiet")[0] == 0
    code, _, err = aelab("figure", "film", "tiny/lr-0.001")
    assert code == 2 and "type: -o split=train" in err
    assert aelab("figure", "film", "tiny/lr-0.001", "-o", "split=train", "--out", "f.webp")[0] == 0


def test_all_mistakes_of_one_block_are_told_at_once(tiny: Path, aelab: Call) -> None:
    lines = (
        "model: |\n  a = MixerMLPs(3)\n  b = ScriptedAEs(c)\n  noise_dataset((1, 2, 2), sizes=3)"
    )
    text = tiny.read_text().replace("code_size=4), D", "code_s=4), D")
    tiny.write_text(text.replace("model: Enc", f"{lines}\n  Enc"))
    _, out, err = aelab("check", "tiny.yml")
    rows = (out + err).splitlines()
    told = [(9, "MixerMLPs"), (10, "ScriptedAEs"), (10, "'c'"), (11, "sizes"), (12, "code_s")]
    for line, word in told:
        assert any(f"yml:{line}:" in row and word in row for row in rows), out + err
    assert (out + err).count("MixerMLPs") == 1


def test_mistakes_of_blocks_are_told_beside_an_unknown_key(tiny: Path, aelab: Call) -> None:
    text = tiny.read_text().replace("code_size=4), D", "code=4), D") + "colour: red\n"
    tiny.write_text(text.replace("optimizer: Adam", "optimizer: {Adam: {betas: x}}"))
    for verb in ("check", "run"):
        code, out, err = aelab(verb, "tiny.yml")
        assert code == 2 and all(word in out + err for word in ("colour", "'code'", "betas"))
