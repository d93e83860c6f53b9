"""`--python-bisect` finds the two Pythons between which the outcome of a test changes."""

import itertools
import math
import os
import subprocess
from pathlib import Path

import pytest
from archives import interpreters
from suite_fixtures import Run, marks

from pytest_pyinstall.request.request import parse_requests
from pytest_pyinstall.suite.bisection import neighbours

pytestmark = marks


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("aaaaabbbbb", (4, 5)),
        ("abbbbbbbbb", (0, 1)),
        ("aaaaaaaaab", (8, 9)),
        ("ab", (0, 1)),
        ("..aa.b..", (3, 5)),
        ("aaaa", (0, 3)),
        ("...a...", None),
        ("", None),
    ],
)
def test_the_neighbours_are_found_with_few_tries(outcomes: str, expected: tuple[int, int] | None) -> None:
    asked: list[int] = []

    def outcome(index: int) -> str | None:
        asked.append(index)
        return None if outcomes[index] == "." else outcomes[index]

    found = neighbours(len(outcomes), outcome)
    assert (found and (found.before, found.after)) == expected
    assert len(asked) == len(set(asked))
    if "." not in outcomes:
        assert len(asked) <= 2 + len(outcomes).bit_length()


def test_bisect_names_the_builds_between_which_a_test_changes(run: Run, project: Path) -> None:
    versions = tuple(version for version in interpreters() if version != "3.6")
    result = run("--python-bisect", "test_demo.py::test_old", pythons=versions)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "bisect: test_demo.py::test_old",
            "  fails    on cpython-3.9.*",
            "  passes   on cpython-3.10.*",
            f"  found with * of {len(versions)} Pythons",
        ]
    )
    # Both ends, and the Pythons that bisecting needs. Only these have environments.
    tried = result.stdout.str().count("bisect: trying")
    assert tried <= 2 + math.ceil(math.log2(len(versions) - 1))
    assert result.stdout.str().count("making an environment") <= tried
    same = run("-q", "--python-bisect", "test_demo.py::test_fine")
    assert same.ret == 1
    assert all(line.startswith("bisect: ") for line in same.outlines if "bisect: " in line), same.outlines
    same.stdout.fnmatch_lines(["bisect: * passes on both *"])


def test_bisect_finds_a_change_between_patch_versions(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = _two_patch_versions()
    minor = ".".join(map(str, one[0][:2]))
    monkeypatch.setenv("PATH", os.pathsep.join(str(path.parent) for _, path in (one, other)), prepend=os.pathsep)
    (project / "test_demo.py").write_text(
        f"import sys\ndef test_it():\n    assert sys.version_info[:3] < {other[0]}\n", "utf-8"
    )
    last = other[0][2] + 1
    words = (f"--python={minor}.0..{minor}.{last}", "--python-downloads=never", "--python-bisect=test_demo.py::test_it")
    result = run(*words, pythons=())
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            f"  passes   on cpython-{'.'.join(map(str, one[0]))}-*",
            f"  fails    on cpython-{'.'.join(map(str, other[0]))}-*",
            f"  found with 2 of {last + 1} Pythons",
        ]
    )
    assert result.stdout.str().count("making an environment") <= 2


def _two_patch_versions() -> list[tuple[tuple[int, int, int], Path]]:
    """Two adjacent patch versions with their executables. Skips the test if this machine has no such two."""
    found: dict[tuple[int, int, int], Path] = {}
    for path in (*interpreters().values(), *Path("/usr/bin").glob("python3.[0-9]*")):
        code = "import sys; print(*sys.version_info[:3])"
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            major, minor, patch = map(int, done.stdout.split())
            found.setdefault((major, minor, patch), path)
    versions = sorted(version for version in found if version >= (3, 8, 0))
    for one, other in itertools.pairwise(versions):
        if one[:2] == other[:2]:
            return [(one, found[one]), (other, found[other])]
    pytest.skip("needs two patch versions of one minor version")


def test_an_id_of_a_suite_is_bisected_and_the_heading_names_the_pythons(run: Run, project: Path) -> None:
    result = run("--python-bisect", "test_demo.py::test_old[py3.8,py3.9-django4.2]")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_old — on py3.9.*; not on py3.12.*", "  fails    on cpython-3.9.*"])


@pytest.mark.parametrize(
    ("test", "words", "outcome"),
    [
        ("test_demo.py::test_nope", (), "is found neither on *3.9* nor on *"),
        ("test_demo.py::TestNope::test_it", (), "is found neither on *3.9* nor on *"),
        ("test_demo.py::test_fine", ("--nope",), "cannot start on both *"),
    ],
)
def test_bisect_reports_that_a_mistyped_word_is_not_found(
    run: Run, project: Path, test: str, words: tuple[str, ...], outcome: str
) -> None:
    result = run(f"--python-bisect={test}", *words)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["bisect: trying *", "bisect: trying *", "* ERRORS *", f"bisect: {test} {outcome}"])
    assert result.stdout.str().count("[py3.9.") == 2  # the error, and its line in the summary


def test_a_range_of_patch_versions_is_bisected() -> None:
    names = [request.text for request in parse_requests(["3.12.0..3.12.9"], directory=Path(), origin="--python")]
    assert names == [f"3.12.{number}" for number in range(10)]
    tried: list[str] = []

    def outcome(index: int) -> str | None:
        tried.append(names[index])
        return None if names[index] == "3.12.5" else "passes" if index < 4 else "fails"

    found = neighbours(len(names), outcome)
    assert found is not None
    assert (names[found.before], names[found.after]) == ("3.12.3", "3.12.4")
    assert len(tried) <= 5
