"""Downloads that fail in code of a file or of a library it calls: what was tried, and a way out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from aelab.errors import MOST_CHARACTERS

#: Packages whose exceptions, as far as they are errors of the system, are those of a connection.
_CLIENTS = {"requests", "urllib3", "httpx", "httpcore", "aiohttp"}
#: Names of variables in which downloading functions keep the file that they look for first:
#: `torch.hub.load_state_dict_from_url`, `torch.hub.download_url_to_file`.
_TARGETS = ("cached_file", "dst")


def failed_download(error: BaseException) -> tuple[str, str] | None:
    """Message and way out if an exception is, or comes from, a connection that failed; else None.

    Args:
        error: with its traceback, from which the address is taken.
    """
    chain = list(_chain(error))
    failed = next((one for one in reversed(chain) if _is_connection(one)), None)
    if failed is None:
        return None
    frames = [variables for one in chain for variables in _variables(one.__traceback__)]
    address = _first_address(failed, frames)
    targets = (found.get(name) for found in frames for name in _TARGETS)
    target = next((str(path) for path in targets if path and isinstance(path, str | Path)), None)
    reason = getattr(failed, "reason", None) or failed
    said = " ".join(str(getattr(reason, "strerror", None) or reason).split())[:MOST_CHARACTERS]
    other = "connect this machine"
    from urllib.error import HTTPError

    if isinstance(failed, HTTPError):
        said, other = f"the server answers {failed.code}, {said}", "correct the address"
    message = f"cannot download {address or 'a file'}: {said or type(failed).__name__}"
    place = f"put it at {target}, where this call looks first" if target else (
        "name the local file in place of the address"
    )  # fmt: skip
    return message, f"download it elsewhere and {place}; or {other}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it comes from."""
    one: BaseException | None = error
    seen = set[int]()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _is_connection(error: BaseException) -> bool:
    import ssl
    from http.client import HTTPException
    from urllib.error import URLError

    if isinstance(error, URLError | socket.gaierror | ssl.SSLError | HTTPException):
        return True
    return type(error).__module__.partition(".")[0] in _CLIENTS


def _variables(trace: TracebackType | None) -> Iterator[dict[str, object]]:
    """The local variables of each call, the outermost first."""
    while trace is not None:
        yield trace.tb_frame.f_locals
        trace = trace.tb_next


def _first_address(error: BaseException, frames: list[dict[str, object]]) -> str | None:
    request = getattr(error, "request", None)
    for given in (getattr(error, "url", None), getattr(request, "url", None)):
        if given:
            return str(given)
    values = (value for found in frames for value in list(found.values()))
    return next(
        (v for v in values if isinstance(v, str) and v.startswith(("http://", "https://"))), None
    )
