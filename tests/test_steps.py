"""Each step and its reason is printed with ``-v``, and logged if logging is on."""

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


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    main(words)
    return capsys.readouterr().err


def test_verbose_prints_each_step_of_an_installation(capsys: pytest.CaptureFixture[str], minor: str) -> None:
    output = run(capsys, "install", minor, "-v")

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
    places = [output.find(part) for part in expected]
    assert -1 not in places, output
    assert places == sorted(places), output


def test_verbose_says_that_an_archive_is_in_the_cache(capsys: pytest.CaptureFixture[str], minor: str) -> None:
    run(capsys, "install", minor)
    run(capsys, "remove", minor)

    assert "the archive is in the cache, with the right sha256" in run(capsys, "install", minor, "-v")
    again = run(capsys, "install", "--reinstall", minor, "-v")
    assert "the unpacked archive is in the cache; each file has the right sha256" in again


def test_verbose_prints_skipped_pythons_with_the_reason(
    capsys: pytest.CaptureFixture[str], minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / f"python{minor}"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no Python at all\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    run(capsys, "install", minor)

    output = run(capsys, "find", minor, "-v", "--python-preference", "system")

    assert f"skipped: {broken} (path): {broken} does not behave like a Python" in output
    assert f"{minor}: selected: cpython-{minor}." in output


def test_no_step_is_printed_without_verbose(capsys: pytest.CaptureFixture[str], minor: str) -> None:
    assert "published as" not in run(capsys, "install", minor)
    assert logging.getLogger(OURS).level == logging.NOTSET


def test_p13_no_password_is_printed(
    capsys: pytest.CaptureFixture[str], minor: str, mirror_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.serve(mirror_directory) as served:
        url = served.url.replace("http://", "http://peep:hunter2@")
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", url)

        output = run(capsys, "install", minor, "-v")

    assert "peep:***@" in output
    assert "hunter2" not in output


def test_steps_are_shown_from_their_level_until_the_end_of_the_block() -> None:
    said: list[str] = []
    logger = logging.getLogger(f"{OURS}.somewhere")

    with showing_steps(said.append, level=logging.INFO):
        logger.info("a %s", "step")
        logger.debug("a detail")
    logger.warning("later")

    assert said == ["  a step"]


@pytest.mark.parametrize(
    ("options", "shown", "absent"),
    [
        (["-v"], "published as", "setting store"),
        (["--log-level=debug"], "setting store", "DEBUG"),
        (["--log-cli-level=debug"], "DEBUG    pytest_pyinstall.provisioner", "\n  setting store"),
        (["-p", "no:logging"], "Downloading", "published as"),
    ],
)
def test_pytest_logs_the_steps_if_logging_is_on(
    pytester: pytest.Pytester, minor: str, options: list[str], shown: str, absent: str
) -> None:
    pytester.makepyfile("def test_it(python): pass")

    result = pytester.runpytest_subprocess(
        "-p", "no:randomly", f"--python={minor}", "--python-preference=only-managed", *options
    )

    result.assert_outcomes(passed=1)
    assert shown in result.stdout.str()
    assert absent not in result.stdout.str()


def test_steps_of_install_python_are_in_the_captured_log_of_the_test(pytester: pytest.Pytester, minor: str) -> None:
    pytester.makepyfile(f"def test_it(install_python):\n    install_python('{minor}')\n    assert False")

    result = pytester.runpytest_subprocess("--log-level=info", "--python-preference=only-managed")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Captured log call*", "INFO*published as*"])


def test_steps_are_not_formatted_if_logging_is_off(minor: str) -> None:
    code = f"""
import logging
from pytest_pyinstall import provision
from pytest_pyinstall.settings import Settings
logging.LogRecord.getMessage = None
provision({minor!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
