"""Combines the coverage of several Pythons into one file and one report."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Coverage", "combine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What `combine` came to: the lines of its reports, and whether one failed, as below ``--cov-fail-under``."""

    lines: tuple[str, ...]
    is_failed: bool


def combine(
    fields: Sequence[Any], parts: Sequence[str], *, python: Path, directory: Path, environ: Mapping[str, str]
) -> Coverage:
    """One ``.coverage`` in `directory` out of `parts`, and the reports that were asked for, made by `python`.

    `fields` are what an inner session told of its ``--cov-report``, ``--cov-fail-under``, ``--cov-config`` and
    ``--cov-append``. Every report is written, also where the coverage is below its limit.
    """
    reports, fail_under, config_file, appends = fields
    data_file = Path(environ.get("COVERAGE_FILE") or directory / ".coverage")
    rc = [f"--rcfile={config_file}"] if isinstance(config_file, str) and Path(config_file).is_file() else []

    def coverage(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(python), "-m", "coverage", *words],
            cwd=directory,
            env={**environ, "COVERAGE_FILE": str(data_file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )

    done = coverage("combine", "--keep", *(["--append"] if appends else []), *rc, *parts)
    lines = done.stdout.splitlines() if done.returncode else []
    is_failed = bool(done.returncode)
    for kind, value in (dict(reports) or {"term": None}).items():
        words = [] if is_failed else _report(kind, value)
        if words:
            done = coverage(words[0], *rc, *words[1:])
            lines += done.stdout.rstrip().splitlines()
            is_failed = bool(done.returncode)
    if not is_failed:
        # Without the option the limit is the one of coverage's own configuration.
        limit = [] if fail_under is None else [f"--fail-under={fail_under}"]
        done = coverage("report", *rc, *limit)
        if done.returncode:
            lines += done.stdout.rstrip().splitlines()[-1:]
            is_failed = True
    return Coverage(lines=tuple(lines), is_failed=is_failed)


def _report(kind: str, value: object) -> list[str]:
    """The command of coverage's for one ``--cov-report``."""
    if kind in {"term", "term-missing"}:
        more = ["--show-missing"] if kind == "term-missing" else []
        return ["report", "--fail-under=0", *more, *(["--skip-covered"] if value == "skip-covered" else [])]
    if kind in {"html", "xml", "json", "lcov", "annotate"}:
        more = [] if kind == "annotate" else ["--fail-under=0"]
        return [kind, *more, *(["-d" if kind in {"html", "annotate"} else "-o", str(value)] if value else [])]
    return []
