"""Lists the Pythons that other tools have installed, by the names of their directories."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_pyinstall.candidate import Candidate, guess_directory
from pytest_pyinstall.target import Target

__all__ = ["installed"]


def installed(environ: Mapping[str, str], home: Path, target: Target) -> Iterator[Candidate]:
    """What the tools that install Pythons have installed, by the names of their directories."""
    for source, directory in _directories(environ, home, target):
        for entry in _entries(directory):
            if candidate := guess_directory(entry, source, target):
                yield candidate


def _directories(environ: Mapping[str, str], home: Path, target: Target) -> Iterator[tuple[str, Path]]:
    """Where each tool keeps its Pythons: its own variable, else its default for this system.

    Sources: uv's and mise's documentation, pyenv's and asdf's READMEs, and the code of hatch 1.18, nox 2026.10 and pdm.
    """
    windows, macos = target.os == "windows", target.os == "macos"
    local = _variable(environ, "LOCALAPPDATA") or home / "AppData" / "Local"
    xdg = _variable(environ, "XDG_DATA_HOME") or home / ".local" / "share"
    data = local if windows else home / "Library" / "Application Support" if macos else xdg  # as platformdirs says
    if uv := _variable(environ, "UV_PYTHON_INSTALL_DIR"):
        yield "uv", uv
    elif windows:
        roaming = _variable(environ, "APPDATA") or home / "AppData" / "Roaming"
        yield "uv", roaming / "uv" / "python"
        yield "uv", roaming / "uv" / "data" / "python"
    else:
        yield "uv", xdg / "uv" / "python"
        if macos:
            yield "uv", data / "uv" / "python"  # where it was before uv 0.3
    pyenv = _variable(environ, "PYENV_ROOT") or home / ".pyenv"
    yield "pyenv", pyenv / "versions"
    if windows:
        yield "pyenv", pyenv / "pyenv-win" / "versions"
    hatch = _variable(environ, "HATCH_DATA_DIR") or data / "hatch"
    yield "hatch", hatch / "pythons"
    yield "hatch", hatch / "env" / "virtual" / ".pythons"
    yield "nox", home / ".local" / "share" / "nox" / "pythons"
    mise = _variable(environ, "MISE_DATA_DIR") or (local if windows else xdg) / "mise"
    yield "mise", mise / "installs" / "python"
    asdf = _variable(environ, "ASDF_DATA_DIR") or home / ".asdf"
    yield "asdf", asdf / "installs" / "python"
    yield "pdm", data / "pdm" / "python"
    if windows:
        yield "pdm", data / "pdm" / "pdm" / "python"


def _variable(environ: Mapping[str, str], name: str) -> Path | None:
    """An absolute directory, or nothing: a relative one would search whatever directory we happen to be in."""
    directory = Path(environ.get(name, ""))
    return directory if directory.is_absolute() else None


def _entries(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return []
    # Links are second names: uv's minor versions, mise's `latest`.
    return [entry for entry in entries if not entry.name.startswith(".") and not entry.is_symlink()]
