"""Writes ``docs/_static/run.svg``, the picture of a terminal: ``python docs/picture.py``.

It runs the suite of a small library in an empty home directory, with archives packed from this machine's Pythons in
place of the release host. `tests/documentation/test_picture.py` fails if today's output differs from the picture.
"""

import html
import io
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

import archives  # noqa: E402  # its directory is put on sys.path above
from pages import World  # noqa: E402

__all__ = ["COMMANDS", "PICTURE", "lines_of", "run", "svg"]

PICTURE = ROOT / "docs" / "_static" / "run.svg"
COMMANDS = ("pytest -q --python 3.9..3.13 --python-suite",)
_COLUMNS = 80
_LIBRARY = {
    "pyproject.toml": """\
[build-system]
requires = ["flit_core"]
build-backend = "flit_core.buildapi"

[project]
name = "when"
version = "1.0"
description = "Reads dates"
requires-python = ">=3.9"
""",
    "when.py": """\
from datetime import datetime


def parse(text):
    return datetime.fromisoformat(text)
""",
    "test_when.py": """\
from when import parse


def test_date():
    assert parse("2026-11-28").day == 28


def test_time():
    assert parse("2026-11-28T09:30").hour == 9


def test_utc():
    assert parse("2026-11-28T09:30Z").hour == 9
""",
}
_FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img"
  aria-label="A terminal: {label}">
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
    </clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""
"""rich's own frame fetches a font from another host, which neither the README nor a page should do."""


def run(world: World) -> str:
    """The terminal's output of `COMMANDS`, with colours, when the environments exist."""
    for name, text in _LIBRARY.items():
        (world.project / name).write_text(text, encoding="utf-8")
    options = "-p no:randomly -p no:cacheprovider"
    world.environ |= {"COLUMNS": str(_COLUMNS), "FORCE_COLOR": "1", "PYTEST_ADDOPTS": options}
    for name in ("NO_COLOR", "CI", "BUILD_NUMBER"):
        world.environ.pop(name, None)
    for command in COMMANDS:
        world.run(command)
    shown = [f"\x1b[1m$ {command}\x1b[0m\n{world.run(command, keep_colors=True)}" for command in COMMANDS]
    return "".join(shown).replace(sys.executable, "/home/you/.venv/bin/python")


def svg(shown: str) -> str:
    """The picture of a terminal that shows `shown`."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(shown.rstrip()), soft_wrap=False)
    text = console.export_svg(
        title="pytest-pyinstall",
        code_format=_FRAME.replace("{label}", html.escape("; ".join(COMMANDS))),
        unique_id="run",
    )
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def lines_of(picture: str) -> list[str]:
    """The lines of the terminal in `picture`: commands and their output."""
    found = re.findall(r'<text class="run-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', picture)
    cells = sorted((float(y), float(x), html.unescape(text)) for x, y, text in found)
    rows = ["".join(text for _, _, text in row) for _, row in groupby(cells, key=lambda cell: cell[0])]
    return [row.replace("\xa0", " ").rstrip() for row in rows if row.strip()]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="picture-") as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        world = World(Path(scratch), home, archives.packed(Path(scratch)))
        world.environ["HOME"] = str(home)
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(svg(run(world)), encoding="utf-8")


if __name__ == "__main__":
    main()
