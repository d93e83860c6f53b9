"""P18: ``pythonX.Y`` on PATH is the interpreter that the id names, or the session fails."""

import os
import subprocess
import sys
from pathlib import Path

import archives
import pytest
from fault_report import Tally
from fault_workshop import RUNNING, VERSION, Workshop
from volumes import tmpfs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs")

NAME = f"python{VERSION.rpartition('.')[0]}"
SCRIPT = "import sys; print('it is', sys.base_prefix, '%d.%d.%d' % sys.version_info[:3])"
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to mount")


def path_with_impostor(workshop: Workshop) -> dict[str, str]:
    """A PATH on which another program has the name of the Python."""
    impostor = workshop.directory / "impostor"
    impostor.mkdir(exist_ok=True)
    (impostor / NAME).write_text("#!/bin/sh\necho impostor\n")
    (impostor / NAME).chmod(0o755)
    return {"PATH": f"{impostor}{os.pathsep}{workshop.environ['PATH']}"}


def output_in_a_session(workshop: Workshop, environ: dict[str, str]) -> str:
    project = workshop.directory / "project"
    project.mkdir(exist_ok=True)
    (project / "test_it.py").write_text(
        "import shutil, subprocess\n"
        "def test_it(python):\n"
        f"    found = shutil.which({NAME!r})\n"
        f"    said = subprocess.run([found, '-c', {SCRIPT!r}], capture_output=True, text=True)\n"
        "    print(said.stdout, said.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rP", "--python", VERSION, "test_it.py"],
        env={**workshop.environ, **environ}, cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def output_under_exec(workshop: Workshop, environ: dict[str, str]) -> str:
    return workshop.run("exec", "--python", VERSION, "--", NAME, "-c", SCRIPT, environ=environ).output


DOORS = {"pytest": output_in_a_session, "exec": output_under_exec}


@needs_root
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("odd", ["TMPDIR", "cache", "both"])
@pytest.mark.parametrize("kind", ["noexec", "colon"])
def test_p18_another_directory_is_used_if_one_cannot_be_on_path(
    workshop: Workshop, tally: Tally, door: str, odd: str, kind: str, tmp_path: Path
) -> None:
    tally.attempt("a directory that cannot be on PATH")
    options = "mode=1777" + (",noexec" if kind == "noexec" else "")
    with tmpfs(tmp_path / ("odd:place" if kind == "colon" else "odd"), options) as place:
        environ = path_with_impostor(workshop)
        if odd != "cache":
            environ["TMPDIR"] = str(place)
        if odd != "TMPDIR":
            environ["PYTEST_PYINSTALL_CACHE"] = str(place / "cache")
        output = DOORS[door](workshop, environ)
        assert "impostor" not in output
        assert "Traceback" not in output
        if odd == "both":
            assert "on PATH" in output
            assert str(place) in output
        else:
            assert f"it is {sys.base_prefix} {VERSION}" in output
        assert not list(place.glob("pytest-pyinstall-*")), "left behind"
    tally.survive()


@pytest.mark.parametrize("door", DOORS)
def test_p18_a_read_only_cache_gives_the_same_command_as_a_writable_one(
    workshop: Workshop, tally: Tally, door: str
) -> None:
    tally.attempt("a directory that cannot be on PATH")
    environ = path_with_impostor(workshop)
    assert f"it is {sys.base_prefix} {VERSION}" in DOORS[door](workshop, environ)
    environ["PYTEST_PYINSTALL_CACHE"] = "/proc/nowhere"
    assert f"it is {sys.base_prefix} {VERSION}" in DOORS[door](workshop, environ)
    assert workshop.leftovers() == []
    tally.survive()


@pytest.mark.parametrize("door", DOORS)
def test_p18_another_libpython_on_ld_library_path_is_not_used(
    workshop: Workshop, tally: Tally, door: str, tmp_path: Path
) -> None:
    """A shared build finds its own library first, or the session fails. It never runs as another Python."""
    tally.attempt("a variable that redirects a Python")
    libraries = {path.name: path for path in Path(sys.base_prefix, "lib").glob("libpython3.*.so.*")}
    others = [path for path in archives.interpreters().values() if path.parent.parent != Path(sys.base_prefix)]
    foreign = [each for other in others for each in other.parent.parent.glob("lib/libpython3.1*.so.*")]
    if not libraries or not foreign:
        pytest.skip("needs two Pythons with a shared libpython")
    place = tmp_path / "libraries"
    place.mkdir()
    for name in libraries:
        (place / name).symlink_to(foreign[-1])
    # The outer process must not start with the variable.
    script = (
        f"import os, runpy, sys; os.environ['LD_LIBRARY_PATH'] = {str(place)!r}; sys.argv = sys.argv[1:]; "
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
    )
    ask = "import sys; print('it is', '%d.%d.%d' % sys.version_info[:3], sys.base_prefix)"
    words = ["pytest_pyinstall", "exec", "--python", sys.base_prefix, "--", NAME, "-c", ask]
    if door == "pytest":
        (tmp_path / "test_it.py").write_text(
            "import shutil, subprocess\n"
            "def test_it(python):\n"
            f"    command = [shutil.which({NAME!r}), '-c', {ask!r}]\n"
            "    print(subprocess.run(command, capture_output=True, text=True).stdout)\n"
        )
        words = ["pytest", "-p", "no:cacheprovider", "-rP", "--python", sys.base_prefix, str(tmp_path / "test_it.py")]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], env=workshop.environ, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert f"it is {VERSION} {sys.base_prefix}" in done.stdout, done.stdout + done.stderr
    tally.survive()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("variable", ["PYTHONHOME", "PYTHONEXECUTABLE"])
def test_p18_a_variable_that_redirects_the_python_fails_the_session(
    workshop: Workshop, tally: Tally, door: str, variable: str
) -> None:
    """The interpreter is probed in a clean environment, but the command on PATH gets that of the session."""
    tally.attempt("a variable that redirects a Python")
    script = (
        "import os, runpy, sys\n"
        f"os.environ[{variable!r}] = '/nowhere'\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
    )
    words = {
        "exec": ["pytest_pyinstall", "exec", "--python", VERSION, "--", NAME, "-c", SCRIPT],
        "pytest": ["pytest", "-p", "no:cacheprovider", "--python", VERSION, "--co", "-q"],
    }
    project = workshop.directory / "project"
    project.mkdir()
    (project / "test_it.py").write_text("def test_it(python): pass\n")
    done = subprocess.run(
        [sys.executable, "-c", script, *words[door]], env=workshop.environ, cwd=project, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert "it is /nowhere" not in output
    if done.returncode == 0:
        assert RUNNING is not None
    else:
        assert variable in output, output
    tally.survive()
