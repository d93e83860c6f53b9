"""Redirects moved pages: ``redirects = {"old": "new"}`` in ``conf.py``."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

__all__ = ["setup"]

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Moved</title>
<link rel="canonical" href="{target}">
<meta http-equiv="refresh" content="0; url={target}">
<p>This page has <a href="{target}">moved</a>.</p>
</html>
"""


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("redirects", {}, "html", dict)
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True}


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.name != "html":
        return
    for old, new in app.config.redirects.items():
        assert new in app.env.found_docs, f"redirects: there is no page {new}"
        page = Path(app.outdir) / f"{old}.html"
        page.write_text(_PAGE.format(target=f"{new}.html"), encoding="utf-8")
