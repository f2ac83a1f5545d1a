"""Everything a block can reach, found by reflection, against the committed table `reachable.txt`.

To accept a change after reading it, run this file with AELAB_WRITE_REACHABLE=1 set.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from aelab import catalogue, parts
from aelab.catalogue import Part
from aelab.catalogue.libraries import MODULE_RIGHTS
from aelab.config import Block, FrozenModule, Scope, evaluate_block
from aelab.config.guards import CORE_NAMES, frozen_module_name, guards, members_of
from aelab.data import METHODS, Dataset
from aelab.errors import RefusedError

TABLE = Path(__file__).with_name("reachable.txt")

#: Blocks whose values, and everything that can be reached from them, are walked through.
SAMPLES = """
torch.zeros(2, 3)
torch.zeros(2, 3).shape
torch.float32
torch.no_grad()
nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.ModuleList([nn.ReLU()]))
nn.TransformerEncoderLayer(8, 2)
EncoderDecoder(EncoderConv2d((1, 12, 12), 4), DecoderConv2d((1, 12, 12), 4))
VariationalEncoder(EncoderConv2d((1, 12, 12), 4), 4, 4)
VariationalAutoencoderConv((1, 32, 32), 4, kernel_size=5)
EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
EncoderConv2d((1, 12, 12), 4).convolution.create_transposed(act_last_layer=False)
EncoderConv2d((1, 12, 12), 4)(torch.zeros(1, 1, 12, 12))
noise_dataset((1, 4, 4), 3)
mnist_dataset(True, shape=(1, 8, 8))
[1, 'a', 2.5, None, True, (1,), {'a': 1}, {2}, range(3)]
lambda x: x
(x for x in [1])
EXTRA_VALUES
""".strip().splitlines()


@pytest.fixture(scope="module", autouse=True)
def parts_of_the_source() -> Iterator[None]:
    """The parts of `pyproject.toml`: not those of an older installation, nor of other packages."""
    project = tomllib.loads((TABLE.parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {
        group: {name: EntryPoint(name, value, group) for name, value in members.items()}
        for group, members in project["entry-points"].items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_installed", lambda: declared)
        yield


@pytest.fixture(scope="module")
def rows(parts_of_the_source: None) -> Mapping[type, frozenset[str]]:
    return catalogue.attributes()


def all_types(rows: Mapping[type, frozenset[str]]) -> list[type]:
    """Types of the table, and every other that a part could make: modules, tensors, data sets."""
    found = {*rows, Part, FunctionType, BuiltinFunctionType, MethodType, type}
    pending: list[type] = [nn.Module, torch.Tensor, Dataset]
    while pending:
        kind = pending.pop()
        found.add(kind)
        pending += [k for k in kind.__subclasses__() if k not in found and _is_near(k)]
    return sorted(found, key=title)


def _is_near(kind: type) -> bool:
    """Torch defines dozens of exotic tensors and modules, some only once others are imported."""
    return kind.__module__.startswith(("aelab.", "torch.nn.modules.", "torch.nn.parameter"))


def title(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def granted(kind: type, rows: Mapping[type, frozenset[str]]) -> set[str]:
    """Attribute names of `kind` that the guard itself lets through, found by trying each."""
    get = guards(rows)["_getattr_"]
    example = _example(kind)
    if example is None:
        assert kind not in rows, f"no example of {title(kind)}; add one to _EXAMPLES"
        return set()
    found = set()
    for name in {*dir(kind), *rows.get(kind, ())} - {"for", "with"}:
        try:
            get(example, name)
        except RefusedError:
            continue
        except (AttributeError, RuntimeError, TypeError):
            pass  # let through; this bare example has no such value
        found.add(name)
    return found & {name for name in found if name.isidentifier()}


def _example(kind: type) -> Any:
    """Some object of exactly this type, however empty; None for abstract classes."""
    for make in (lambda: _EXAMPLES[kind], lambda: kind.__new__(kind), lambda: object.__new__(kind)):
        try:
            made = make()
        except (KeyError, TypeError, RuntimeError, Warning):
            continue
        if type(made) is kind:
            return made
    return None


_EXAMPLES: dict[type, Any] = {
    FunctionType: lambda: None,
    BuiltinFunctionType: len,
    MethodType: TABLE.exists,
    type(iter([])): iter([]),
    type(iter(())): iter(()),
    type(iter(range(0))): iter(range(0)),
    type({}.keys()): {}.keys(),
    type({}.values()): {}.values(),
    type({}.items()): {}.items(),
    type(x for x in ()): (x for x in ()),
    range: range(1),
    type: int,
    enumerate: enumerate([]),
    map: map(len, []),
    filter: filter(None, []),
    reversed: reversed(()),
    type(reversed([])): reversed([]),
}


def written(rows: Mapping[type, frozenset[str]], names: Mapping[str, Any]) -> str:
    """The table as text: lists of names, then types with what may be done with them."""
    lines = [
        "# What a block can reach. Compared with reality by test_reachable.py.",
        "",
        "[lists of names]",
    ]
    lists = {frozen_module_name(item): item for item in _lists(names)}
    for name in sorted(lists):
        lines.append(f"{name}: {' '.join(sorted(members_of(lists[name])))}")
    lines += ["", "[types]", f"(every module of the catalogue): {' '.join(sorted(MODULE_RIGHTS))}"]
    data_rights = {"shape", *METHODS}
    lines.append(f"(every data set): {' '.join(sorted(data_rights))}")
    for kind in all_types(rows):
        special = {r for r in rows.get(kind, ()) if not r.isidentifier() or r in ("for", "with")}
        rights = granted(kind, rows) | special
        if rights and rights not in (MODULE_RIGHTS, data_rights):
            lines.append(f"{title(kind)}: {', '.join(sorted(rights))}")
    return "\n".join(lines) + "\n"


def _lists(names: Mapping[str, Any]) -> Iterator[FrozenModule]:
    for item in names.values():
        if isinstance(item, FrozenModule):
            yield item
            yield from _lists(members_of(item))


def test_what_a_block_can_reach_is_what_the_table_says(rows: Mapping[type, frozenset[str]]) -> None:
    found = written(rows, catalogue.names())
    if os.environ.get("AELAB_WRITE_REACHABLE"):
        TABLE.write_text(found, encoding="utf-8")
    assert found == TABLE.read_text(encoding="utf-8")


def test_an_older_installation_does_not_change_the_table() -> None:
    """Without the entry points of the installed package the same names are reached."""
    known = set(catalogue.names())
    for group in ("aelab.parts", "aelab.datasets"):
        assert parts.installed(group).keys() <= known, group
        assert all(entry.dist is None for entry in parts.installed(group).values())


def test_no_right_is_dangerous(rows: Mapping[type, frozenset[str]]) -> None:
    dangerous = set(
        "apply apply_ map_ numpy storage untyped_storage data_ptr register_hook set_ resize_ "
        "share_memory_ load_state_dict state_dict register_buffer register_module add_module "
        "format format_map gi_frame gi_code f_globals compile forward grad_fn tofile save load hub "
        "jit ops utils os sys from_file".split()
    )
    for kind, rights in rows.items():
        assert not rights & dangerous, title(kind)
        assert not any(right.startswith("_") for right in rights), title(kind)


def test_every_name_is_a_checked_part_a_list_or_a_plain_value() -> None:
    for name, item in _flat(catalogue.names()):
        assert isinstance(item, Part | torch.dtype | float | str), name
        assert not name.startswith("_")
    for name, item in CORE_NAMES.items():
        ours = isinstance(item, FunctionType) and item.__module__.startswith("aelab.")
        plain = isinstance(item, type) and item.__module__ == "builtins" and item is not type
        assert ours or plain or isinstance(item, FrozenModule), name


def _flat(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, item in names.items():
        if name == "math":
            continue
        if isinstance(item, FrozenModule):
            yield from _flat(members_of(item))
        else:
            yield name, item


def test_walking_from_real_objects_meets_nothing_unexpected(
    rows: Mapping[type, frozenset[str]],
) -> None:
    """Follows every granted attribute, item, loop and argument-free method from real objects."""
    scope = Scope(catalogue.names(), rows, {})
    pending = [(text, evaluate_block(Block(text), scope)) for text in SAMPLES]
    pending += [(name, item) for name, item in scope.namespace.items() if not name.startswith("_")]
    seen: set[int] = set()
    kinds: set[type] = set()
    keep: list[Any] = []
    while pending:
        path, value = pending.pop()
        if id(value) in seen or path.count(".") + path.count("[") > 4:
            continue
        seen.add(id(value))
        keep.append(value)
        kinds.add(type(value))
        assert not isinstance(value, ModuleType), path
        if type(value) is FrozenModule:
            pending += [(f"{path}.{name}", item) for name, item in members_of(value).items()]
            continue
        pending += _next(path, value, rows.get(type(value), frozenset()), scope)
    inert = {
        int,
        bool,
        type(None),
        type,
        Part,
        FunctionType,
        MethodType,
        BuiltinFunctionType,
        torch.dtype,
    }
    unexpected = {k for k in kinds - inert - set(rows) if k is not FrozenModule}
    assert not {k for k in unexpected if not k.__module__.startswith(("aelab.", "torch"))}, (
        unexpected
    )
    assert torch.nn.Parameter in kinds  # the walk does go inside


def _next(path: str, value: Any, rights: frozenset[str], scope: Scope) -> Iterator[tuple[str, Any]]:
    get = scope.namespace["_getattr_"]
    for name in rights:
        if not name.isidentifier() or name in ("for", "with"):
            continue
        try:
            found = get(value, name)
        except (AttributeError, RuntimeError):
            continue
        yield f"{path}.{name}", found
        if name in ("parameters", "children", "items", "values", "keys", "T", "detach", "split"):
            try:
                yield f"{path}.{name}()", found()
            except TypeError:
                continue
    if "for" in rights and not isinstance(value, str):
        try:
            items = [
                item for item, _ in zip(scope.namespace["_getiter_"](value), range(8), strict=False)
            ]
        except (TypeError, RuntimeError):
            return
        for number, item in enumerate(items):
            yield f"{path}[{number}]", item
