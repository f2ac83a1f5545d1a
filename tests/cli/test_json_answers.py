"""`--json` always prints JSON, and nothing else, on standard output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aelab.cli import mistakes

Call = Callable[..., tuple[int, str, str]]


def test_a_wrong_file_is_told_as_json(tiny: Path, aelab: Call) -> None:
    tiny.write_text(tiny.read_text().replace("batch_size: 16", "batchsize: 16"))
    code, out, err = aelab("check", "tiny.yml", "--json")
    told = json.loads(out)
    assert code == told["exit_code"] == 2
    keys = [entry["key"] for entry in told["errors"]]
    assert "batchsize" in keys
    entry = told["errors"][keys.index("batchsize")]
    assert entry["file"] == "tiny.yml" and entry["line"] == 9
    assert "batch_size" in entry["message"] and "batchsize" in err


@pytest.mark.parametrize(
    "words",
    [
        ("check", "nowhere.yml"),
        ("check", "tiny.yml", "--only", "nothing"),
        ("check", "tiny.yml", "--no-such-option"),
        ("check",),
        ("table", "nowhere.yml"),
        ("table", "nothing"),
        ("ls", "nothing"),
        ("ls", "--only", "nothing"),
        ("evaluate", "nothing"),
        ("evaluate", "--metrics", "no_such_metric"),
        ("data", "no_such_set"),
        ("data", "--resize", "many"),
    ],
    ids=" ".join,
)
def test_every_verb_tells_its_mistakes_as_json(
    words: tuple[str, ...], tiny: Path, aelab: Call
) -> None:
    code, out, err = aelab(*words, "--json")
    told = json.loads(out)
    assert code == told["exit_code"] == 2 and told["errors"][0]["message"] and err


def test_what_blocks_print_goes_to_standard_error(tiny: Path, aelab: Call) -> None:
    text = tiny.read_text().replace("model: Enc", "model: |\n  print('hello')\n  Enc")
    tiny.write_text(text)
    code, out, err = aelab("check", "tiny.yml", "--json", "--trust")
    assert code == 0 and "lr:0.001" in out and json.loads(out) and "hello" in err
    assert "hello" not in aelab("check", "tiny.yml", "--trust").out  # type: ignore[attr-defined]


def test_a_fault_of_aelab_itself_is_told_with_a_file_of_details(
    tiny: Path, aelab: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("inner")

    monkeypatch.setattr("aelab.lab.Lab.check", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tiny.parent))
    code, out, err = aelab("check", "tiny.yml", "--json")
    assert code == 1 and "KeyError: 'inner'" in json.loads(out)["errors"][0]["message"]
    assert "Traceback" not in err and "fault in aelab itself" in err
    (details,) = tiny.parent.glob("aelab-error-*.txt")
    assert "KeyError: 'inner'" in details.read_text() and str(details) in err
    monkeypatch.setenv("AELAB_TRACEBACK", "1")
    assert "Traceback" in aelab("check", "tiny.yml").err  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.8])
def test_ctrl_c_while_starting_ends_without_a_word(verb: str, seconds: float, tiny: Path) -> None:
    """Python itself needs about 0.05 s before any code of aelab can listen."""
    process = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); from aelab.__main__ import main; main()",
         verb, "tiny.yml"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()  # Python has started
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_texts_of_windows_are_read(tiny: Path, aelab: Call) -> None:
    text = tiny.read_text()
    for content in (
        text.encode("utf-16"),
        ("\ufeff" + text).encode(),
        text.replace("\n", "\r\n").encode(),
    ):
        tiny.write_bytes(content)
        assert aelab("check", "tiny.yml", "--only", "*0.001")[0] == 0


def test_another_encoding_is_named_with_its_line(tiny: Path, aelab: Call) -> None:
    tiny.write_bytes(("# a\n# gr\u00fcn\n" + tiny.read_text()).encode("latin-1"))
    _, _, err = aelab("check", "tiny.yml")
    assert "tiny.yml:2" in err and "UTF-8" in err and "\u00fc" in err and "iconv" in err


def test_a_line_that_should_be_indented_is_told(tiny: Path, aelab: Call) -> None:
    tiny.write_text(tiny.read_text().replace("  lr: [0.001", "lr: [0.001"))
    _, _, err = aelab("check", "tiny.yml")
    assert "indent the line below matrix" in err and err.count("lr") < 8, err


def test_a_class_in_an_untrusted_block_is_one_mistake(tiny: Path, aelab: Call) -> None:
    own = "class M(nn.Module):\n    def __init__(self):\n      self._x = 1\n  M()\n"
    tiny.write_text(tiny.read_text().replace("model: Enc", f"model: |\n  {own}\n  Enc"))
    _, _, err = aelab("check", "tiny.yml")
    assert err.count("tiny.yml:") == 1 and "cannot use class" in err and "--trust" in err


def test_a_lack_of_memory_is_no_fault_of_aelab(capsys: pytest.CaptureFixture[str]) -> None:
    assert mistakes.tell_own_fault(MemoryError(), as_json=True) == 1
    captured = capsys.readouterr()
    (entry,) = json.loads(captured.out)["errors"]
    assert entry["message"] == "out of memory" and "--limit" in entry["hint"]
    assert "fault" not in captured.err
