"""The picture of a terminal shows the current output."""

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import archives
import pytest
from pages import DOCS, SHOWN, World, plain

sys.path.insert(0, str(DOCS))

import picture  # its directory is put on sys.path above


def shape(lines: list[str]) -> list[str]:
    """The words of `lines` without what differs between runs: line breaks, the order of dots, the release of pytest."""
    text = re.sub(r"^[.F]+ ", lambda dots: "".join(sorted(dots[0])), plain("\n".join(lines)), flags=re.MULTILINE)
    text = re.sub(r"^(3\.\d+\.P\s+)\d+\.\d+\.\w+", r"\1…", text, flags=re.MULTILINE)
    return sorted(re.findall(r"\S+", text))


@pytest.mark.skipif(not set(SHOWN) <= set(archives.interpreters()), reason="needs Python 3.9 to 3.13")
@pytest.mark.skipif(sys.platform != "linux", reason="the picture shows output on Linux")
def test_the_picture_shows_the_current_output(tmp_path: Path, isolated_home: Path, mirror_directory: Path) -> None:
    shown = picture.lines_of(picture.PICTURE.read_text(encoding="utf-8"))
    today = picture.lines_of(picture.svg(picture.run(World(tmp_path, isolated_home, mirror_directory))))

    hint = "run python docs/picture.py to update the picture"
    assert shape(shown) == shape(today), hint


def test_the_picture_is_valid_and_fetches_nothing() -> None:
    text = picture.PICTURE.read_text(encoding="utf-8")

    ET.fromstring(text)  # a file of this project
    assert "url(http" not in text
    assert "@import" not in text
    assert re.findall(r"https?://\S+", text) == ['http://www.w3.org/2000/svg"']
    assert "\xa0$\xa0" not in picture.lines_of(text)[0]
    assert [line[2:] for line in picture.lines_of(text) if line.startswith("$ ")] == list(picture.COMMANDS)
