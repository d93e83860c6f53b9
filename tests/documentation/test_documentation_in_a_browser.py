"""The built documentation has no warning, no dead link, and no error in a browser."""

import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS

pytest.importorskip("sphinx")
pytest.importorskip("furo")
pytest.importorskip("myst_parser")

sys.path.insert(0, str(DOCS))

import look  # its directory is put on sys.path above


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=115, check=False)
    assert done.returncode == 0, done.stderr
    return directory.resolve()


@pytest.mark.xdist_group("documentation")
def test_the_target_of_each_link_and_anchor_exists(built: Path) -> None:
    assert look.broken_links(built) == []
    assert "howto/tox.html" in (built / "tox.html").read_text(encoding="utf-8")


@pytest.mark.xdist_group("documentation")
@pytest.mark.skipif(look.CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_a_browser_reports_no_error(built: Path) -> None:
    assert look.complaints(built) == []


def test_dead_links_and_broken_pages_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h1 id="x">a</h1><a href="b.html#y">b</a><a href="#z">z</a><a href="#x">x</a>')
    (tmp_path / "b.html").write_text('<h1>b</h1><a href="c.html">c</a>')

    assert look.broken_links(tmp_path.resolve()) == ["a.html: b.html#y", "a.html: #z", "b.html: c.html"]


@pytest.mark.skipif(look.CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_a_page_that_is_too_wide_or_has_an_error_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<h1>a</h1><p style='width: 800px'>wide</p><script>nowhere()</script>")

    found = look.complaints(tmp_path.resolve())

    assert "/a.html: is 8" in " ".join(found)
    assert "nowhere is not defined" in " ".join(found)
