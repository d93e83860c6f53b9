"""What to type, and where, in place of requests that cannot be meant."""

import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_pyinstall.errors import InvalidRequestError, PyinstallError
from pytest_pyinstall.request import parse_requests

__all__ = ["blamed", "retyped"]


def blamed(error: PyinstallError, *, origin: str, hint: str = "") -> PyinstallError:
    """As `error`, and its message begins with `origin`: the option, variable, ini value or mark that asked for it."""
    message = error.message if error.message.startswith(origin) else f"{origin}: {error.message}"
    said = type(error)(message, hint=hint or error.hint)
    said.__cause__ = error
    return said


def retyped(error: PyinstallError, texts: Iterable[object], *, origin: str) -> PyinstallError:
    """As `blamed`; where the hint is a request, it has become all of `texts`, corrected, as they stand at `origin`."""
    hint = error.hint.strip('"')
    if not _is_request(hint):
        return blamed(error, origin=origin)
    texts = list(texts)
    corrected = [text for item in texts if (text := _corrected(item))]
    if corrected == texts or not corrected or not all(map(_is_request, corrected)):
        # It is about something else: a word, say, that means nothing for the project.
        corrected = [hint]
    return blamed(error, origin=origin, hint=_written(corrected, origin))


def _corrected(item: object) -> str:
    """`item` with each of its requests that is none replaced by what comes closest."""
    if not isinstance(item, str):
        return _closest(item)
    pieces = (piece.strip() for piece in item.replace("\n", ",").split(","))
    return ",".join(_closest(piece) for piece in pieces if piece)


def _closest(item: object) -> str:
    try:
        parse_requests([item], directory=Path(), origin="")
    except InvalidRequestError as error:
        return error.hint.strip('"')
    return str(item)


def _is_request(text: str) -> bool:
    try:
        return bool(parse_requests([text], directory=Path(), origin=""))
    except InvalidRequestError:
        return False


def _written(texts: Sequence[str], origin: str) -> str:  # noqa: PLR0911  # one for each place
    """How one asks for `texts` at `origin`."""
    quoted = ", ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    match origin.split(maxsplit=1)[0]:
        case "--python":
            pytest = "pytest " if origin == "--python" else ""
            return f"{pytest}--python {shlex.quote(','.join(texts))}"
        case "pyinstall_python":
            is_ini = origin.endswith((".ini", ".cfg"))
            return f"pyinstall_python = {', '.join(texts) if is_ini else f'[{quoted}]'}"
        case "PYTEST_PYINSTALL_PYTHON":
            return f"PYTEST_PYINSTALL_PYTHON={shlex.quote(','.join(texts))}"
        case "@pytest.mark.python":
            return f"@pytest.mark.python({quoted})"
        case "install_python":
            return f"install_python({quoted})"
        case "exec":
            return f"pytest-pyinstall exec --python {shlex.join(texts)} -- COMMAND"
        case "dir":
            return f"pytest-pyinstall dir --cache-key --python {shlex.join(texts)}"
        case "install" | "find" | "remove" | "verify" | "matrix" as command:
            return f"pytest-pyinstall {command} {shlex.join(texts)}"
    return ",".join(texts)
