"""Finds the packages that a trusted file imports from its project.

Python searches imports beside the script that was started. An experiment file often lies one or
more folders below the packages it imports, so the folders above it are searched, too.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from aelab.roots import real

#: Never taken from a project: a second torch would break the one that is loaded.
_LIBRARIES = frozenset({"torch", "torchvision", "math"})

#: Roots from which trusted blocks have imported in this process.
_used: set[Path] = set()
#: The active roots in order, and the roots of every folder from which files were read.
_active: list[Path] = []
_of_folder: dict[Path | None, list[Path]] = {}
#: The roots that were not in `sys.path` before.
_added: set[Path] = set()
#: Top-level names of modules loaded before the first root was added: never a project's modules.
_before: set[str] = set()


def find_root(module: str, folder: Path) -> Path | None:
    """Finds the folder from which `import module` gets the package of the file's project.

    The order is: the file's own folder, `PYTHONPATH`, then every folder above the file and its
    `src`, nearest first. The search stops at a folder that everybody may write to, because files
    there or above may not be the user's. If no folder has the whole path, the nearest one with the
    package's first name is returned, so that Python's message names the missing part of the path.

    Args:
        module: dotted name, for instance `experiments.ae.mixer.mixermodel`.
        folder: absolute folder of the experiment file.

    Returns:
        The folder; None if the module is Python's own, installed, or not found.
    """
    top = module.partition(".")[0]
    if not top or top in _LIBRARIES or top in sys.stdlib_module_names:
        return None
    if "site-packages" in str(getattr(sys.modules.get(top), "__file__", "")):
        return None  # aelab or torch already use it: there cannot be a second one
    places = list(_places(folder))
    whole = next((place for place in places if _holds(place, module)), None)
    if whole is not None or _is_installed(top):
        return whole
    return next((p for p in places if _holds(p, top) or (p / top).is_dir()), None)


def has_module(module: str, folder: Path | None) -> bool:
    """Whether the file's project has the complete path of `module`."""
    root = find_root(module, folder) if folder else None
    return root is not None and _holds(root, module)


def activate(roots: Sequence[Path], folder: Path | None) -> None:
    """Make imports search `roots` first, until a file of another folder is loaded.

    The roots stay active because functions may import later. Files of one folder share roots and
    modules, as the runs of a matrix do. Roots of other projects are deactivated and their modules
    unloaded, so that two files of one command never share a package that only has the same name.

    Args:
        roots: the folders in which the file's imports were found.
        folder: the file's folder.
    """
    if not _used:
        _before.update(name.partition(".")[0] for name in sys.modules)
    kept = _of_folder.setdefault(folder, [])
    kept += [root for root in roots if root not in kept]
    if kept == _active:
        return
    _active[:] = kept
    foreign = {n.partition(".")[0] for n in sys.modules if _root_of(n) in _used - set(kept)}
    for name in [name for name in sys.modules if name.partition(".")[0] in foreign - _before]:
        del sys.modules[name]
    for root in _added - set(kept):
        with contextlib.suppress(ValueError):
            sys.path.remove(str(root))
        _added.remove(root)
    for root in reversed(kept):
        path = str(root)
        if path in sys.path:
            sys.path.remove(path)
        else:
            _added.add(root)
        sys.path.insert(0, path)
        _used.add(root)
    importlib.invalidate_caches()


def _places(folder: Path) -> Iterator[Path]:
    """All folders that may hold the project's packages, in the order of the search."""
    yield folder
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if entry:
            yield real(entry)
    for above in folder.parents:
        if _is_everybodys(above):
            return
        yield above
        yield above / "src"


def _is_everybodys(folder: Path) -> bool:
    try:
        return bool(folder.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return True


def _holds(place: Path, module: str) -> bool:
    """Whether `place` holds the module's file, or its folder with an `__init__.py`.

    A folder without `__init__.py` counts only below the first name: at the top, a data folder with
    the name of an installed package would hide that package.
    """
    path = place.joinpath(*module.split("."))
    if path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file():
        return True
    return "." in module and path.is_dir()


def _is_installed(top: str) -> bool:
    """Whether Python finds the package without the roots of projects."""
    if any(name.partition(".")[0] == top and _root_of(name) in _used for name in sys.modules):
        return False
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _root_of(name: str) -> Path | None:
    """The root folder of a loaded module; None for Python's own and for namespace packages."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not file:
        return None
    path = Path(file)
    above = name.count(".") + (path.name == "__init__.py")
    return path.parents[above] if above < len(path.parents) else None
