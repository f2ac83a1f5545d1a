"""One thin table: import paths and trainers of old experiment files, and what they mean here.

Old files import from the packages of the program they were written for. Every part those packages
offered is a plain name of the catalogue, so an import needs no module: it only says a name.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from aelab.config.policy import TRUST_HINT
from aelab.errors import ConfigError, RefusedError, Where, did_you_mean

#: Packages of the old program: whatever is imported from them is looked up in the catalogue.
OLD_PACKAGES = ("src", "experiments", "scripts")

#: Real packages of which the catalogue offers a frozen list of names.
LIBRARIES = ("torch", "torchvision", "math")


@dataclass(frozen=True)
class OldTrainer:
    """What an old `trainer:` implies.

    Attributes:
        legacy: which old numbers it reproduces.
        feature_loss_weight: weight of its penalty on the latent's batch statistics, if it has one.
    """

    legacy: frozenset[str]
    feature_loss_weight: float | None = None


_OLD_NUMBERS = frozenset({"kl", "validation"})

#: Trainers by the last part of their dotted name.
TRAINERS: dict[str, OldTrainer] = {
    "Trainer": OldTrainer(_OLD_NUMBERS),
    "TrainAutoencoder": OldTrainer(_OLD_NUMBERS),
    "TrainAutoencoderSpecial": OldTrainer(_OLD_NUMBERS, feature_loss_weight=0.0001),
}


def find_trainer(dotted: str) -> OldTrainer:
    """The meaning of a `trainer:` line such as `src.train.TrainAutoencoder`.

    Raises:
        ConfigError: no such trainer; there is only one training loop here.
    """
    package, _, name = dotted.rpartition(".")
    if name in TRAINERS and package.split(".")[0] in ("", *OLD_PACKAGES):
        return TRAINERS[name]
    near = did_you_mean(name, TRAINERS)
    raise ConfigError(f"given '{dotted}'; possible: {', '.join(TRAINERS)}, or leave it out{near}")


def resolve_imports(
    body: list[ast.stmt], where: Where, *, trust: bool = False, folder: Path | None = None
) -> tuple[list[ast.stmt], list[RefusedError]]:
    """Replace the imports at the top level of a block by assignments of catalogue names.

    `from src.models.cnn import *` vanishes, `from torch import nn as layers` becomes
    `layers = torch.nn`, `import os` is refused. Under trust, what is not in the table stays a real
    import, and so does anything that exists in the file's own folder.

    Returns:
        The new statements and the refused imports.
    """
    statements: list[ast.stmt] = []
    refused: list[RefusedError] = []
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            statements.append(node)
            continue
        modules = (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        if trust and not all(_is_ours(module, folder) for module in modules):
            statements.append(node)
            continue
        replaced = _assignments(node)
        if replaced is None:
            place = where.at(line=node.lineno, column=node.col_offset + 1)
            refused.append(_refusal(node, modules, place))
            continue
        statements += [_placed(new, node) for new in replaced]
    return statements, refused


def _is_ours(module: str, folder: Path | None) -> bool:
    root = module.split(".")[0]
    if folder and ((folder / root).is_dir() or (folder / f"{root}.py").is_file()):
        return False
    return root in OLD_PACKAGES


def _assignments(node: ast.Import | ast.ImportFrom) -> list[ast.stmt] | None:
    """What an import means here; None where it is refused."""
    if isinstance(node, ast.Import):
        roots = [alias.name.split(".")[0] for alias in node.names]
        if any(root not in LIBRARIES for root in roots):
            return None
        return [
            _assign(alias.asname or root, alias.name if alias.asname else root)
            for alias, root in zip(node.names, roots, strict=True)
        ]
    module = node.module or ""
    root = module.split(".")[0]
    star = any(alias.name == "*" for alias in node.names)
    if node.level or root not in (*OLD_PACKAGES, *LIBRARIES) or (star and root in LIBRARIES):
        return None
    if star:
        return []
    prefix = "" if root in OLD_PACKAGES else f"{module}."
    return [_assign(alias.asname or alias.name, prefix + alias.name) for alias in node.names]


def _assign(name: str, dotted: str) -> ast.stmt:
    value = ast.parse(dotted, mode="eval").body
    return ast.Assign(targets=[ast.Name(name, ast.Store())], value=value)


def _placed(new: ast.stmt, old: ast.stmt) -> ast.stmt:
    """`new` with the position of `old` throughout, so that errors in it name the import."""
    for node in ast.walk(new):
        if isinstance(node, ast.expr | ast.stmt):
            ast.copy_location(node, old)
    return new


def _refusal(node: ast.stmt, modules: list[str], where: Where) -> RefusedError:
    possible = "every part is a plain name, and torch, nn, F, math, torchvision are there already"
    message = f"'{ast.unparse(node)}' is refused: {', '.join(modules)} is not offered; {possible}"
    return RefusedError(message, where=where, hint=TRUST_HINT)
