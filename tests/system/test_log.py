"""Steps are logged if `logging` is imported, and cost no import otherwise."""

import logging
import subprocess
import sys
import threading

import pytest

from pytest_pyinstall.system.log import StepLogger, said_if_slow


def test_a_step_is_logged_with_its_logger_and_its_source_file(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pytest_pyinstall.some")
    logger = StepLogger("pytest_pyinstall.some")
    logger.info("%s came", "it")
    logger.debug("all of it")

    assert logger.is_heard
    assert [(record.name, record.levelno, record.getMessage()) for record in caplog.records] == [
        ("pytest_pyinstall.some", logging.INFO, "it came"),
        ("pytest_pyinstall.some", logging.DEBUG, "all of it"),
    ]
    assert {record.filename for record in caplog.records} == {"test_log.py"}


def test_a_step_without_logging_imports_and_prints_nothing() -> None:
    code = """
import sys
from pytest_pyinstall.system.log import StepLogger
logger = StepLogger("x")
logger.info("%s", "step")
print("logging" in sys.modules, logger.is_heard)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["False", "False"], "")


def test_only_slow_work_is_announced() -> None:
    written: list[str] = []
    is_written = threading.Event()

    def write(sentence: str) -> None:
        written.append(sentence)
        is_written.set()

    with said_if_slow(write, "soon over", patience=3600):
        pass
    with said_if_slow(write, "still at it", patience=0.001):
        assert is_written.wait(60)
    with said_if_slow(None, "without a writer", patience=0):
        pass

    assert written == ["still at it"]
