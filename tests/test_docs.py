"""What the documentation shows is what happens, and what the code offers is in the reference.

In a page, ```` ```console ```` is run: each line after ``$`` is a command, the lines below it are what it writes. A
block of Python or TOML whose first line is a comment with a file's name is that file. All of a page happens in one
directory, in order. In what is written ``…`` stands for any text, and alone on a line for any lines.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import archives
import pytest

import pytest_pyinstall
from pytest_pyinstall import commands, errors, layout, matrix, pytest_plugin, request, settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

SHOWN = ("3.9", "3.13")
"""The Pythons of the pages."""

BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FROM_CODE = re.compile(r"^```\{from-code\} (?P<words>.+)\n```$", re.MULTILINE)

import parts  # noqa: E402  # its directory is put on sys.path above


class Step(NamedTuple):
    """A file to be written, or a command with what it is to write."""

    name: str
    text: str
    is_command: bool


class World:
    """A directory with a project, the programs that the pages use, and no Python but those of the mirror."""

    def __init__(self, tmp_path: Path, home: Path, mirror: Path) -> None:
        self.project = home / "slug"
        self.project.mkdir()
        self.home = home
        self.code = 0
        programs = tmp_path / "programs"
        programs.mkdir()
        for name, words in {"pytest": "-m pytest", "pytest-pyinstall": "-m pytest_pyinstall"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            (programs / name).chmod(0o755)
        for name in ("sh", "ls", "cat", "rm", "env", "dirname", "realpath", "uname"):
            if found := shutil.which(name):
                (programs / name).symlink_to(found)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON"))},
            "PATH": str(programs),
            # Else the sessions of the pages would tidy up what other sessions left in the system's.
            "TMPDIR": str(tmp_path),
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "pytest_pyinstall.pytest_plugin",
            "PYTEST_PYINSTALL_MIRROR": str(mirror),
            "PYTEST_PYINSTALL_CATALOGUE": f"{mirror}/catalogue.json",
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
        }

    def run(self, command: str) -> str:
        """What `command` writes. As in a shell, ``$?`` is the exit code of the one before."""
        done = subprocess.run(
            ["/bin/sh", "-c", f"(exit {self.code}); {command}"],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        self.code = done.returncode
        return done.stdout.replace(str(self.home), "/home/you")


def steps(page: str) -> Iterator[Step]:
    for block in BLOCK.finditer(page):
        language, text = block["language"], block["text"]
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, written = part.partition("\n")
                yield Step(command, written, is_command=True)
        elif language in {"python", "toml"} and (name := re.match(r"# ([\w./-]+\.(?:py|toml))\n", text)):
            yield Step(name[1], text, is_command=False)


def plain(text: str) -> str:
    """Without what differs from run to run: patch versions, durations, sizes, padding."""
    text = re.sub(r"\b(3\.\d+)\.\d+\b", r"\1.P", text)
    text = re.sub(r"\b\d+\.\d+ ?s\b", "T s", text)
    text = re.sub(r"\b\d+(\.\d+)? (KiB|MiB|GiB)", "SIZE", text)
    text = re.sub(r"([=_-])\1{3,}", r"\1\1\1\1", text)
    text = re.sub(r"(?<=\S)  +", "  ", text)
    return "".join(f"{line.rstrip()}\n" for line in text.strip().splitlines())


def is_as_shown(written: str, shown: str) -> bool:
    pattern = re.escape(plain(shown))
    pattern = re.sub(r"^…\n", "(?:.*\n)*?", pattern.replace("\\\n", "\n"), flags=re.MULTILINE).replace("…", ".*?")
    return re.fullmatch(pattern, plain(written)) is not None


PAGES = sorted(path for path in DOCS.rglob("*.md") if "```console" in path.read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform != "linux", reason="the pages show Linux")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_command_of_a_page_writes_what_the_page_shows(
    page: Path, tmp_path: Path, isolated_home: Path, mirror_directory: Path
) -> None:
    if missing := [version for version in SHOWN if version not in archives.interpreters()]:
        pytest.skip(f"this machine has no Python {', '.join(missing)} to be packed")
    world = World(tmp_path, isolated_home, mirror_directory)
    for step in steps(page.read_text(encoding="utf-8")):
        if not step.is_command:
            (world.project / step.name).write_text(step.text, encoding="utf-8")
            continue
        written = world.run(step.name)
        assert is_as_shown(written, step.text), f"$ {step.name}\n{written}\n--- and the page shows ---\n{step.text}"


def reference() -> str:
    """All pages of the reference, with what they take from the code."""
    pages = [path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.md"))]
    return FROM_CODE.sub(lambda match: parts.text(*match["words"].split()), "\n".join(pages))


@pytest.fixture(scope="module", name="reference")
def _reference() -> str:
    return reference()


def code_in(text: str) -> set[str]:
    """The words in backticks."""
    return {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in [quoted, *quoted.split()]}


@pytest.fixture(name="parser")
def _parser(request: pytest.FixtureRequest) -> Any:
    return request.config._parser


def test_every_option_and_ini_value_of_pytest_is_in_the_reference(parser: Any, reference: str) -> None:
    options = {name for option in parser.getgroup("pyinstall").options for name in option.names()}
    ini = {name for name in parser._inidict if name.startswith("pyinstall_")}
    assert len(options) > 7
    assert len(ini) > 8
    assert options | ini <= code_in(reference)


def test_every_word_that_an_option_takes_is_in_the_reference(parser: Any, reference: str) -> None:
    words = {word for option in parser.getgroup("pyinstall").options for word in option.attrs().get("choices") or ()}
    assert words | {*request.WORDS, *matrix.FORMATS, *commands.PLACES} <= code_in(reference)


def test_every_variable_is_in_the_reference(reference: str) -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(pytest_pyinstall.__file__).parent.glob("*.py"))
    ours = {name for name in re.findall(r'"(PYTEST_PYINSTALL_[A-Z_]+)"', sources) if name != layout.PACKED}
    ours |= {f"PYTEST_PYINSTALL_{name.upper()}" for name in settings.OPTIONS}
    uv = {"UV_OFFLINE", *settings._UV_VARIABLES.values()}
    assert ours | uv <= code_in(reference)


def test_every_fixture_and_marker_is_in_the_reference(pytestconfig: pytest.Config, reference: str) -> None:
    fixtures = {name for name, _ in parts.fixtures(pytest_plugin)}
    markers = {line.partition("(")[0] for line in pytestconfig.getini("markers")} & {"python", "requires_python"}
    assert {"python", "pythons", "python_env", "install_python"} <= fixtures
    assert len(markers) == 2
    assert fixtures <= code_in(reference)
    assert {f"@pytest.mark.{marker}" for marker in markers} <= {word.partition("(")[0] for word in code_in(reference)}


def test_every_command_is_in_the_reference(reference: str) -> None:
    summary = parts.text("command", "help")
    names = re.findall(r"^  (\w+)(?= .*  )", summary, re.MULTILINE)
    assert {"install", "list", "find", "exec", "mirror"} <= set(names)
    assert set(names) <= set(re.findall(r"^## (\w+)$", reference, re.MULTILINE))


def test_every_error_with_its_exit_code_is_in_the_reference(reference: str) -> None:
    for name in errors.__all__:
        assert f"| `{name}` | {getattr(errors, name).exit_code} |" in reference
    codes = {getattr(errors, name).exit_code for name in errors.__all__} | {0}
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \|", reference, re.MULTILINE)}


def test_every_public_name_is_in_the_reference(reference: str) -> None:
    assert {f"pytest_pyinstall.{name}" for name in pytest_pyinstall.__all__} <= set(reference.split())


def test_every_row_of_requests_that_a_message_can_name_is_in_the_reference(reference: str) -> None:
    examples = {sentence.rpartition("such as ")[2] for sentence in request._ROWS.values() if "such as" in sentence}
    assert examples <= code_in(reference)


def test_every_module_is_in_the_architecture() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert "{from-code} modules" in page
    table = parts.text("modules")
    for path in Path(pytest_pyinstall.__file__).parent.glob("*.py"):
        assert re.search(rf"\| `{path.stem}` \| [`\w]", table), path.stem


def test_every_promise_that_a_test_cites_is_one_of_the_store() -> None:
    promised = set(re.findall(r"^\| (P\d+)", (DOCS / "store.md").read_text(encoding="utf-8"), re.MULTILINE))
    cited = set(re.findall(r"^P\d+$", parts.text("promises"), re.MULTILINE))
    assert cited <= promised


def test_every_dependency_has_its_reason() -> None:
    page = (DOCS / "decisions" / "0001-dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)
        assert name
        assert f"`{name[0]}`" in page


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
