"""What every test has: a home of its own, and none of this machine's settings."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import archives
import hints
import mirror
import pytest

from pytest_pyinstall.errors import PyinstallError
from pytest_pyinstall.provisioner import Provisioner, open_provisioner
from pytest_pyinstall.settings import Settings

pytest_plugins = ["pytester", "fault_table", "suite_world", "plugin_world"]

_OURS = ("PYTEST_PYINSTALL_", "UV_", "PYENV_", "TOX_", "NOX_", "PIP_REQUIRE", "XDG_", "MISE_", "HATCH_")
_INDEX = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_SYSTEM_CERTS")
_ENVIRONMENTS = ("VIRTUAL_ENV", "VIRTUALENV_", "CONDA_")
_RUNNERS = ("TOX_", "NOX_")


def pytest_configure() -> None:
    # tox exports TOX_WORK_DIR. A tox that a test starts would take this session's environment for its own and empty it.
    # Modules copy the environment when they are imported, so this happens before tests are collected.
    for name in [name for name in os.environ if name.startswith(_RUNNERS + _ENVIRONMENTS)]:
        del os.environ[name]
    # What a shell starts in the background ignores Ctrl-C, and so does all that it starts; some tests send that signal.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]  # what pluggy sends
    if call.when == "call":
        item.stash[_REPORT] = report
    return report  # type: ignore[return-value]  # as above


@pytest.fixture
def pytester(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> Iterator[pytest.Pytester]:
    """Its directories go when the test has passed, as `tmp_path` does by `tmp_path_retention_policy`."""
    yield pytester
    report = request.node.stash.get(_REPORT, None)
    if report is None or not report.failed:
        shutil.rmtree(pytester.path, ignore_errors=True)
        shutil.rmtree(os.environ["PYTEST_DEBUG_TEMPROOT"], ignore_errors=True)


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, in which everything that the product writes lands."""
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
    # Where these tests run in CI, their suites are not that job's result.
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return home


@pytest.fixture(scope="session")
def mirror_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of archives packed from every real interpreter of this machine, with its ``catalogue.json``."""
    base = tmp_path_factory.getbasetemp()
    return archives.packed(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def settings(tmp_path: Path, mirror_directory: Path) -> Settings:
    """Everything comes from the mirror, into a store of the test's own."""
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
    """The mirror on loopback, with a list of what was requested."""
    with mirror.serve(mirror_directory) as server:
        yield server


@pytest.fixture(autouse=True)
def every_hint_can_be_typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of each error that a test provokes, whether it expects it or not."""
    seen: list[str] = []
    make = PyinstallError.__init__

    def noted(error: PyinstallError, message: str, hint: str = "") -> None:
        make(error, message, hint)
        seen.append(hint)

    monkeypatch.setattr(PyinstallError, "__init__", noted)
    yield
    monkeypatch.undo()
    troubles = {hint: trouble for hint in dict.fromkeys(seen) if (trouble := hints.trouble_with(hint))}
    assert not troubles
