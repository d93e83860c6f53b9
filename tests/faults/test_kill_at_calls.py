"""P1, P8: strace kills a command at each system call that changes something, and not only at random moments.

Calls are counted for each thread and nothing is timed, so ``--faults-at "install: rename 2"`` repeats a kill exactly.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fault_report import Again, Tally
from fault_workshop import VERSION, Workshop, digest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs strace")

CALLS = (
    "openat",
    "write",
    "link",
    "linkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "symlink",
    "symlinkat",
    "fsync",
    "mkdir",
    "chmod",
    "fchmod",
    "flock",
    "ftruncate",
)
MOST = 4
"""The number of kills for each call; ten times as many with ``--faults-long``."""

_OURS = re.compile(r'"[^"]*/workshop/|^\d+ +(write|ftruncate|fsync|fchmod|flock)\(\d')
"""A call with a path of the store or the cache, or with a descriptor."""


@pytest.mark.parametrize("case", ["install", "reinstall", "remove"])
def test_p1_p8_a_kill_at_any_system_call_leaves_a_valid_store(
    workshop: Workshop, tally: Tally, case: str, times: int, tmp_path: Path, again: Again
) -> None:
    words = {"install": ("install",), "reinstall": ("install", "--reinstall"), "remove": ("remove",)}[case]
    log = tmp_path / "calls"
    _prepare(workshop, case)
    code = _run_under_strace(workshop, *words, VERSION, log=log)
    if code:
        pytest.skip(f"needs strace, and the right to trace: it ended with {code}")
    moments = _moments(log.read_text("utf-8", "replace"), MOST * times)
    allowed = [workshop.reference] if case == "reinstall" else [workshop.reference, None]
    for call, when in again.only(case, moments):
        with again.at(case, call, when):
            _prepare(workshop, case)
            _run_under_strace(workshop, *words, VERSION, kill=f"inject={call}:signal=SIGKILL:when={when}")
            left = workshop.leftovers()
            tally.attempt(f"SIGKILL at a system call of {case}", len(left))
            assert digest(workshop.home) in allowed
            assert len([name for name in left if not name.endswith(".alive")]) <= 2, left
            ended = workshop.run("install", VERSION)
            assert ended.code == 0, ended.output
            assert workshop.is_whole()
            tally.survive()
    assert workshop.run("install", "--reinstall", VERSION).code == 0
    assert workshop.leftovers() == []


def test_a_failure_at_a_counted_call_names_the_command_that_repeats_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["fault_report"]')
    pytester.makepyfile(
        """
        def test_it(again):
            for call, when in again.only("install", [("link", 1), ("rename", 2), ("rename", 3)]):
                with again.at("install", call, when):
                    assert (call, when) != ("rename", 2)
        """
    )
    (line,) = [
        line for line in pytester.runpytest("-p", "no:randomly").outlines if "to repeat exactly this fault" in line
    ]
    words = shlex.split(line.partition("to repeat exactly this fault: ")[2])
    assert words[:3] == ["python", "-m", "pytest"]
    pytester.runpytest(*words[3:]).assert_outcomes(failed=1)
    pytester.runpytest(*words[3:-1], "install: rename 3").assert_outcomes(passed=1)
    pytester.runpytest(*words[3:-1], "remove: rename 2").assert_outcomes(skipped=1)


def _moments(log: str, most: int) -> list[tuple[str, int]]:
    """Some calls of each name, as strace counts them for each thread."""
    counts: Counter[tuple[str, str]] = Counter()
    ours: dict[str, list[int]] = {}
    for line in log.splitlines():
        if match := re.match(r"(\d+) +(\w+)\(", line):
            counts[match[1], match[2]] += 1
            is_writing = match[2] != "openat" or "O_CREAT" in line or "O_WRONLY" in line or "O_RDWR" in line
            if is_writing and _OURS.search(line):
                ours.setdefault(match[2], []).append(counts[match[1], match[2]])
    moments = []
    for call, numbers in ours.items():
        numbers = sorted(set(numbers))  # noqa: PLW2901
        step = max(1, len(numbers) // most)
        moments += [(call, number) for number in numbers[::step][: most + 2]]
    return moments


def _prepare(workshop: Workshop, case: str) -> None:
    if case == "install":
        assert workshop.run("remove", "--all").code in {0, 3}


def _run_under_strace(workshop: Workshop, *words: str, log: Path = Path("/dev/null"), kill: str = "") -> int:
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
