"""`matrix`, `report` and `exec`: the commands for CI jobs, and for other tools such as tox and nox."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from packaging.version import Version

from pytest_pyinstall.cli.context import REQUEST_HELP, CommandContext, CommandResult, examples_text
from pytest_pyinstall.errors import NoMatchError, PyinstallError, UsageError
from pytest_pyinstall.provisioner import ProvisionResult
from pytest_pyinstall.request.identity import suffix_of
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.request.resolve import resolve

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pytest_pyinstall.project import Project
    from pytest_pyinstall.request.catalogue import Catalogue
    from pytest_pyinstall.request.identity import Target

__all__ = [
    "FORMATS",
    "Format",
    "MatrixRow",
    "exec_parser",
    "free_threaded",
    "matrix",
    "matrix_parser",
    "matrix_rows",
    "matrix_text",
    "report",
    "report_parser",
    "run_command",
]


Format = Literal["github", "json", "lines"]


FORMATS: tuple[str, ...] = get_args(Format)


_FREE_THREADED = (3, 14)


_PLAIN = re.compile(r"==([0-9]+\.[0-9]+(?:\.[0-9]+(?:(?:a|b|rc)[0-9]+)?)?)(?:\.\*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """One job. `name` is a request that ``actions/setup-python`` understands too: ``3.13t``.

    `variant` is the value of ``--python-with`` for that job, empty if there is none.
    """

    name: str
    is_experimental: bool
    variant: str = ""

    def to_json(self) -> dict[str, str | bool]:
        variant = {"with": self.variant} if self.variant else {}
        return {"python-version": self.name, **variant, "experimental": self.is_experimental}


def matrix_rows(requests: Iterable[Request], *, catalogue: Catalogue, target: Target) -> tuple[MatrixRow, ...]:
    """A row for each Python of `requests`, in their order, without duplicates.

    Free-threaded, debug and unreleased Pythons are experimental. A minor or full version is kept as requested, even if
    `catalogue` has no build for `target`, because the jobs may run on another system. Any other request is replaced by
    the newest version that fits. Raises `NoMatchError` if nothing fits, or for a version that is not in development
    yet, and `UsageError` for a path.
    """
    rows = {row.name: row for row in (_row(request, catalogue, target) for request in requests)}
    return tuple(rows.values())


def free_threaded(requests: Iterable[Request], *, project: Project | None) -> tuple[Request, ...]:
    """The free-threaded builds of `requests`, if `project` has a classifier for free threading; otherwise none.

    Only for 3.14 and later, in which they are a supported build of CPython (PEP 779).
    """
    if project is None or not project.free_threaded:
        return ()
    written = [_PLAIN.fullmatch(request.versions) for request in requests if request.implementation == "cpython"]
    return tuple(Request.parse(f"{match[1]}t") for match in written if match and _minor(match[1]) >= _FREE_THREADED)


def matrix_text(rows: Sequence[MatrixRow], form: Format) -> str:
    """``github``: a ``strategy.matrix`` for ``fromJSON``. ``json``: only its rows. ``lines``: only their names."""
    match form:
        case "github":
            return json.dumps({"include": [row.to_json() for row in rows]})
        case "json":
            return json.dumps([row.to_json() for row in rows])
        case "lines":
            return "\n".join(f"{row.name} {row.variant}".rstrip() for row in rows)


def _row(request: Request, catalogue: Catalogue, target: Target) -> MatrixRow:
    if request.path is not None:
        message = f"{request.text} is a path, which cannot be a row of a matrix"
        raise UsageError(message, hint="pytest-pyinstall matrix 3.13")
    written = _PLAIN.fullmatch(request.versions)
    try:
        key = resolve(request, catalogue, target).key
    except NoMatchError:
        if written is None or _is_impossible(written[1], catalogue):
            raise
        is_experimental = (
            _is_special(request.variant)
            or request.names_prerelease
            or _minor(written[1]) > _newest(catalogue, is_released=True)
        )
        name = _name(request.implementation or "cpython", written[1], request.variant)
        return MatrixRow(name=name, is_experimental=is_experimental)
    version = written[1] if written else key.number
    is_experimental = _is_special(key.variant) or key.is_prerelease
    return MatrixRow(name=_name(key.implementation, version, key.variant), is_experimental=is_experimental)


def _is_impossible(version: str, catalogue: Catalogue) -> bool:
    """Whether the version must be a typo: it is newer than the next minor version, or older than 2.6."""
    major, minor = _newest(catalogue)
    return _minor(version) > (major, minor + 1) or _minor(version) < (2, 6)


def _newest(catalogue: Catalogue, *, is_released: bool = False) -> tuple[int, int]:
    versions = (build.key.version for build in catalogue.builds)
    minors = ((version.major, version.minor) for version in versions if not (is_released and version.is_prerelease))
    return max(minors, default=(0, 0))


def _minor(version: str) -> tuple[int, int]:
    parsed = Version(version)
    return parsed.major, parsed.minor


def _is_special(variant: str) -> bool:
    return variant not in {"", "gil"}


def _name(implementation: str, version: str, variant: str) -> str:
    name = "" if implementation == "cpython" else implementation
    return f"{name}{version}{suffix_of(variant)}"


def report(
    session: CommandContext,
    directory: Path,
    *,
    page: Path | None,
    as_markdown: bool,
    durations: Path | None = None,
) -> CommandResult:
    """Merge the JUnit files below `directory` into a table or Markdown, and with `page`, into an HTML file.

    With `durations`, write the durations of the tests to that file, for ``--python-shard``.
    """
    from pytest_pyinstall.suite import report

    here = session.provisioner.directory  # usually the project; `directory` often has a name such as junit
    matrix = report.read_junit(directory, project=here)
    title = report.title_of((here if directory.is_relative_to(here) else directory).name, matrix.tallies)
    lines = report.table(matrix.tallies, time_title=matrix.time_title)
    labels = [tally.label for tally in matrix.tallies]
    failed = {
        test: {label: cells[label].outcome for label in labels if label in cells}
        for test, cells in matrix.rows.items()
        if any(cell.outcome in {"failed", "error"} for cell in cells.values())
    }
    for test, outcomes in failed.items():
        fine = [label for label, outcome in outcomes.items() if outcome not in {"failed", "error"}]
        for own, _ in report.failures_of(matrix.rows[test], labels):
            lines.append(f"FAILED {test}[{','.join(own)}]" + (f"; not on {', '.join(fine)}" if fine else ""))
    if page is not None:
        _write(page, report.page(matrix, title=title))
        session.display.say(f"the matrix as a page: {page}")
    if durations is not None:
        from pytest_pyinstall.suite.shard import durations_of_junit

        found = durations_of_junit(sorted(directory.rglob("*.xml")))
        _write(durations, json.dumps(found, indent=2) + "\n")
        session.display.say(f"the durations of {len(found)} tests: {durations}")
    document = {
        "pythons": [
            {"name": tally.label, "counts": tally.counts, "seconds": round(tally.seconds, 3)}
            for tally in matrix.tallies
        ],
        "failed": failed,
    }
    errors = []
    if failed:
        errors.append(PyinstallError(f"{len(failed)} of {len(matrix.rows)} tests failed"))
    if unrun := report.unrun_of(matrix.tallies):
        errors.append(PyinstallError(f"not all tests ran on {', '.join(unrun)}"))
    if as_markdown:
        lines = report.markdown(matrix, title=title).splitlines()
    return CommandResult(lines=tuple(lines), document=document, errors=tuple(errors))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def matrix(
    session: CommandContext, texts: Sequence[str], *, form: Format, variants: Sequence[str] = ()
) -> CommandResult:
    """The rows of a CI matrix: each request (default: ``supported``) with each of the dependency `variants`."""
    if variants:
        from pytest_pyinstall.suite.variants import parse_variants

        variants = [variant.text for variant in parse_variants(variants, option="--with")]
    provisioner = session.provisioner
    requests = session.requests(texts or ["supported"])
    if not texts or any("supported" in text.lower() for text in texts):
        requests += free_threaded(provisioner.parse(["supported"]), project=provisioner.project)
    rows = matrix_rows(requests, catalogue=provisioner.catalogues.configured, target=provisioner.target)
    _say_what_is_old(session, rows)
    rows = tuple(replace(row, variant=variant) for row in rows for variant in variants or ("",))
    text = matrix_text(rows, form)
    return CommandResult(lines=(text,), document={"include": [row.to_json() for row in rows]})


def _say_what_is_old(session: CommandContext, rows: Sequence[MatrixRow]) -> None:
    """Print which of `rows` have no build."""
    provisioner = session.provisioner
    oldest = min((build.key.release[:2] for build in provisioner.catalogues.configured.builds), default=(0, 0))
    old = [row.name for row in rows if row.name[0].isdigit() and _minor(re.sub(r"[a-z].*", "", row.name)) < oldest]
    if old:
        others = [row.name for row in rows if row.name not in old]
        way_out = f"; without them: pytest-pyinstall matrix {','.join(others)}" if others else ""
        session.display.say(f"no build of {', '.join(old)}, the oldest is {oldest[0]}.{oldest[1]}{way_out}")


def run_command(session: CommandContext, texts: Sequence[str], command: Sequence[str]) -> CommandResult:
    """Run `command` with the Pythons on its PATH, and return its exit code.

    If a Python is missing, the command does not run, unless ``--python-missing`` is ``skip``: then it runs without it.
    """
    from pytest_pyinstall.interpreter.path_commands import commands_on_path
    from pytest_pyinstall.system.processes import execute

    provisioner = session.provisioner
    try:
        requests = session.requests(texts)
    except PyinstallError as invalid:
        hint = invalid.hint.replace("-- COMMAND", f"-- {shlex.join(command)}")
        raise type(invalid)(invalid.message, hint=hint) from invalid
    with session.display:  # closed before the command uses the terminal
        results = [
            session.add_origin(texts, provisioner.lease_or_reprovide(result))
            for result in provisioner.provide(requests)
        ]
        interpreters = [result.interpreter for result in results if isinstance(result, ProvisionResult)]
    if errors := session.errors_of(results):
        return CommandResult(errors=errors)
    environ = provisioner.environ
    with commands_on_path(interpreters, environ=environ, cache=provisioner.settings.cache) as commands:
        path = commands.before(environ.get("PATH") or os.defpath)
        code, trouble = execute(command, environ={**environ, "PATH": path})
    if trouble:
        # The exit code is that of a shell (126, 127), not one of ours.
        return CommandResult(errors=(UsageError(trouble),), code=code)
    return CommandResult(code=code)


def matrix_parser(parser: argparse.ArgumentParser) -> None:

    parser.description = "Print a CI matrix of the requests (default: what the project supports)."
    parser.epilog = examples_text("matrix", "matrix supported 3.14t pypy3.11 --format lines")
    parser.add_argument("requests", nargs="*", metavar="REQUEST", help=f"{REQUEST_HELP} (default: supported)")
    parser.add_argument("--format", choices=FORMATS, default="github", help="default: github")
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        dest="variants",
        metavar="REQUIREMENTS",
        help="make a job for each Python with this set of dependencies, as for --python-with (repeatable)",
    )
    parser.set_defaults(
        run=lambda session, args: matrix(session, args.requests, form=args.format, variants=args.variants)
    )


def exec_parser(parser: argparse.ArgumentParser) -> None:
    parser.usage = "pytest-pyinstall exec [--python REQUEST...] -- COMMAND..."
    parser.description = (
        "Run COMMAND with the Pythons on its PATH as pythonX.Y, pythonX.Yt or pypyX.Y,\n"
        "and return its exit code. Missing Pythons are installed first. Default: the\n"
        "Pythons in the project's configuration."
    )
    parser.epilog = examples_text("exec --python 3.9 3.13 -- nox", "exec --python 3.12 -- python3.12 -m build")
    parser.add_argument("--python", action="extend", nargs="+", default=[], metavar="REQUEST", help=REQUEST_HELP)
    parser.set_defaults(run=lambda session, args: run_command(session, args.python, args.tail))


def report_parser(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Merge the JUnit files below DIR, one per CI job, into one table of results per\n"
        "Python, and list the tests that failed. In a file that --python-suite wrote,\n"
        "test ids end in their Python. For other files, it comes from the name of the\n"
        "file or its directory (junit-py39.xml). The exit code is 1 if a test failed,\n"
        "or if a suite did not run all tests."
    )
    parser.epilog = examples_text("report artifacts", "report artifacts --html matrix.html")
    parser.add_argument("directory", metavar="DIR", help="the directory of the JUnit files, at any depth")
    parser.add_argument("--html", metavar="FILE", help="also write the matrix as one self-contained page")
    parser.add_argument(
        "--durations", metavar="FILE", help="also write how long each test took, for --python-shard: .test_durations"
    )
    parser.add_argument("--markdown", action="store_true", help='print Markdown, for "$GITHUB_STEP_SUMMARY"')

    def run(session: CommandContext, args: argparse.Namespace) -> CommandResult:
        from pytest_pyinstall.settings import expand_user

        directory = session.provisioner.directory
        page = None if args.html is None else directory / expand_user(args.html, origin="--html")
        durations = None if args.durations is None else directory / expand_user(args.durations, origin="--durations")
        found = directory / expand_user(args.directory, origin="report")
        return report(session, found, page=page, as_markdown=args.markdown, durations=durations)

    parser.set_defaults(run=run)
