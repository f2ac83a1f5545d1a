"""What people do after the first run: mend, change, load, stop twice, look at trusted files."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aelab.cli.progress import duration

Call = Callable[..., tuple[int, str, str]]
LR = "lr: [0.001, 0.002]"


def _change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_taken_name_is_told_before_anything_is_trained(tiny: Path, aelab: Call) -> None:
    assert aelab("run", "tiny.yml", "--only", "*0.002", "--device", "cpu")[0] == 0
    _change(tiny, "batch_size: 16", "batch_size: 8")
    code, _, err = aelab("run", "tiny.yml", "--device", "cpu")
    assert code == 2 and "lr-0.002 holds a different run" in err
    assert "`batch_size: 16`" in err and "`batch_size: 8`" in err and "--restart" in err
    assert not Path("runs/tiny/lr-0.001").exists()


def test_another_file_is_named_with_what_differs(tiny: Path, aelab: Call) -> None:
    aelab("run", "tiny.yml", "--device", "cpu")
    tiny.rename("other.yml")
    _change(Path("other.yml"), "batch_size: 16", "batch_size: 8")
    _, _, err = aelab("run", "other.yml")
    assert "'tiny.yml'" in err and "'other.yml'" in err and "`batch_size: 8`" in err
    assert err.count("different run") == 2


def test_a_longer_run_of_the_same_name_says_how_to_go_on(tiny: Path, aelab: Call) -> None:
    aelab("run", "tiny.yml", "--device", "cpu")
    code, _, err = aelab("run", "tiny.yml", "--max-inputs", "640")
    assert code == 2
    assert "max_images was 320 and is now 640" in err and "load: tiny/lr-0.001" in err


def test_a_mended_mistake_needs_no_restart(tiny: Path, aelab: Call) -> None:
    pictures = Path("pictures")
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"no picture")
    noise = "noise_dataset(SHAPE, size=200, seed=1)"
    _change(tiny, noise, "image_folder_dataset('pictures', shape=SHAPE)")
    code, _, err = aelab("run", "tiny.yml", "--device", "cpu")
    assert code == 1 and err.count("a.png") == 1 and "for the same reason" in err
    error = json.loads(Path("runs/tiny/lr-0.001/status.json").read_text())["error"]
    assert error["hint"] and error["hint"] not in error["message"]
    assert "\n" not in aelab("run", "tiny.yml")[2].split("(")[1].split(")")[0]
    _change(tiny, "image_folder_dataset('pictures', shape=SHAPE)", noise)
    assert aelab("run", "tiny.yml", "--device", "cpu")[0] == 0


def test_load_of_another_model_is_found_by_check(tiny: Path, aelab: Call) -> None:
    aelab("run", "tiny.yml", "--device", "cpu")
    text = tiny.read_text().replace("tiny/", "wide/").replace("code_size=4", "code_size=5")
    Path("wide.yml").write_text(text + "load: tiny/lr-0.001\n")
    for verb in ("check", "run"):
        code, out, err = aelab(verb, "wide.yml")
        assert code == 2 and "wide.yml:14" in out + err and "same model" in out + err
    assert not Path("runs/wide").exists()


def test_one_run_that_cannot_load_does_not_end_the_others(tiny: Path, aelab: Call) -> None:
    aelab("run", "tiny.yml", "--device", "cpu")
    text = tiny.read_text().replace("tiny/", "sizes/").replace(LR, "size: [5, 4]")
    text = text.replace("${lr}", "0.001").replace("code_size=4", "code_size=size")
    Path("sizes.yml").write_text(text + "load: tiny/lr-0.001\n")
    code, _, err = aelab("run", "sizes.yml", "--device", "cpu")
    assert code == 1 and "FAILED sizes/size:5" in err and "finished sizes/size:4" in err


def test_results_of_a_trusted_file_are_read_without_trust(tiny: Path, aelab: Call) -> None:
    _change(tiny, "  SHAPE: (1, 8, 8)", "  SHAPE: |\n    import os\n    (1, 8, len(os.sep) * 8)")
    assert aelab("run", "tiny.yml", "--device", "cpu")[0] == 2
    assert aelab("table", "tiny.yml")[0] == 2
    assert aelab("run", "tiny.yml", "--device", "cpu", "--trust")[0] == 0
    code, out, err = aelab("table", "tiny.yml", "--format", "csv")
    assert code == 0 and "0.002" in out, err
    assert aelab("report", "tiny.yml")[0] == 0


def test_a_wrong_kind_of_optimizer_argument_is_shown(tiny: Path, aelab: Call) -> None:
    _change(tiny, "optimizer: Adam", "optimizer: {Adam: {weight_decay: a lot}}")
    code, _, err = aelab("run", "tiny.yml")
    assert code == 2 and "tiny.yml:11" in err and "weight_decay = 'a lot' does not fit" in err


def test_a_second_ctrl_c_says_how_to_go_on(
    tiny: Path, aelab: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    monkeypatch.setattr("aelab.lab.Lab.run", interrupted)
    code, _, err = aelab("run", "tiny.yml")
    assert code == 130 and "continue with: aelab run tiny.yml" in err


def test_check_counts_one_run_in_the_singular(tiny: Path, aelab: Call) -> None:
    assert "1 run, 0 with problems" in aelab("check", "tiny.yml", "--only", "*0.002")[1]


def test_a_reader_who_has_seen_enough_is_no_error(tiny: Path, aelab: Call) -> None:
    command = f"{shlex.quote(sys.executable)} -m aelab schema | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{", "")


def test_a_full_standard_output_is_one_message(tiny: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "aelab", "schema"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("aelab: cannot write to standard output: No space left")


def test_changed_images_are_told_with_both_hashes(tiny: Path, aelab: Call) -> None:
    aelab("run", "tiny.yml", "--only", "*0.002", "--device", "cpu")
    run = Path("runs/tiny/lr-0.002")
    record = json.loads((run / "run.json").read_text())
    record["data"]["train"][0]["source"] = "moved elsewhere"
    (run / "run.json").write_text(json.dumps(record))
    (run / "status.json").write_text('{"state": "interrupted"}')
    assert aelab("run", "tiny.yml", "--only", "*0.002", "--device", "cpu")[0] == 0
    record["data"] |= {"train_content": "0" * 64}
    record["data"]["train"][0] |= {"sha256": "0" * 64, "count": 199}
    (run / "run.json").write_text(json.dumps(record))
    (run / "status.json").write_text('{"state": "interrupted"}')
    code, _, err = aelab("run", "tiny.yml", "--only", "*0.002", "--device", "cpu")
    assert code == 1 and "199 (noise, sha256 000000000000) then" in err and "200 (noise" in err


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, "-"),
        (59.4, "59 s"),
        (185, "3:05 min"),
        (7800, "2:10 h"),
        (48 * 3600, "48:00 h"),
        (49 * 3600, "2.0 days"),
        (2534.8 * 3600, "105.6 days"),
    ],
)
def test_a_duration_is_told_in_the_fitting_unit(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words
