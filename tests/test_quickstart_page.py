"""The quick start, the command reference and the map of pages say what the program does."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from aelab import config, lab
from aelab.cli.listing import plan_json
from aelab.cli.main import app
from aelab.data import digits_dataset
from aelab.doctor.plan import Plan, RunPlan

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PICTURES = sorted((DOCS / "pictures").glob("*.png"))


def _text(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def _sections() -> dict[str, str]:
    """The part of each verb in the command reference."""
    parts = re.split(r"^## ", _text("commands.md"), flags=re.M)[1:]
    titled = dict(part.split("\n", 1) for part in parts)
    return {
        title.removeprefix("aelab "): body
        for title, body in titled.items()
        if title.startswith("aelab ")
    }


def _options_named(section: str) -> set[str]:
    cells = re.findall(r"^\| (`-.*?) \|", section, re.M)
    return {option for cell in cells for option in re.findall(r"`(--?[a-z][a-z-]*)", cell)}


def test_every_verb_has_a_section() -> None:
    assert set(_sections()) == set(COMMANDS)
    listed = re.findall(r"^\| \[`(\w+)`\]", _text("commands.md"), re.M)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_a_verb_is_listed_with_exactly_its_options(verb: str) -> None:
    parameters = [p for p in COMMANDS[verb].params if p.param_type_name == "option"]
    known = {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
    assert _options_named(_sections()[verb]) == known - {"--help", "-h"}


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_a_verb_has_an_example(verb: str) -> None:
    assert re.search(rf"^```\naelab {verb}\b", _sections()[verb], re.M)


def test_the_variables_of_the_environment_are_those_the_program_reads() -> None:
    source = "\n".join(
        path.read_text("utf-8") for path in (DOCS.parent / "src" / "aelab").rglob("*.py")
    )
    quoted = re.findall(r"\"(AELAB_[A-Z_]+|SOURCE_DATE_EPOCH|OMP_NUM_THREADS)\"", source)
    part = _text("commands.md").split("## Environment variables")[1]
    named = re.findall(r"^\| `([A-Z_]+)`", part, re.M)
    assert set(quoted) == set(named) - {"NO_COLOR"}  # NO_COLOR is read by rich


def test_the_keys_of_check_as_json_are_as_documented() -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```", _sections()["check"], re.M | re.S)
    (entry,) = json.loads(plan_json(Plan("a.yml", [RunPlan("a", {})])))
    assert set(re.findall(r"^    \"(\w+)\"", block, re.M)) == set(entry)


def test_the_keys_of_ls_and_table_as_json_are_as_documented(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "format-1"
    for verb, text in (
        ("ls", lab.ls(runs=golden, format="json")),
        ("table", lab.table(runs=golden, format="json")),
    ):
        listed = _sections()[verb].split("As JSON each run has")[1].split(".\n")[0]
        listed = listed.split("and more")[0]
        missing = set(re.findall(r"`(\w+)`", listed)) - set(json.loads(text)[0])
        assert not missing, f"{verb} --json has no {missing}"


def test_the_file_for_ones_own_pictures_is_valid(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for grey in range(60):
        Image.new("RGB", (50, 40), (grey, 2 * grey, 255 - grey)).save(
            tmp_path / "pictures" / f"{grey}.png"
        )
    text = _text("quickstart.md").split("<!-- tested: own-folder -->")[1]
    (tmp_path / "own.yml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.S)[0])
    plan = lab.check(tmp_path / "own.yml")
    assert [run.problems for run in plan.runs] == [[], []]


def test_the_quick_start_speaks_of_the_quick_start_file() -> None:
    runs = config.load(DOCS.parent / "experiments" / "quickstart.yml").runs()
    assert len(runs) == 12
    text = _text("quickstart.md")
    assert "make twelve *runs*\nof 30,000 images each" in text
    assert {run.settings.fit.max_images for run in runs} == {30_000}
    assert all(name in text for name in {run.name for run in runs[:2]})


def test_the_quick_start_trains_on_the_digits_that_come_with_aelab() -> None:
    """Without a folder of data; the page has the error of the best constant picture."""
    constant = {}
    for run in config.load(DOCS.parent / "experiments" / "quickstart.yml").runs():
        resize = run.matrix["resize"]
        halves = [
            digits_dataset(train, shape=(1, 16, 16), interpolation=resize).load()
            for train in (True, False)
        ]
        assert [len(half) for half in halves] == [4_000, 1_000]
        train, held_out = (half.pixels.float() / 255 for half in halves)
        constant[resize] = float((held_out - train.median(0).values).abs().mean())
    text = _text("quickstart.md")
    assert set(constant) == {"bilinear", "nearest"}
    for resize, error in constant.items():
        assert f"{error:.3f} for `{resize}`" in text


def test_the_licence_names_the_code_and_the_digits() -> None:
    root = DOCS.parent
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "MIT AND CC-BY-SA-3.0"
    code, digits = (root / file for file in project["license-files"])
    assert "MIT License" in code.read_text("utf-8")
    assert "Attribution-ShareAlike 3.0" in digits.read_text("utf-8")
    assert str(digits.relative_to(root)) in (root / "README.md").read_text("utf-8")


def test_every_page_is_on_the_map() -> None:
    linked = {(DOCS / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", _text("index.md"))}
    pages = {path for path in DOCS.rglob("*.md") if path.name != "index.md"}
    assert not {str(page.relative_to(DOCS)) for page in pages - linked}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_and_shown_somewhere(picture: Path) -> None:
    assert picture.stat().st_size < 150_000
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    assert any(f"pictures/{picture.name}" in page.read_text("utf-8") for page in pages)


def test_all_pictures_together_are_small() -> None:
    assert PICTURES
    assert sum(path.stat().st_size for path in PICTURES) < 2_000_000


def test_the_command_that_goes_on_throws_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from aelab.cli import main

    monkeypatch.setattr("sys.argv", ["aelab", "run", "a b.yml", "--restart", "--device", "cpu"])
    assert main._same_command() == "aelab run 'a b.yml' --device cpu"
