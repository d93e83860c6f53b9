"""P1, P8: killed by strace at each system call that changes something, and not only where chance leads."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from campaign import VERSION, Workshop, digest
from fault_table import Tally

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs strace")

CALLS = (
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "symlink",
    "fsync",
    "mkdir",
    "fchmod",
    "flock",
    "ftruncate",
)
MOST = 4
"""Kills for each call; ten times as many with --faults-long."""


@pytest.mark.parametrize("case", ["install", "reinstall", "remove"])
def test_p1_p8_killed_at_each_call_that_changes_something(
    workshop: Workshop, tally: Tally, case: str, times: int, tmp_path: Path
) -> None:
    words = {"install": ("install",), "reinstall": ("install", "--reinstall"), "remove": ("remove",)}[case]
    log = tmp_path / "calls"
    _prepare(workshop, case)
    code = _traced(workshop, *words, VERSION, log=log)
    if code:
        pytest.skip(f"needs strace, and the right to trace: it ended with {code}")
    # strace counts for each thread by itself: so do we.
    counts: Counter[str] = Counter()
    for line in log.read_text("utf-8", "replace").splitlines():
        if match := re.match(r"(\d+) +(\w+)\(", line):
            counts[f"{match[1]} {match[2]}"] += 1
    allowed = [workshop.reference] if case == "reinstall" else [workshop.reference, None]
    for call in CALLS:
        count = max((number for name, number in counts.items() if name.endswith(f" {call}")), default=0)
        step = max(1, count // (MOST * times))
        for when in range(1, count + 1, step):
            story = f"{case}, killed at {call} number {when} of {count}"
            _prepare(workshop, case)
            _traced(workshop, *words, VERSION, kill=f"inject={call}:signal=SIGKILL:when={when}")
            left = workshop.leftovers()
            tally.attempt(f"SIGKILL at a system call of {case}", len(left))
            found = digest(workshop.home)
            assert found in allowed, story
            assert len([name for name in left if not name.endswith(".alive")]) <= 2, (story, left)
            again = workshop.ours("install", VERSION)
            assert again.code == 0, (story, again.output)
            assert workshop.is_whole(), story
            tally.survive()
    assert workshop.ours("install", "--reinstall", VERSION).code == 0
    assert workshop.leftovers() == []


def _prepare(workshop: Workshop, case: str) -> None:
    if case == "install":
        assert workshop.ours("remove", "--all").code in {0, 3}


def _traced(workshop: Workshop, *words: str, log: Path = Path("/dev/null"), kill: str = "") -> int:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    command = [strace, "-f", "-qqq", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    if kill:
        command += ["-e", kill]
    done = subprocess.run(
        [*command, sys.executable, "-B", "-m", "pytest_pyinstall", *words],
        env=workshop.environ, cwd=workshop.directory,
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=100,
    )  # fmt: skip
    return done.returncode
