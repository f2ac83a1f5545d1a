"""Imports of old files: what a module path means here, and the user's own packages under trust."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aelab import catalogue
from aelab.config import Block, Scope, evaluate_block, load
from aelab.config.old_programs import find_trainer, old_programs
from aelab.config.project import find_root
from aelab.errors import ConfigError, Problems, RefusedError, Where


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forgets what a test imported from its own folders."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in ("src", "experiments", "scripts", "mine", "helpers"):
            del sys.modules[name]


def module(root: Path, dotted: str, text: str) -> None:
    """Writes a module; its packages have no `__init__.py`, as in many a project."""
    path = root.joinpath(*dotted.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def value(text: str, folder: Path, *, trust: bool = True, **names: Any) -> Any:
    block = Block(text, Where(str(folder / "f.yml"), 11, 3, "model"))
    return evaluate_block(block, Scope(names, {}, {}, trust, folder))


@pytest.mark.parametrize("package", ["src", "experiments", "scripts", "mine"])
@pytest.mark.parametrize("depth", ["", "a", "a/b/c"])
def test_trust_imports_the_packages_of_the_project_from_any_depth(
    package: str, depth: str, tmp_path: Path
) -> None:
    folder = tmp_path / depth
    folder.mkdir(parents=True, exist_ok=True)
    module(
        tmp_path, f"{package}.nets.tiny", "from helpers import SIZE\nclass Net:\n  size = SIZE\n"
    )
    module(tmp_path, "helpers", "SIZE = 7\n")
    tiny = f"{package}.nets.tiny"
    assert value(f"from {tiny} import Net\nNet.size", folder) == 7
    assert value(f"from {tiny} import *\nNet.size", folder) == 7
    assert value(f"import {tiny} as t\nt.Net.size", folder) == 7
    assert value(f"import {tiny}\n{tiny}.Net.size", folder) == 7
    assert value(f"def f():\n  from {tiny} import Net as N\n  return N.size\nf()", folder) == 7


def test_a_function_imports_long_after_its_block(tmp_path: Path) -> None:
    module(tmp_path, "src.late", "VALUE = 3\n")
    (tmp_path / "deep").mkdir()
    late = value("def f():\n  from src.late import VALUE\n  return VALUE\nf", tmp_path / "deep")
    assert late() == 3


def test_a_src_layout_is_found(tmp_path: Path) -> None:
    module(tmp_path, "src.mine.nets", "VALUE = 4\n")
    (tmp_path / "experiments" / "deep").mkdir(parents=True)
    assert value("from mine.nets import VALUE\nVALUE", tmp_path / "experiments" / "deep") == 4


def test_pythonpath_comes_before_folders_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path / "project", "src.nets", "WHICH = 'above'\n")
    module(tmp_path / "other", "src.nets", "WHICH = 'PYTHONPATH'\n")
    for name in ("deep", "other"):
        (tmp_path / "project" / name).mkdir()
    text = "from src.nets import WHICH\nWHICH"
    assert value(text, tmp_path / "project" / "deep") == "above"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    assert value(text, tmp_path / "project" / "other") == "PYTHONPATH"


def test_two_projects_do_not_share_a_package_of_the_same_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        module(tmp_path / name, "src.nets", f"from helpers import W\nWHICH = {name!r} + W\n")
        module(tmp_path / name, "helpers", f"W = {name!r}\n")
        (tmp_path / name / "deep").mkdir()
    text = "from src.nets import WHICH\nWHICH"
    found = [value(text, tmp_path / name / "deep") for name in ("one", "two", "one")]
    assert found == ["oneone", "twotwo", "oneone"]
    (tmp_path / "three" / "src").mkdir(parents=True)
    with pytest.raises(ConfigError, match="the package helpers, which is not installed"):
        value("import helpers\nhelpers.W", tmp_path / "three")


def test_the_runs_of_a_matrix_import_once_and_a_failed_import_fails_alike_again(
    tmp_path: Path,
) -> None:
    """Half a package forgotten would be a `KeyError` in the next run."""
    module(tmp_path, "experiments.__init__", "")
    module(tmp_path, "experiments.ae.nets", "LOADS = []\nLOADS.append(1)\nfrom . import gone\n")
    module(tmp_path, "experiments.ae.fine", "import sys\nLOADS = []\n")
    folder, other = tmp_path / "experiments" / "ae", tmp_path / "other"
    other.mkdir()
    text = "from experiments.ae.fine import LOADS\nLOADS.append(1)\nlen(LOADS)"
    assert [value(text, folder), value("1 + 1", folder), value(text, folder)] == [1, 2, 2]
    for _ in range(2):
        with pytest.raises(ConfigError, match="cannot import name 'gone'"):
            value("from experiments.ae.nets import LOADS\nLOADS", folder)
        value("1", folder)
    value("1", other)
    assert value(text, folder) == 1  # another project came between


def test_aelab_itself_stays_loaded_whatever_root_it_lies_in(tmp_path: Path) -> None:
    assert (
        value("from aelab.errors import ConfigError as C\nC", Path(__file__).parent) is ConfigError
    )
    module(tmp_path, "mine", "VALUE = 1\n")
    assert value("import mine\nmine.VALUE", tmp_path) == 1
    assert sys.modules["aelab.errors"].ConfigError is ConfigError


def test_a_folder_of_data_does_not_hide_an_installed_package(tmp_path: Path) -> None:
    for name in ("torch", "json", "numpy", "yaml"):
        (tmp_path / name).mkdir()
        assert find_root(name, tmp_path / "deep") is None


def test_the_walk_ends_where_everybody_may_write(tmp_path: Path) -> None:
    module(tmp_path, "src.nets", "1 / 0\n")
    folder = tmp_path / "mine"
    folder.mkdir()
    assert find_root("src.nets", folder) == tmp_path
    tmp_path.chmod(0o777)
    assert find_root("src.nets", folder) is None


def test_untrusted_the_import_line_is_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "experiments" / "ae" / "f.yml"
    file.parent.mkdir(parents=True)
    text = "\n".join(
        (
            "experiment_name: x",
            "model: |",
            "  from experiments.ae.models.newer import NewerAutoEncoder",
            "  NewerAutoEncoder((1, 8, 8))",
            "train_set: noise_dataset((1, 8, 8), 8)",
            "batch_size: 2",
            "learnrate: 0.1",
            "optimizer: Adam",
            "max_inputs: 8",
        )
    )
    file.write_text(text)
    missing = (
        f"{file}:3:3: model: experiments.ae.models.newer is not part of aelab: NewerAutoEncoder"
    )
    with pytest.raises(Problems) as caught:
        load(file)
    (error,) = caught.value.errors
    assert str(error).startswith(f"{missing} is missing\n  if it is your own: put experiments/ae/")
    module(tmp_path, "experiments.ae.models.newer", "class NewerAutoEncoder: ...\n")
    with pytest.raises(Problems) as caught:
        load(file)
    (error,) = caught.value.errors
    assert str(error) == (
        f"{missing} is missing\n"
        "  the file's project has it; if the file is your own: aelab ... --trust"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from experiments.ae.qkv.transformer import *\nTransformerEncoder()",
            "experiments.ae.qkv.transformer is not part of aelab: whatever it holds is missing",
        ),
        (
            "from src.models.cnn import Conv2dBlock, CheapConv2d\n1",
            "CheapConv2d is missing: of src.models.cnn aelab has Conv2dBlock, DalleEncoder",
        ),
        (
            "def f():\n  from src.models.mamba.mamba import ResidualBlock\n  return 1\nf()",
            "src.models.mamba.mamba is not part of aelab: ResidualBlock is missing",
        ),
    ],
)
def test_a_path_binds_only_what_it_means(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        value(text, tmp_path, trust=False, TransformerEncoder=int, ResidualBlock=int)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["Net", "*"])
def test_a_refused_import_is_told_once_and_not_again_where_its_name_is_used(
    name: str, tmp_path: Path
) -> None:
    text = f"from src.mine import {name}\nNet(3)\nNet(4)"
    with pytest.raises(RefusedError, match=r"src\.mine is not part of aelab"):
        value(text, tmp_path, trust=False)


def test_a_refused_class_is_told_and_not_its_uses(tmp_path: Path) -> None:
    text = "class Net:\n    pass\ntry:\n    Net()\nexcept int as e:\n    e\nNet()"
    with pytest.raises(RefusedError) as caught:
        value(text, tmp_path, trust=False)
    assert "class" in str(caught.value) and "neither a part" not in str(caught.value)


@pytest.mark.parametrize("trust", [False, True])
def test_known_names_need_no_module_in_functions_either(trust: bool, tmp_path: Path) -> None:
    text = """
def f():
    from src.models.encoder import EncoderConv2d
    from src.models.cnn import Conv2dBlock as Block, DalleEncoder
    from math import prod
    return EncoderConv2d, Block, DalleEncoder, prod([2, 3])
f()"""
    names = {"EncoderConv2d": 1, "Conv2dBlock": 2, "DalleEncoder": 3}
    assert value(text, tmp_path, trust=trust, **names) == (1, 2, 3, 6)


def test_an_own_module_wins_over_an_old_one_of_the_same_path(tmp_path: Path) -> None:
    module(tmp_path, "src.models.cnn", "Conv2dBlock = 'own'\n")
    text = "from src.models.cnn import Conv2dBlock\nConv2dBlock"
    (tmp_path / "deep").mkdir()
    assert value(text, tmp_path / "deep", Conv2dBlock="ours") == "own"


def test_in_the_old_program_itself_known_names_are_ours_and_others_real(tmp_path: Path) -> None:
    for name in ("experiment", "trainer", "train_autoencoder"):
        module(tmp_path, f"src.train.{name}", "")
    module(tmp_path, "src.models.cnn", "Conv2dBlock, Other = 'theirs', 'real'\n")
    (tmp_path / "deep").mkdir()
    text = "from src.models.cnn import Conv2dBlock, Other\n(Conv2dBlock, Other)"
    assert value(text, tmp_path / "deep", Conv2dBlock="ours") == ("ours", "real")


def test_a_missing_package_is_named_with_the_file_that_needs_it(tmp_path: Path) -> None:
    module(tmp_path, "src.nets", "import nosuchpackage\n")
    (tmp_path / "deep").mkdir()
    with pytest.raises(ConfigError) as caught:
        value("1\nfrom src.nets import Net\nNet", tmp_path / "deep")
    assert str(caught.value) == (
        f"{tmp_path}/deep/f.yml:12:3: model: {tmp_path}/src/nets.py needs the package "
        "nosuchpackage, which is not installed\n"
        "  if it is a published package: pip install nosuchpackage; if your own: set PYTHONPATH"
    )
    with pytest.raises(ConfigError, match=r"there is no module src\.other in the file's folder"):
        value("from src.other import Net\nNet", tmp_path / "deep")
    with pytest.raises(ConfigError, match="cannot import name 'Nat' from"):
        module(tmp_path, "src.fine", "Net = 1\n")
        value("from src.fine import Nat\nNat", tmp_path / "deep")


def test_an_unknown_name_beside_a_star_says_where_it_may_come_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"of src\.models\.cnn, imported with \*, aelab has only"):
        value("from src.models.cnn import *\nCheapConv2d()", tmp_path, trust=False)
    with pytest.raises(ConfigError) as caught:
        value("from experiments.ae.transformer import *\nOther()", tmp_path, trust=False)
    assert "only a part" not in str(caught.value)  # of this module aelab has everything


def test_the_table_names_only_what_the_catalogue_has() -> None:
    names = catalogue.names()
    (program,) = old_programs()
    assert {n for row in program.modules.values() for n in row} <= set(names)


@pytest.mark.parametrize(
    "trainer",
    [
        "experiments.gan.trainer.TrainGAN",
        "experiments.textmask.texttrainer.TextMaskTrainer",
        "experiments.nexttoken.trainer.TextTrainer",
        "experiments.diffusion.trainer.TrainDiffusion",
        "experiments.img2img.trainer.TrainImg2Img",
        "experiments.classify.classifier_trainer.ClassifierTrainer",
        "my.own.trainer.MyTrainer",
    ],
)
def test_a_trainer_of_other_things_is_out_of_scope_and_not_left_out(trainer: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_trainer(trainer)
    assert "out of scope" in str(caught.value) and "another experiment" in str(caught.value)
    assert "did you mean" not in str(caught.value) and "leave it out" not in str(caught.value)


def test_a_denoiser_is_told_what_does_it_and_a_misspelling_is_told_the_name() -> None:
    with pytest.raises(ConfigError, match="out of scope") as caught:
        find_trainer("experiments.denoise.trainer.TrainDenoising")
    assert "input_transforms" in str(caught.value)
    with pytest.raises(ConfigError, match="did you mean 'TrainAutoencoder'"):
        find_trainer("src.train.TrainAutoencodr")
