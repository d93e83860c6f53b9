"""The cases of the table: our command, the peer's command for the same task, and the target ratio."""

import json
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.race import Pairs, alone, at_a_terminal, at_once, processor, race, run
from benchmarks.world import World

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """`target` and `stretch` are ratios ours/peer. With `most`, the target is a number of megabytes instead."""

    name: str
    title: str
    peer: str
    target: float
    stretch: float | None
    measure: Callable[[World], Pairs]
    unit: str = "ms"
    most: float | None = None


def cold_session(world: World) -> Pairs:
    """A suite of one test that needs a missing Python: the whole pytest process."""
    version = world.version

    def ours(turn: int) -> float:
        place = world.place(f"cold-session/{turn}/ours")
        _write(place / "suite/test_it.py", "def test_it(python):\n    assert python.executable.exists()\n")
        command = [world.plugin / "pytest", "-q", "-p", "no:cacheprovider", "--python", version]
        return run(command, environ=world.ours(place), directory=place / "suite")

    def peer(turn: int) -> float:
        place = world.place(f"cold-session/{turn}/peer")
        _write(
            place / "suite/test_it.py",
            f"""\
            import subprocess
            from pathlib import Path

            import pytest

            @pytest.fixture(scope="session")
            def python():
                subprocess.run([{str(world.uv)!r}, "python", "install", {version!r}], check=True)
                found = [{str(world.uv)!r}, "python", "find", {version!r}]
                return Path(subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip())

            def test_it(python):
                assert python.exists()
            """,
        )
        command = [world.bare / "pytest", "-q", "-p", "no:cacheprovider"]
        return run(command, environ=world.peer(place), directory=place / "suite")

    return race(ours, peer, turns=7)


def _installs(
    world: World,
    name: str,
    versions: list[str],
    *,
    turns: int = 7,
    link: str = "",
    runs: Callable[..., float] = run,
    below: Path | None = None,
) -> Pairs:
    """Each turn in new directories, below `below` if it is given, otherwise below the world's directory."""

    def place(turn: int, side: str) -> Path:
        if below is None:
            return world.place(f"{name}/{turn}/{side}")
        return Path(tempfile.mkdtemp(dir=below))

    def ours(turn: int) -> float:
        here = place(turn, "ours")
        variables = world.ours(here, url=world.urls[link])
        return runs([world.plugin / "pytest-pyinstall", "install", *versions], environ=variables, directory=here)

    def peer(turn: int) -> float:
        here = place(turn, "peer")
        variables = world.peer(here, url=world.urls[link])
        return runs([world.uv, "python", "install", *versions], environ=variables, directory=here)

    return race(ours, peer, turns=turns)


def cold(world: World) -> Pairs:
    return _installs(world, "cold", [world.version], turns=9)


def cold_processor(world: World) -> Pairs:
    return _installs(world, "cold-processor", [world.version], runs=processor)


def cold_terminal(world: World) -> Pairs:
    return _installs(world, "cold-terminal", [world.version], runs=at_a_terminal)


def cold_memory(world: World) -> Pairs:
    """On a filesystem in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as below:
        return _installs(world, "cold-memory", [world.version], below=Path(below))


def cold_eight(world: World) -> Pairs:
    return _installs(world, "cold-eight", world.versions[-8:], turns=5)


def _over(link: str) -> Callable[[World], Pairs]:
    return lambda world: _installs(world, f"over-{link.replace('/', '-')}", [world.version], turns=5, link=link)


def _no_ops(words: list[str], theirs: list[str], *, runs: Callable[..., float] = run) -> Callable[[World], Pairs]:
    """A command that changes nothing, each turn in a new working directory."""

    def measure(world: World) -> Pairs:
        name = f"no-op-{words[0]}-{runs.__name__}"
        ours, peer = world.installed(name, [world.version])
        place = world.place(f"{name}/runs")
        mine = [world.plugin / "pytest-pyinstall", *(word.format(world.version) for word in words)]
        other = [world.uv, "python", *(word.format(world.version) for word in theirs)]
        return race(
            lambda turn: runs(mine, environ=ours, directory=place / f"ours-{turn}"),
            lambda turn: runs(other, environ=peer, directory=place / f"peer-{turn}"),
            turns=15,
        )

    return measure


_LOOK = """\
import os, sys, time
from pytest_pyinstall.provisioner import open_provisioner
for number in range(int(sys.argv[2])):
    with open_provisioner() as provisioner:
        requests = provisioner.parse([sys.argv[1]])
        start = time.perf_counter()
        (result,) = provisioner.provide(requests)
        took = time.perf_counter() - start
    assert result.how == "present", result
    print(took)
"""


def nothing_in_the_plugin(world: World) -> Pairs:
    """In a process that has been running for a while: from the request to the interpreter."""
    ours, peer = world.installed("nothing-plugin", [world.version])
    place = world.place("nothing-plugin/runs")
    turns = 25
    _write(place / "look.py", _LOOK)
    run([world.plugin / "python", "look.py", world.version, str(turns + 1)], environ=ours, directory=place)
    took = list(map(float, (place / "log-0").read_text().split()))
    return race(
        lambda turn: took[turn],
        lambda turn: run([world.uv, "python", "find", world.version], environ=peer, directory=place / f"b{turn}"),
        turns=turns,
    )


def reinstall(world: World) -> Pairs:
    """Into a new store, with the archive in the cache."""
    place, version = world.place("reinstall"), world.version
    cache = place / "cache"
    command = [world.plugin / "pytest-pyinstall", "install", version]

    def ours(turn: int) -> float:
        where = place / str(turn) / "ours"
        return run(command, environ=world.ours(where, cache=cache / "ours"), directory=where)

    def peer(turn: int) -> float:
        where = place / str(turn) / "peer"
        variables = world.peer(where, cache=cache / "peer")
        return run([world.uv, "python", "install", version], environ=variables, directory=where)

    return race(ours, peer, turns=15)


_REINSTALL = """\
import os, sys, time
from dataclasses import replace
from pathlib import Path
from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.settings import Settings
settings = Settings.from_environ(os.environ, directory=Path.cwd())
for number in range(int(sys.argv[2])):
    here = settings._replace(store=settings.store.with_name(f"store-{number}"))
    with open_provisioner(here) as provisioner:
        requests = provisioner.parse([sys.argv[1]])
        start = time.perf_counter()
        (result,) = provisioner.provide(requests)
        took = time.perf_counter() - start
    assert result.how == "installed", result
    print(took)
"""


def reinstall_in_the_plugin(world: World) -> Pairs:
    """The same in a process that has been running for a while."""
    place, version, turns = world.place("reinstall-plugin"), world.version, 15
    cache = place / "cache"
    _write(place / "reinstall.py", _REINSTALL)
    run(
        [world.plugin / "pytest-pyinstall", "install", version],
        environ=world.ours(place / "first", cache=cache / "ours"),
        directory=place,
    )
    run(
        [world.plugin / "python", "reinstall.py", version, str(turns + 1)],
        environ=world.ours(place / "ours", cache=cache / "ours"),
        directory=place,
    )
    took = list(map(float, (place / "log-0").read_text().split()))

    def peer(turn: int) -> float:
        where = place / str(turn) / "peer"
        variables = world.peer(where, cache=cache / "peer")
        return run([world.uv, "python", "install", version], environ=variables, directory=where)

    return race(lambda turn: took[turn], peer, turns=turns)


def _sixteen(world: World, name: str, versions: list[str]) -> Pairs:
    wanted = [versions[number % len(versions)] for number in range(16)]

    def ours(turn: int) -> float:
        place = world.place(f"{name}/{turn}/ours")
        commands = [[world.plugin / "pytest-pyinstall", "install", version] for version in wanted]
        return at_once(commands, environ=[world.ours(place)] * 16, directory=place)

    def peer(turn: int) -> float:
        place = world.place(f"{name}/{turn}/peer")
        commands = [[world.uv, "python", "install", version] for version in wanted]
        return at_once(commands, environ=[world.peer(place)] * 16, directory=place)

    return race(ours, peer, turns=3)


def sixteen_one(world: World) -> Pairs:
    return _sixteen(world, "sixteen-one", [world.version])


def sixteen_eight(world: World) -> Pairs:
    return _sixteen(world, "sixteen-eight", world.versions[-8:])


_ENVIRONMENTS = """\
import sys, time
from pathlib import Path
from pytest_pyinstall import provision
python = provision(sys.argv[1])
for number in range(int(sys.argv[2])):
    start = time.perf_counter()
    environment = python.environment(Path(f"environment-{number}"))
    if len(sys.argv) > 3:
        environment.install(*sys.argv[3:])
    print(time.perf_counter() - start)
"""


def environment(world: World) -> Pairs:
    return _environments(world, "environment", [], turns=15)


def environment_with_wheels(world: World) -> Pairs:
    return _environments(world, "environment-wheels", list(map(str, world.small_wheels)), turns=7)


def _environments(world: World, name: str, wheels: list[str], *, turns: int) -> Pairs:
    ours, peer = world.installed(name, [world.version])
    place = world.place(f"{name}/runs")
    _write(place / "environments.py", _ENVIRONMENTS)
    # When we use uv, it has the same cache.
    ours["UV_CACHE_DIR"] = peer["UV_CACHE_DIR"]
    ours["PATH"] = f"{world.uv.parent}:{ours['PATH']}"
    words = [world.plugin / "python", "environments.py", world.version, str(turns + 1), *wheels]
    run(words, environ=ours, directory=place)
    took = list(map(float, (place / "log-0").read_text().split()))

    def theirs(turn: int) -> float:
        where = place / str(turn)
        seconds = run([world.uv, "venv", "-q", "-p", world.version, "env"], environ=peer, directory=where)
        if wheels:
            seconds += run([world.uv, "pip", "install", "-q", "-p", "env", *wheels], environ=peer, directory=where)
        return seconds

    return race(lambda turn: took[turn], theirs, turns=turns)


def start(world: World) -> Pairs:
    """pytest in an empty directory: with pytest-pyinstall and its dependencies, and alone."""
    place = world.place("start")

    def with_(directory: Path) -> Callable[[int], float]:
        # Without tests the exit code is 5.
        script = ["/bin/sh", "-c", '"$@"; [ $? = 5 ]', "sh", directory / "pytest", "--co", "-q"]
        return lambda turn: run(script, environ=world.environ, directory=place / f"{directory.parent.name}-{turn}")

    return race(with_(world.plugin), with_(world.bare), turns=31)


def suite_short(world: World) -> Pairs:
    """With existing environments, and tests that take no time."""
    return _suites(world, "suite-short", tests=20, seconds=0.0, turns=7)


def suite_long(world: World) -> Pairs:
    """Tests that keep a processor busy for some seconds under each Python."""
    return _suites(world, "suite-long", tests=60, seconds=0.03, turns=2)


def _suites(world: World, name: str, *, tests: int, seconds: float, turns: int) -> Pairs:
    versions = world.versions[-5:]
    ours, peer = world.installed(name, versions)
    project = world.place(f"{name}/project")
    names = [f"py{version.replace('.', '')}" for version in versions]
    write_project(project, tests=tests, seconds=seconds, environments=names)
    for variables in (ours, peer):
        variables["PATH"] = f"{world.uv.parent}:{variables['PATH']}"
    ours["UV_CACHE_DIR"] = peer["UV_CACHE_DIR"]
    mine = [world.suites / "pytest", "--python", ",".join(versions), "--python-suite", "-q"]
    theirs = [world.suites / "tox", "run-parallel", "--parallel-no-spinner", "-e", ",".join(names)]
    return race(
        lambda _: run(mine, environ=ours, directory=project),
        lambda _: run(theirs, environ=peer, directory=project),
        turns=turns,
    )


def one_test(world: World) -> Pairs:
    """One test, as during work on that test."""
    versions = world.versions[-6:]
    ours, peer = world.installed("one-test", versions)
    project = world.place("one-test/project")
    write_project(project, tests=1, environments=[])
    ours["PATH"] = f"{world.uv.parent}:{ours['PATH']}"
    ours["UV_CACHE_DIR"] = peer["UV_CACHE_DIR"]
    mine = [world.plugin / "pytest", "--python", ",".join(versions), "--python-suite", "-q", "tests/test_it.py"]
    theirs = [world.bare / "pytest", "-q", "tests/test_it.py"]
    return race(
        lambda _: run(mine, environ=ours, directory=project),
        lambda _: run(theirs, environ=world.environ, directory=project),
        turns=7,
    )


def write_project(project: Path, *, tests: int, environments: list[str], seconds: float = 0.0) -> None:
    """A project whose tests take `seconds` of processor time each."""
    _write(
        project / "tests/test_it.py",
        f"""\
        import time

        import pytest

        @pytest.mark.parametrize("number", range({tests}))
        def test_it(number):
            end = time.process_time() + {seconds}
            while time.process_time() < end:
                pass
        """,
    )
    _write(
        project / "pyproject.toml",
        f"""\
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "demo"
        version = "1"

        [tool.hatch.build.targets.wheel]
        packages = ["demo"]

        [tool.tox]
        env_list = {json.dumps(environments)}

        [tool.tox.env_run_base]
        runner = "uv-venv-runner"
        package = "editable"
        deps = ["pytest"]
        commands = [["pytest", "-q"]]
        """,
    )
    _write(project / "demo/__init__.py", "")


def memory_one(world: World) -> Pairs:
    return _memory(world, "memory-one", [world.version])


def memory_eight(world: World) -> Pairs:
    return _memory(world, "memory-eight", world.versions[-8:])


def _memory(world: World, name: str, versions: list[str]) -> Pairs:
    def ours(turn: int) -> float:
        place = world.place(f"{name}/{turn}/ours")
        command = [world.plugin / "pytest-pyinstall", "install", *versions]
        return alone(command, environ=world.ours(place), directory=place)

    def peer(turn: int) -> float:
        place = world.place(f"{name}/{turn}/peer")
        command = [world.uv, "python", "install", *versions]
        return alone(command, environ=world.peer(place), directory=place)

    return race(ours, peer, turns=3)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")


_INSTALL = "`uv python install`"
_AGAIN = "with `UV_PYTHON_CACHE_DIR`"
_INSTALLS = (["install", "{}"], ["install", "{}"])
CASES = (
    Case("cold", "cold, one version, command line", _INSTALL, 1.5, 1.2, cold),
    Case("cold-processor", "the same, processor time", _INSTALL, 1.9, 1.5, cold_processor),
    Case("cold-terminal", "the same at a terminal", _INSTALL, 1.5, 1.2, cold_terminal),
    Case("cold-memory", "the same, everything in memory (tmpfs)", _INSTALL, 1.5, 1.2, cold_memory),
    Case("cold-25", "the same over 25 MB/s", _INSTALL, 1.1, 1.0, _over("25 MB/s")),
    Case("cold-100", "the same over 100 MB/s", _INSTALL, 1.5, 1.2, _over("100 MB/s")),
    Case("cold-far", "the same with 20 ms of latency", _INSTALL, 1.5, 1.2, _over("20 ms")),
    Case("cold-session", "cold, one version, inside a pytest session", f"fixture: {_INSTALL}", 0.9, 0.8, cold_session),
    Case("cold-eight", "cold, eight versions, command line", f"{_INSTALL} of eight", 1.1, 0.85, cold_eight),
    Case("nothing", "nothing to do, command line", _INSTALL, 2.0, 1.5, _no_ops(*_INSTALLS)),
    Case("nothing-terminal", "the same at a terminal", _INSTALL, 2.0, 1.5, _no_ops(*_INSTALLS, runs=at_a_terminal)),
    Case("nothing-processor", "the same, processor time", _INSTALL, 2.0, 1.5, _no_ops(*_INSTALLS, runs=processor)),
    Case("find", "`find`", "`uv python find`", 2.0, 1.5, _no_ops(["find", "{}"], ["find", "{}"])),
    Case(
        "list", "`list`", "`uv python list --only-installed`", 2.0, 1.5, _no_ops(["list"], ["list", "--only-installed"])
    ),
    Case("nothing-plugin", "nothing to do, in the plugin", "`uv python find`", 0.05, 0.01, nothing_in_the_plugin),
    Case("reinstall", "again from the cache, command line", _AGAIN, 1.5, 1.2, reinstall),
    Case("reinstall-plugin", "again from the cache, in the plugin", _AGAIN, 0.4, 0.3, reinstall_in_the_plugin),
    Case("sixteen-one", "16 processes, one missing version", "16 of uv", 2.5, 1.5, sixteen_one),
    Case("sixteen-eight", "16 processes, eight missing versions", "16 of uv", 1.3, 1.0, sixteen_eight),
    Case("environment", "environment for a test, in the plugin", "`uv venv`, a process", 0.1, 0.02, environment),
    Case(
        "environment-wheels",
        "environment with two small wheels, warm",
        "`uv venv` and `uv pip install`",
        0.3,
        0.1,
        environment_with_wheels,
    ),
    Case("start", "`pytest --co -q`, with us and all that we bring", "pytest alone", 1.05, 1.03, start),
    Case("suite-short", "short suite on five Pythons, warm", "`tox-uv -p`", 0.35, 0.25, suite_short),
    Case("suite-long", "long suite on five Pythons, warm", "`tox-uv -p`", 0.9, 0.8, suite_long),
    Case("one-test", "one test on six Pythons, warm", "pytest alone, one Python", 3.5, 2.0, one_test),
    Case("memory-one", "peak memory, cold, one version", _INSTALL, 80, None, memory_one, unit="MB", most=80),
    Case("memory-eight", "the same, eight versions", f"{_INSTALL} of eight", 200, None, memory_eight, "MB", 200),
)
