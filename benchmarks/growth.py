"""How cost grows with the number of Pythons, and the size of the catalogue, the store and the suite."""

import json
import re
import statistics
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import write_project
from benchmarks.race import race, run
from benchmarks.world import World

__all__ = ["GROWTHS", "Growth"]


@dataclass(frozen=True)
class Growth:
    """`measure` returns, for each size, the median seconds of each line."""

    name: str
    title: str
    axis: str
    measure: Callable[[World], dict[int, dict[str, float]]]


def installs(world: World) -> dict[int, dict[str, float]]:
    """Cold, command line."""
    results = {}
    for count in (1, 2, 4, 8):
        versions = world.versions[-count:]

        def ours(turn: int, count: int = count, versions: list[str] = versions) -> float:
            place = world.place(f"growth-installs/{count}/{turn}/ours")
            words = [world.plugin / "pytest-pyinstall", "install", *versions]
            return run(words, environ=world.ours(place), directory=place)

        def peer(turn: int, count: int = count, versions: list[str] = versions) -> float:
            place = world.place(f"growth-installs/{count}/{turn}/peer")
            return run([world.uv, "python", "install", *versions], environ=world.peer(place), directory=place)

        results[count] = dict(zip(("pytest-pyinstall", "uv"), race(ours, peer, turns=5).medians, strict=True))
    return results


def catalogues(world: World) -> dict[int, dict[str, float]]:
    """`list --all` and `uv python list` read the whole catalogue. `find` of an installed Python does not read it."""
    ours, peer = world.installed("growth-catalogue", [world.version])
    rows = json.loads((world.mirror / "catalogue.json").read_text("utf-8"))
    results = {}
    for count in (2000, 8000):
        place = world.place(f"growth-catalogue/{count}")
        (place / "catalogue.json").write_text(json.dumps(_many(rows, count)), "utf-8")
        mine = {**ours, "PYTEST_PYINSTALL_CATALOGUE": str(place / "catalogue.json")}
        theirs = {**peer, "UV_PYTHON_DOWNLOADS_JSON_URL": str(place / "catalogue.json")}
        line = {}
        for name, words, others in (
            ("list everything", ["list", "--all"], ["list", "--all-versions"]),
            ("nothing to do", ["install", world.version], ["install", world.version]),
        ):
            pairs = race(
                lambda _, words=words, place=place, mine=mine: run(
                    [world.plugin / "pytest-pyinstall", *words], environ=mine, directory=place
                ),
                lambda _, others=others, place=place, theirs=theirs: run(
                    [world.uv, "python", *others], environ=theirs, directory=place
                ),
                turns=7,
            )
            line[f"{name}: pytest-pyinstall"], line[f"{name}: uv"] = pairs.medians
        results[count] = line
    return results


def _many(rows: dict[str, dict[str, Any]], count: int) -> dict[str, dict[str, Any]]:
    """The rows, and as many rows of future versions as needed."""
    many = dict(rows)
    samples = list(rows.items())
    number = 0
    while len(many) < count:
        key, row = samples[number % len(samples)]
        # uv stores each number of a version in a byte.
        minors, patch = divmod(number // len(samples), 150)
        version = f"{row['major']}.{row['minor'] + 20 * (minors + 1)}.{patch}"
        many[re.sub(r"\d+\.\d+\.\d+", version, key, count=1)] = {
            **row,
            "minor": row["minor"] + 20 * (minors + 1),
            "patch": patch,
        }
        number += 1
    return many


def stores(world: World) -> dict[int, dict[str, float]]:
    """With 1 and with 100 installations: nothing to do, and a list. 99 are copies with the names of other patches."""
    from benchmarks.stores import fill

    results = {}
    for count in (1, 100):
        ours, peer = world.installed(f"growth-store-{count}", [world.version])
        store = Path(ours["PYTEST_PYINSTALL_STORE"])
        # Request the full version: `install` runs the Python that it finds, and a copy reports the original's version.
        real = next(path.name for path in store.glob("cpython-*") if not path.is_symlink()).split("-")[1]
        fill(store, Path(peer["UV_PYTHON_INSTALL_DIR"]), count - 1)
        place = world.place(f"growth-store-{count}/runs")
        line = {}
        for name, words, others in (
            ("nothing to do", ["install", real], ["install", real]),
            ("list", ["list"], ["list", "--only-installed"]),
        ):
            pairs = race(
                lambda _, words=words, place=place, ours=ours: run(
                    [world.plugin / "pytest-pyinstall", *words], environ=ours, directory=place
                ),
                lambda _, others=others, place=place, peer=peer: run(
                    [world.uv, "python", *others], environ=peer, directory=place
                ),
                turns=7,
            )
            line[f"{name}: pytest-pyinstall"], line[f"{name}: uv"] = pairs.medians
        results[count] = line
    return results


def suites(world: World) -> dict[int, dict[str, float]]:
    """Suites on five Pythons, and the same suite under plain pytest: how much each report costs the session."""
    versions = world.versions[-5:]
    ours, peer = world.installed("growth-suite", versions)
    ours["UV_CACHE_DIR"] = peer["UV_CACHE_DIR"]
    ours["PATH"] = f"{world.uv.parent}:{ours['PATH']}"
    results = {}
    for count in (100, 1000, 10000):
        project = world.place(f"growth-suite/{count}")
        write_project(project, tests=count, environments=[])
        mine = [world.suites / "pytest", "--python", ",".join(versions), "--python-suite", "-q", "-p", "no:anyio"]
        alone = [world.suites / "pytest", "-q", "-p", "no:anyio", "tests"]
        run(mine, environ=ours, directory=project)
        turns = 3 if count > 1000 else 5
        outer = [_outer(mine, ours, project) for _ in range(turns)]
        took = [run(mine, environ=ours, directory=project) for _ in range(turns)]
        single = [run(alone, environ=world.environ, directory=project) for _ in range(turns)]
        results[count] = {
            "the whole suite, five Pythons": statistics.median(took),
            "processor time of the outer session": statistics.median(outer),
            "pytest alone, one Python": statistics.median(single),
        }
    return results


_PROCESSOR = textwrap.dedent("""\
    import resource, sys, pytest
    code = pytest.main(sys.argv[1:])
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"\\nprocessor {used.ru_utime + used.ru_stime}", flush=True)
    sys.exit(code)
""")


def _outer(command: list[str | Path], environ: dict[str, str], project: Path) -> float:
    python = Path(command[0]).with_name("python")
    run([python, "-c", _PROCESSOR, *command[1:]], environ=environ, directory=project)
    match = re.search(r"^processor ([\d.]+)", (project / "log-0").read_text("utf-8"), re.MULTILINE)
    assert match
    return float(match[1])


GROWTHS = (
    Growth("growth-installs", "Installing several versions, cold", "versions", installs),
    Growth("growth-catalogue", "Larger catalogues", "builds", catalogues),
    Growth("growth-store", "Larger stores", "installations", stores),
    Growth("growth-suite", "Larger suites, on five Pythons", "tests", suites),
)
