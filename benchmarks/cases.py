"""The cases of the table: what we do, what the peer does for the same, and how far ahead we want to be."""

import json
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.race import Pairs, alone, at_once, race, run
from benchmarks.world import World

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """`target` and `stretch` are ratios ours/peer; with `most`, megabytes of ours instead."""

    name: str
    title: str
    peer: str
    target: float
    stretch: float | None
    measure: Callable[[World], Pairs]
    unit: str = "ms"
    most: float | None = None


def cold_session(world: World) -> Pairs:
    """A suite of one test that needs a Python which is not there: the whole pytest process."""
    version = world.version

    def ours(turn: int) -> float:
        place = world.place(f"cold-session/{turn}/ours")
        _write(place / "suite/test_it.py", "def test_it(python):\n    assert python.executable.exists()\n")
        command = [world.speedy / "pytest", "-q", "-p", "no:cacheprovider", "--python", version]
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

    return race(ours, peer, turns=11)


def _installs(
    world: World, name: str, versions: list[str], *, turns: int, url: str | None = None, plain: bool = False
) -> Pairs:
    program = (world.plugin if plain else world.speedy) / "pytest-pyinstall"

    def ours(turn: int) -> float:
        place = world.place(f"{name}/{turn}/ours")
        return run([program, "install", *versions], environ=world.ours(place, url=url), directory=place)

    def peer(turn: int) -> float:
        place = world.place(f"{name}/{turn}/peer")
        return run([world.uv, "python", "install", *versions], environ=world.peer(place, url=url), directory=place)

    return race(ours, peer, turns=turns)


def cold(world: World) -> Pairs:
    return _installs(world, "cold", [world.version], turns=11)


def cold_plain(world: World) -> Pairs:
    return _installs(world, "cold-plain", [world.version], turns=11, plain=True)


def cold_eight(world: World) -> Pairs:
    return _installs(world, "cold-eight", world.versions[-8:], turns=7)


def throttled(world: World) -> Pairs:
    return _installs(world, "throttled", [world.version], turns=7, url=world.slow_url)


def nothing_to_do(world: World) -> Pairs:
    """In one project, as a CI job or a script does it again and again."""
    ours, peer = world.installed("nothing", [world.version])
    place = world.place("nothing/runs")
    return race(
        lambda _: run([world.speedy / "pytest-pyinstall", "install", world.version], environ=ours, directory=place),
        lambda _: run([world.uv, "python", "install", world.version], environ=peer, directory=place),
        turns=25,
    )


_LOOK = """\
import sys, time
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
    """In a process that has begun long ago: from the request to the interpreter."""
    ours, peer = world.installed("nothing-plugin", [world.version])
    place = world.place("nothing-plugin/runs")
    turns = 25
    _write(place / "look.py", _LOOK)
    run([world.speedy / "python", "look.py", world.version, str(turns + 1)], environ=ours, directory=place)
    took = list(map(float, (place / "log-0").read_text().split()))
    return race(
        lambda turn: took[turn],
        lambda turn: run([world.uv, "python", "find", world.version], environ=peer, directory=place / f"b{turn}"),
        turns=turns,
    )


def reinstall(world: World) -> Pairs:
    """Into a new store, with a cache that has it."""
    place, version = world.place("reinstall"), world.version
    cache = place / "cache"
    command = [world.speedy / "pytest-pyinstall", "install", version]

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
    """The same in a process that has begun long ago."""
    place, version, turns = world.place("reinstall-plugin"), world.version, 15
    cache = place / "cache"
    _write(place / "reinstall.py", _REINSTALL)
    run(
        [world.speedy / "pytest-pyinstall", "install", version],
        environ=world.ours(place / "first", cache=cache / "ours"),
        directory=place,
    )
    run(
        [world.speedy / "python", "reinstall.py", version, str(turns + 1)],
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
        commands = [[world.speedy / "pytest-pyinstall", "install", version] for version in wanted]
        return at_once(commands, environ=[world.ours(place)] * 16, directory=place)

    def peer(turn: int) -> float:
        place = world.place(f"{name}/{turn}/peer")
        commands = [[world.uv, "python", "install", version] for version in wanted]
        return at_once(commands, environ=[world.peer(place)] * 16, directory=place)

    return race(ours, peer, turns=5)


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
    return _environments(world, "environment", [], turns=25)


def environment_with_wheels(world: World) -> Pairs:
    return _environments(world, "environment-wheels", list(map(str, world.small_wheels)), turns=15)


def _environments(world: World, name: str, wheels: list[str], *, turns: int) -> Pairs:
    ours, peer = world.installed(name, [world.version])
    place = world.place(f"{name}/runs")
    _write(place / "environments.py", _ENVIRONMENTS)
    # Their uv, for what we ask it to do, has the same cache.
    ours["UV_CACHE_DIR"] = peer["UV_CACHE_DIR"]
    ours["PATH"] = f"{world.uv.parent}:{ours['PATH']}"
    words = [world.speedy / "python", "environments.py", world.version, str(turns + 1), *wheels]
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
    """pytest in an empty directory, without the plugins that come with our dependencies."""
    return _starts(world, "start", "-p", "no:anyio", "-p", "no:platformdirs")


def start_with_anyio(world: World) -> Pairs:
    return _starts(world, "start-anyio")


def _starts(world: World, name: str, *options: str) -> Pairs:
    place = world.place(name)

    def with_(directory: Path) -> Callable[[int], float]:
        command = [directory / "pytest", "--co", "-q", *options]
        # Without tests the exit code is 5.
        script = ["/bin/sh", "-c", '"$@"; [ $? = 5 ]', "sh", *command]
        return lambda turn: run(script, environ=world.environ, directory=place / f"{directory.parent.name}-{turn}")

    return race(with_(world.plugin), with_(world.bare), turns=31)


def suite(world: World) -> Pairs:
    """A short suite on five Pythons, environments made already."""
    versions = world.versions[-5:]
    ours, peer = world.installed("suite", versions)
    project = world.place("suite/project")
    names = [f"py{version.replace('.', '')}" for version in versions]
    write_project(project, tests=20, environments=names)
    for variables in (ours, peer):
        variables["PATH"] = f"{world.uv.parent}:{variables['PATH']}"
    ours["UV_CACHE_DIR"] = peer["UV_CACHE_DIR"]
    mine = [world.suites / "pytest", "--python", ",".join(versions), "--python-suite", "-q"]
    theirs = [world.suites / "tox", "run-parallel", "--parallel-no-spinner", "-e", ",".join(names)]
    run(theirs, environ=peer, directory=project)
    return race(
        lambda _: run(mine, environ=ours, directory=project),
        lambda _: run(theirs, environ=peer, directory=project),
        turns=7,
    )


def write_project(project: Path, *, tests: int, environments: list[str]) -> None:
    _write(
        project / "tests/test_it.py",
        f"import pytest\n\n@pytest.mark.parametrize('number', range({tests}))\ndef test_it(number):\n    pass\n",
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
        command = [world.speedy / "pytest-pyinstall", "install", *versions]
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
CASES = (
    Case(
        "cold-session",
        "cold, one version, inside a pytest session",
        f"fixture that runs {_INSTALL}",
        0.9,
        0.7,
        cold_session,
    ),
    Case("cold", "cold, one version, command line", _INSTALL, 1.3, 1.0, cold),
    Case("cold-plain", "the same without the extra `speed`", _INSTALL, 1.3, 1.0, cold_plain),
    Case("cold-eight", "cold, eight versions, command line", f"{_INSTALL} of eight", 0.85, 0.6, cold_eight),
    Case("nothing", "nothing to do, command line", _INSTALL, 1.0, 0.5, nothing_to_do),
    Case(
        "nothing-plugin",
        "nothing to do, in the plugin",
        "`uv python find`, a process",
        0.05,
        0.01,
        nothing_in_the_plugin,
    ),
    Case("reinstall", "again from the cache, command line", "with `UV_PYTHON_CACHE_DIR`", 0.4, 0.25, reinstall),
    Case(
        "reinstall-plugin",
        "again from the cache, in the plugin",
        "with `UV_PYTHON_CACHE_DIR`",
        0.4,
        0.25,
        reinstall_in_the_plugin,
    ),
    Case("sixteen-one", "16 processes, one missing version", "16 of uv", 1.0, 0.8, sixteen_one),
    Case("sixteen-eight", "16 processes, eight missing versions", "16 of uv", 0.75, 0.55, sixteen_eight),
    Case("throttled", "throttled link (25 MB/s)", _INSTALL, 1.1, 1.0, throttled),
    Case("environment", "environment for a test, in the plugin", "`uv venv`, a process", 0.1, 0.02, environment),
    Case(
        "environment-wheels",
        "environment with two small wheels, warm",
        "`uv venv` and `uv pip install`",
        0.3,
        0.1,
        environment_with_wheels,
    ),
    Case(
        "start",
        "`pytest --co -q`, empty directory, without anyio's and platformdirs' plugins",
        "pytest alone",
        1.05,
        1.02,
        start,
    ),
    Case("start-anyio", "the same with both", "pytest alone", 1.05, 1.02, start_with_anyio),
    Case("suite", "short suite on five Pythons, warm", "`tox-uv -p`", 0.5, 0.3, suite),
    Case("memory-one", "peak memory, cold, one version", _INSTALL, 80, None, memory_one, unit="MB", most=80),
    Case(
        "memory-eight",
        "peak memory, cold, eight versions",
        f"{_INSTALL} of eight",
        200,
        None,
        memory_eight,
        unit="MB",
        most=200,
    ),
)
