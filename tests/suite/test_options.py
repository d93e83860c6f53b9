"""pytest's own options in a suite under several Pythons, and the installers of its environments."""

import os
import re
import select
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from archives import interpreters
from suite_fixtures import NEW, OLD, PYPROJECT, Run, asked, marks

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.suite.options import jobs_of, usable_cores

pytestmark = marks


def test_marks_and_p_apply_to_the_workers(run: Run, project: Path) -> None:
    ini = "[pytest]\naddopts = --strict-markers\nmarkers = slow\n"
    ini += "required_plugins = pytest-pyinstall>=0\n"  # only the controller has it
    (project / "pytest.ini").write_text(ini, "utf-8")
    (project / "test_demo.py").write_text(
        "import pytest\n@pytest.mark.slow\ndef test_slow(): pass\ndef test_quick(): pass\n"
        "def test_plugins(request): assert not request.config.pluginmanager.hasplugin('doctest')\n",
        "utf-8",
    )
    run("-m", "slow").assert_outcomes(passed=2, deselected=4)
    run("-m", "not slow", "-p", "no:doctest").assert_outcomes(passed=4, deselected=2)


def test_workers_use_the_given_root_directory(run: Run, project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "test_sub.py").write_text("def test_it(pytestconfig): print(pytestconfig.rootpath)", "utf-8")
    result = run("--rootdir=sub", "sub", "-rP")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["rootdir: *sub", "*test_it — py3.9*", str(project / "sub"), "*test_it — py3.12*", str(project / "sub")]
    )


def test_a_missing_node_id_is_a_usage_error_with_a_hint(run: Run, project: Path) -> None:
    test = "import pytest\n@pytest.mark.parametrize('x', ['a b', 'ü'])\ndef test_of(x): pass\ndef test_off(): pass\n"
    (project / "test_more.py").write_text(test, "utf-8")
    result = run("test_demo.py::test_everywher", "test_more.py::test_of[ab][py3.9]", "test_more.py::test_of[ü]")
    result.stdout.fnmatch_lines(["*not found: *test_demo.py::test_everywher*", "hint: test_demo.py::test_everywhere"])
    hints = {line for line in result.outlines if line.startswith("hint: 'test_more")}
    assert hints == {"hint: 'test_more.py::test_of[a b][py3.9]'", "hint: 'test_more.py::test_of[\\xfc]'"}
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_collect_only_with_qq_counts_the_tests_of_each_python(run: Run, project: Path) -> None:
    result = run("--co", "-qq")
    result.stdout.fnmatch_lines(["test_demo.py[[]py3.9[]]: 5", "test_demo.py[[]py3.12[]]: 5"])


@pytest.fixture
def covered(project: Path) -> Path:
    """A project with a module in which each Python runs its own half, and only `test_two` runs the last function."""
    extra = '\n[project.optional-dependencies]\ntest = ["pytest-cov"]\n'
    (project / "pyproject.toml").write_text(PYPROJECT + extra, "utf-8")
    (project / "demo.py").write_text(
        "import sys\ndef one():\n    if sys.version_info < (3, 10):\n        x = 1\n    else:\n        x = 1\n"
        "    return x\ndef two():\n    return 2\n",
        "utf-8",
    )
    (project / "test_two.py").write_text("import demo\ndef test_two(): assert demo.two() == 2\n", "utf-8")
    return project


def test_coverage_combines_the_branches_of_all_pythons_and_fails_below_a_limit(run: Run, covered: Path) -> None:
    words = ("--cov=demo", "--cov-branch", "-k", "fine")
    good = run(*words, "--cov-fail-under=80", "--cov-report=term", "--cov-report=json")
    good.assert_outcomes(passed=2, deselected=10)
    good.stdout.fnmatch_lines(["*2 Pythons combined*", "demo.py * 2 * 0 * 9?%"])
    assert good.ret == 0
    (covered / "coverage.json").unlink()
    bad = run(*words, "--cov-fail-under=99", "--cov-report=term", "--cov-report=json")
    assert bad.ret == pytest.ExitCode.TESTS_FAILED
    bad.stdout.fnmatch_lines(["*less than fail-under=99*"])
    assert (covered / "coverage.json").exists()


def test_coverage_fails_below_the_limit_in_its_configuration(run: Run, covered: Path) -> None:
    (covered / ".coveragerc").write_text("[report]\nfail_under = 99\n", "utf-8")
    result = run("--cov=demo", "-k", "fine", "--cov-report=xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*less than fail-under=99*"])
    assert (covered / "coverage.xml").exists()


def test_coverage_can_be_appended_and_keeps_its_contexts(run: Run, covered: Path) -> None:
    run("--cov=demo", "-k", "fine", "--cov-context=test").assert_outcomes(passed=2, deselected=10)
    result = run("--cov=demo", "--cov-append", "--cov-context=test", "test_two.py")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["demo.py * 100%*"])
    import sqlite3

    with closing(sqlite3.connect(covered / ".coverage")) as database:
        found = database.execute("select context from context").fetchall()
    assert {name for (name,) in found} >= {"test_demo.py::test_fine|run", "test_two.py::test_two|run"}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_debugger_can_use_the_terminal(run: Run, project: Path) -> None:
    import pty

    run("-k", "fine", pythons=(NEW,)).assert_outcomes(passed=1, deselected=4)
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--python-suite", "--pdb", "-k", "everywhere"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*command, *asked(NEW)], stdin=theirs, stdout=theirs, stderr=theirs, cwd=project)
    os.close(theirs)
    output = ""

    def read_until(word: str) -> None:
        nonlocal output
        deadline = time.monotonic() + 300
        while word not in output:
            assert time.monotonic() < deadline, output
            if select.select([ours], [], [], 1)[0]:
                try:
                    output += os.read(ours, 10000).decode("utf-8", "replace")
                except OSError:  # the process has closed its side
                    assert word in output, output

    try:
        read_until("(Pdb) ")
        os.write(ours, b"p 'so' + 'me' * 2, demo.one()\n")
        read_until("('someme', 1)")
        os.write(ours, b"q\n")
        read_until("1 failed")
        assert process.wait(300) != 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "uv.py").write_text("raise ImportError('there is none')\n", "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "none"))
    entries = os.environ["PATH"].split(os.pathsep)
    without = [entry for entry in entries if not any((Path(entry) / name).exists() for name in ("uv", "uv.exe"))]
    monkeypatch.setenv("PATH", os.pathsep.join(without))


@pytest.mark.usefixtures("no_uv")
def test_pip_makes_environments_without_uv_but_has_no_resolutions(run: Run, project: Path) -> None:
    result = run("-k", "fine", "--python-with=lowest-direct", "--python-with=pip: wcwidth==0.2.13", pythons=(NEW,))
    result.assert_outcomes(passed=1, deselected=4, errors=1)
    result.stdout.fnmatch_lines(["making an environment for 3.12.* (pip; faster with uv)"])
    result.stdout.fnmatch_lines(
        ["*the resolution 'lowest-direct' needs uv, which is not installed", "hint: python -m pip install uv"]
    )


SETUPTOOLS = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
"""


def test_a_project_is_installed_as_a_copy_if_it_cannot_be_editable(run: Run, project: Path) -> None:
    if "3.6" not in interpreters():
        pytest.skip("needs Python 3.6")
    (project / "pyproject.toml").write_text(SETUPTOOLS, "utf-8")
    (project / "setup.cfg").write_text(
        "[metadata]\nname=demo\nversion=1\n[options]\npackage_dir=\n    =src\npackages = demo\n", "utf-8"
    )
    (project / "src" / "demo").mkdir(parents=True)
    (project / "demo.py").rename(project / "src" / "demo" / "__init__.py")
    run("-k", "fine", pythons=("3.6",)).assert_outcomes(passed=1, deselected=4)
    again = run("-k", "fine", pythons=("3.6",))
    again.stdout.no_fnmatch_line("*making an environment*")
    (project / "src" / "demo" / "__init__.py").write_text("def one():\n    return 1 + 1\n", "utf-8")
    changed = run("-k", "everywhere", pythons=("3.6",))
    changed.assert_outcomes(passed=1, deselected=4)


def test_the_project_is_built_once_for_all_pythons(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").write_text(SETUPTOOLS, "utf-8")
    (project / "setup.cfg").write_text(
        "[metadata]\nname=demo\nversion=1\n[options]\npackage_dir=\n    =src\npackages = demo\n", "utf-8"
    )
    (project / "setup.py").write_text(
        "import os\nfrom setuptools import setup\n"
        "with open(os.environ['BUILT'], 'a') as file: print(os.getpid(), file=file)\nsetup()\n",
        "utf-8",
    )
    (project / "src" / "demo").mkdir(parents=True)
    (project / "demo.py").rename(project / "src" / "demo" / "__init__.py")
    built = tmp_path / "built"
    monkeypatch.setenv("BUILT", str(built))  # always the same: `setup.py` reads it, so another value is another build
    run("-k", "fine", pythons=(OLD,)).assert_outcomes(passed=1, deselected=4)
    builds = built.read_text("utf-8")
    run("-k", "fine", pythons=(OLD, NEW)).assert_outcomes(passed=2, deselected=8)
    assert built.read_text("utf-8") == builds


def test_dontwritebytecode_keeps_byte_code_out_of_the_project_but_not_of_environments(
    run: Run, project: Path, shared_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (project / "pyproject.toml").write_text(PYPROJECT.replace('"A library"', '"Another"'), "utf-8")
    run("-k", "fine", pythons=(NEW,)).assert_outcomes(passed=1, deselected=4)
    assert not list(project.glob("__pycache__"))
    environments = (shared_home / "cache" / "environments").glob("*/suite.json")
    (mine,) = (path.parent for path in environments if f'"{project}"' in path.read_text("utf-8"))
    assert list(mine.glob("lib/*/site-packages/_pytest/__pycache__/main.*.pyc"))


def test_a_missing_python_is_reported_once(run: Run, project: Path) -> None:
    result = run("--python=3.6.0", "-k", "fine", pythons=(NEW,))
    assert re.search(r"^3\.6\.0 +- +no Python 3\.6\.0 ", result.stdout.str(), re.MULTILINE)
    assert "Python 3.6.0: no Python 3.6.0" not in result.stdout.str()


def test_a_session_whose_tests_use_no_python_points_to_python_suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess(f"--python={sys.executable}", timeout=300)
    assert result.stdout.str().count("to run the whole suite with this Python, add --python-suite") == 1


V2 = "0::/outer/inner\n"
V1 = "5:memory:/other\n3:cpu,cpuacct:/outer/inner\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {}, 4),
        (V2, {"outer/inner/cpu.max": "150000 100000"}, 2),
        (V2, {"outer/cpu.max": "100000 100000", "outer/inner/cpu.max": "300000 100000"}, 1),
        (V2, {"outer/inner/cpu.max": "max 100000"}, 4),
        (V2, {"outer/inner/cpu.max": "50000 100000"}, 1),
        (V2, {"cpu.max": "200000 100000"}, 2),  # in a container, whose group is the root of what it sees
        (V2, {"outer/inner/cpu.max": "rubbish"}, 4),
        (V2, {"other/cpu.max": "100000 100000"}, 4),
        (V1, {"cpu/outer/inner/cpu.cfs_quota_us": "200000", "cpu/outer/inner/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"cpu/outer/inner/cpu.cfs_quota_us": "-1", "cpu/outer/inner/cpu.cfs_period_us": "100000"}, 4),
        ("", {}, 4),
    ],
)
def test_the_usable_cores_limit_the_number_of_pythons_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    assert usable_cores(tmp_path, tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("words", "place", "hint"),
    [
        (["--python-jobs=two"], "--python-jobs", "--python-jobs 2"),
        (["-o", "pyinstall_jobs=two"], "-o pyinstall_jobs", "-o pyinstall_jobs=2"),
        ([], "pyinstall_jobs in {}", "pyinstall_jobs = 2"),
    ],
)
def test_an_invalid_number_of_jobs_is_corrected_where_it_was_given(
    pytester: pytest.Pytester, words: list[str], place: str, hint: str
) -> None:
    path = pytester.makeini("[pytest]\npyinstall_jobs = two\n")
    with pytest.raises(InvalidSettingError) as caught:
        jobs_of(pytester.parseconfig(*words))
    assert str(caught.value) == f"{place.format(path)}: 'two' is not a number of Pythons\nhint: {hint}"


def test_the_cpu_affinity_limits_the_usable_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7}, raising=False)
    assert usable_cores(tmp_path, tmp_path / "no such file") == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores(tmp_path, tmp_path / "no such file") == 64
