"""Makes a wheel out of a project that was installed editable, so that it is built once and not for each Python.

A build of setuptools takes a second or two, and only one may write its files into the source tree at a time.
"""

import base64
import configparser
import csv
import email
import hashlib
import json
import os
import re
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["is_alike", "pack_editable"]

_NOT_THE_WHEELS = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
"""What an installer adds."""


def is_alike(project: Path) -> bool:
    """Whether nothing is to be seen in `project` that would build another thing under another Python."""
    try:
        setup = (project / "setup.py").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        setup = ""
    except OSError:
        return False
    try:
        document = (project / "pyproject.toml").read_text(encoding="utf-8", errors="replace")
    except OSError:
        document = ""
    asks = re.search(r"\bsys\b|\bplatform\b|version_info|python_implementation", setup)
    return not asks and "metadata.hooks.custom" not in document and "backend-path" not in document


def pack_editable(packages: Path, project: Path, *, into: Path) -> Path | None:
    """A wheel in `into` that installs again what lies in the site-packages `packages` as the editable `project`.

    None where that could be another thing under another Python or in another environment: with a file that was
    compiled, that is code, or that lies outside. Raises `OSError`. What is in `into` is whole.
    """
    try:
        found = _metadata(packages, project)
        if found is None:
            return None
        tags = email.message_from_string((found / "WHEEL").read_text(encoding="utf-8"))
        names = _names(packages, found)
    except (ValueError, KeyError, csv.Error, configparser.Error):
        return None
    tagged = [tag.split("-") for tag in tags.get_all("Tag", [])]
    if names is None or tags["Root-Is-Purelib"] != "true" or any(tag[1:] != ["none", "any"] for tag in tagged):
        return None
    pythons = ".".join(dict.fromkeys(tag[0] for tag in tagged))
    into.mkdir(parents=True, exist_ok=True)
    wheel = into / f"{found.name.removesuffix('.dist-info')}-{pythons}-none-any.whl"
    scratch = into / f".{os.getpid()}.new"
    _write(scratch, packages, names, record=f"{found.name}/RECORD")
    scratch.replace(wheel)
    return wheel


def _metadata(packages: Path, project: Path) -> Path | None:
    """The ``.dist-info`` of `project`, if it is editable."""
    for path in packages.glob("*.dist-info/direct_url.json"):
        document = json.loads(path.read_bytes())
        place = unquote(urlsplit(document["url"]).path)
        if document.get("dir_info", {}).get("editable") and Path(place) == project:
            return path.parent
    return None


def _names(packages: Path, metadata: Path) -> list[str] | None:
    """The files of the wheel; None where one is not what every environment would have."""
    commands = _commands(metadata / "entry_points.txt")
    names = []
    with (metadata / "RECORD").open(encoding="utf-8", newline="") as record:
        for row in csv.reader(record):
            name = row[0].replace(os.sep, "/")
            if name.startswith(f"{metadata.name}/"):
                if name.rpartition("/")[2] not in _NOT_THE_WHEELS:
                    names.append(name)
            elif name.endswith(".pth") and "/" not in name and _is_plain(packages / name):
                names.append(name)
            elif not (name.startswith("../") and name.rpartition("/")[2].removesuffix(".exe") in commands):
                return None
    return names


def _commands(entry_points: Path) -> set[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of commands keep their case
    parser.read(entry_points, encoding="utf-8")
    sections = [name for name in ("console_scripts", "gui_scripts") if parser.has_section(name)]
    return {name for section in sections for name in parser[section]}


def _is_plain(path: Path) -> bool:
    """Whether a ``.pth`` names places by their whole paths, and runs nothing."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return all(os.path.isabs(line) for line in lines if line.strip())  # noqa: PTH117  # text


def _write(target: Path, packages: Path, names: list[str], *, record: str) -> None:
    rows = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            content = (packages / name).read_bytes()
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f'"{name}",sha256={digest},{len(content)}\n')
        archive.writestr(record, "".join([*rows, f"{record},,\n"]))
