"""`matrix` prints the Pythons of a project for CI, and `exec` runs a command with its Pythons on PATH."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from command_line import Cli, key, posix, start

from pytest_pyinstall.cli.ci import MatrixRow, free_threaded, matrix_rows, matrix_text
from pytest_pyinstall.errors import NoMatchError, UsageError
from pytest_pyinstall.project import read_project, resolve_keywords
from pytest_pyinstall.request.catalogue import Catalogue
from pytest_pyinstall.request.identity import Build, Key, Target
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.request.resolve import released

TARGET = Target(os="linux", arch="x86_64", libc="gnu")


def _catalogue(*keys: str) -> Catalogue:
    builds = [Build(key=Key.parse(f"{key}-{TARGET}"), url="https://host/x", sha256="0" * 64) for key in keys]
    return Catalogue(builds=tuple(builds), origin="here")


CATALOGUE = _catalogue(
    *("cpython-3.12.1", "cpython-3.12.4", "cpython-3.13.1", "cpython-3.13.1+freethreaded"),
    *("cpython-3.15.0rc1", "pypy-3.11.13"),
)


def _row(text: str) -> tuple[str, bool]:
    [row] = matrix_rows([Request.parse(text)], catalogue=CATALOGUE, target=TARGET)
    return row.name, row.is_experimental


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("3.12", ("3.12", False)),
        ("py312", ("3.12", False)),
        ("3.12.1", ("3.12.1", False)),
        ("3", ("3.13.1", False)),
        (">=3.10,<3.13", ("3.12.4", False)),
        ("3.13t", ("3.13t", True)),
        ("pypy3.11", ("pypy3.11", False)),
        ("3.15", ("3.15", True)),
        ("3.15.0rc1", ("3.15.0rc1", True)),
        ("3.15.0a1", ("3.15.0a1", True)),
        ("3.7", ("3.7", False)),
        ("pypy3.9", ("pypy3.9", False)),
    ],
)
def test_a_request_becomes_a_row(text: str, row: tuple[str, bool]) -> None:
    assert _row(text) == row


@pytest.mark.parametrize(("text", "kind"), [("3.99", NoMatchError), (">=3.50", NoMatchError), ("./x", UsageError)])
def test_a_request_without_a_version_cannot_become_a_row(text: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        _row(text)


def test_equal_rows_are_listed_once() -> None:
    requests = [Request.parse(text) for text in ("3.12", "py312", "3.13")]

    rows = matrix_rows(requests, catalogue=CATALOGUE, target=TARGET)

    assert [row.name for row in rows] == ["3.12", "3.13"]


def test_each_format_prints_the_same_rows() -> None:
    rows = [MatrixRow(name="3.12", is_experimental=False), MatrixRow(name="3.13t", is_experimental=True)]

    listed = [
        {"python-version": "3.12", "experimental": False},
        {"python-version": "3.13t", "experimental": True},
    ]
    assert json.loads(matrix_text(rows, "github")) == {"include": listed}
    assert json.loads(matrix_text(rows, "json")) == listed
    assert matrix_text(rows, "lines") == "3.12\n3.13t"


def test_a_variant_makes_a_job_for_each_python() -> None:
    rows = [MatrixRow(name="3.12", is_experimental=False, variant=variant) for variant in ("django~=4.2", "lowest")]
    listed = [
        {"python-version": "3.12", "with": "django~=4.2", "experimental": False},
        {"python-version": "3.12", "with": "lowest", "experimental": False},
    ]
    assert json.loads(matrix_text(rows, "json")) == listed
    assert matrix_text(rows, "lines") == "3.12 django~=4.2\n3.12 lowest"


# From requests and projects to rows
CLASSIFIERS = """\
[project]
name = "x"
version = "1"
classifiers = [
  "Programming Language :: Python :: 3.13",
  "Programming Language :: Python :: 3.12",
]
"""


def test_the_matrix_of_a_project_has_the_versions_that_it_supports(cli: Cli, project: Path) -> None:
    (project / "pyproject.toml").write_text(CLASSIFIERS)

    github = cli("matrix")
    lines = cli("matrix", "--format", "lines")
    rows = cli("matrix", "--format", "json")

    include = [
        {"python-version": "3.12", "experimental": False},
        {"python-version": "3.13", "experimental": False},
    ]
    assert github.document == {"include": include}
    assert len(github.lines) == 1
    assert lines.lines == ["3.12", "3.13"]
    assert rows.document == include


def test_a_free_threading_classifier_adds_rows(cli: Cli, project: Path) -> None:
    declared = [
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: Free Threading :: 2 - Beta",
    ]
    (project / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "1"\nclassifiers = {declared}\n')

    assert cli("matrix", "--format", "lines").lines == ["3.14", "3.14t"]
    assert cli("matrix", "supported,pypy3.11", "--format", "lines").lines == ["3.14", "pypy3.11", "3.14t"]
    assert cli("matrix", "3.14", "--format", "lines").lines == ["3.14"]


def test_free_threaded_rows_are_experimental(cli: Cli) -> None:
    rows = cli("matrix", "3.13", "3.13t", "pypy3.11", "py312", "3.12", "--format", "json").document

    assert [(row["python-version"], row["experimental"]) for row in rows] == [
        ("3.13", False),
        ("3.13t", True),
        ("pypy3.11", False),
        ("3.12", False),
    ]


def test_a_version_without_a_build_stays_in_the_matrix(cli: Cli, mirrored: Path) -> None:
    done = cli("matrix", "3.5", "3.12", "--format", "lines")
    assert done.out == "3.5\n3.12\n"
    assert "no build of 3.5" in done.err
    assert "without them: pytest-pyinstall matrix 3.12" in done.err


def test_versions_after_their_end_of_life_are_named(cli: Cli, project: Path) -> None:
    (project / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.7,!=3.10.*,<3.14"\n'
    )
    done = cli("matrix", "--format", "lines")
    assert "3.8" not in done.lines
    note = "supported leaves out versions after their end of life: 3.7..3.9"
    assert note in done.err
    assert done.err.count("leaves out") == 1
    assert note in cli("list", "lowest").err
    assert "leaves out" not in cli("matrix", "3.12").err


def test_classifiers_that_requires_python_excludes_are_named(cli: Cli, project: Path) -> None:
    classifiers = [f"Programming Language :: Python :: 3.{minor}" for minor in (9, 12, 13)]
    (project / "pyproject.toml").write_text(
        f'[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.12.1"\nclassifiers = {classifiers}\n'
    )
    assert "the classifiers name 3.9, but requires-python is '>=3.12.1'\n" in cli("matrix").err


@pytest.mark.parametrize(("request_text", "code"), [("3.99", 3), ("./python", 2), ("supported", 2)])
def test_a_request_that_cannot_become_a_row_is_an_error(cli: Cli, mirrored: Path, request_text: str, code: int) -> None:
    assert cli("matrix", request_text).code == code


@posix
def test_exec_puts_the_pythons_on_path_and_returns_the_exit_code_of_the_command(
    versions: dict[str, str], minor: str, mirrored: Path
) -> None:
    script = f"python{minor} -c 'import sys; print(sys.version_info[:3], sys.prefix)'; exit 7"

    with start("exec", "-q", "--python", minor, "--", "sh", "-c", script) as process:
        out, err = process.communicate()

    assert (process.returncode, err) == (7, "")
    assert out.startswith(f"({', '.join(versions[minor].split('.'))})")
    assert key(versions[minor]) in out


@posix
def test_an_environment_made_under_exec_works_afterwards(minor: str, mirrored: Path, tmp_path: Path) -> None:
    command = [f"python{minor}", "-m", "venv", "--without-pip", str(tmp_path / "env")]

    with start("exec", "--python", minor, "--", *command) as process:
        process.communicate()
    said = subprocess.run(
        [tmp_path / "env" / "bin" / "python", "-c", "print(1)"], check=True, capture_output=True, text=True
    )

    assert process.returncode == 0
    assert said.stdout == "1\n"


@posix
def test_exec_leaves_no_temporary_directory_behind(minor: str, mirrored: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()

    with start("exec", "-q", "--python", minor, "--", "sh", "-c", f"command -v python{minor}", env=environ) as process:
        out, _ = process.communicate()

    assert out.startswith(str(tmp_path / "home" / "pyinstall" / "cache" / "commands"))
    assert not list((tmp_path / "tmp").iterdir())


@posix
@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126), ("./project", 126)])
def test_a_command_that_cannot_start_gives_the_exit_code_of_a_shell(
    cli: Cli, minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)

    done = cli("exec", "-q", "--python", minor, "--", command)

    assert done.code == code
    assert command in done.err


@posix
def test_a_command_that_a_signal_ends_gives_128_plus_the_signal(cli: Cli, minor: str) -> None:
    assert cli("exec", "--python", minor, "--", "sh", "-c", "kill -TERM $$").code == 128 + signal.SIGTERM


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_exec_forwards_signals_and_waits_for_the_command(minor: str, mirrored: Path, number: int) -> None:
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )

    # A separate session, because a signal of the terminal would reach both processes.
    options = {"start_new_session": True}
    with start("exec", "-q", "--python", minor, "--", sys.executable, "-c", script, **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(60) == 5


NOXFILE = """
import nox


@nox.session(python={versions!r})
def tests(session):
    session.run("python", "-c", "import sys; print('base', sys.base_prefix)")
"""


@posix
@pytest.mark.parametrize("backend", ["virtualenv", "uv"])
def test_nox_finds_its_pythons_under_exec(
    project: Path, versions: dict[str, str], mirrored: Path, store: Path, backend: str
) -> None:
    pytest.importorskip("nox")
    # virtualenv no longer supports 3.8 and older.
    oldest = 9 if backend == "virtualenv" else 8
    # For its own version, nox always takes the Python that it runs on.
    others = [version for version in versions if version != "{}.{}".format(*sys.version_info)]
    chosen = [version for version in others if int(version.partition(".")[2]) >= oldest][:2]
    (project / "noxfile.py").write_text(NOXFILE.format(versions=chosen))
    command = [sys.executable, "-m", "nox", "--default-venv-backend", backend]

    options = ["--python-preference", "only-managed", "--python", *chosen]
    with start("exec", "-q", *options, "--", *command) as process:
        out, err = process.communicate()

    assert process.returncode == 0, err
    assert sorted(re.findall("base (.*)", out)) == sorted(str(store / key(versions[version])) for version in chosen)


@pytest.mark.usefixtures("mirrored")
def test_exec_does_not_run_the_command_without_all_pythons(cli: Cli, minor: str, project: Path) -> None:
    done = cli("exec", "--python", minor, "3.99", "--", "touch", "ran")

    assert done.code == 3
    assert not (project / "ran").exists()


@posix
@pytest.mark.usefixtures("mirrored")
def test_exec_skips_missing_pythons_on_request(cli: Cli, minor: str, project: Path) -> None:
    done = cli("exec", "--python-missing", "skip", "--python", minor, "3.99", "--", "touch", "ran")

    assert done.code == 0
    assert "left out: no build of Python 3.99" in done.err
    assert (project / "ran").exists()


AUGUST_2026 = date(2026, 8, 20)


MINORS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


def catalogue(*versions: str) -> Catalogue:
    keys = [Key.parse(f"cpython-{version}-{TARGET}") for version in versions]
    return Catalogue(builds=tuple(Build(key=key, url="https://host/x", sha256="0" * 64) for key in keys), origin="here")


OF_AUGUST_2026 = catalogue(
    *("3.8.20", "3.9.25", "3.10.20", "3.11.15", "3.12.13", "3.13.14", "3.14.6"),
    *("3.13.14+freethreaded", "3.14.6+freethreaded", "3.15.0rc1", "3.15.0rc1+freethreaded"),
)


def rows(directory: Path, today: date = AUGUST_2026, known: Catalogue = OF_AUGUST_2026) -> list[str]:
    """The names of the rows of the matrix; a question mark marks the experimental ones."""
    project = read_project(directory)
    supported = resolve_keywords(
        [Request.parse("supported")],
        project=project,
        executable=Path("python"),
        released=lambda: released(known, TARGET),
        pinned=tuple,
        today=today,
    )
    requests = [*supported, *free_threaded(supported, project=project)]
    made = matrix_rows(requests, catalogue=known, target=TARGET)
    return [row.name + "?" * row.is_experimental for row in made]


def pyproject(directory: Path, *, minors: Sequence[str] = (), requires: str = "", more: Sequence[str] = ()) -> Path:
    language = "Programming Language :: Python ::"
    classifiers = [f"{language} {part}" for part in ("3", "3 :: Only", *minors, *more)]
    lines = ["[project]", 'name = "sample"', 'version = "1"', f"classifiers = {classifiers}"]
    lines += [f'requires-python = "{requires}"'] if requires else []
    (directory / "pyproject.toml").write_text("\n".join(lines))
    return directory


def test_the_matrix_of_pluggy(tmp_path: Path) -> None:
    # The CI of pluggy also runs PyPy 3.10, but its metadata names no version of PyPy.
    implementations = ["Implementation :: CPython", "Implementation :: PyPy"]
    assert rows(pyproject(tmp_path, minors=MINORS, requires=">=3.10", more=implementations)) == MINORS


def test_the_matrix_of_attrs(tmp_path: Path) -> None:
    # The CI of attrs also runs PyPy 3.11.
    assert rows(pyproject(tmp_path, minors=[*MINORS, "3.15"], requires=">=3.10")) == [*MINORS, "3.15?"]


def test_the_matrix_of_click(tmp_path: Path) -> None:
    # Its metadata names no versions. Its CI also runs 3.14t and PyPy 3.11.
    assert rows(pyproject(tmp_path, requires=">=3.10")) == MINORS


def test_the_matrix_of_requests(tmp_path: Path) -> None:
    # Its CI runs 3.14t, but not yet 3.15t. It also runs PyPy 3.11.
    project = pyproject(tmp_path, minors=[*MINORS, "3.15"], requires=">=3.10", more=["Free Threading :: 2 - Beta"])
    assert rows(project) == [*MINORS, "3.15?", "3.14t?", "3.15t?"]


def test_the_matrix_of_packaging(tmp_path: Path) -> None:
    # Its CI also runs 3.13t, PyPy 3.10 and 3.11, and the first patch of each minor version.
    more = ["Free Threading :: 4 - Resilient"]
    project = pyproject(tmp_path, minors=[*MINORS, "3.15"], requires=">=3.10", more=more)
    assert rows(project) == [*MINORS, "3.15?", "3.14t?", "3.15t?"]


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        (">=3.11,<3.14", ["3.11", "3.12", "3.13"]),
        (">=3.8", MINORS),  # 3.8 and 3.9 are no longer maintained
        ("~=3.12", ["3.12", "3.13", "3.14"]),
        (">=3.11,!=3.12.*,<4", ["3.11", "3.13", "3.14"]),
        (">=3.13,<=3.14", ["3.13"]),  # the bound admits 3.14.0, but not 3.14.6
    ],
)
def test_requires_python_alone_decides_the_matrix(tmp_path: Path, requires: str, expected: list[str]) -> None:
    assert rows(pyproject(tmp_path, requires=requires)) == expected


def test_a_version_leaves_the_matrix_after_its_last_day_of_maintenance(tmp_path: Path) -> None:
    project = pyproject(tmp_path, requires=">=3.10")
    assert rows(project, date(2026, 10, 31))[0] == "3.10"
    assert rows(project, date(2026, 11, 1))[0] == "3.11"


def test_classifiers_alone_decide_the_matrix(tmp_path: Path) -> None:
    assert rows(pyproject(tmp_path, minors=["3.12", "3.9", "3.10"])) == ["3.9", "3.10", "3.12"]


def test_a_classifier_of_an_unreleased_version_is_experimental(tmp_path: Path) -> None:
    assert rows(pyproject(tmp_path, minors=["3.14", "3.15"]), known=catalogue("3.14.6")) == ["3.14", "3.15?"]


def test_free_threading_applies_to_the_versions_of_requires_python(tmp_path: Path) -> None:
    project = pyproject(tmp_path, requires=">=3.13", more=["Free Threading :: 1 - Unstable"])
    assert rows(project) == ["3.13", "3.14", "3.14t?"]


def test_dynamic_metadata_is_read_from_setup_cfg(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "sample"\ndynamic = ["version", "classifiers", "requires-python"]\n'
    )
    (tmp_path / "setup.cfg").write_text(
        "[metadata]\n"
        "classifiers =\n"
        "    Programming Language :: Python :: 3.13\n"
        "    Programming Language :: Python :: 3.12\n"
    )
    assert rows(tmp_path) == ["3.12", "3.13"]


def test_dynamic_metadata_is_read_from_setup_py(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("from setuptools import setup\nsetup(python_requires='>=3.12,<3.14')\n")
    assert rows(tmp_path) == ["3.12", "3.13"]
