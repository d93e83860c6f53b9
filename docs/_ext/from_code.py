"""A directive for pages of Markdown: ``{from-code} errors`` inserts what `parts` generates from the code."""

from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from parts import text
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

__all__ = ["setup"]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("from-code", _FromCode)
    return {"parallel_read_safe": True}


class _FromCode(SphinxDirective):
    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        found = nodes.container()
        lines = text(*self.arguments).splitlines()
        self.state.nested_parse(StringList(lines, source=f"from-code {self.arguments[0]}"), 0, found)
        return found.children
