"""Each block of code in the documentation is valid, even if nothing runs it."""

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pages import DOCS, ROOT, fenced

from pytest_pyinstall.cli.parser import arguments_of
from pytest_pyinstall.configuration import read_configuration
from pytest_pyinstall.request.catalogue import parse_catalogue
from pytest_pyinstall.request.request import parse_requests

yaml = pytest.importorskip("yaml")


class Example(NamedTuple):
    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.number}-{self.language}"


def examples() -> Iterator[Example]:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))):
        if page.exists():
            for number, (language, text) in enumerate(fenced(page), 1):
                yield Example(page, number, language, text)


EXAMPLES = list(examples())
KNOWN = {"bash", "console", "dockerfile", "ini", "json", "make", "python", "shell", "text", "toml", "yaml"}


def of(*languages: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("example", [each for each in EXAMPLES if each.language in languages], ids=str)


def test_each_language_has_a_check() -> None:
    assert {example.language for example in EXAMPLES} <= KNOWN


@of("python")
def test_python_blocks_are_valid(example: Example) -> None:
    ast.parse(example.text)


@of("toml")
def test_toml_blocks_are_valid_and_have_valid_requests(example: Example, tmp_path: Path) -> None:
    document = tomllib.loads(example.text)

    if "pytest" in document.get("tool", {}):
        (tmp_path / "pyproject.toml").write_text(example.text)
        configuration = read_configuration(tmp_path)
        parse_requests(configuration.requests, directory=tmp_path, origin="the page")


@of("ini")
def test_ini_blocks_are_valid(example: Example) -> None:
    configparser.RawConfigParser().read_string(example.text)


@of("yaml")
def test_yaml_blocks_are_valid(example: Example) -> None:
    assert yaml.safe_load(example.text)


@of("json")
def test_json_blocks_are_catalogues(example: Example) -> None:
    assert json.loads(example.text)
    assert parse_catalogue(example.text, origin="the page").builds


@of("bash", "console", "shell")
@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
def test_shell_blocks_are_valid_and_have_existing_options(example: Example, pytestconfig: pytest.Config) -> None:
    is_console = example.language == "console"
    lines = re.findall(r"^\$ (.*)", example.text, re.MULTILINE) if is_console else [example.text]
    for line in lines:
        subprocess.run(["sh", "-n", "-c", line], check=True, timeout=60)
    group = pytestconfig._parser.getgroup("pyinstall")
    options = {name for option in group.options for name in option.names()}
    text = "\n".join(lines)
    for line in text.splitlines():
        for option in re.findall(r"(?<=\s)--python[a-z-]*", line):
            assert option in options, line
        if match := re.match(r"(?:\w+=\S+ )*(pytest-pyinstall [^|;&$`]+)$", line):
            command = match[1].partition("  #")[0]
            if command.count("'") % 2:  # a quoted word that continues on the next lines
                command += text.partition(command)[2].partition("'")[0] + "'"
            arguments_of(shlex.split(command)[1:])
