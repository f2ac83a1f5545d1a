"""`aelab show`, `aelab ascii`, and `--text` of run and table, as their user types them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from aelab.cli.progress import LiveScreen, PlainScreen
from aelab.execute import events as ev

Call = Callable[..., tuple[int, str, str]]

ART = """\
experiment_name: art
train_set: ascii_art_dataset("drawings", res=(4, 7), min_lines=1, min_ink=1)
validation_set: ascii_art_dataset("drawings", res=(4, 7), min_lines=1, min_ink=1)
model: |
  CharacterAutoencoder(
      EncoderMLP((95, 4, 7), code_size=8), None, DecoderMLP((95, 4, 7), code_size=8)
  )
batch_size: 4
learnrate: 0.001
optimizer: Adam
max_inputs: 16
num_inputs_between_validations: 8
"""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aelab: Call) -> str:
    """What training said on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("drawings").mkdir()
    for number in range(6):
        Path(f"drawings/{number}.txt").write_text(f"+---+\n| {number} |\n+---+\n", "utf-8")
    Path("art.yml").write_text(ART, encoding="utf-8")
    code, out, err = aelab("run", "art.yml", "--device", "cpu", "--text")
    assert code == 0 and out == "", err
    return err


def test_the_verbs_of_texts(trained: str, aelab: Call) -> None:
    """One training for all of them."""
    assert "held-out original   |   reconstruction, 16 images\n" in trained
    head, block, *others = aelab("show", "art", "-n", "2")[1].rstrip("\n").split("\n\n")
    assert head == "art: held-out images after 16 images, original   |   reconstruction"
    assert len(others) == 1 and block.startswith(" +---+    |   ")

    table = aelab("table", "--text", "--format", "markdown")[1]
    assert "```text\n +---+    |   " in table
    assert "<pre> +---+    |   " in aelab("table", "--text", "--format", "html")[1]
    code, _, err = aelab("table", "--text", "--json")
    assert code == 2 and "use --text with --format terminal, markdown or html" in err

    Image.new("L", (40, 40), 128).save("grey.jpg")
    lines = aelab("ascii", "grey.jpg", "--run", "art")[1].removesuffix("\n").split("\n")
    assert [len(line) for line in lines] == [7] * 4
    both = aelab("ascii", "drawings/1.txt", "--run", "art", "--beside")[1].split("\n")
    assert both[1].startswith(" | 1 |    |   ")
    written = aelab("ascii", "drawings/1.txt", "--run", "art")[1].split("\n")
    assert [line[14:] for line in both] == written

    between = ("--between", "drawings/1.txt", "drawings/2.txt", "--run", "art", "--steps", "3")
    frames = aelab("ascii", *between)[1].removesuffix("\n").split("\n")
    assert len(frames) == 3 * 4 + 2 and frames[:4] == written[:4]
    assert aelab("ascii", *between, "--out", "way.gif")[1] == "way.gif\n"
    with Image.open("way.gif") as film:
        assert film.format == "GIF"


def test_data_prints_texts_and_json_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aelab: Call
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cats").mkdir()
    Path("cats/cat.txt").write_text(" /\\_/\\\n( o.o )\n > ^ <\n", encoding="utf-8")
    code, out, err = aelab("data", "cats", "--out", "cats.png")
    assert code == 0, err
    assert "/\\_/\\\n" in out and "( o.o )\n" in out
    assert "blank_share" in out
    assert '"examples": [' in aelab("data", "cats", "--json")[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ascii", "x.png"), "which run?"),
        (("ascii", "--run", "r"), "one picture, or two"),
        (("ascii", "x.png", "--between", "a", "b", "--run", "r"), "one picture, or two"),
        (("ascii", "--between", "a", "b", "--run", "r", "--beside"), "not frames"),
        (("ascii", "x.png", "--run", "r"), "r"),
        (("show", "r"), "r"),
    ],
)
def test_each_mistake_of_the_call_ends_in_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    aelab: Call,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = aelab(*words)
    assert code == 2 and out == ""
    assert told in err and "Traceback" not in err


def _finished(text: str) -> ev.RunFinished:
    return ev.RunFinished("art", 16, 1.0, 1.0, "max_images", Path("runs/art"), text)


def test_a_terminal_shows_an_example_at_the_end_as_it_is() -> None:
    file = io.StringIO()
    screen = LiveScreen(Console(file=file, force_terminal=True, width=30, color_system=None))
    art = "[red]:smile: " + "x" * 40 + "   |   \\n"
    screen.show(ev.MatrixStarted(["art"]))
    screen.show(ev.RunStarted("art", 1, 10, 0, 16, 1))
    screen.show(ev.RunValidated("art", 8, 1.0, True, "not yet"))
    screen.show(_finished(art))
    screen.close()
    assert art in file.getvalue()  # no markup, no emoji, no wrapping
    assert "not yet" not in file.getvalue()


def test_a_terminal_ends_the_line_of_a_run_with_its_outcome() -> None:
    file = io.StringIO()
    screen = LiveScreen(Console(file=file, force_terminal=True, width=90, color_system="standard"))
    screen.show(ev.RunStarted("a", 1, 10, 0, 16, 1))
    screen.show(ev.RunMended("a", 8, "went back"))
    assert "a" in screen._tasks
    screen.show(ev.RunRetried("a", "out of memory", 1))
    assert screen._tasks == {}
    screen.close()
    told = file.getvalue()
    assert "went back" in told and "out of memory" in told
    assert "\x1b[33m" in told  # in yellow


def test_lines_for_a_pipe_hold_no_example_unless_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    PlainScreen().show(_finished("a   |   b"))
    assert "a   |   b" not in capsys.readouterr().err
    PlainScreen(quiet=True).show(_finished("a   |   b"))
    assert "a   |   b" not in capsys.readouterr().err
    PlainScreen(text=True).show(_finished("a   |   b"))
    assert "a   |   b" in capsys.readouterr().err
