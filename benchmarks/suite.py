"""How long the suites of real libraries take under six Pythons, beside ``tox -p``, ``tox-uv -p`` and ``nox``.

    python -m benchmarks.suite DIR [--library NAME] [--turns 7] [--cold-turns 3] [--write]

Every side installs pytest and the library, editable, with the same extra, and runs pytest with the same arguments, on
the same builds; a turn counts only where the same number of tests passed on both sides. Pairs run one after the other,
so that a busy machine is busy for both, and the first does not count. Warm: the environments are there. Cold: a new
copy of the library in a new directory, so that they are not; the Pythons and the caches of uv and pip are. Nothing is
deleted in between, for on some filesystems whoever makes files after a deletion pays for it. DIR as for
`benchmarks.libraries`.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.libraries import LIBRARIES, PAGE, VERSIONS, Library, Workshop, fill, machine, open_workshop, run
from benchmarks.race import Pairs, race

__all__ = ["main"]


@dataclass(frozen=True)
class Contest:
    """A library's suite, what all sides install beside pytest for it, and one test of it.

    `warm` is the target beside tox-uv. `arguments` are pytest's, for all sides.
    """

    library: Library
    extra: str
    test: str
    warm: float
    arguments: str = "-q"

    @property
    def name(self) -> str:
        return self.library.name


CONTESTS = (
    Contest(
        next(library for library in LIBRARIES if library.name == "pluggy"),
        extra="testing", test="testing/test_helpers.py::test_varnames", warm=0.5,
    ),
    Contest(
        Library("more-itertools", "10.5.0", "flat, flit"),
        extra="", test="tests/test_more.py::ChunkedTests::test_even", warm=0.9,
    ),
)  # fmt: skip
PEERS = {"`tox -p`": ("tox",), "`tox-uv -p`": ("tox", "tox-uv"), "`nox`": ("nox", "uv"), "`nox -R`": ("nox", "uv")}
OURS = ["pytest", "--python", f"{VERSIONS[0]}..{VERSIONS[-1]}", "--python-suite"]


@dataclass
class Track:
    """Where a contest is held. `home` holds the store that all sides take their Pythons from, and our environments."""

    workshop: Workshop
    contest: Contest
    home: Path
    pythons: list[Path]

    def copy(self, name: str) -> Path:
        """A new copy of the library, with the files of tox and nox that say what all sides do."""
        place = self.workshop.checkout(self.contest.library, name)
        what = {"extra": self.contest.extra, "arguments": self.contest.arguments, "versions": VERSIONS}
        (place / "race.ini").write_text(_TOX.format(**what), encoding="utf-8")
        (place / "race.py").write_text(_NOX.format(**what), encoding="utf-8")
        return place

    def ours(self, place: Path, arguments: str) -> tuple[float, int]:
        """Seconds, and how many tests passed."""
        return _timed([*OURS, *arguments.split()], place, self.workshop.environ(self.home))

    def theirs(self, peer: str, place: Path) -> tuple[float, int]:
        path = [self.workshop.tool(*PEERS[peer]), *self.pythons]
        environ = self.workshop.environ(self.home, path=path, UV_PYTHON_DOWNLOADS="never")
        names = ",".join(f"py{version.replace('.', '')}" for version in VERSIONS)
        command = ["tox", "run-parallel", "--parallel-no-spinner", "-c", "race.ini", "-e", names]
        if "nox" in peer:
            command = ["nox", "-f", "race.py", *(["-R"] if "-R" in peer else [])]
        return _timed(command, place, environ)

    def warm(self, peer: str, turns: int) -> Pairs:
        name = re.sub(r"\W+", "-", peer).strip("-")
        mine, other = self.copy(f"{name}-warm-ours"), self.copy(f"{name}-warm-theirs")
        if "-R" in peer:
            self.theirs("`nox`", other)  # which makes what -R takes
        return self._race(lambda _: mine, lambda _: other, peer, turns)

    def cold(self, peer: str, turns: int) -> Pairs:
        name = re.sub(r"\W+", "-", peer).strip("-")
        mine = [self.copy(f"{name}-cold-ours-{turn}") for turn in range(turns + 1)]
        others = [self.copy(f"{name}-cold-theirs-{turn}") for turn in range(turns + 1)]
        return self._race(mine.__getitem__, others.__getitem__, peer, turns)

    def _race(self, mine: Callable[[int], Path], others: Callable[[int], Path], peer: str, turns: int) -> Pairs:
        passed: list[int] = []

        def note(seconds: float, count: int) -> float:
            passed.append(count)
            return seconds

        pairs = race(
            lambda turn: note(*self.ours(mine(turn), self.contest.arguments)),
            lambda turn: note(*self.theirs(peer, others(turn))),
            turns=turns,
        )
        if len(set(passed)) != 1:
            message = f"{self.contest.name} beside {peer}: not the same tests passed: {passed}"
            raise RuntimeError(message)
        return pairs

    def one_test(self, turns: int) -> tuple[str, Pairs]:
        """One test on all Pythons, beside plain pytest on the slowest of them, in the environment that we made."""
        place, test = self.copy("one"), f"-q {self.contest.test}"
        self.ours(place, test)
        environ = self.workshop.environ(self.home)
        environments = {}
        for path in (self.home / "cache" / "environments").glob("*/suite.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["project"] == str(place):
                environments[record["python"].split("-")[1]] = path.parent / "bin" / "pytest"

        def alone(version: str) -> float:
            return _timed([str(environments[version]), *test.split()], place, environ)[0]

        times = {version: statistics.median(alone(version) for _ in range(4)) for version in environments}
        slowest = max(times, key=times.__getitem__)
        return slowest, race(lambda _: self.ours(place, test)[0], lambda _: alone(slowest), turns=turns)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--library", action="append", choices=[contest.name for contest in CONTESTS])
    parser.add_argument("--peer", action="append", choices=[*(peer.strip("`") for peer in PEERS), "pytest"])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cold-turns", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="into docs/libraries.md")
    options = parser.parse_args(arguments)
    peers = [peer for peer in PEERS if options.peer is None or peer.strip("`") in options.peer]
    lines = ["| library | beside | | ours | theirs | ratio | quartiles | pairs | target |", f"|{'---|' * 9}"]
    print("\n".join(lines), flush=True)

    def add(library: str, peer: str, how: str, pairs: Pairs, target: float | None) -> None:
        lines.append(_row(library, peer, how, pairs, target))
        print(lines[-1], flush=True)

    with open_workshop(options.directory) as workshop:
        for contest in CONTESTS:
            if options.library is not None and contest.name not in options.library:
                continue
            track = _open_track(workshop, contest)
            for peer in peers:
                # Turns are for the peer that a target is about; cold, the others take minutes.
                is_aim = peer == "`tox-uv -p`"
                pairs = track.warm(peer, options.turns if is_aim else min(options.turns, 3))
                add(contest.name, peer, "warm", pairs, contest.warm if is_aim else None)
                if "-R" not in peer and options.cold_turns:
                    pairs = track.cold(peer, options.cold_turns if is_aim else 1)
                    add(contest.name, peer, "cold", pairs, 1.0 if is_aim else None)
            if options.peer is None or "pytest" in options.peer:
                slowest, pairs = track.one_test(options.turns)
                add(contest.name, f"plain `pytest` on {slowest}", "warm, one test", pairs, 2.0)
    if options.write:
        fill(PAGE, {"races": "\n".join(lines), "races' machine": machine()})


def _open_track(workshop: Workshop, contest: Contest) -> Track:
    home = workshop.directory / "homes" / contest.name
    run(["pytest-pyinstall", "install", *VERSIONS], home, workshop.environ(home))
    return Track(workshop, contest, home, workshop.pythons(home))


def _timed(command: list[str], place: Path, environ: dict[str, str]) -> tuple[float, int]:
    start = time.perf_counter()
    said = run(command, place, environ).stdout
    seconds = time.perf_counter() - start
    return seconds, sum(map(int, re.findall(r"(\d+) passed\b.* in [\d.]+s", said)))


def _row(library: str, peer: str, how: str, pairs: Pairs, target: float | None) -> str:
    mine, theirs = pairs.medians
    ratios = [ours / peer for ours, peer in zip(pairs.ours, pairs.peer, strict=True)]
    quartiles = "{0:.2f} to {2:.2f}".format(*statistics.quantiles(ratios, n=4)) if len(ratios) > 1 else ""
    aim = "" if target is None else f"≤ {target:g}: {'reached' if pairs.ratio <= target else '**missed**'}"
    cells = [library, peer, how, f"{mine:.2f} s", f"{theirs:.2f} s", f"{pairs.ratio:.2f}", quartiles, len(ratios), aim]
    return f"| {' | '.join(map(str, cells))} |"


_TOX = """\
[testenv]
package = editable
extras = {extra}
deps = pytest
commands = pytest {arguments}
parallel_show_output = true
"""
_NOX = """\
import nox

nox.options.default_venv_backend = "uv"


@nox.session(python={versions!r})
def tests(session):
    session.install("pytest", "-e", ".[{extra}]" if "{extra}" else ".")
    session.run("pytest", *{arguments!r}.split())
"""

if __name__ == "__main__":
    main()
