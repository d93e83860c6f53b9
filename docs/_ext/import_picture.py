"""The picture of the packages and their imports, drawn from the import contract and from the code.

``{import-picture}`` puts it into a page. Except for the directive, this needs only the standard library.
"""

import ast
import html
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["files", "imports", "rows", "setup", "svg", "used_outside"]

_ROOT = Path(__file__).parent.parent.parent
_PACKAGE = _ROOT / "pytest_pyinstall"
_WIDTH, _ROW, _BOX = 760, 44, 24
_CHARACTER, _GAP, _ASIDE = 7.3, 48, 130


def rows() -> list[list[str]]:
    """The packages and modules of each row, the doors first, as the import contract has them."""
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = settings["tool"]["importlinter"]["contracts"][0]
    return [[name.strip() for name in re.split(r"[|:]", row)] for row in contract["layers"]]


def imports() -> dict[str, set[str]]:
    """For each module the modules of ours that it imports, at its top or inside a function."""
    modules = {name for row in rows() for name in row}
    return {name: _imported(name) & modules for name in sorted(modules)}


def svg() -> str:
    """A box for each package and module, row by row, and a line for each import; pointing at a box shows its lines."""
    places = _places()
    height = len(rows()) * _ROW - _ROW + _BOX + 12
    lines = [
        f'<svg class="imports" viewBox="0 0 {_WIDTH} {height}" xmlns="http://www.w3.org/2000/svg" role="img">',
        "<title>The packages and modules in their rows; every import leads down</title>",
        f"<style>{_style(list(places))}</style>",
    ]
    for name, imported in imports().items():
        for other in sorted(imported):
            (x, y, _), (to_x, to_y, _) = places[name], places[other]
            start, end = y + _BOX, to_y if to_y > y else y + _BOX
            bend = (end - start) * 0.45 or 10
            last = end - bend if end > start else end + bend
            path = f"M{x:.0f},{start:.0f} C{x:.0f},{start + bend:.0f} {to_x:.0f},{last:.0f} {to_x:.0f},{end:.0f}"
            lines.append(f'<path class="i f-{name} t-{other}" d="{path}"/>')
    for name, (x, y, width) in places.items():
        kind = "m p" if (_PACKAGE / name).is_dir() else "m"
        lines.append(
            f'<g id="m-{name}" class="{kind}"><title>{html.escape(_sentence(name))}</title>'
            f'<rect x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{_BOX}" rx="3"/>'
            f'<text x="{x:.1f}" y="{y + 16}">{name}</text></g>'
        )
    return "\n".join([*lines, "</svg>"])


def _places() -> dict[str, tuple[float, int, float]]:
    """The middle, the top and the width of each module's box."""
    places = {}
    for number, row in enumerate(rows()):
        widths = [len(name) * _CHARACTER + 8 for name in row]
        gap = min(_GAP, (_WIDTH - sum(widths)) / len(row))
        # Boxes below each other would hide the lines between them.
        aside = _ASIDE * (number % 3 - 1) if len(row) < 4 else 0
        x = (_WIDTH - sum(widths) - gap * (len(row) - 1)) / 2 + aside
        for name, width in zip(row, widths, strict=True):
            places[name] = (x + width / 2, number * _ROW + 2, width)
            x += width + gap
    return places


def _style(names: list[str]) -> str:
    fixed = (
        ".imports{width:100%;height:auto;max-width:60rem}"
        ".imports .i{fill:none;stroke:currentColor;stroke-opacity:.22;stroke-width:.8}"
        ".imports .m rect{fill:var(--color-background-secondary,#f4f4f4);stroke:currentColor;stroke-opacity:.35}"
        ".imports .m text{font:11.5px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;text-anchor:middle;"
        "fill:currentColor}"
        ".imports .p rect{stroke-opacity:.9}.imports .p text{font-weight:bold}"
        ".imports .m:hover rect{stroke-opacity:1;stroke-width:1.5}"
    )
    shown = "".join(
        f".imports:has(#m-{name}:hover) .f-{name}{{stroke:#0a7;stroke-opacity:1;stroke-width:1.2}}"
        f".imports:has(#m-{name}:hover) .t-{name}{{stroke:#c60;stroke-opacity:1;stroke-width:1.2}}"
        for name in names
    )
    return fixed + shown


def used_outside(package: str) -> dict[str, set[str]]:
    """The names of each module of `package` that modules outside it import: its public surface."""
    found: dict[str, set[str]] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.parent == _PACKAGE / package:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"pytest_pyinstall.{package}."):
                module = str(node.module).split(".")[2]
                found.setdefault(module, set()).update(alias.name for alias in node.names)
    return found


def files(name: str) -> list[Path]:
    """The files of a package, its ``__init__`` first, or the one file of a module at the top."""
    package = _PACKAGE / name
    return sorted(package.glob("*.py")) if package.is_dir() else [_PACKAGE / f"{name}.py"]


def _trees(name: str) -> Iterator[ast.Module]:
    for path in files(name):
        yield ast.parse(path.read_text(encoding="utf-8"))


def _imported(module: str) -> set[str]:
    found = set()
    for node in (node for tree in _trees(module) for node in ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module == "pytest_pyinstall":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pytest_pyinstall."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pytest_pyinstall.")}
    return found - {module}


def _sentence(module: str) -> str:
    return (ast.get_docstring(next(_trees(module))) or "").partition("\n\n")[0].replace("\n", " ")


def setup(app: Any) -> dict[str, Any]:
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class ImportPicture(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            self.env.note_reread()
            return [nodes.raw("", svg(), format="html")]

    app.add_directive("import-picture", ImportPicture)
    return {"parallel_read_safe": True}
