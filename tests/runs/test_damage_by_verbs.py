"""Each file of a run is changed, cut, emptied or removed, and every verb is asked.

A verb may refuse or leave something out, in one message; it may not fail in itself, nor lose the
other run. Then the run is trained again, or says why not.
"""

from __future__ import annotations

import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from aelab import lab
from aelab.cli.main import main

TEXT = """
matrix: {s: [1, 2]}
experiment_name: k/${matrix_slug}
train_set: noise_dataset((1, 8, 8), size=32, seed=1)
validation_set: noise_dataset((1, 8, 8), size=16, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))
batch_size: 8
seed: ${s}
learnrate: 1e+30
optimizer: Adam
max_images: 48
validate_every_images: 16
checkpoint_every_images: 16
keep_checkpoints: all
on_nan: {rollback: {lower_lr: 1e-33}}
"""


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, len(data), max(1, len(data) // 5)):
        data[place] ^= 0x55
    path.write_bytes(bytes(data))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _removed(path: Path) -> None:
    path.unlink()


DAMAGES = {"flipped": _flipped, "cut": _cut, "emptied": _emptied, "removed": _removed}
#: Every verb that opens a run. `{}` is the damaged one.
VERBS = (
    "ls k.yml", "table k.yml --json", "table", "plot --out a.png", "report --out a.html",
    "check k.yml", "evaluate {}", "figure {} --out f.png", "render {} --out r.png",
    "sample {} --out sampled", "show {}", "encode {} pictures --out codes.csv",
    "reconstruct {} pictures --out made", "neighbours {} pictures --out near.csv",
    "interpolate {} pictures/a.png pictures/b.png --out i.png", "bridge tensorboard {} --out board",
    "run k.yml --device cpu", "run k.yml --device cpu --retry-failed", "rm {} --yes",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that went back once each, evaluated, and pictures to encode."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("trained")
    (folder / "k.yml").write_text(TEXT)
    list(lab.run(folder / "k.yml", runs=folder / "runs", device="cpu"))
    (folder / "pictures").mkdir()
    for name in "ab":
        Image.new("L", (8, 8), ord(name)).save(folder / f"pictures/{name}.png")
    return folder


@pytest.fixture
def ask(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str]]:
    """`ask("table")` -> exit code, and all that was said."""

    def call(words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["aelab", *words.split()])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def _asked(
    trained: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str], tuple[int, str]],
    every: int,
) -> int:
    """Asks after each damage; returns how many questions were asked."""
    files = sorted(
        path.relative_to(trained / "runs/k/s-2").as_posix()
        for path in (trained / "runs/k/s-2").rglob("*")
        if path.is_file()
    )
    cases = [(name, damage, verb) for name in files for damage in DAMAGES for verb in VERBS]
    # Spread over files, damages and verbs alike, and always the same.
    cases.sort(key=lambda case: zlib.crc32(repr(case).encode()))
    for number, (name, damage, verb) in enumerate(cases[::every]):
        place = folder / str(number)
        shutil.copytree(trained, place)
        monkeypatch.chdir(place)
        DAMAGES[damage](place / "runs/k/s-2" / name)
        case = f"{damage} {name}: {verb}"
        code, told = ask(verb.format("k/s-2"))
        assert code in (0, 1, 2), f"{case}\n{told}"
        assert "fault in aelab itself" not in told and "Traceback" not in told, f"{case}\n{told}"
        assert code == 0 or len(told) > 20, case
        assert (place / "runs/k/s-1/checkpoints/latest.json").exists(), case
        if verb.split()[0] in ("ls", "table"):
            assert "s-1" in told or "1e+30" in told or "| 1" in told, f"{case}\n{told}"
        shutil.rmtree(place)
    return len(cases[::every])


def test_some_verbs_after_some_damage_answer_in_words(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str], tuple[int, str]],
) -> None:
    assert _asked(trained, tmp_path, monkeypatch, ask, every=173) > 10


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_verb_after_any_damage_answers_in_words(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[str], tuple[int, str]],
) -> None:
    assert _asked(trained, tmp_path, monkeypatch, ask, every=1) > 1500
