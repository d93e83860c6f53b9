"""P24: a machine without a home or a passwd entry, or with an unusual locale, never causes a traceback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from fault_report import Tally
from fault_workshop import VERSION, Ended, Workshop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs setpriv, and the locales of Linux")

NOBODY = 54321
"""A user id without a passwd entry, as in containers with an arbitrary user."""


def as_nobody(workshop: Workshop, *command: str, environ: Mapping[str, str]) -> Ended:
    """Run as `NOBODY`. It can write no file, but read every file, because the interpreter may be in root's home."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or os.geteuid() != 0:
        pytest.skip("needs root, and setpriv")
    words = [setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    words += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return _run([*words, *command], workshop, environ)


def as_this_user(workshop: Workshop, *words: str, environ: Mapping[str, str]) -> Ended:
    return _run([sys.executable, "-B", "-m", "pytest_pyinstall", *words], workshop, environ)


def _run(command: Sequence[str], workshop: Workshop, environ: Mapping[str, str]) -> Ended:
    done = subprocess.run(
        command, env=dict(environ), cwd=workshop.directory, stdin=subprocess.DEVNULL, capture_output=True,
        encoding="utf-8", errors="surrogateescape", check=False, timeout=100,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout + done.stderr)


def without_home(workshop: Workshop) -> dict[str, str]:
    return {name: value for name, value in workshop.environ.items() if name != "HOME"}


@pytest.mark.parametrize("words", [("find", VERSION), ("install", VERSION), ("list",), ("dir",), ("verify",)])
def test_p24_configured_directories_are_enough_without_a_home_and_a_passwd_entry(
    workshop: Workshop, tally: Tally, words: tuple[str, ...]
) -> None:
    tally.attempt("no home and no passwd entry")
    ended = as_nobody(workshop, sys.executable, "-B", "-m", "pytest_pyinstall", *words, environ=without_home(workshop))
    assert ended.code == 0, ended.output
    tally.survive()


@pytest.mark.parametrize("with_directories", [True, False])
def test_p24_the_fixture_needs_no_home(workshop: Workshop, tally: Tally, with_directories: bool) -> None:
    tally.attempt("no home and no passwd entry")
    project = workshop.directory / "project"
    project.mkdir()
    (project / "test_it.py").write_text("def test_it(python): assert python.run('-c', 'print(1)').stdout == '1\\n'\n")
    workshop.temporary.chmod(0o1777)
    environ = without_home(workshop)
    if not with_directories:
        environ = {name: value for name, value in environ.items() if not name.startswith("PYTEST_PYINSTALL")}
    ended = as_nobody(
        workshop, sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", str(project), environ=environ
    )
    assert ended.code == 0, ended.output
    assert "1 passed" in ended.output
    tally.survive()


def test_p24_without_a_home_a_private_temporary_directory_is_used(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("no home and no passwd entry")
    workshop.temporary.chmod(0o1777)
    kept = ("PYTEST_PYINSTALL_MIRROR", "PYTEST_PYINSTALL_CATALOGUE", "PYTEST_PYINSTALL_PREFERENCE", "PATH", "TMPDIR")
    environ = {name: value for name, value in workshop.environ.items() if name in kept}
    command = (sys.executable, "-B", "-m", "pytest_pyinstall")
    ended = as_nobody(workshop, *command, "install", VERSION, environ=environ)
    assert ended.code == 0, ended.output
    assert str(workshop.temporary) in ended.output
    again = as_nobody(workshop, *command, "find", VERSION, environ=environ)
    assert again.code == 0, again.output
    tally.survive()


@pytest.mark.parametrize("home", ["~", "relative/home", "~nosuchuser"])
def test_p24_a_home_that_is_not_an_absolute_path_is_ignored(workshop: Workshop, tally: Tally, home: str) -> None:
    tally.attempt("an invalid home")
    environ = {name: value for name, value in workshop.environ.items() if name != "PYTEST_PYINSTALL_CACHE"}
    environ["XDG_CACHE_HOME"] = str(workshop.directory / "xdg")
    for words in (("find", VERSION), ("install", VERSION), ("dir",), ("list",)):
        ended = as_this_user(workshop, *words, environ={**environ, "HOME": home})
        assert ended.code == 0, ended.output
    assert not [path for path in workshop.directory.iterdir() if path.name in {"relative", "~", "~nosuchuser"}]
    tally.survive()


UNKNOWN = [
    ("PYTEST_PYINSTALL_STORE", ("dir",)),
    ("PYTEST_PYINSTALL_CACHE", ("dir",)),
    ("PYTEST_PYINSTALL_HOME", ("dir",)),
    ("PYTEST_PYINSTALL_MIRROR", ("dir",)),
    ("PYTEST_PYINSTALL_CATALOGUE", ("dir",)),
    ("PYTEST_PYINSTALL_TRUSTED_STORE", ("dir",)),
    ("PYTEST_PYINSTALL_ATTESTATION_ROOT", ("dir",)),
    ("UV_PYTHON_INSTALL_DIR", ("dir",)),
]


@pytest.mark.parametrize(("name", "words"), UNKNOWN)
def test_an_unknown_user_in_a_variable_is_an_error_that_names_the_variable(
    workshop: Workshop, tally: Tally, name: str, words: tuple[str, ...]
) -> None:
    tally.attempt("an unknown user in a path")
    hidden = {"UV_PYTHON_INSTALL_DIR": {"PYTEST_PYINSTALL_STORE": ""}}
    hidden["PYTEST_PYINSTALL_HOME"] = {"PYTEST_PYINSTALL_STORE": ""}
    environ = {**workshop.environ, **hidden.get(name, {}), name: "~nosuchuser/pythons"}
    ended = as_this_user(workshop, *words, environ=environ)
    assert ended.code == 2, ended.output
    assert f"error: {name}: " in ended.output
    assert "'nosuchuser'" in ended.output
    tally.survive()


@pytest.mark.parametrize(
    "words",
    [
        ("find", "~nosuchuser/bin/python"),
        ("mirror", "pull", "~nosuchuser/mirror", VERSION),
        ("mirror", "pack", "~nosuchuser/mirror", sys.executable),
        ("report", "~nosuchuser/results"),
        ("--python-store", "~nosuchuser/store", "dir"),
        ("dir", "--python-cache=~nosuchuser/cache"),
    ],
)
def test_an_unknown_user_in_an_argument_is_an_error(workshop: Workshop, tally: Tally, words: tuple[str, ...]) -> None:
    tally.attempt("an unknown user in a path")
    ended = as_this_user(workshop, *words, environ=workshop.environ)
    assert ended.code in {2, 3}, ended.output
    assert "Traceback" not in ended.output
    assert "nosuchuser" in ended.output
    tally.survive()


BAD = [
    "https://u:p[ss@host",
    "https://u:p]ss@host/x",
    "https://u:secret@host:port/",
    "https://u:secret@[::1",
    "https://:secret@/",
]


@pytest.mark.parametrize("url", BAD)
@pytest.mark.parametrize("name", ["MIRROR", "CATALOGUE"])
def test_p13_an_invalid_url_is_an_error_that_names_the_variable(
    workshop: Workshop, tally: Tally, name: str, url: str
) -> None:
    tally.attempt("an invalid URL")
    variable = f"PYTEST_PYINSTALL_{name}"
    ended = as_this_user(workshop, "install", "--reinstall", VERSION, environ={**workshop.environ, variable: url})
    assert ended.code == 2, ended.output
    assert f"error: {variable}: " in ended.output
    assert not any(secret in ended.output for secret in ("p[ss", "p]ss", "secret"))
    tally.survive()


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UTF_8 = {"LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize(("first", "then"), [(ASCII, UTF_8), (UTF_8, ASCII), (ASCII, ASCII)])
def test_p24_non_ascii_paths_work_under_the_c_locale(
    workshop: Workshop, tally: Tally, first: dict[str, str], then: dict[str, str]
) -> None:
    tally.attempt("non-ASCII paths under the C locale")
    place = workshop.directory / "café ✓"
    place.mkdir()
    places = {"PYTEST_PYINSTALL_STORE": f"{place}/store", "PYTEST_PYINSTALL_CACHE": f"{place}/cache"}
    before = {**workshop.environ, **places, **first}
    after = {**workshop.environ, **places, **then}
    assert as_this_user(workshop, "install", VERSION, environ=before).code == 0
    for words in (
        ("install", VERSION), ("find", VERSION), ("list",), ("list", "--json"), ("verify",), ("dir",),
        ("dir", "--json"),
        ("exec", "--python", VERSION, "--", f"python{VERSION.rpartition('.')[0]}", "-c", "print('ok')"),
        ("install", "--reinstall", VERSION), ("cache", "list"), ("cache", "prune"),
        ("remove", VERSION), ("cache", "clear"),
    ):  # fmt: skip
        ended = as_this_user(workshop, *words, environ=after)
        assert ended.code == 0, (words, ended.output)
        assert "damage" not in ended.output, (words, ended.output)
    tally.survive()


def test_p24_environments_and_calls_work_under_the_c_locale(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("non-ASCII paths under the C locale")
    project = workshop.directory / "café ✓"
    project.mkdir()
    (project / "test_it.py").write_text(
        "def test_it(python_env, python):\n"
        "    assert python_env.run('-c', 'print(1)').stdout == '1\\n'\n"
        "    assert python.call(f, 'x') == 'x'\n"
        "def f(x):\n"
        "    return x\n"
    )
    command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", f"--basetemp={project}/tmp"]
    done = subprocess.run(
        [*command, "--python", VERSION, "test_it.py"], env={**workshop.environ, **ASCII}, cwd=project,
        capture_output=True, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    tally.survive()


def test_json_output_with_an_undecodable_path_is_valid(workshop: Workshop) -> None:
    place = Path(os.fsdecode(os.fsencode(workshop.directory) + b"/\xff odd"))
    ended = as_this_user(workshop, "dir", "--json", environ={**workshop.environ, "PYTEST_PYINSTALL_CACHE": str(place)})
    assert ended.code == 0, ended.output
    assert json.loads(ended.output)["exit_code"] == 0
