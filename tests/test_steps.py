"""Each step is told with its reason: by ``-v`` of the command line, and where pytest is told to log."""

import logging
import subprocess
import sys
from pathlib import Path

import mirror as server
import pytest

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.progress import showing_steps

OURS = "pytest_pyinstall"


@pytest.fixture(autouse=True)
def _mirrored(mirror_directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(mirror_directory))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(mirror_directory / "catalogue.json"))


@pytest.fixture
def minor(mirror_directory: Path) -> str:
    text = (mirror_directory / "catalogue.json").read_text(encoding="utf-8")
    return "3.9" if '"minor": 9' in text else f"{sys.version_info[0]}.{sys.version_info[1]}"


def talk(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    main(words)
    return capsys.readouterr().err


def test_verbose_prints_each_step_of_an_installation(capsys: pytest.CaptureFixture[str], minor: str) -> None:
    told = talk(capsys, "install", minor, "-v")

    expected = [
        "setting mirror:",
        "(PYTEST_PYINSTALL_MIRROR)",
        "nothing in the store",
        "the best build for it is",
        "the archive is not in the cache; fetching",
        "size and sha256 match the catalogue",
        "it runs here",
        "published as",
    ]
    places = [told.find(part) for part in expected]
    assert -1 not in places, told
    assert places == sorted(places), told


def test_a_second_installation_says_that_the_archive_was_in_the_cache(
    capsys: pytest.CaptureFixture[str], minor: str
) -> None:
    talk(capsys, "install", minor)
    talk(capsys, "remove", minor)

    assert "the archive is in the cache, with the right sha256" in talk(capsys, "install", minor, "-v")


def test_verbose_prints_what_was_skipped_and_why(
    capsys: pytest.CaptureFixture[str], minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / f"python{minor}"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no Python at all\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    talk(capsys, "install", minor)

    told = talk(capsys, "find", minor, "-v", "--python-preference", "system")

    assert f"skipped: {broken} (path): {broken} does not answer like a Python" in told
    assert f"{minor}: selected: cpython-{minor}." in told


def test_without_verbose_no_step_is_printed(capsys: pytest.CaptureFixture[str], minor: str) -> None:
    assert "published as" not in talk(capsys, "install", minor)
    assert logging.getLogger(OURS).level == logging.NOTSET


def test_no_password_is_printed(
    capsys: pytest.CaptureFixture[str], minor: str, mirror_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.serve(mirror_directory) as served:
        url = served.url.replace("http://", "http://peep:hunter2@")
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", url)

        told = talk(capsys, "install", minor, "-v")

    assert "peep:***@" in told
    assert "hunter2" not in told


def test_steps_come_from_their_level_on_and_end_with_the_block() -> None:
    said: list[str] = []
    logger = logging.getLogger(f"{OURS}.somewhere")

    with showing_steps(said.append, level=logging.INFO):
        logger.info("a %s", "step")
        logger.debug("a detail")
    logger.warning("later")

    assert said == ["  a step"]


@pytest.mark.parametrize(
    ("options", "told", "untold"),
    [
        (["-v"], "published as", "setting store"),
        (["--log-level=debug"], "setting store", "DEBUG"),
        (["--log-cli-level=debug"], "DEBUG    pytest_pyinstall.provisioner", "\n  setting store"),
        (["-p", "no:logging"], "Downloading", "published as"),
    ],
)
def test_pytest_logs_the_steps_if_logging_is_on(
    pytester: pytest.Pytester, minor: str, options: list[str], told: str, untold: str
) -> None:
    pytester.makepyfile("def test_it(python): pass")

    result = pytester.runpytest_subprocess(
        "-p", "no:randomly", f"--python={minor}", "--python-preference=only-managed", *options
    )

    result.assert_outcomes(passed=1)
    assert told in result.stdout.str()
    assert untold not in result.stdout.str()


def test_what_a_test_installs_is_in_its_captured_log(pytester: pytest.Pytester, minor: str) -> None:
    pytester.makepyfile(f"def test_it(install_python):\n    install_python('{minor}')\n    assert False")

    result = pytester.runpytest_subprocess("--log-level=info", "--python-preference=only-managed")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured log call*", "INFO*published as*"])


def test_logging_that_is_off_formats_nothing(minor: str) -> None:
    code = f"""
import logging
from pytest_pyinstall import provision
from pytest_pyinstall.settings import Settings
logging.LogRecord.getMessage = None
provision({minor!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
