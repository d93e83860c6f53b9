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

    `fields` are what an inner session told of its ``--cov-report``, ``--cov-fail-under`` and ``--cov-config``.
    """
    reports, fail_under, config_file = fields
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

    lines: list[str] = []
    done = coverage("combine", "--keep", *rc, *parts)
    for kind, value in (dict(reports) or {"term": None}).items():
        if done.returncode:
            break
        if words := _report(kind, value):
            done = coverage(words[0], *rc, *words[1:])
            lines += done.stdout.rstrip().splitlines()
    if fail_under and not done.returncode:
        done = coverage("report", *rc, f"--fail-under={fail_under}")
        if done.returncode:
            lines.append(done.stdout.rstrip().splitlines()[-1])
    if done.returncode:
        lines = lines or done.stdout.rstrip().splitlines()
    return Coverage(lines=tuple(lines), is_failed=bool(done.returncode))


def _report(kind: str, value: object) -> list[str]:
    """The command of coverage's for one ``--cov-report``."""
    if kind in {"term", "term-missing"}:
        more = ["--show-missing"] if kind == "term-missing" else []
        return ["report", *more, *(["--skip-covered"] if value == "skip-covered" else [])]
    if kind in {"html", "xml", "json", "lcov", "annotate"}:
        return [kind, *(["-d" if kind in {"html", "annotate"} else "-o", str(value)] if value else [])]
    return []
