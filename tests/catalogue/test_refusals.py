"""No block gets out: every probe works when the guard is off, and is refused when it is on."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from torch import nn

from aelab import catalogue
from aelab.config import Block, Scope, evaluate_block, load
from aelab.errors import ConfigError, Problems, RefusedError, Where

_SPEC = importlib.util.spec_from_file_location("probes", Path(__file__).with_name("probes.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
probes = importlib.util.module_from_spec(_SPEC)
sys.modules["probes"] = probes
_SPEC.loader.exec_module(probes)

SECRET = "the secret"


@pytest.fixture(scope="module")
def names() -> Mapping[str, Any]:
    return catalogue.names()


@pytest.fixture(scope="module")
def attributes() -> Mapping[type, frozenset[str]]:
    return catalogue.attributes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(SECRET)
    target = tmp_path / "target"
    (tmp_path / "hubconf.py").write_text(f"def entry():\n    open({str(target)!r}, 'w').close()\n")
    import torch

    torch.save([1], tmp_path / "stored.pt")
    return tmp_path


def filled(text: str, folder: Path) -> str:
    for name, path in (("TARGET", folder / "target"), ("SECRET", folder / "secret")):
        text = text.replace(name, repr(str(path)))
    return text.replace("FOLDER", repr(str(folder)))


def had_effect(effect: str, value: Any, folder: Path) -> bool:
    match effect:
        case "writes":
            return (folder / "target").exists()
        case "reads":
            return bool(value == SECRET)
        case "module":
            return isinstance(value, ModuleType)
        case "type":
            return isinstance(value, type)
        case "code":
            return isinstance(value, CodeType)
        case "globals":
            return isinstance(value, dict) and "__builtins__" in value
    return value is True


ALL = pytest.mark.parametrize(
    "probe", probes.PROBES, ids=[f"{p.kind}-{n}" for n, p in enumerate(probes.PROBES)]
)


@ALL
@pytest.mark.filterwarnings("ignore")
def test_a_probe_has_its_effect_when_the_guard_is_off(
    probe: Any, folder: Path, names: Mapping[str, Any], attributes: Mapping[type, frozenset[str]]
) -> None:
    before = {k: v for k, v in vars(nn.Linear).items()}
    scope = Scope(names, attributes, {}, True)
    try:
        value = evaluate_block(Block(filled(probe.text, folder), Where("f.yml", 1, 1)), scope)
        assert had_effect(probe.effect, value, folder)
    finally:
        for name in set(vars(nn.Linear)) - set(before):
            delattr(nn.Linear, name)
        import math

        vars(math).pop("probed", None)


@ALL
def test_a_probe_is_refused_when_the_guard_is_on(
    probe: Any, folder: Path, names: Mapping[str, Any], attributes: Mapping[type, frozenset[str]]
) -> None:
    scope = Scope(names, attributes, {})
    with pytest.raises((RefusedError, Problems)) as caught:
        evaluate_block(Block(filled(probe.text, folder), Where("f.yml", 1, 1, "model")), scope)
    assert not (folder / "target").exists()
    errors = caught.value.errors if isinstance(caught.value, Problems) else [caught.value]
    refused = [error for error in errors if isinstance(error, RefusedError)]
    assert refused
    assert all(error.where is not None and error.where.line is not None for error in errors)
    assert all("--trust" in str(error) for error in refused)
    assert not hasattr(nn.Linear, "probed")


def test_there_are_enough_probes_in_enough_classes() -> None:
    count = Counter(probe.kind for probe in probes.PROBES)
    assert len(count) >= 8
    assert sum(count.values()) >= 50
    assert min(count.values()) >= 5


@pytest.mark.parametrize("key", ["_getattr_", "__builtins__", "_write_"])
def test_globals_of_a_file_cannot_replace_a_guard(tmp_path: Path, key: str) -> None:
    path = tmp_path / "f.yml"
    path.write_text(f"globals:\n  {key}: 1\n")
    with pytest.raises(Exception, match="cannot be a name in blocks"):
        load(path)
    with pytest.raises(RefusedError):
        Scope({}, {}).define(key, 1)


@pytest.mark.parametrize("key", ["_getattr_", "__builtins__", "_write_", "_getiter_"])
def test_variables_of_a_matrix_cannot_replace_a_guard(key: str) -> None:
    scope = Scope({}, {}, {key: {"open": open}})
    with pytest.raises(ConfigError):
        evaluate_block(Block("(1).__class__"), scope)
    with pytest.raises(RefusedError):
        evaluate_block(Block("open('x')"), scope)
    with pytest.raises(RefusedError):
        evaluate_block(Block("a = [1]\na.clear()"), scope)
