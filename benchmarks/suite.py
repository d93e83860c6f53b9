"""How long the suites of real libraries take under six Pythons, beside ``tox -p``, ``tox-uv -p`` and ``nox``.

    python -m benchmarks.suite DIR [--library NAME] [--minutes 12] [--turns 9] [--cold-turns 3] [--write]

Every side installs pytest and the library, editable, with the same extra, and runs pytest with the same arguments, on
the same builds. A round is a turn of each side, one after the other, so that a busy machine affects all of them. It
counts only if the same number of tests passed on all sides. Warm: the environments exist. Cold: a new copy of the
library in a new directory, so that they do not, but the Pythons and the caches of uv and pip do. Each kind of round
runs once, however long it takes, and then again until ``--minutes`` have passed. Nothing is deleted in between, because
on some filesystems a deletion slows down the process that creates files after it. DIR as for `benchmarks.libraries`.
"""

import argparse
import json
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.libraries import LIBRARIES, PAGE, VERSIONS, Library, Workshop, fill, machine, open_workshop, run

__all__ = ["main"]


@dataclass(frozen=True)
class Contest:
    """A library's suite, what all sides install besides pytest for it, and one test of it.

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
PEERS = {"tox -p": ("tox",), "tox-uv -p": ("tox", "tox-uv"), "nox": ("nox", "uv"), "nox -R": ("nox", "uv")}
AIM = "tox-uv -p"
"""The peer that the targets refer to."""
PLAIN = "pytest"
OURS = "ours"
COMMAND = ["pytest", "--python", f"{VERSIONS[0]}..{VERSIONS[-1]}", "--python-suite"]
COLLECTING = ["--collect-only", "-q"]

Side = Callable[[], tuple[float, int]]
"""Runs a turn, and returns its seconds and the number of passed tests."""


@dataclass
class Event:
    """Rounds of one kind. `sides` creates the sides of a round. `turns` is the maximum number of rounds."""

    contest: Contest
    kind: str
    sides: Callable[[], Mapping[str, Side]]
    turns: int
    seconds: float = 0.0
    times: list[dict[str, float]] = field(default_factory=list)

    def hold(self) -> None:
        start = time.monotonic()
        sides = list(self.sides().items())
        # Reverse the order every other time, because the first side may find the disk or a cache in another state.
        results = {name: side() for name, side in (sides[::-1] if len(self.times) % 2 else sides)}
        if len({passed for _, passed in results.values()}) != 1:
            message = f"{self.contest.name}, {self.kind}: not the same tests passed: {results}"
            raise RuntimeError(message)
        self.times.append({name: seconds for name, (seconds, _) in results.items()})
        self.seconds = time.monotonic() - start

    def rows(self) -> Iterator[str]:
        for peer in self.times[0] if self.times else ():
            if peer == OURS:
                continue
            mine, theirs = ([turn[name] for turn in self.times] for name in (OURS, peer))
            ratios = [ours / other for ours, other in zip(mine, theirs, strict=True)]
            ratio = statistics.median(ratios)
            quartiles = "{0:.2f} to {2:.2f}".format(*statistics.quantiles(ratios, n=4)) if len(ratios) > 1 else ""
            target = self._target(peer)
            aim = "" if target is None else f"≤ {target:g}: {'reached' if ratio <= target else '**missed**'}"
            seconds = [f"{statistics.median(times):.2f} s" for times in (mine, theirs)]
            name = peer if "`" in peer else f"`{peer}`"
            cells = [self.contest.name, name, self.kind, *seconds, f"{ratio:.2f}", quartiles, len(ratios), aim]
            yield f"| {' | '.join(map(str, cells))} |"

    def _target(self, peer: str) -> float | None:
        if peer == AIM:
            return self.contest.warm if self.kind == "warm" else 1.0
        return 2.0 if peer.startswith("plain `pytest`") else None


@dataclass
class Track:
    """The directories of a contest. `home` has the store with the Pythons of all sides, and our environments."""

    workshop: Workshop
    contest: Contest
    peers: Sequence[str]
    home: Path
    pythons: list[Path]
    copies: int = 0

    def copy(self, name: str) -> Path:
        """A new copy of the library, with files for tox and nox that do the same as our side."""
        self.copies += 1
        place = self.workshop.checkout(self.contest.library, f"{self.copies}-{re.sub(r'[^a-z]+', '-', name)}")
        what = {"extra": self.contest.extra, "arguments": self.contest.arguments, "versions": VERSIONS}
        (place / "race.ini").write_text(_TOX.format(**what), encoding="utf-8")
        (place / "race.py").write_text(_NOX.format(**what), encoding="utf-8")
        return place

    def ours(self, place: Path, arguments: Sequence[str] = ()) -> tuple[float, int]:
        words = arguments or self.contest.arguments.split()
        return _timed([*COMMAND, *words], place, self.workshop.environ(self.home))

    def theirs(self, peer: str, place: Path, arguments: Sequence[str] = ()) -> tuple[float, int]:
        path = [self.workshop.tool(*PEERS[peer]), *self.pythons]
        environ = self.workshop.environ(self.home, path=path, UV_PYTHON_DOWNLOADS="never")
        names = ",".join(f"py{version.replace('.', '')}" for version in VERSIONS)
        command = ["tox", "run-parallel", "--parallel-no-spinner", "-c", "race.ini", "-e", names]
        if "nox" in peer:
            command = ["nox", "-f", "race.py", *(["-R"] if "-R" in peer else [])]
        return _timed([*command, *(["--", *arguments] if arguments else [])], place, environ)

    def side(self, name: str, place: Path) -> Side:
        return (lambda: self.ours(place)) if name == OURS else (lambda: self.theirs(name, place))

    def events(self, *, turns: int, cold_turns: int) -> list[Event]:
        """The rounds, after everything that warm rounds need was created."""
        events = []
        if self.peers:
            # -R uses the environments that the other command created.
            makers = [OURS, *dict.fromkeys(peer.removesuffix(" -R") for peer in self.peers)]
            places = {name: self.copy(name) for name in makers}
            for name, place in places.items():
                self.ours(place, COLLECTING) if name == OURS else self.theirs(name, place, COLLECTING)
            sides = {name: self.side(name, places[name.removesuffix(" -R")]) for name in [OURS, *self.peers]}
            colds = [name for name in (OURS, *self.peers) if "-R" not in name]
            events += [
                Event(self.contest, "warm", lambda: sides, turns),
                Event(
                    self.contest, "cold", lambda: {name: self.side(name, self.copy(name)) for name in colds}, cold_turns
                ),
            ]
        return events

    def one_test(self, turns: int) -> Event:
        """One test on all Pythons, compared with plain pytest in the environments that we created for it.

        Plain pytest runs on the slowest of them, and on all, one per core at a time.
        """
        place, words = self.copy("one"), ["-q", self.contest.test]
        self.ours(place, words)
        environ = self.workshop.environ(self.home)
        commands = {}
        for path in (self.home / "cache" / "environments").glob("*/suite.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            if record["project"] == str(place):
                commands[record["python"].split("-")[1]] = str(path.parent / "bin" / "pytest")

        def alone(version: str) -> tuple[float, int]:
            return _timed([commands[version], *words], place, environ)

        def all_of_them() -> tuple[float, int]:
            start = time.perf_counter()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                passed = [count for _, count in pool.map(alone, commands)]
            return time.perf_counter() - start, min(passed)

        times = {version: statistics.median(alone(version)[0] for _ in range(4)) for version in commands}
        slowest = max(times, key=times.__getitem__)

        def ours() -> tuple[float, int]:
            seconds, passed = self.ours(place, words)
            return seconds, passed // len(VERSIONS)

        sides: dict[str, Side] = {
            OURS: ours,
            f"plain `pytest` on {slowest}": lambda: alone(slowest),
            f"plain `pytest` on all {len(commands)}, {os.cpu_count()} at once": all_of_them,
        }
        return Event(self.contest, "warm, one test", lambda: sides, turns)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--library", action="append", choices=[contest.name for contest in CONTESTS])
    parser.add_argument("--peer", action="append", choices=[*PEERS, PLAIN])
    parser.add_argument("--minutes", type=float, default=12, help="start no further round after this time")
    parser.add_argument("--turns", type=int, default=9, help="most warm rounds; twice as many for one test")
    parser.add_argument("--cold-turns", type=int, default=3, help="most cold rounds")
    parser.add_argument("--write", action="store_true", help="write docs/libraries.md")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    names = options.peer or [*PEERS, PLAIN]
    events: list[Event] = []
    loads = [os.getloadavg()[0]]
    with open_workshop(options.directory) as workshop:
        for contest in CONTESTS:
            if options.library is None or contest.name in options.library:
                track = _open_track(workshop, contest, [peer for peer in PEERS if peer in names])
                found = track.events(turns=options.turns, cold_turns=options.cold_turns)
                if PLAIN in names:
                    found.append(track.one_test(2 * options.turns))
                for event in found:
                    if event.turns:
                        event.hold()
                        print("\n".join(event.rows()), flush=True)
                events += found
        while event := _next(events, start + 60 * options.minutes - time.monotonic()):
            loads.append(os.getloadavg()[0])
            event.hold()
    lines = ["| library | compared with | | ours | theirs | ratio | quartiles | pairs | target |", f"|{'---|' * 9}"]
    lines += [row for event in events for row in event.rows()]
    load = f"The load was between {min(loads):.1f} and {max(loads):.1f} when a round began."
    print("\n".join([*lines, load]))
    if options.write:
        fill(PAGE, {"races": "\n".join(lines), "races' machine": f"{machine()} {load}"})


def _next(events: Sequence[Event], seconds: float) -> Event | None:
    """The kind of round with the smallest share of its turns done, if there is time for it."""
    waiting = [event for event in events if len(event.times) < event.turns and event.seconds < seconds]
    return min(waiting, key=lambda event: len(event.times) / event.turns, default=None)


def _open_track(workshop: Workshop, contest: Contest, peers: Sequence[str]) -> Track:
    home = workshop.directory / "homes" / contest.name
    run(["pytest-pyinstall", "install", *VERSIONS], home, workshop.environ(home))
    return Track(workshop, contest, peers, home, workshop.pythons(home))


def _timed(command: list[str], place: Path, environ: dict[str, str]) -> tuple[float, int]:
    start = time.perf_counter()
    said = run(command, place, environ).stdout
    seconds = time.perf_counter() - start
    return seconds, sum(map(int, re.findall(r"(\d+) passed\b.* in [\d.]+s", said)))


_TOX = """\
[testenv]
package = editable
extras = {extra}
deps = pytest
commands = pytest {{posargs:{arguments}}}
parallel_show_output = true
"""
_NOX = """\
import nox

nox.options.default_venv_backend = "uv"


@nox.session(python={versions!r})
def tests(session):
    session.install("pytest", "-e", ".[{extra}]" if "{extra}" else ".")
    session.run("pytest", *(session.posargs or {arguments!r}.split()))
"""

if __name__ == "__main__":
    main()
