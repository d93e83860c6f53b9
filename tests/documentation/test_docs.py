"""Commands write what the pages show, and the reference lists everything that the code offers."""

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import archives
import pytest
from pages import DOCS, ROOT, SHOWN, World, is_as_shown

import pytest_pyinstall
from pytest_pyinstall import errors, pytest_plugin, settings
from pytest_pyinstall.archive import relocate
from pytest_pyinstall.cli import ci
from pytest_pyinstall.cli.places import PLACES
from pytest_pyinstall.options import OPTIONS, SETTINGS
from pytest_pyinstall.request import request

sys.path.insert(0, str(DOCS))

import from_code  # its directory is put on sys.path above

PAGES = sorted(path for path in DOCS.rglob("*.md") if "```console" in path.read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform != "linux", reason="the pages show output on Linux")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_command_of_a_page_writes_what_the_page_shows(
    page: Path, tmp_path: Path, isolated_home: Path, mirror_directory: Path, programs: Path | None
) -> None:
    if missing := [version for version in SHOWN if version not in archives.interpreters()]:
        pytest.skip(f"needs Python {', '.join(missing)} on this machine")
    world = World(tmp_path, isolated_home, mirror_directory, programs)
    for step, written in world.follow(page):
        assert is_as_shown(written, step.text), f"$ {step.name}\n{written}\n--- but the page shows ---\n{step.text}"


@pytest.mark.parametrize("page", from_code.PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_each_page_says_what_the_code_says(page: Path) -> None:
    written = page.read_text(encoding="utf-8")
    assert from_code.updated(written) == written, "run: python docs/from_code.py"


def reference() -> str:
    """All pages of the reference."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS / "reference").glob("*.md")))


@pytest.fixture(scope="module", name="reference")
def _reference() -> str:
    return reference()


def code_in(text: str) -> set[str]:
    """The words in backticks."""
    return {word for quoted in re.findall(r"`([^`\n]+)`", text) for word in [quoted, *quoted.split()]}


@pytest.fixture(name="parser")
def _parser(request: pytest.FixtureRequest) -> Any:
    return request.config._parser


def test_each_option_and_ini_value_of_pytest_is_in_the_reference(parser: Any, reference: str) -> None:
    options = {name for option in parser.getgroup("pyinstall").options for name in option.names()}
    ini = {name for name in parser._inidict if name.startswith("pyinstall_")}
    assert len(options) > 7
    assert len(ini) > 8
    assert options | ini <= code_in(reference)


def test_each_value_of_an_option_is_in_the_reference(parser: Any, reference: str) -> None:
    words = {word for option in parser.getgroup("pyinstall").options for word in option.attrs().get("choices") or ()}
    assert words | {*request.WORDS, *ci.FORMATS, *PLACES} <= code_in(reference)


def test_each_variable_is_in_the_reference(reference: str) -> None:
    assert read_variables() | {option.uv for option in OPTIONS if option.uv} <= code_in(reference)


def read_variables() -> set[str]:
    """The variables of pytest-pyinstall that the code reads."""
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(pytest_pyinstall.__file__).parent.rglob("*.py"))
    ours = {name for name in re.findall(r'"(PYTEST_PYINSTALL_[A-Z_]+)"', sources) if name != relocate.PACKED}
    return ours | {option.variable for option in OPTIONS if option.variable}


def test_each_variable_in_the_code_is_a_row_of_the_table() -> None:
    set_for_tests = {"PYTEST_PYINSTALL_SUITE"}
    assert read_variables() - set_for_tests == {option.variable for option in OPTIONS if option.variable}


def test_tables_of_options_and_variables_are_made_from_the_code(parser: Any) -> None:
    options = from_code.text("suite-options")
    suite = {name for option in parser.getgroup("pyinstall").options for name in option.names()}
    suite -= {"--python", "--pyinstall-python", *(option.option for option in SETTINGS)}
    ini = {name for name in parser._inidict if name.startswith("pyinstall_")}
    ini -= {"pyinstall_python", "pyinstall_path", *(option.ini for option in SETTINGS)}
    assert {word.partition(" ")[0] for word in code_in(options) if word.startswith("--")} == suite
    assert {word for word in code_in(options) if word.startswith("pyinstall_")} == ini
    for page in ("reference/options.md", "suite.md"):
        written = (DOCS / page).read_text(encoding="utf-8")
        assert f"<!-- from code: suite-options -->\n\n{options}\n" in written


def test_the_table_of_preferences_is_complete() -> None:
    page = (DOCS / "reference" / "options.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]*(?:managed|system))` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(get_args(settings.Preference))


def test_each_fixture_and_marker_is_in_the_reference(pytestconfig: pytest.Config, reference: str) -> None:
    fixtures = {name for name, _ in from_code.fixtures(pytest_plugin)}
    markers = {line.partition("(")[0] for line in pytestconfig.getini("markers")} & {"python", "requires_python"}
    assert {"python", "pythons", "python_env", "install_python"} <= fixtures
    assert len(markers) == 2
    assert fixtures <= code_in(reference)
    assert {f"@pytest.mark.{marker}" for marker in markers} <= {word.partition("(")[0] for word in code_in(reference)}


def test_each_command_is_in_the_reference(reference: str) -> None:
    summary = from_code.text("command", "help")
    names = re.findall(r"^  (\w+)(?= .*  )", summary, re.MULTILINE)
    assert {"install", "list", "find", "exec", "mirror"} <= set(names)
    assert set(names) <= set(re.findall(r"^## (\w+)$", reference, re.MULTILINE))


def test_each_error_is_in_the_reference_with_its_exit_code(reference: str) -> None:
    for name in errors.__all__:
        assert f"| `{name}` | {getattr(errors, name).exit_code} |" in reference
    codes = {getattr(errors, name).exit_code for name in errors.__all__} | {0}
    assert codes <= {int(code) for code in re.findall(r"^\| (\d+) \|", reference, re.MULTILINE)}


def test_each_public_name_is_in_the_reference(reference: str) -> None:
    assert {*pytest_pyinstall.__all__} <= set(re.findall(r"^## `(\w+)`$", reference, re.MULTILINE))


def test_each_form_of_a_request_that_a_message_names_is_in_the_reference(reference: str) -> None:
    examples = {sentence.rpartition("such as ")[2] for sentence in request._ROWS.values() if "such as" in sentence}
    assert examples <= code_in(reference)


def test_each_module_is_in_a_row_and_has_a_sentence() -> None:
    table = from_code.text("modules")
    package = Path(pytest_pyinstall.__file__).parent
    top = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert {name for row in from_code.layers() for name in row} == top - {"__init__", "__main__"}
    for path in package.rglob("*.py"):
        module = path.relative_to(package).with_suffix("").as_posix().removesuffix("/__init__")
        assert re.search(rf"\| `{module}` \| [`\w]", table), module


def test_each_file_that_the_page_of_modules_names_exists() -> None:
    page = (DOCS / "modules.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| (`.*) \|$", page.partition("## To change")[2].partition("##")[0], re.MULTILINE)
    assert len(rows) >= 10
    package = Path(pytest_pyinstall.__file__).parent
    for path in {path for row in rows for path in re.findall(r"`([\w/]+\.py)`", row)}:
        assert (package / path).is_file() or (ROOT / path).is_file(), path


def test_every_promise_names_its_proof_and_the_proof_cites_the_promise() -> None:
    rows = re.findall(r"^\| P(\d+) \|.*\| ([^|]*) \|$", (DOCS / "store.md").read_text(encoding="utf-8"), re.MULTILINE)
    citing = citations()
    assert [int(number) for number, _ in rows] == list(range(1, 25))
    assert citing.keys() <= {int(number) for number, _ in rows}
    for number, proof in rows:
        names = set(re.findall(r"`([\w/]+\.py)`", proof))
        assert names, number
        assert names <= citing[int(number)], f"{names - citing[int(number)]} do not cite P{number}"


def citations() -> dict[int, set[str]]:
    """The test files that cite each promise, by its number in a test's name or in the first line of a docstring."""
    found: dict[int, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef))
        tests = [node for node in functions if node.name.startswith("test_")]
        for number in _numbers("", module).union(*(_numbers(test.name, test) for test in tests)):
            found.setdefault(number, set()).add(path.relative_to(ROOT / "tests").as_posix())
    return found


def _numbers(name: str, node: ast.Module | ast.FunctionDef) -> set[int]:
    said = (ast.get_docstring(node) or "").partition("\n")[0]
    words = f"{name.replace('_', ' ')} {said}"
    return {int(number) for number in re.findall(r"(?<![A-Za-z0-9])[Pp](\d{1,2})(?![0-9])", words)}


def test_each_dependency_has_a_reason() -> None:
    page = (DOCS / "decisions" / "0001-dependencies.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        name = re.match(r"[\w.-]+", requirement)
        assert name
        assert f"`{name[0]}`" in page


def test_targets_of_links_between_pages_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
