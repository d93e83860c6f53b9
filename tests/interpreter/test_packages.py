"""Wheels that were installed once are copied into the next environment, if the result would be the same."""

import os
import sys
import zipfile
from pathlib import Path

import pytest
from archives import interpreters
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
def wheel_path(tmp_path: Path) -> str:
    """A file with the name of a wheel, which is never installed."""
    path = tmp_path / "spam-1.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return str(path)


def _create(path: Path, python: Interpreter) -> Path:
    create(path, key=python.key, base_executable=python.base_executable, environ=os.environ)
    return path


def _recognize(
    path: Path, python: Interpreter, *requirements: str, environ: dict[str, str] | None = None
) -> Wheels | None:
    return recognise(path, requirements, key=python.key, base_executable=python.base_executable, environ=environ or {})


def _install(path: Path, python: Interpreter, *requirements: str) -> Wheels:
    """Do what an installer does for a wheel with one module."""
    wheels = _recognize(path, python, *requirements)
    assert wheels is not None
    (wheels.site_packages / "spam").mkdir()
    (wheels.site_packages / "spam/__init__.py").write_text("VALUE = 1\n")
    (wheels.site_packages / "spam-1.0.dist-info").mkdir()
    (wheels.site_packages / "spam-1.0.dist-info/METADATA").write_text("Name: spam\n")
    return wheels


def test_the_second_environment_gets_a_copy_of_the_packages(
    tmp_path: Path, python: Interpreter, wheel_path: str
) -> None:
    first, second = _create(tmp_path / "first", python), _create(tmp_path / "second", python)
    remember(first, _install(first, python, wheel_path))

    known = _recognize(second, python, wheel_path)

    assert known is not None
    assert write_again(known)
    assert (known.site_packages / "spam/__init__.py").read_text() == "VALUE = 1\n"
    assert (known.site_packages / "spam/__init__.py").stat().st_nlink == 1


def test_nothing_is_copied_into_the_first_environment(tmp_path: Path, python: Interpreter, wheel_path: str) -> None:
    known = _recognize(_create(tmp_path / "first", python), python, wheel_path)

    assert known is not None
    assert not write_again(known)


@pytest.mark.parametrize("change", ["another wheel", "another setting", "another order"])
def test_nothing_is_copied_if_the_result_would_differ(
    tmp_path: Path, python: Interpreter, wheel_path: str, change: str
) -> None:
    other = wheel_path.replace("spam", "eggs")
    Path(other).write_bytes(b"wheel")
    first, second = _create(tmp_path / "first", python), _create(tmp_path / "second", python)
    remember(first, _install(first, python, wheel_path))
    if change == "another wheel":
        Path(wheel_path).write_bytes(b"a newer wheel")

    known = _recognize(
        second,
        python,
        *((other, wheel_path) if change == "another order" else (wheel_path,)),
        environ={"UV_COMPILE_BYTECODE": "1"} if change == "another setting" else None,
    )

    assert known is not None
    assert not write_again(known)


@pytest.mark.parametrize("requirement", ["spam", "spam==1.0", "-r", ".", "https://host/spam-1.0-py3-none-any.whl"])
def test_requirements_that_an_index_resolves_are_installed(
    tmp_path: Path, python: Interpreter, requirement: str
) -> None:
    assert _recognize(_create(tmp_path / "first", python), python, requirement) is None


def test_nothing_is_copied_into_an_environment_with_packages(
    tmp_path: Path, python: Interpreter, wheel_path: str
) -> None:
    first = _create(tmp_path / "first", python)
    _install(first, python, wheel_path)

    assert _recognize(first, python, wheel_path) is None


@pytest.mark.skipif("3.6" not in interpreters(), reason="needs Python 3.6, whose pip is pip 18")
def test_an_old_pip_accepts_two_requirements_for_one_project(tmp_path: Path) -> None:
    old = probe(interpreters()["3.6"], environ=os.environ)
    wheel(tmp_path, "spam")
    (tmp_path / "requirements.txt").write_text("spam<2\n")
    environ = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    path = _create(tmp_path / "environment", old)

    words = ("spam", "-r", str(tmp_path / "requirements.txt"))
    install(path, *words, key=old.key, base_executable=old.base_executable, environ=environ, uv=None)

    assert list(path.glob("lib/*/site-packages/spam-1.0.dist-info"))


@pytest.mark.parametrize("surprise", ["a dependency", "a script", "its own path", "a link", "too much"])
def test_packages_whose_copy_would_differ_are_not_remembered(
    tmp_path: Path, python: Interpreter, wheel_path: str, surprise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _create(tmp_path / "first", python)
    wheels = _install(first, python, wheel_path)
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
            (site_packages / "link.py").symlink_to(wheel_path)
        case _:
            monkeypatch.setattr(module, "_MOST", 3)

    remember(first, wheels)

    known = _recognize(_create(tmp_path / "second", python), python, wheel_path)
    assert known is not None
    assert not write_again(known)


def test_a_copied_package_shares_no_file(tmp_path: Path, python: Interpreter) -> None:
    """A real installer runs once. The second time, the installer does not exist."""
    first, second = (_create(tmp_path / name, python) for name in ("first", "second"))
    demo = str(_without_script(wheel(tmp_path, "demo_thing"), tmp_path / "plain"))
    base = python.base_executable

    install(first, demo, key=python.key, base_executable=base, environ=os.environ, uv=find_uv(os.environ))
    install(second, demo, key=python.key, base_executable=base, environ=os.environ, uv="/nowhere/uv")

    one, other = (next(path.rglob("demo_thing.py")) for path in (first, second))
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_ino != other.stat().st_ino


def _without_script(path: Path, directory: Path) -> Path:
    directory.mkdir()
    wheel_path = directory / path.name
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(wheel_path, "w") as new:
        for name in old.namelist():
            if not name.endswith("entry_points.txt"):
                lines = old.read(name).decode().splitlines(keepends=True)
                new.writestr(name, "".join(line for line in lines if "entry_points" not in line))
    return wheel_path
