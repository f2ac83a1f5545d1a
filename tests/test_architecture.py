"""The house is as it is drawn: arrows go down only, and importing does nothing."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Container, Iterable, Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parents[1] / "src" / "aelab"

#: room -> rooms it may import (design: "Rooms"); those of `OPEN` are open to all.
MAY_IMPORT = {
    "errors": set(),
    "findings": set(),
    "parts": set(),
    "settings": set(),
    "schedule_forms": set(),
    "posteriors": set(),
    "medium": {"ops"},  # of which only tensor functions that know no `Images`
    "types": {"posteriors", "medium"},
    "roots": set(),
    "files": set(),
    "outputs": {"runs"},
    "arguments": set(),
    "hardware": set(),
    "preparation": set(),
    "late_compiler": set(),
    "_version": set(),
    "ops": {"types"},
    "config": set(),
    "runs": {"config", "_version"},
    "data": {"medium", "types", "ops", "files"},
    "pretrained": {"data", "files"},
    "models": {"medium", "posteriors", "types", "ops", "pretrained"},
    "inspect": {"models", "ops", "types"},
    "losses": {"medium", "posteriors", "types", "ops"},
    "metrics": {"medium", "posteriors", "types", "ops", "losses"},
    "train": {"medium", "posteriors", "types", "ops", "arguments", "schedule_forms"},
    "analysis": {"runs", "schedule_forms"},
    "report": {"runs", "analysis", "outputs", "files"},
    "catalogue": {
        "config", "data", "pretrained", "models", "losses", "train", "types", "arguments",
    },
    "tensor_pictures": {"medium", "types", "ops", "report"},
    "assembly": {
        "config", "runs", "data", "pretrained", "models", "losses", "train", "ops", "catalogue",
        "types", "medium", "inspect",
    },
    "doctor": {
        "assembly", "config", "runs", "data", "models", "train", "types", "outputs", "posteriors",
        "inspect", "losses", "medium", "ops",
    },
    "execute": {
        "assembly", "config", "data", "runs", "models", "train", "ops", "analysis", "report",
        "types", "_version", "tensor_pictures", "medium", "inspect", "late_compiler",
    },
    "study": {
        "analysis", "assembly", "config", "runs", "data", "models", "losses", "metrics", "train",
        "ops", "report", "catalogue", "types", "outputs", "files", "posteriors",
        "tensor_pictures", "medium",
    },
    "lab": {"assembly", "doctor", "execute", "study", "runs", "report", "data", "outputs"},
    "bridges": {"runs", "report"},
    "ui": {"lab", "runs", "report", "study", "execute", "files"},
    "cli": {
        "lab", "bridges", "ui", "_version", "config", "outputs", "doctor", "execute", "study",
        "late_compiler",
    },
    "__init__": {"lab", "catalogue", "_version"},
    "__main__": {"cli"},
}  # fmt: skip

#: rooms that nothing may import: they enter by entry points alone, and may use every room.
WINGS = ("ascii", "founding", "palette", "stages")
MAY_IMPORT |= {wing: set(MAY_IMPORT) for wing in WINGS}

#: rooms that every room may import.
OPEN = ("errors", "findings", "hardware", "parts", "preparation", "roots", "settings")

#: rooms side by side: none of them knows another.
SIDE_BY_SIDE = ("doctor", "execute", "study")

#: Packages that may be imported inside a function, and why. Such an import is right if it keeps one
#: of them out of a module that does without; every other import stands at the top of its file.
LATE = {
    "torch": "1.2 s; --help, ls, table, plot, report and a finished `run` do without",
    "numpy": "0.1 s; --help, ls and a finished `run` do without",
    "PIL": "90 ms; --help, ls, table and a finished `run` do without",
    "matplotlib": "0.5 s; only plots and maps need it",
    "rich": "20 ms; what has no terminal does without",
    "tabulate": "10 ms; a finished `run` does without",
    "ssl": "3 ms; only a failed download is explained by it",
    "http": "5 ms; the same",
    "urllib": "2 ms; the same",
    "tomllib": "4 ms; only one hint needs it",
    "sklearn": "1.3 s; only three measures need it",
    "filelock": "40 ms, most of it asyncio; only what trains takes locks",
    "av": "an extra: films",
    "pandas": "an extra: data frames",
    "starlette": "an extra: the web page",
    "uvicorn": "an extra: the web page",
    "pyarrow": "an extra: Parquet files",
    "onnxruntime": "an extra: export to ONNX",
    "huggingface_hub": "an extra: the Hugging Face Hub",
    "pyfiglet": "an extra: FIGlet fonts",
    "h5py": "an extra: HDF5 files",
    "scipy": "an extra: MATLAB files",
    "ray": "an extra: Ray clusters",
    "umap": "an extra: maps by UMAP",
    "vector_quantize_pytorch": "an extra: SimVQ",
    "wandb": "an extra: Weights & Biases",
}
#: Files with a reason of their own.
LATE_BESIDES = {
    "aelab.__main__": "it listens for Ctrl-C before anything else is imported",
    "aelab.stages.first": "all blocks have its names; few open a run, with 50 modules",
}

#: rooms whose import must not bring torch along.
LIGHT = (
    "settings", "config", "runs", "analysis", "report", "cli.main", "lab", "execute.matrix",
    "doctor.experiment",
)  # fmt: skip


def _room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = (
                [f"aelab.{alias.name}" for alias in node.names]
                if node.module == "aelab"
                else [node.module]
            )
        for name in names:
            if name.startswith("aelab."):
                rooms.add(name.split(".")[1])
    return rooms


def test_a_room_imports_only_what_the_table_allows() -> None:
    wrong = []
    for path in SOURCE.rglob("*.py"):
        room = _room(path)
        assert room in MAY_IMPORT, f"room {room!r} is not in the table"
        forbidden = _imported_rooms(path) - MAY_IMPORT[room] - {room, *OPEN}
        wrong += [f"{path.relative_to(SOURCE)} imports {other}" for other in sorted(forbidden)]
    assert not wrong, wrong


def test_the_map_of_rooms_in_the_documents_names_each_room() -> None:
    text = (SOURCE.parents[1] / "docs" / "index.md").read_text("utf-8").split("## Rooms")[1]
    first_cells = re.findall(r"^\| (`.*?) \|", text, re.M)
    named = [name for cell in first_cells for name in re.findall(r"`(\w+)(?:\.py)?`", cell)]
    assert sorted(named) == sorted(MAY_IMPORT.keys() - {"__init__", "__main__", "_version"})


def test_there_are_no_relative_imports() -> None:
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level > 0]
        assert not found, path


class Import(NamedTuple):
    """One import statement: line, modules of the house, outside packages, inside a function?"""

    line: int
    modules: set[str]
    packages: set[str]
    late: bool


def _modules() -> dict[str, Path]:
    return {
        ".".join(("aelab", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in SOURCE.rglob("*.py")
    }


def _imports(path: Path, house: Container[str]) -> Iterator[Import]:
    """The imports of a file, those for types alone excepted."""
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while pending:
        node, late = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += [(child, late) for child in node.orelse]
            continue
        late = late or isinstance(node, ast.FunctionDef)
        pending += [(child, late) for child in ast.iter_child_nodes(node)]
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names = {one if one in house else node.module for one in inner}
        else:
            continue
        own = {name for name in names if name in house}
        yield Import(node.lineno, own, {name.split(".")[0] for name in names - own}, late)


@cache
def _all_imports() -> dict[str, list[Import]]:
    house = _modules()
    return {name: list(_imports(path, house)) for name, path in house.items()}


def _files_imported() -> dict[str, set[str]]:
    """Module -> modules of the house it imports, late imports included, those for types not."""
    return {
        name: set().union(*(entry.modules for entry in found))
        for name, found in _all_imports().items()
    }


def _with_packages(modules: Iterable[str]) -> set[str]:
    """The same modules, and the packages that Python runs before them."""
    return {
        ".".join(name.split(".")[: n + 1]) for name in modules for n in range(name.count(".") + 1)
    }


def _brought_along() -> dict[str, set[str]]:
    """Module -> the packages of `LATE` that are loaded as soon as it is imported."""
    at_once = {
        name: [entry for entry in found if not entry.late] for name, found in _all_imports().items()
    }
    direct = {
        name: _with_packages({name, *(m for entry in found for m in entry.modules)}) - {name}
        for name, found in at_once.items()
    }
    brought = {
        name: {package for entry in found for package in entry.packages} & LATE.keys()
        for name, found in at_once.items()
    }
    grew = True
    while grew:
        grew = False
        for name, others in direct.items():
            more = brought[name].union(*(brought[other] for other in others if other in brought))
            grew, brought[name] = grew or more != brought[name], more
    return brought


def test_an_import_stands_at_the_top_unless_it_keeps_a_slow_package_out() -> None:
    brought, wrong = _brought_along(), []
    for name, found in _all_imports().items():
        for entry in found:
            modules = _with_packages(entry.modules) & brought.keys()
            brings = (entry.packages & LATE.keys()).union(*(brought[other] for other in modules))
            if entry.late and not brings - brought[name] and name not in LATE_BESIDES:
                wrong.append(f"{name}:{entry.line}")
    assert not wrong, f"import at the top of the file: {sorted(wrong)}; see LATE"


def test_every_package_that_is_imported_late_is_kept_out_of_something() -> None:
    late = {p for found in _all_imports().values() for entry in found for p in entry.packages
            if entry.late}  # fmt: skip
    assert LATE.keys() <= late | {"torch"}


def test_no_files_import_each_other_in_a_circle() -> None:
    imported = _files_imported()
    # Files that import nothing more are taken away until none is left, or only circles.
    while free := [name for name, others in imported.items() if not others & imported.keys()]:
        for name in free:
            del imported[name]
    # The rest leads into circles; those that nobody of them imports are not in one.
    while outer := [name for name in imported if not any(name in o for o in imported.values())]:
        for name in outer:
            del imported[name]
    assert not imported, f"in circles, or between two: {sorted(imported)}"


def test_foreseeing_training_and_studying_do_not_know_each_other() -> None:
    for room in SIDE_BY_SIDE:
        assert not MAY_IMPORT[room] & set(SIDE_BY_SIDE), room
        assert not any(room in MAY_IMPORT[below] for below in MAY_IMPORT["lab"] | {"bridges"})


def test_nothing_names_a_wing() -> None:
    assert set(WINGS) <= {path.name for path in SOURCE.iterdir()}
    wing = re.compile(rf"\baelab\.({'|'.join(WINGS)})\b")
    for path in SOURCE.rglob("*.py"):
        # Not even in a text, which could be imported late. `parts` explains what a wing is.
        if _room(path) not in (*WINGS, "parts"):
            assert not wing.search(path.read_text(encoding="utf-8")), path


def test_everything_that_wings_bring_is_installed_and_can_be_had() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    for group, parts in project["entry-points"].items():
        known = {entry.name: entry for entry in entry_points(group=group)}
        for name, place in parts.items():
            assert place.split(".")[:2] in [["aelab", wing] for wing in WINGS], place
            assert name in known, f"{name}: type pip install --editable . to install it"
            assert known[name].value == place
            assert known[name].load() is not None


#: Takes the wings away: neither their entry points nor their code can be found.
WITHOUT_WINGS = f"""
import importlib.metadata as metadata, sys
found = metadata.entry_points()
groups = [group for group in found.groups if not group.startswith("aelab.")]
left = [entry for group in groups for entry in found.select(group=group)]
metadata.entry_points = lambda **which: metadata.EntryPoints(left).select(**which)
for wing in {WINGS!r}: sys.modules["aelab." + wing] = None
"""


def test_the_core_works_without_its_wings(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(
        "train_set: noise_dataset((1, 8, 8), 40)\n"
        "validation_set: noise_dataset((1, 8, 8), 20)\n"
        "model: Autoencoder(EncoderMLP((1, 8, 8), 6), Gaussian(6, 3), DecoderMLP((1, 8, 8), 3))\n"
        "experiment_name: own\noptimizer: Adam\nlearnrate: 0.001\n"
        "max_inputs: 80\nbatch_size: 20\n"
    )
    code = WITHOUT_WINGS + (
        "from aelab import Lab, lab, parts\n"
        "if __name__ == '__main__':\n"
        "    assert not parts.installed('aelab.figures')\n"
        "    home = Lab('runs')\n"
        "    list(home.run('own.yml'))\n"
        "    assert home.find()[0].state == 'finished'\n"
        "    assert 'own' in str(home.table())\n"
        "    (entry,) = home.evaluate(['own'])\n"
        "    assert entry.values and not entry.problem\n"
        "    home.figure('sample', 'own')\n"
    )
    (tmp_path / "core.py").write_text(code)
    subprocess.run([sys.executable, "core.py"], check=True, cwd=tmp_path)


def test_light_rooms_do_not_load_torch() -> None:
    code = "import sys, importlib\nfor room in sys.argv[1:]:\n    importlib.import_module(room)\n"
    code += "    assert 'torch' not in sys.modules, room"
    rooms = [f"aelab.{room}" for room in LIGHT]
    subprocess.run([sys.executable, "-c", code, *rooms], check=True)


def test_light_verbs_load_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom aelab.cli import main\n"
        "for verb in ['--help', 'ls', 'table', 'table --format html', 'report --out r.html']:\n"
        "    runs = [] if verb == '--help' else ['--runs', sys.argv[1]]\n"
        "    before, sys.argv[1:] = sys.argv[1:], [*verb.split(), *runs]\n"
        "    try:\n        main.main()\n"
        "    except SystemExit as end:\n        assert not end.code, (verb, end.code)\n"
        "    sys.argv[1:] = before\n"
        "    assert not {'torch', 'matplotlib', 'sklearn', 'filelock'} & set(sys.modules), verb\n"
        "    assert verb.startswith('report') or 'PIL' not in sys.modules, verb\n"
    )
    runs = shutil.copytree(Path(__file__).parent / "golden", tmp_path / "golden")
    subprocess.run([sys.executable, "-c", code, str(runs)], check=True, cwd=tmp_path)


def test_importing_every_module_changes_no_global_state() -> None:
    modules = sorted(
        ".".join(("aelab", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in SOURCE.rglob("*.py")
        if path.name not in {"__main__.py", "__init__.py"}
    )
    code = (
        "import importlib, logging, random, signal, os, sys, torch, rich.progress, typer\n"
        "state = lambda: (logging.root.level, list(logging.root.handlers), random.getstate(),\n"
        "    torch.get_num_threads(), torch.get_default_dtype(),\n"
        "    torch.get_rng_state().sum().item(),\n"
        "    signal.getsignal(signal.SIGTERM), sorted(os.environ), os.getcwd())\n"
        "before = state()\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "after = state()\n"
        "assert before == after, (before, after)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
