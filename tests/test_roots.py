"""Links that lead to themselves and homes that are not there end in a message, for every verb."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from aelab.cli.main import main
from aelab.roots import from_home, lies_inside, real

SOURCE = Path(__file__).parents[1] / "src" / "aelab"


def test_a_loop_of_links_is_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert real(loop) == real(tmp_path) / "loop"
    assert not lies_inside(loop, tmp_path)
    assert lies_inside(tmp_path / "new", tmp_path) and not lies_inside(tmp_path, tmp_path)


def test_a_link_out_of_a_folder_does_not_lie_inside(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    assert not lies_inside(tmp_path / "out" / "passwd", tmp_path)
    assert not lies_inside(tmp_path / "a" / ".." / ".." / "b", tmp_path)


def test_an_unknown_home_is_an_ordinary_name() -> None:
    assert from_home("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert from_home("~/x") == Path.home() / "x"


def test_no_path_is_resolved_by_what_raises() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                raises = not node.args and node.func.attr in ("resolve", "expanduser")
                assert not raises, f"{path}:{node.lineno}"


FILE = """\
experiment_name: a
train_set: noise_dataset((1, 8, 8), size=40, seed=1)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))
batch_size: 10
learnrate: 0.001
optimizer: Adam
max_inputs: 20
"""
CALLS = [
    "check loop", "check e.yml", "check d.yml", "check h.yml", "run f.yml", "run k.yml --load loop",
    "check k.yml --data loop", "data loop", "data loop --json", "ls --runs loop", "table loop",
    "table -o loop", "report loop", "report -o loop", "plot loop", "plot -o loop/a.png",
    "evaluate loop", "figure reproductions loop", "show loop", "render loop", "rm -y loop",
    "ascii loop --run a", "bridge tensorboard loop", "run k.yml --runs loop",
]  # fmt: skip


@pytest.mark.parametrize("words", CALLS)
def test_every_verb_says_so_of_a_link_to_itself(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("k.yml").write_text(FILE)
    Path("e.yml").write_text(FILE + "$extends: loop\n")
    Path("f.yml").write_text(FILE + "load: loop\n")
    for name, folder in (("d.yml", "loop"), ("h.yml", "~nobody-of-this-name")):
        of_folder = f"image_folder_dataset('{folder}', shape=(1, 8, 8))"
        other = FILE.replace("noise_dataset((1, 8, 8), size=40, seed=1)", of_folder)
        Path(name).write_text(other)
    monkeypatch.setattr(sys, "argv", ["aelab", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    said = "".join(capsys.readouterr())
    allowed = (0, 2) if "--data" in words else (2,)
    assert ended.value.code in allowed, said
    assert "RuntimeError" not in said and "fault in aelab" not in said, said
    assert Path("loop").is_symlink()
