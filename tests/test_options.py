"""A new option is one row: each row of the table works in each interface that it names."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli

import pytest_pyinstall
from pytest_pyinstall.cli.parser import arguments_of, completed_parser
from pytest_pyinstall.configuration import read_configuration
from pytest_pyinstall.options import BY_NAME, OPTIONS, SETTINGS, Option, notes_on_names
from pytest_pyinstall.pytest_options import settings_of
from pytest_pyinstall.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"
sys.path.insert(0, str(DOCS))

import from_code  # noqa: E402  # its directory is put on sys.path above

VARIABLES = [option for option in OPTIONS if option.field and option.variable]
OF_UV = [option for option in OPTIONS if option.uv]
OF_PYTEST = [option for option in OPTIONS if option.flags]
INI = [option for option in OPTIONS if option.ini]


def sample(option: Option, directory: Path) -> tuple[str, Any]:
    """A value that is not the default, as text and as it is in `Settings`."""
    if option.words:
        return option.words[-1], option.words[-1]
    place = directory / "some where"
    return {
        "directory": (str(place), place),
        "directories": (os.pathsep.join([str(place), str(directory)]), frozenset({place, directory})),
        "location": ("https://host.test/x", "https://host.test/x"),
        "seconds": ("17", 17.0),
        "hosts": ("a.test, b.test", frozenset({"a.test", "b.test"})),
        "flag": ("1", True),
    }[option.kind]


def each_of(options: list[Option]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("option", options, ids=lambda option: option.name)


def test_names_are_unique_in_each_interface() -> None:
    for interface in ("name", "option", "ini", "variable", "uv", "dest"):
        written = [getattr(option, interface) for option in OPTIONS if getattr(option, interface)]
        assert len(set(written)) == len(written) > 1, interface


def test_each_setting_has_a_row_and_a_field() -> None:
    fields = set(Settings.__annotations__) - {"signer", "origins"}
    assert {option.field for option in OPTIONS if option.field} == fields


@each_of(VARIABLES)
def test_a_variable_sets_the_value_and_its_origin(option: Option, tmp_path: Path) -> None:
    written, expected = sample(option, tmp_path)
    settings = Settings.from_environ({option.variable: written}, directory=tmp_path)
    assert getattr(settings, option.field) == expected
    assert settings.origins[option.name] == option.variable


@each_of(OF_UV)
def test_a_variable_of_uv_sets_the_value_and_its_origin(option: Option, tmp_path: Path) -> None:
    written, expected = sample(option, tmp_path)
    settings = Settings.from_environ({option.uv: written}, directory=tmp_path)
    assert getattr(settings, option.field) == expected
    assert settings.origins[option.name] == option.uv


@each_of(list(SETTINGS))
def test_an_option_is_accepted_before_and_after_the_command(option: Option, tmp_path: Path) -> None:
    written, expected = sample(option, tmp_path)
    for words in (["list", option.option, written], [f"{option.option}={written}", "list"]):
        given = getattr(arguments_of(words), option.dest)
        settings = Settings.from_environ({}, directory=tmp_path, options={option.name: given})
        assert getattr(settings, option.field) == expected
        assert settings.origins[option.name] == option.option


@each_of(list(SETTINGS))
def test_ini_values_and_addopts_are_read_without_pytest(option: Option, tmp_path: Path) -> None:
    written, expected = sample(option, tmp_path)
    for text, origin in (
        (f"{option.ini} = {json.dumps(written)}", option.ini),
        (f"addopts = {json.dumps([f'{option.option}={written}'])}", option.option),
    ):
        (tmp_path / "pytest.toml").write_text(f"[pytest]\n{text}\n")
        configuration = read_configuration(tmp_path)
        settings = Settings.from_environ(
            {}, directory=tmp_path, options=configuration.options, ini=configuration.settings
        )
        assert getattr(settings, option.field) == expected
        assert settings.origins[option.name] == origin


@each_of(list(SETTINGS))
def test_options_and_ini_values_are_read_by_pytest(
    option: Option, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_PYINSTALL_HOME")
    written, expected = sample(option, pytester.path)
    settings = settings_of(pytester.parseconfig(f"{option.option}={written}"))
    assert getattr(settings, option.field) == expected
    assert settings.origins[option.name] == option.option
    pytester.makefile(".toml", pytest=f"[pytest]\n{option.ini} = {json.dumps(written)}\n")
    settings = settings_of(pytester.parseconfig())
    assert getattr(settings, option.field) == expected
    assert settings.origins[option.name] == option.ini


@each_of(OF_PYTEST)
def test_each_option_of_pytest_has_the_help_of_its_row(option: Option, pytestconfig: pytest.Config) -> None:
    [found] = [each for each in group(pytestconfig) if set(each.names()) & set(option.flags)]
    attributes = found.attrs()
    assert found.names() == list(option.flags)
    assert (attributes["help"], attributes["dest"]) == (option.help, option.dest)
    assert tuple(attributes.get("choices") or ()) == option.words


def group(config: pytest.Config) -> list[Any]:
    return config._parser.getgroup("pyinstall").options


def test_each_option_and_ini_value_of_pytest_has_a_row(pytestconfig: pytest.Config) -> None:
    written = {name for option in group(pytestconfig) for name in option.names()}
    assert written == {flag for option in OPTIONS for flag in option.flags}
    ini = {name for name in pytestconfig._parser._inidict if name.startswith("pyinstall_")}
    assert ini == {option.ini for option in INI}


def test_completion_offers_each_setting_for_each_command() -> None:
    for words in _strings(completed_parser()):
        assert {option.option for option in SETTINGS} <= words


def _strings(parser: Any) -> Iterator[set[str]]:
    for action in parser._actions:
        for subparser in getattr(action, "choices", None) or {} if action.nargs == "A..." else {}:
            yield set(action.choices[subparser]._option_string_actions)


def test_each_row_is_in_a_table_of_the_documentation() -> None:
    tables = "\n".join(map(from_code.text, ("options", "suite-options", "variables", "variables-of-uv")))
    for option in OPTIONS:
        for written in (option.option, option.ini, option.variable, option.uv):
            assert not written or f"`{written}" in tables, option


NEW_ROW = '    Option("colour", "word", "the colour", metavar="NAME", words=("red", "blue")),\n)\n\nBY_NAME = {'

CHECK = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import from_code
import pytest_pyinstall
from pytest_pyinstall.cli.parser import arguments_of, completed_parser
from pytest_pyinstall.configuration import read_configuration
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.suite.run import plugin_source

here = Path.cwd()
configuration = read_configuration(here)
def colour(**options):
    settings = Settings.from_environ(directory=here, **options)
    return settings.colour, settings.origins.get("colour", "default")
print(json.dumps({
    "package": pytest_pyinstall.__file__,
    "default": colour(environ={}),
    "variable": colour(environ={"PYTEST_PYINSTALL_COLOUR": "blue"}),
    "ini": colour(environ={}, ini=configuration.settings),
    "option": colour(environ={}, options={"colour":
        arguments_of(["list", "--python-colour", "blue"]).pyinstall_colour}),
    "completion": all("--python-colour" in each._option_string_actions
               for action in completed_parser()._actions if action.nargs == "A..." for each in action.choices.values()),
    "documentation": "`--python-colour NAME`" in from_code.text("options"),
    "help": "  --python-colour red|blue" in arguments_of(["--help"]).text,
    "worker": b"'--python-colour'" in plugin_source(),
}))
"""


def test_a_new_setting_is_one_row_and_one_field(tmp_path: Path) -> None:
    """The row and the field are added to a copy of the package, and every interface has the setting."""
    package = Path(pytest_pyinstall.__file__).parent
    copy = tmp_path / "copy" / "pytest_pyinstall"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    table = (copy / "options.py").read_text()
    assert ")\n\nBY_NAME = {" in table
    (copy / "options.py").write_text(table.replace(")\n\nBY_NAME = {", NEW_ROW))
    fields = (copy / "settings.py").read_text()
    (copy / "settings.py").write_text(
        fields.replace('    missing: Missing = "fail"', '    colour: str = "red"\n    missing: Missing = "fail"')
    )
    project = tmp_path / "project"
    project.mkdir()
    (project / "pytest.toml").write_text('[pytest]\npyinstall_colour = "blue"\n')
    environ = {**os.environ, "PYTHONPATH": str(copy.parent)}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=project, env=environ, check=True, capture_output=True, text=True
        )
        return done.stdout

    assert json.loads(run("-c", CHECK, str(DOCS))) == {
        "package": str(copy / "__init__.py"),
        "default": ["red", "default"],
        "variable": ["blue", "PYTEST_PYINSTALL_COLOUR"],
        "ini": ["blue", "pyinstall_colour"],
        "option": ["blue", "--python-colour"],
        "completion": True,
        "documentation": True,
        "help": True,
        "worker": True,
    }
    help_text = run("-m", "pytest", "--help")
    assert "--python-colour={red,blue}" in help_text or "--python-colour=NAME" in help_text
    assert "pyinstall_colour (string)" in help_text
    assert BY_NAME.get("colour") is None


MISSPELLED = {
    "pyinstall_pyhton": "pyinstall_python",
    "pyinstal_python": "pyinstall_python",
    "pyinstall_suit_install": "pyinstall_suite_install",
    "pyinstall_home": "PYTEST_PYINSTALL_HOME",
    "pyinstall_with": "pyinstall_suite_with",
    "PYTEST_PYINSTALL_MIROR": "PYTEST_PYINSTALL_MIRROR",
    "PYTEST_PYINSTALL_CATALOG": "PYTEST_PYINSTALL_CATALOGUE",
    "PYTEST_PYINSTALL_JOBS": "--python-jobs",
    "PYTEST_PYINSTALL_OFFLINE": "UV_OFFLINE",
    "PYTEST_PYINSTALL_PYPY_MIRROR": "UV_PYPY_INSTALL_MIRROR",
}


@pytest.mark.parametrize(("name", "meant"), MISSPELLED.items())
def test_a_misspelled_ini_value_or_variable_is_noted_with_the_closest_name(name: str, meant: str) -> None:
    kind, ini, environ = ("variable", [], [name]) if name.isupper() else ("ini value", [name], [])
    assert notes_on_names(ini, environ) == [f"there is no {kind} {name}; did you mean {meant}?"]


def test_names_that_exist_and_those_of_others_are_not_noted() -> None:
    ours = [option.ini for option in INI], [option.variable for option in OPTIONS if option.variable]
    of_pytest = ["python_files", "python_classes", "python_functions", "pythonpath", "python", "testpaths"]
    assert notes_on_names(*ours) == []
    assert notes_on_names(of_pytest, ["PYTEST_PYINSTALL_SUITE", "PYTEST_PYINSTALL_VERSION", "PYTEST_ADDOPTS"]) == []


def test_ini_values_of_pytest_are_not_compared_with_ours() -> None:
    code = """
import sys
from pytest_pyinstall.options import notes_on_names
notes_on_names(["python_files", "python_classes", "python_functions", "pythonpath"], [])
print("difflib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_pytest_and_the_command_line_note_misspelled_names(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    pytester.makeini("[pytest]\npyinstall_pyhton = 3.9\n")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIROR", "x")
    notes = [
        "there is no ini value pyinstall_pyhton; did you mean pyinstall_python?",
        "there is no variable PYTEST_PYINSTALL_MIROR; did you mean PYTEST_PYINSTALL_MIRROR?",
    ]
    shown = pytester.runpytest_subprocess().outlines
    assert [line.removeprefix("pyinstall: ") for line in shown if line.startswith("pyinstall: ")] == notes
    for option in ("-q", "--no-header"):
        quiet = pytester.runpytest_inprocess(option).outlines
        assert [line.removeprefix("pyinstall: ") for line in quiet if line.startswith("pyinstall: ")] == notes
    done = cli("dir", "store", "--json")
    assert done.err.splitlines() == notes
    assert done.document["error"] is None
    assert cli("dir", "store", "-q").err == ""


def test_a_project_without_ini_values_gets_no_deprecation_warning(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-W", "error")
    assert "inicfg" not in result.stdout.str() + result.stderr.str()
