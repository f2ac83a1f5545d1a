"""Commands that answer from files import only what they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aelab import lab

FILE = """
experiment_name: tiny
train_set: noise_dataset((1, 8, 8), size=64, seed=1)
validation_set: noise_dataset((1, 8, 8), size=16, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_images: 32
"""
#: What neither a finished `run` nor `ls` needs where there is no terminal.
HEAVY = {"torch", "numpy", "PIL", "matplotlib", "sympy", "http.client", "ssl", "tomllib"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yml").write_text(FILE, encoding="utf-8")
    list(lab.run(folder / "tiny.yml", runs=folder / "runs"))
    return folder


def imported(folder: Path, *words: str) -> set[str]:
    """The modules that a command has imported at its end."""
    code = (
        "import sys\n"
        "from aelab.cli.main import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('imported', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("imported ")[2].split())


@pytest.mark.parametrize(
    ("verb", "light"),
    [("run tiny.yml", {"rich", "tabulate"}), ("ls", set[str]()), ("--help", {"tabulate"})],
)
def test_what_is_answered_from_files_imports_nothing_heavy(
    finished: Path, verb: str, light: set[str]
) -> None:
    assert not (HEAVY | light) & imported(finished, *verb.split())


def test_a_check_imports_neither_the_compiler_nor_what_shows_opened_runs(finished: Path) -> None:
    found = imported(finished, "check", "tiny.yml")
    assert {"torch", "aelab.stages.first"} <= found
    assert not {"torch._dynamo.utils", "sympy.core", "aelab.study.opened"} & found
