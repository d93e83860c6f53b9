"""Popular pytest plugins: `pytest --python-suite` has the same result as plain `pytest`, wherever they are installed.

    python -m benchmarks.plugins DIR [--plugin NAME] [--write]

Each plugin gets a small project that uses it. The suite runs under two Pythons, with the plugin installed only in the
outer environment (where pytest-pyinstall is), only in the inner ones (where the tests run), and in both. Plain `pytest`
then runs in a fresh environment of each Python: with the plugin and its options if it is an inner one, otherwise
without both. If it acts on tests, plain `pytest` gets its options in any case: without the plugin, they are an error.
The outcome of each test, the exit code, the plugin's output, and the files that it writes are compared.

DIR as for `benchmarks.libraries`: it keeps the mirror, the environments of the outer session and the results, so that
plugins can be run one by one (``--plugin``) and the page is made of all of them.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from uv import find_uv_bin

from benchmarks.libraries import ROOT, Results, Workshop, fill, machine, open_workshop, read_junit, run, uv

__all__ = ["PLUGINS", "Plugin", "main"]

PAGE = ROOT / "docs" / "plugins.md"
PYTHONS = ("3.10", "3.13")
MOST = 2
"""The maximum number of differences that are listed for one Python."""
PLACES = ("outer", "inner", "both")
_FAULTS = re.compile(r"INTERNALERROR|unrecognized arguments|Traceback \(most recent call last\)|Exception ignored")
_ORDINARY = """
import sys
import warnings

import pytest

import demo


def test_passes():
    assert demo.double(2) == 4


def test_fails():
    assert demo.double([1]) == [1, 2]


def test_fails_on_one_python():
    assert sys.version_info < (3, 12)


@pytest.mark.parametrize("word", ["a", "b [c]", "é"])
def test_parameters(word):
    print("printed", word)
    assert word


@pytest.mark.skip(reason="not today")
def test_skipped():
    pass


@pytest.mark.xfail(reason="known")
def test_known():
    assert demo.double(1) == 1


@pytest.fixture
def broken():
    raise RuntimeError("broken fixture")


def test_error(broken):
    pass


def test_warns():
    warnings.warn("careful", UserWarning)
"""


@dataclass(frozen=True)
class Plugin:
    """A plugin, the options that it is used with, and tests that use it.

    `prints` are patterns in plain pytest's output that come from the plugin. Our output must contain them if it is an
    inner plugin, and `prints_outside` if it is an outer one. `writes` are the files that it writes.
    """

    name: str
    tests: str = ""
    options: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    ini: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    prints: tuple[str, ...] = ()
    prints_outside: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    before: tuple[tuple[str, ...], ...] = ()
    """Commands that prepare the project."""
    shared: bool = False
    """Whether an inner plugin may write one file for all Pythons, because it merges, or the file is the project's."""
    acts: bool = False
    """Whether it changes how tests run. If only the outer environment has it, its options are then a usage error, as
    they are for plain pytest in the environment of the tests."""

    @property
    def packages(self) -> tuple[str, ...]:
        return (self.name, *self.requires)


PLUGINS = (
    Plugin("pytest-sugar", options=("--force-sugar",), prints_outside=("✓|Results",)),
    Plugin(
        "pytest-html", options=("--html=report.html", "--self-contained-html"),
        prints=("Generated html report",), prints_outside=("Generated html report",), writes=("report.html",),
    ),
    Plugin(
        "pytest-json-report", options=("--json-report", "--json-report-file=report.json"), writes=("report.json",),
        prints=("JSON report",), prints_outside=("JSON report",),
    ),
    Plugin("pytest-reportlog", options=("--report-log=log.jsonl",), writes=("log.jsonl",)),
    Plugin(
        "pytest-randomly", options=("--randomly-seed=7",), prints=("Using --randomly-seed=7",), acts=True,
    ),
    Plugin(
        "pytest-benchmark", acts=True, options=("--benchmark-json=bench.json",), prints=("benchmark: 1 tests",),
        writes=("bench.json",), tests="""
        def test_fast(benchmark):
            assert benchmark.pedantic(sum, args=([1, 2],), rounds=3) == 3
        """,
    ),
    Plugin("pytest-timeout", acts=True, options=("--timeout=1",), prints=("Timeout",), tests="""
        import time

        def test_slow():
            time.sleep(2.5)
        """),
    Plugin("pytest-rerunfailures", acts=True, options=("--reruns=2", "-rR"), prints=("RERUN", r"\d+ rerun"), tests="""
        tries = []

        def test_flaky():
            tries.append(1)
            assert len(tries) > 1
        """),
    Plugin(
        "pytest-django", acts=True, options=("--ds=demo_settings",), requires=("django",), ini="pythonpath = .",
        prints=("django: version",),
        files={
            "demo_settings.py": "SECRET_KEY = 'x'\n"
            "INSTALLED_APPS = ['django.contrib.contenttypes', 'django.contrib.auth']\n"
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'demo.sqlite3',\n"
            "    'TEST': {'NAME': 'test_demo.sqlite3'}}}\nUSE_TZ = True\n",
        }, tests="""
        import pytest

        @pytest.mark.django_db
        def test_database():
            from django.contrib.auth.models import User
            User.objects.create(username="a")
            assert User.objects.count() == 1

        def test_client(client, settings):
            settings.ALLOWED_HOSTS = ["*"]
            assert client is not None
        """,
    ),
    Plugin("allure-pytest", acts=True, options=("--alluredir=allure",), writes=("allure",), tests="""
        def test_step():
            import allure
            with allure.step("a step"):
                pass
        """),
    Plugin(
        "teamcity-messages", options=("--teamcity",),
        prints_outside=(r"##teamcity\[testStarted",),
    ),
    Plugin("pytest-xdist", acts=True, options=("-n", "2"), tests="""
        def test_worker(worker_id):
            assert worker_id.startswith("gw")
        """),
    Plugin(
        "pytest-cov", acts=True, options=("--cov=demo", "--cov-report=term", "--cov-report=xml"),
        prints=(r"demo.py +2 +0 +100%",), writes=("coverage.xml",), shared=True, tests="""
        def test_no_cover(no_cover):
            pass
        """,
    ),
    Plugin("pytest-mock", tests="""
        import os

        def test_mocker(mocker):
            mocker.patch("os.getcwd", return_value="x")
            assert os.getcwd() == "x"
        """),
    Plugin("pytest-asyncio", acts=True, options=("--asyncio-mode=auto",), prints=("asyncio: mode=",), tests="""
        import asyncio

        async def test_async():
            await asyncio.sleep(0)
        """),
    Plugin("anyio", requires=("trio",), tests="""
        import pytest

        @pytest.mark.anyio
        async def test_anyio(anyio_backend):
            import anyio
            await anyio.sleep(0)
        """),
    Plugin(
        "hypothesis", acts=True, options=("--hypothesis-show-statistics", "--hypothesis-seed=1"),
        prints=("Hypothesis Statistics", "during generate phase"), tests="""
        import pytest
        hypothesis = pytest.importorskip("hypothesis")

        @hypothesis.given(hypothesis.strategies.integers())
        def test_property(number):
            assert number * 2 == number + number
        """,
    ),
    Plugin(
        "syrupy", acts=True, options=("--snapshot-update",), prints=("1 snapshot",), writes=("tests/__snapshots__",),
        shared=True, tests="""
        def test_snapshot(snapshot):
            assert {"a": 1} == snapshot
        """,
    ),
    Plugin(
        "pytest-bdd", acts=True, options=("--cucumberjson=cucumber.json",), writes=("cucumber.json",),
        files={"tests/demo.feature": "Feature: demo\n  Scenario: add\n    Given a number\n    Then it is one\n"},
        tests="""
        import pytest
        bdd = pytest.importorskip("pytest_bdd")

        @bdd.scenario("demo.feature", "add")
        def test_add():
            pass

        @bdd.given("a number", target_fixture="number")
        def number():
            return 1

        @bdd.then("it is one")
        def is_one(number):
            assert number == 1
        """,
    ),
    Plugin("pytest-env", ini="env =\n    DEMO_NAME=demo", tests="""
        import os

        def test_env():
            assert os.environ["DEMO_NAME"] == "demo"
        """),
    Plugin("pytest-instafail", options=("--instafail",), prints_outside=("test_fails",)),
    Plugin(
        "pytest-picked", acts=True, options=("--picked",), prints=("Changed test files",),
        before=(("git", "init", "-q"), ("git", "add", "tests/test_ordinary.py", "src", "pyproject.toml", "pytest.ini"),
                ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "all but one")),
        tests="""
        def test_new():
            pass
        """,
    ),
    Plugin("pytest-order", acts=True, options=("--order-scope=module",), tests="""
        import pytest
        seen = []

        @pytest.mark.order(2)
        def test_second():
            assert seen == [1]

        @pytest.mark.order(1)
        def test_first():
            seen.append(1)
        """),
    Plugin("pytest-subtests", tests="""
        def test_many(subtests):
            for number in range(3):
                with subtests.test("a number", number=number):
                    assert number != 1
        """),
    Plugin("pytest-clarity", acts=True, options=("--diff-width=60",), prints=("LHS|green|==",)),
    Plugin("pytest-icdiff", prints=("assert",), tests="""
        def test_diff():
            assert {"a": [1, 2]} == {"a": [1, 3]}
        """),
    Plugin("pytest-httpx", tests="""
        def test_httpx(httpx_mock):
            import httpx
            httpx_mock.add_response(text="hello")
            assert httpx.get("https://example.org").text == "hello"
        """),
    Plugin("pytest-httpserver", tests="""
        import urllib.request

        def test_server(httpserver):
            httpserver.expect_request("/a").respond_with_data("b")
            assert urllib.request.urlopen(httpserver.url_for("/a")).read() == b"b"
        """),
    Plugin("pytest-socket", acts=True, options=("--disable-socket",), tests="""
        import socket

        def test_socket():
            socket.socket()
        """),
    Plugin("pytest-freezer", tests="""
        import datetime

        def test_frozen(freezer):
            freezer.move_to("2020-01-02")
            assert datetime.date.today().isoformat() == "2020-01-02"
        """),
    Plugin("pytest-datadir", files={"tests/test_uses/a.txt": "hello"}, tests="""
        def test_data(datadir):
            assert (datadir / "a.txt").read_text() == "hello"
        """),
    Plugin("pytest-regressions", files={"tests/test_uses/test_known.yml": "a: 1\n"}, tests="""
        def test_known(data_regression):
            data_regression.check({"a": 1})
        """),
    Plugin("pytest-rich", options=("--rich",), prints_outside=("test_fails",)),
    Plugin("pytest-split", acts=True, options=("--splits=2", "--group=1"), prints=(r"Running group 1/2",)),
    Plugin("pytest-repeat", acts=True, options=("--count=2",), tests="""
        def test_twice():
            pass
        """),
    Plugin("pytest-dependency", tests="""
        import pytest

        @pytest.mark.dependency
        def test_a():
            assert False

        @pytest.mark.dependency(depends=["test_a"])
        def test_b():
            pass
        """),
    Plugin("pytest-check", acts=True, options=("--check-max-report=2",), prints=("Failed Checks",), tests="""
        def test_checks(check):
            check.equal(1, 2)
            check.equal(3, 4)
            check.equal(5, 6)
        """),
    Plugin("pytest-metadata", options=("--metadata", "stage", "demo"), tests="""
        def test_metadata(metadata):
            assert metadata["stage"] == "demo"
        """),
    Plugin("pytest-dotenv", files={".env": "DEMO_NAME=demo\n"}, tests="""
        import os

        def test_env():
            assert os.environ["DEMO_NAME"] == "demo"
        """),
    Plugin(
        "pytest-github-actions-annotate-failures", environ={"GITHUB_ACTIONS": "true"}, prints=("::error",),
        prints_outside=("::error",),
    ),
    Plugin("pytest-testmon", acts=True, options=("--testmon",), prints=("testmon:",)),
    Plugin("pytest-recording", acts=True, options=("--record-mode=none", "--block-network"), tests="""
        import pytest

        @pytest.mark.block_network
        def test_blocked():
            import socket
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        """),
    Plugin("pytest-pretty", prints_outside=("test_fails",)),
    Plugin("pytest-lazy-fixtures", tests="""
        import pytest
        lazy = pytest.importorskip("pytest_lazy_fixtures")

        @pytest.fixture
        def one():
            return 1

        @pytest.mark.parametrize("value", [lazy.lf("one")])
        def test_lazy(value):
            assert value == 1
        """),
    Plugin("pytest-md-report", options=("--md-report", "--md-report-output=report.md"), writes=("report.md",),
        shared=True),
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """The result of a run."""

    results: Mapping[str, Results]
    code: int
    output: str
    files: frozenset[str]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--plugin", action="append", choices=[plugin.name for plugin in PLUGINS])
    parser.add_argument("--write", action="store_true", help="write docs/plugins.md, with the earlier results in DIR")
    parser.add_argument("--only-write", action="store_true", help="the same, without running anything")
    options = parser.parse_args(arguments)
    differ = False
    if not options.only_write:
        with open_workshop(options.directory) as workshop:
            home = workshop.directory / "home"
            run(["pytest-pyinstall", "install", *PYTHONS], home, workshop.environ(home))
            for plugin in PLUGINS:
                if options.plugin is None or plugin.name in options.plugin:
                    plain: dict[bool, Seen] = {}
                    cells = {place: list(_compared(workshop, plugin, place, plain)) for place in PLACES}
                    differ = differ or any(problems for _, problems in map(_split, cells.values()))
                    print(
                        plugin.name, *(f"\n  {place}: {'; '.join(cell)}" for place, cell in cells.items()), flush=True
                    )
                    version = _version(workshop, plugin)
                    _keep(workshop.kept, plugin, {"version": version, "machine": machine(), "cells": cells})
    if options.write or options.only_write:
        fill(PAGE, _parts(list(_kept(options.directory.resolve()))))
    if differ:
        sys.exit(1)


def _compared(workshop: Workshop, plugin: Plugin, place: str, plain: dict[bool, Seen]) -> Iterator[str]:
    if place == "outer" and plugin.acts and plugin.options:
        return _rejected(workshop, plugin)
    return _cell(workshop, plugin, place, plain)


def _cell(workshop: Workshop, plugin: Plugin, place: str, plain: dict[bool, Seen]) -> Iterator[str]:
    """Remarks, and differences, which begin with ``!``. Plain pytest's runs are added to `plain`."""
    inside, outside = place in {"inner", "both"}, place in {"outer", "both"}
    directory = workshop.directory / plugin.name
    if inside not in plain:
        plain[inside] = _plain(workshop, plugin, directory, inside=inside, options=plugin.options if inside else ())
    expected = plain[inside]
    parent = _place(workshop, plugin, inside=inside)
    seen = _suite(workshop, plugin, parent, inside=inside, outside=outside)
    if seen.code != expected.code:
        yield f"!exit code {seen.code}, not {expected.code}"
    for python in PYTHONS:
        for sign, one, other in (("more", seen, expected), ("less", expected, seen)):
            found = sorted(one.results[python] - other.results[python])
            yield from (f"!{python}: {sign}: {name} {outcome}" for name, outcome in found[:MOST])
            if len(found) > MOST:
                yield f"!{python}: {sign}: {len(found) - MOST} other tests"
    if fault := _FAULTS.search(seen.output):
        yield f"!{fault[0]}"
    for pattern in (*(plugin.prints if inside else ()), *(plugin.prints_outside if outside else ())):
        if inside and not outside and not re.search(pattern, expected.output):
            yield f"!plain pytest does not print {pattern!r}"
        if not re.search(pattern, seen.output):
            yield f"!does not print {pattern!r}"
    project = parent / "demo"
    yield from _written(plugin, seen.files, project)
    yield from _damaged(project, seen.files)
    names = {*plugin.writes, *(expected.files if inside else ())}
    stems = tuple(name.partition("/")[0].rpartition(".")[0] or name.partition("/")[0] for name in names)
    yield from (f"!writes {name}" for name in sorted(seen.files) if not name.startswith(stems or ("\0",)))


def _rejected(workshop: Workshop, plugin: Plugin) -> Iterator[str]:
    """As `_cell`, for the options of a plugin that acts on tests and that the inner environments lack."""
    directory = workshop.directory / plugin.name
    expected = _plain(workshop, plugin, directory, inside=False, options=plugin.options)
    seen = _suite(workshop, plugin, _place(workshop, plugin, inside=False), inside=False, outside=True)
    # Without their values, which pytest abbreviates in its summary. A file of each Python has a value of its own.
    message = re.compile(r"unrecognized arguments: (--[\w-]+|-\w).*(?<!\.\.\.)$", re.MULTILINE)
    told, wanted = (set(message.findall(run.output)) for run in (seen, expected))
    if seen.code != expected.code:
        yield f"!exit code {seen.code}, not {expected.code}"
    elif told != wanted or not wanted:
        yield f"!prints {sorted(told)}, not {sorted(wanted)}"
    else:
        yield "a usage error"


def _written(plugin: Plugin, seen: frozenset[str], project: Path) -> Iterator[str]:
    for name in sorted(plugin.writes):
        stem, dot, suffix = name.rpartition(".")
        labelled = {f"{stem}-py{python}{dot}{suffix}" if dot else f"{name}-py{python}" for python in PYTHONS}
        if labelled <= seen:
            yield f"`{name}`: one for each Python"
        elif name in seen:
            yield f"`{name}`: one for all Pythons"
            if not plugin.shared and (missing := _unmentioned(project / name)):
                yield f"!`{name}` does not mention {missing}"
        else:
            yield f"!`{name}` is missing"


def _damaged(project: Path, names: frozenset[str]) -> Iterator[str]:
    for path in (project / name for name in sorted(names)):
        if path.suffix in {".json", ".jsonl"} and path.is_file():
            text = path.read_text(encoding="utf-8")
            try:
                for line in text.splitlines() if path.suffix == ".jsonl" else [text]:
                    json.loads(line)
            except ValueError as error:
                yield f"!{path.name} is not JSON: {error}"


def _unmentioned(path: Path) -> str:
    """The Pythons whose label is in no file name and in no line of `path`, a file or a directory."""
    files = [file for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    text = "\n".join(f"{file.name}\n{file.read_text(encoding='utf-8', errors='replace')}" for file in files)
    return ", ".join(python for python in PYTHONS if f"py{python}" not in text)


def _plain(workshop: Workshop, plugin: Plugin, directory: Path, *, inside: bool, options: Sequence[str]) -> Seen:
    """Plain pytest with these options, in a fresh environment of each Python."""
    results, codes, output, files = {}, set(), "", set[str]()
    for python in PYTHONS:
        name = f"plain-{'with' if inside else 'without'}-{python}"
        project = _project(plugin, directory / name, inside=inside)
        # Without the plugin, the environments of all plugins are the same, unless they test another module.
        shared = not inside and plugin.name != "pytest-cov"
        environment = workshop.directory / f"plain-{python}" if shared else directory / f"{name}-env"
        environ = workshop.environ(workshop.directory / "none", path=[environment / "bin"], **plugin.environ)
        (executable,) = workshop.pythons(workshop.directory / "home", [python])
        if not environment.exists():
            words = [".", "pytest", *(plugin.packages if inside else ())]
            run(
                [find_uv_bin(), "venv", "-q", "--python", executable / f"python{python}", environment], project, environ
            )
            run([find_uv_bin(), "pip", "install", "-q", "--python", environment, *words], project, environ)
        before = _listing(project)
        junit = directory / f"{name}.xml"
        done = run(["pytest", f"--junitxml={junit}", *options], project, environ, codes=None)
        results[python] = read_junit(junit) if junit.exists() else Results()
        codes.add(done.returncode)
        output += done.stdout
        files |= _listing(project) - before
    return Seen(results, max(codes - {5}, default=5), output, frozenset(files))


def _place(workshop: Workshop, plugin: Plugin, *, inside: bool) -> Path:
    """An empty directory for a project. Its path is the same for the same environments, so that they are used again."""
    directory = workshop.directory / plugin.name / "inside" if inside else workshop.directory / "outside"
    shutil.rmtree(directory, ignore_errors=True)
    return directory


def _suite(workshop: Workshop, plugin: Plugin, directory: Path, *, inside: bool, outside: bool) -> Seen:
    project = _project(plugin, directory, inside=inside)
    path = [_outer(workshop, plugin.packages if outside else ())]
    environ = workshop.environ(workshop.directory / "home", path=path, **plugin.environ)
    before = _listing(project)
    junit = directory / "suite.xml"
    command = ["pytest", "--python", ",".join(PYTHONS), "--python-suite", f"--junitxml={junit}", *plugin.options]
    done = run(command, project, environ, codes=None)
    results = {python: Results() for python in PYTHONS}
    for (name, outcome), count in (read_junit(junit) if junit.exists() else Results()).items():
        test, _, python = name.removesuffix("]").rpartition("[py")
        results.setdefault(python, Results())[test, outcome] += count
    return Seen(results, done.returncode, done.stdout, _listing(project) - frozenset(before))


def _project(plugin: Plugin, directory: Path, *, inside: bool) -> Path:
    project = directory / "demo"
    tests = textwrap.dedent(plugin.tests)
    # The project is not editable, so that the tests use the installed package.
    group = ", ".join(f'"{package}"' for package in (plugin.packages if inside else ()))
    files = {
        "pyproject.toml": '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "demo"\nversion = "1"\nrequires-python = ">=3.10"\n'
        f"[dependency-groups]\ntest = [{group}]\n",
        "src/demo/__init__.py": "def double(value):\n    return value * 2\n" if plugin.name != "pytest-cov" else "",
        "pytest.ini": f"[pytest]\ntestpaths = tests\n{plugin.ini}\n",
        "tests/test_ordinary.py": _ORDINARY,
        **({"tests/test_uses.py": tests} if tests else {}),
        **plugin.files,
    }
    if plugin.name == "pytest-cov":
        # In a separate module, so that its line in the report is known.
        files.pop("src/demo/__init__.py")
        files["src/demo.py"] = "def double(value):\n    return value * 2\n"
        files["pyproject.toml"] += (
            '[tool.hatch.build.targets.wheel]\nonly-include = ["src/demo.py"]\nsources = ["src"]\n'
        )
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for command in plugin.before:
        subprocess.run(command, cwd=project, check=True, stdin=subprocess.DEVNULL)
    return project


def _outer(workshop: Workshop, packages: Sequence[str]) -> Path:
    """``bin`` of an environment with this checkout, uv and `packages`."""
    if not packages:
        return workshop.ours
    path = workshop.directory / f"outer-{packages[0]}"
    if not path.exists():
        uv("venv", "--python", getattr(sys, "_base_executable", sys.executable), str(path))
        uv("pip", "install", "--python", str(path), "--editable", str(ROOT), "uv", *packages)
    return path / "bin"


def _version(workshop: Workshop, plugin: Plugin) -> str:
    python = _outer(workshop, plugin.packages) / "python"
    code = f"import importlib.metadata as m; print(m.version({plugin.name!r}))"
    return subprocess.run([python, "-c", code], text=True, capture_output=True, check=True).stdout.strip()


def _listing(project: Path) -> frozenset[str]:
    """Files and their directories, without caches."""
    left_out = (
        "__pycache__",
        ".benchmarks",
        ".pytest_cache",
        ".git/",
        ".hypothesis",
        ".egg-info",
        "build/",
        ".coverage",
    )
    names = (path.relative_to(project).as_posix() for path in project.rglob("*"))
    return frozenset(name for name in names if not any(word in f"{name}/" for word in left_out))


def _keep(directory: Path, plugin: Plugin, document: Mapping[str, object]) -> None:
    (directory / "plugins").mkdir(exist_ok=True)
    text = json.dumps({"plugin": repr(plugin), **document})
    (directory / "plugins" / f"{plugin.name}.json").write_text(text, encoding="utf-8")


def _kept(directory: Path) -> Iterator[tuple[Plugin, str, dict[str, list[str]]]]:
    for plugin in PLUGINS:
        path = directory / "plugins" / f"{plugin.name}.json"
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if document.get("plugin") == repr(plugin):
            yield plugin, document["version"], document["cells"]
        else:
            print(f"{plugin.name} is missing, or was changed after it ran: run it again", file=sys.stderr)


def _split(cell: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remarks and differences."""
    return [line for line in cell if line[0] != "!"], [line[1:] for line in cell if line[0] == "!"]


def _parts(rows: Sequence[tuple[Plugin, str, Mapping[str, Sequence[str]]]]) -> dict[str, str]:
    lines = ["| plugin | options | outer only | inner only | both |\n|---|---|---|---|---|"]
    differences = []
    for plugin, version, cells in rows:
        shown = []
        for place in PLACES:
            remarks, problems = _split(cells[place])
            shown.append("; ".join(["**differs**" if problems else "as plain pytest", *remarks]))
            differences += [f"- {plugin.name}, {place}: {problem}" for problem in problems]
        options = f"`{' '.join(plugin.options)}`" if plugin.options else ""
        lines.append(f"| {plugin.name} {version} | {options} | {' | '.join(shown)} |")
    pairs = len(rows) * len(PLACES)
    return {
        "plugins": "\n".join(lines),
        "plugin differences": "\n".join([
            f"{len(rows)} plugins, {pairs} ways to install them, two Pythons ({' and '.join(PYTHONS)}): "
            + ("these differ.\n" if differences else "none differs."),
            *differences,
        ]),
        "plugin machine": machine(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
