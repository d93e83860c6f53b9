"""P18, P24: Debian's PyPy and its debug build of CPython, which ``.ci/run`` installs, are Pythons like any other."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from pytest_pyinstall.errors import PackError
from pytest_pyinstall.interpreter.discover import discover
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.pack import look_at
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.request.request import Request

PYTHONS = {
    "pypy": "/usr/bin/pypy3" if Path("/usr/bin/pypy3").exists() else "",
    "debug": next((str(path) for path in sorted(Path("/usr/bin").glob("python3.*-dbg"))), ""),
}

pytestmark = pytest.mark.skipif(not all(PYTHONS.values()), reason="needs Debian's pypy3, pypy3-venv and python3-dbg")


def found(kind: str, tmp_path: Path) -> Interpreter:
    request = "pypy" if kind == "pypy" else _debug_request()
    (interpreter, *_) = discover(
        Request.parse(request), environ={"PATH": "/usr/bin"}, home=tmp_path, target=Target.current()
    )
    return interpreter


def _debug_request() -> str:
    return Path(PYTHONS["debug"]).name.removeprefix("python").replace("-dbg", "d")


@pytest.mark.parametrize("kind", PYTHONS)
def test_it_is_found_on_path_and_says_what_it_is(kind: str, tmp_path: Path) -> None:
    interpreter = found(kind, tmp_path)
    assert interpreter.executable.resolve() == Path(PYTHONS[kind]).resolve()
    assert (interpreter.implementation, interpreter.debug) == (("pypy", False) if kind == "pypy" else ("cpython", True))


@pytest.mark.parametrize("name", ["python3.11-dbg", "python3.11d", "python3-dbg"])
def test_every_name_of_a_debug_build_is_looked_at(name: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).symlink_to(PYTHONS["debug"])
    environ = {"PATH": str(tmp_path / "bin")}
    interpreters = list(
        discover(Request.parse(_debug_request()), environ=environ, home=tmp_path, target=Target.current())
    )
    assert [interpreter.debug for interpreter in interpreters] == [True]


def _implementation(answer: int) -> list[object]:
    import sys

    return [answer, sys.implementation.name, hasattr(sys, "gettotalrefcount")]


@pytest.mark.parametrize("kind", PYTHONS)
def test_call_and_environment(kind: str, tmp_path: Path) -> None:
    interpreter = found(kind, tmp_path)
    assert interpreter.call(_implementation, 42) == [42, interpreter.implementation, interpreter.debug]

    environment = interpreter.environment(tmp_path / "environment")
    script = (
        "import sys; print(sys.prefix != sys.base_prefix, sys.implementation.name, hasattr(sys, 'gettotalrefcount'))"
    )
    said = environment.run("-c", script).stdout.split()
    assert said == ["True", interpreter.implementation, str(interpreter.debug)]


def test_fixtures_and_suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]))
    pytester.makepyfile(
        test_fixture="""
        def test_python(python, python_env):
            assert python.implementation == "pypy" or python.debug
            assert python_env.run("-c", "print(1)").stdout == "1\\n"
        """,
        test_suite="""
        import sys

        def test_this():
            assert sys.implementation.name == "pypy" or hasattr(sys, "gettotalrefcount")
        """,
    )
    pytester.makepyprojecttoml('[project]\nname = "demo"\nversion = "1"\n')
    options = ("--python", "pypy", "--python", _debug_request(), "-p", "no:cacheprovider")
    done = pytester.runpytest_subprocess(*options, "test_fixture.py")
    done.assert_outcomes(passed=2)
    done = pytester.runpytest_subprocess(
        *options, "--python-suite", "test_suite.py", "-o", "pyinstall_suite_install=iniconfig"
    )
    done.stdout.fnmatch_lines(["*2 passed*"])


@pytest.mark.parametrize("kind", PYTHONS)
def test_packing_it_is_refused_with_the_way_out(kind: str) -> None:
    """Both are spread over /usr, and PyPy's own archives move by themselves."""
    with pytest.raises(PackError) as caught:
        look_at(Path(PYTHONS[kind]), environ=os.environ)
    command = caught.value.hint.split()
    assert command[:2] in (["pytest-pyinstall", "mirror"], ["pyenv", "install"])
    assert shutil.which("pytest-pyinstall", path=str(Path(sys.executable).parent))
