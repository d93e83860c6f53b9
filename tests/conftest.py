"""Fixtures of all tests: an empty home directory, no settings of this machine, and a mirror of real interpreters."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import archives
import hint_checker
import mirror
import pytest
from command_line import Cli, Done

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.provisioner import Provisioner, open_provisioner
from pytest_pyinstall.settings import Settings

pytest_plugins = ["pytester", "fault_report", "suite_fixtures", "plugin_fixtures"]

_OURS = ("PYTEST_PYINSTALL_", "UV_", "PYENV_", "TOX_", "NOX_", "PIP_REQUIRE", "XDG_", "MISE_", "HATCH_")
_INDEX = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_SYSTEM_CERTS")
_ENVIRONMENTS = ("VIRTUAL_ENV", "VIRTUALENV_", "CONDA_")
_RUNNERS = ("TOX_", "NOX_")


def pytest_configure() -> None:
    # tox exports TOX_WORK_DIR. A tox that a test starts would use and empty the environment of this session.
    # Modules copy the variables when they are imported, so delete them before collection.
    for name in [name for name in os.environ if name.startswith(_RUNNERS + _ENVIRONMENTS)]:
        del os.environ[name]
    # A background process of a shell ignores Ctrl-C, and so do its children. Some tests send that signal.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]  # pluggy sends it
    if call.when == "call":
        item.stash[_REPORT] = report
    return report  # type: ignore[return-value]  # as above


@pytest.fixture
def pytester(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> Iterator[pytest.Pytester]:
    """Delete its directories after a test passes, as `tmp_path_retention_policy` does for `tmp_path`."""
    yield pytester
    report = request.node.stash.get(_REPORT, None)
    if report is None or not report.failed:
        shutil.rmtree(pytester.path, ignore_errors=True)
        pytester.path.mkdir()  # `monkeypatch` may go back there
        shutil.rmtree(os.environ["PYTEST_DEBUG_TEMPROOT"], ignore_errors=True)


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory. pytest-pyinstall writes everything below it."""
    for name in list(os.environ):
        if name.startswith(_OURS + _ENVIRONMENTS) and not name.startswith(_INDEX):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("PYTEST_PYINSTALL_HOME", str(home / "pyinstall"))
    # The options of a suite and the settings of tox.ini are not for the sessions that tests start.
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    # In CI, the suites of tests must not write to the summary of the job.
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return home


@pytest.fixture
def other_volume(tmp_path: Path) -> Iterator[Path]:
    """A new directory on another volume than `tmp_path`: one of the two is usually on disk and the other in memory."""
    for parent in map(Path, ("/dev/shm", "/var/tmp")):
        if parent.is_dir() and parent.stat().st_dev != tmp_path.stat().st_dev:
            directory = Path(tempfile.mkdtemp(dir=parent))
            yield directory
            shutil.rmtree(directory)
            return
    pytest.skip("needs a second volume")


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary directory that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def mirror_directory(shared_directory: Path) -> Path:
    """A mirror with an archive of each real interpreter of this machine, and its ``catalogue.json``."""
    return archives.packed(shared_directory)


@pytest.fixture
def settings(tmp_path: Path, mirror_directory: Path) -> Settings:
    """Settings that install only from the mirror, into an empty store."""
    return Settings(
        store=tmp_path / "store",
        cache=tmp_path / "cache",
        mirror=str(mirror_directory),
        catalogue=str(mirror_directory / "catalogue.json"),
        preference="only-managed",
        lock_timeout=200,
    )


@pytest.fixture
def provisioner(settings: Settings) -> Iterator[Provisioner]:
    with open_provisioner(settings) as provisioner:
        yield provisioner


@pytest.fixture
def server(mirror_directory: Path) -> Iterator[mirror.Mirror]:
    """An HTTP server on loopback that serves the mirror and records requests."""
    with mirror.serve(mirror_directory) as server:
        yield server


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command line in this process."""

    def run(*words: str) -> Done:
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def every_hint_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check the hint of each error that a test causes, even if the test does not expect the error."""
    seen: list[str] = []
    make = PyinstallError.__init__

    def recorded(error: PyinstallError, message: str, hint: str = "") -> None:
        make(error, message, hint)
        seen.append(hint)

    monkeypatch.setattr(PyinstallError, "__init__", recorded)
    yield
    monkeypatch.undo()
    problems = {hint: problem for hint in dict.fromkeys(seen) if (problem := hint_checker.problem_with(hint))}
    assert not problems
