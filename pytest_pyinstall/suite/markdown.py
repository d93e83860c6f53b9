"""The tests under each Python as Markdown, for the summary of a CI job."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_pyinstall.suite.report import Cell, Matrix, Tally

__all__ = ["append_summary", "markdown"]

VARIABLE = "GITHUB_STEP_SUMMARY"
"""The file that GitHub shows on the page of a run. GitHub sets it in each step."""

_BAD = {"failed", "error"}
_COLUMNS = ("passed", "failed", "skipped", "error", "xfailed", "xpassed")
_ALWAYS = {"passed", "failed", "skipped", "error"}
_MOST_TESTS = 100
_MOST_LINES = 60
_MOST_CHARACTERS = 400_000
"""GitHub shows nothing of a summary that is longer than 1 MiB."""


def markdown(matrix: Matrix, *, title: str) -> str:
    """A table of the Pythons, each failure once with the Pythons that have it, and what differs between them."""
    failed = {
        test: cells for test, cells in matrix.rows.items() if any(cell.outcome in _BAD for cell in cells.values())
    }
    parts = [f"### {_plain(title)}", "", *_table(matrix.tallies), ""]
    labels = [tally.label for tally in matrix.tallies]
    if failed:
        parts += [f"#### {_counted(len(failed), 'test')} failed", ""]
    length = 0
    for number, (test, cells) in enumerate(failed.items()):
        lines = list(_failure(test, cells, labels))
        length += sum(map(len, lines))
        if number == _MOST_TESTS or length > _MOST_CHARACTERS:
            parts += [f"… and {_counted(len(failed) - number, 'test')} more", ""]
            break
        parts += lines
    parts += _differences({test: cells for test, cells in matrix.rows.items() if test not in failed}, labels)
    return "\n".join(parts).rstrip() + "\n"


def append_summary(matrix: Matrix, environ: Mapping[str, str], *, title: str) -> Path | None:
    """Add it to the summary of the CI job, and return the file; None without one, or if it cannot be written."""
    from pathlib import Path

    name = environ.get(VARIABLE)
    if not name:
        return None
    path = Path(name)
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{markdown(matrix, title=title)}\n")
    except OSError:
        return None  # another program's variable is no reason to fail
    return path


def _table(tallies: Sequence[Tally]) -> Iterator[str]:
    shown = [key for key in _COLUMNS if key in _ALWAYS or any(tally.counts.get(key) for tally in tallies)]
    yield f"| Python | {' | '.join(shown)} | time |"
    yield f"|---|{'---:|' * (len(shown) + 1)}"
    for tally in tallies:
        name = _plain(tally.python or tally.label)
        if tally.note and not tally.counts:
            yield f"| ❌ {name} | {_plain(tally.note)} |{' |' * len(shown)}"
            continue
        mark = "❌" if any(tally.counts.get(key) for key in _BAD) else "✅"
        numbers = " | ".join(str(tally.counts.get(key, 0)) for key in shown)
        yield f"| {mark} {name} | {numbers} | {tally.seconds:.2f} s |"


def _failure(test: str, cells: Mapping[str, Cell], labels: Sequence[str]) -> Iterator[str]:
    bad = [label for label in labels if label in cells and cells[label].outcome in _BAD]
    fine = [label for label in labels if label in cells and label not in bad]
    where = f"every Python: {', '.join(bad)}" if len(bad) > 1 and not fine else f"on {', '.join(bad)}"
    where += f"; not on {', '.join(fine)}" if fine else ""
    yield f"<details><summary><code>{html.escape(_one_line(test))}</code> {html.escape(where)}</summary>"
    yield ""
    # Of the newest Python, whose tracebacks say most.
    text = next((cells[label].text for label in reversed(bad) if cells[label].text), "")
    if text:
        lines = text.rstrip().splitlines()
        if len(lines) > _MOST_LINES:
            lines = [f"… {len(lines) - _MOST_LINES} lines", *lines[-_MOST_LINES:]]
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
        yield from (f"{fence}text", *lines, fence, "")
    yield "</details>"
    yield ""


def _differences(rows: Mapping[str, Mapping[str, Cell]], labels: Sequence[str]) -> list[str]:
    """How many tests ran under some Pythons and were skipped, or are missing, under others."""
    groups: dict[tuple[str, ...], int] = {}
    for cells in rows.values():
        ran = tuple(label for label in labels if label in cells and cells[label].outcome != "skipped")
        if ran and len(ran) < len(labels):
            groups[ran] = groups.get(ran, 0) + 1
    if not groups:
        return []
    lines = ["#### What differs", ""]
    for ran, count in sorted(groups.items(), key=lambda group: -group[1])[:20]:
        others = ", ".join(label for label in labels if label not in ran)
        lines.append(f"- {_counted(count, 'test')} ran on {', '.join(map(_plain, ran))} and not on {_plain(others)}")
    return [*lines, ""]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    """`text` with nothing in it that Markdown or HTML would read."""
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", html.escape(_one_line(text), quote=False))
