"""Makes ``docs/_static/run.svg``, the picture of a terminal, out of what a terminal shows: ``python docs/picture.py``.

The examples run in an empty home, with archives that were packed out of this machine's Pythons in place of the release
host. `tests/documentation/test_picture.py` looks whether a run of today still shows the same.
"""

import html
import io
import re
import sys
import tempfile
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import archives  # noqa: E402  # its directory is put on sys.path above
from pages import World  # noqa: E402

__all__ = ["COMMANDS", "PICTURE", "lines_of", "run", "svg"]

PICTURE = ROOT / "docs" / "_static" / "run.svg"
COMMANDS = ("pytest --python 3.9,3.13 examples", "pytest --python 3.9,3.13 examples -v -k 'function or walrus'")
_COLUMNS = 100
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
"""rich's own frame fetches a font from another host, which neither a README nor a page should do."""


def run(world: World) -> str:
    """What the terminal shows of `COMMANDS`, with colours."""
    (world.project / "examples").symlink_to(ROOT / "examples")
    options = "-p no:randomly -p no:cacheprovider"
    world.environ |= {"COLUMNS": str(_COLUMNS), "FORCE_COLOR": "1", "PYTEST_ADDOPTS": options}
    world.environ.pop("NO_COLOR", None)
    shown = [f"\x1b[1m$ {command}\x1b[0m\n{world.run(command, keep_colors=True)}" for command in COMMANDS]
    return "".join(shown).replace(sys.executable, "/home/you/.venv/bin/python")


def svg(shown: str) -> str:
    """`shown` as a picture."""
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
    """The lines of the terminal that `picture` shows, commands and what they wrote."""
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
