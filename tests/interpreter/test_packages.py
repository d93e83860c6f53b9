"""What was installed once is written again, and only where nothing else could have come out of it."""

import os
import sys
import zipfile
from pathlib import Path

import pytest
from wheels import wheel

from pytest_pyinstall.interpreter import packages as module
from pytest_pyinstall.interpreter.environment import create
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.packages import Wheels, find_uv, install, recognise, remember, write_again
from pytest_pyinstall.interpreter.probe import probe


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_kept", {})


@pytest.fixture(scope="session")
def python() -> Interpreter:
    return probe(Path(sys.executable), environ=os.environ)


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A wheel, as far as anyone looks who does not install it."""
    path = tmp_path / "spam-1.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return str(path)


def _new(path: Path, python: Interpreter) -> Path:
    create(path, key=python.key, base_executable=python.base_executable, environ=os.environ)
    return path


def _recognised(
    path: Path, python: Interpreter, *requirements: str, environ: dict[str, str] | None = None
) -> Wheels | None:
    return recognise(path, requirements, key=python.key, base_executable=python.base_executable, environ=environ or {})


def _installed(path: Path, python: Interpreter, *requirements: str) -> Wheels:
    """As an installer does it, with one module."""
    wheels = _recognised(path, python, *requirements)
    assert wheels is not None
    (wheels.site_packages / "spam").mkdir()
    (wheels.site_packages / "spam/__init__.py").write_text("VALUE = 1\n")
    (wheels.site_packages / "spam-1.0.dist-info").mkdir()
    (wheels.site_packages / "spam-1.0.dist-info/METADATA").write_text("Name: spam\n")
    return wheels


def test_the_second_environment_gets_what_the_first_got(tmp_path: Path, python: Interpreter, plain: str) -> None:
    first, second = _new(tmp_path / "first", python), _new(tmp_path / "second", python)
    remember(first, _installed(first, python, plain))

    known = _recognised(second, python, plain)

    assert known is not None
    assert write_again(known)
    assert (known.site_packages / "spam/__init__.py").read_text() == "VALUE = 1\n"
    assert (known.site_packages / "spam/__init__.py").stat().st_nlink == 1


def test_nothing_is_known_at_first(tmp_path: Path, python: Interpreter, plain: str) -> None:
    known = _recognised(_new(tmp_path / "first", python), python, plain)

    assert known is not None
    assert not write_again(known)


@pytest.mark.parametrize("change", ["another wheel", "another setting", "another order"])
def test_another_outcome_is_not_known(tmp_path: Path, python: Interpreter, plain: str, change: str) -> None:
    other = plain.replace("spam", "eggs")
    Path(other).write_bytes(b"wheel")
    first, second = _new(tmp_path / "first", python), _new(tmp_path / "second", python)
    remember(first, _installed(first, python, plain))
    if change == "another wheel":
        Path(plain).write_bytes(b"a newer wheel")

    known = _recognised(
        second,
        python,
        *((other, plain) if change == "another order" else (plain,)),
        environ={"UV_COMPILE_BYTECODE": "1"} if change == "another setting" else None,
    )

    assert known is not None
    assert not write_again(known)


@pytest.mark.parametrize("requirement", ["spam", "spam==1.0", "-r", ".", "https://host/spam-1.0-py3-none-any.whl"])
def test_what_an_index_decides_is_left_to_the_installer(tmp_path: Path, python: Interpreter, requirement: str) -> None:
    assert _recognised(_new(tmp_path / "first", python), python, requirement) is None


def test_so_is_what_goes_where_something_is_already(tmp_path: Path, python: Interpreter, plain: str) -> None:
    first = _new(tmp_path / "first", python)
    _installed(first, python, plain)

    assert _recognised(first, python, plain) is None


@pytest.mark.parametrize("surprise", ["a dependency", "a script", "its own path", "a link", "too much"])
def test_what_is_not_settled_is_not_remembered(
    tmp_path: Path, python: Interpreter, plain: str, surprise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _new(tmp_path / "first", python)
    wheels = _installed(first, python, plain)
    site_packages = wheels.site_packages
    match surprise:
        case "a dependency":
            (site_packages / "eggs-1.0.dist-info").mkdir()
            (site_packages / "eggs-1.0.dist-info/METADATA").write_text("Name: eggs\n")
        case "a script":
            next(site_packages.parents[len(site_packages.relative_to(first).parts) - 1].glob("[bS]*")).joinpath(
                "spam"
            ).write_text("")
        case "its own path":
            (site_packages / "spam.pth").write_text(str(first))
        case "a link":
            (site_packages / "link.py").symlink_to(plain)
        case _:
            monkeypatch.setattr(module, "_MOST", 3)

    remember(first, wheels)

    known = _recognised(_new(tmp_path / "second", python), python, plain)
    assert known is not None
    assert not write_again(known)


def test_environments_share_nothing_but_what_was_installed(tmp_path: Path, python: Interpreter) -> None:
    """With a real installer, once; the second time there is none that could do it."""
    first, second = (_new(tmp_path / name, python) for name in ("first", "second"))
    demo = str(_without_script(wheel(tmp_path, "demo_thing"), tmp_path / "plain"))
    base = python.base_executable

    install(first, demo, key=python.key, base_executable=base, environ=os.environ, uv=find_uv(os.environ))
    install(second, demo, key=python.key, base_executable=base, environ=os.environ, uv="/nowhere/uv")

    one, other = (next(path.rglob("demo_thing.py")) for path in (first, second))
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_ino != other.stat().st_ino


def _without_script(path: Path, directory: Path) -> Path:
    directory.mkdir()
    plain = directory / path.name
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(plain, "w") as new:
        for name in old.namelist():
            if not name.endswith("entry_points.txt"):
                lines = old.read(name).decode().splitlines(keepends=True)
                new.writestr(name, "".join(line for line in lines if "entry_points" not in line))
    return plain
