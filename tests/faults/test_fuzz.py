"""P10: fuzzes the archive reader and the request parser for a few seconds with the harnesses in ``tests/fuzz``."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from fault_report import Tally

HARNESSES = Path(__file__).parent.parent / "fuzz"


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("name", ["fuzz_unpack.py", "fuzz_request.py"])
def test_p10_a_fuzzer_finds_no_crash_and_no_file_outside(name: str, tally: Tally, times: int, tmp_path: Path) -> None:
    tally.attempt("fuzzed archives and requests")
    done = subprocess.run(
        [sys.executable, HARNESSES / name, f"-max_total_time={4 * times}"],
        cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr
    tally.survive()
