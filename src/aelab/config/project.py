"""Where the packages of a trusted file lie: in its project, wherever the file itself stands.

Python looks for imports beside the script that it was started with. A file of experiments often
stands one or more folders below the packages it imports, so those folders are looked through too.
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

#: Never taken from a project: torch itself would break if the blocks had another one.
_LIBRARIES = frozenset({"torch", "torchvision", "math"})

#: Roots that trusted blocks have imported from, in this process.
_used: set[Path] = set()
#: Those in force, in order, and those of every folder that files were read from.
_active: list[Path] = []
_of_folder: dict[Path | None, list[Path]] = {}
#: Those that `sys.path` did not have before.
_added: set[Path] = set()
#: First names of the modules that were loaded before the first of them: none of a project's.
_before: set[str] = set()


def find_root(module: str, folder: Path) -> Path | None:
    """The folder from which `import module` finds the package of the file's project.

    In order: the file's own folder, `PYTHONPATH`, then every folder above the file and its `src`,
    the nearest first. A folder that everybody may write to ends the walk: what lies there or above
    need not be the user's own. Where no folder has the whole path, the nearest that has the
    package's first name counts, so that Python can say which part of the path is missing.

    Args:
        module: dotted, for instance `experiments.ae.mixer.mixermodel`.
        folder: of the experiment file, absolute.

    Returns:
        The folder, or None: the module is Python's own, installed, or nowhere.
    """
    top = module.partition(".")[0]
    if not top or top in _LIBRARIES or top in sys.stdlib_module_names:
        return None
    if "site-packages" in str(getattr(sys.modules.get(top), "__file__", "")):
        return None  # aelab or torch stand on it already: there cannot be a second one
    places = list(_places(folder))
    whole = next((place for place in places if _holds(place, module)), None)
    if whole is not None or _is_installed(top):
        return whole
    return next((p for p in places if _holds(p, top) or (p / top).is_dir()), None)


def has_module(module: str, folder: Path | None) -> bool:
    """Whether the file's project has the whole of `module`."""
    root = find_root(module, folder) if folder else None
    return root is not None and _holds(root, module)


def activate(roots: Sequence[Path], folder: Path | None) -> None:
    """Make imports look in `roots` first until a file elsewhere comes: functions may import late.

    Files of one folder keep each other's roots and modules, as the runs of a matrix do. Other
    projects' roots are looked in no longer and their modules are forgotten: two files of one
    command never share a package that merely is called the same.

    Args:
        roots: where the file's imports were found.
        folder: of the file.
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
    """Every folder that may hold the project's packages, in the order of trust."""
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
    """Whether `place` has the module's file, or its folder with an `__init__.py`.

    A folder without one counts below the first name only: at the top, any folder of data that
    happens to have the name of an installed package would hide that.
    """
    path = place.joinpath(*module.split("."))
    if path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file():
        return True
    return "." in module and path.is_dir()


def _is_installed(top: str) -> bool:
    """Whether Python finds the package without looking into any project."""
    if any(name.partition(".")[0] == top and _root_of(name) in _used for name in sys.modules):
        return False
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _root_of(name: str) -> Path | None:
    """The folder that a loaded module was found from; None for Python's own and for folders."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if not file:
        return None
    path = Path(file)
    above = name.count(".") + (path.name == "__init__.py")
    return path.parents[above] if above < len(path.parents) else None
