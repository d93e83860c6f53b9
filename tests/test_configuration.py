"""The configuration of pytest is read without pytest, and hints correct values in their own syntax."""

from pathlib import Path

import pytest

from pytest_pyinstall.configuration import (
    Configuration,
    corrected_at_origin,
    read_configuration,
    reason_without_requests,
    unread_configuration,
    unused_requests,
    with_origin,
)
from pytest_pyinstall.errors import InvalidRequestError, InvalidSettingError, NoMatchError
from pytest_pyinstall.request.request import parse_requests

FILES = [
    ("pytest.toml", "[pytest]\npyinstall_python = ['3.9']\npyinstall_store = 'here'\n"),
    (".pytest.toml", "[pytest]\npyinstall_python = ['3.9']\npyinstall_store = 'here'\n"),
    ("pytest.ini", "[pytest]\npyinstall_python = 3.9\npyinstall_store = here\n"),
    (".pytest.ini", "[pytest]\npyinstall_python = 3.9\npyinstall_store = here\n"),
    ("pyproject.toml", "[tool.pytest]\npyinstall_python = ['3.9']\npyinstall_store = 'here'\n"),
    ("pyproject.toml", "[tool.pytest.ini_options]\npyinstall_python = ['3.9']\npyinstall_store = ['here']\n"),
    ("tox.ini", "[testenv]\ncommands = a %(b)s {posargs}\n[pytest]\npyinstall_python: 3.9\npyinstall_store = here\n"),
    ("setup.cfg", "[metadata]\nname = x\n[tool:pytest]\npyinstall_python = 3.9\npyinstall_store = here\n"),
]


@pytest.mark.parametrize(("name", "text"), FILES)
def test_each_configuration_file_of_pytest_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    found = read_configuration(tmp_path)

    assert found.path == tmp_path / name
    assert found.requests == ("3.9",)
    assert found.settings == {"store": "here"}
    assert found.directory == tmp_path
    assert found.origin == f"pyinstall_python in {tmp_path / name}"


def test_the_files_have_the_precedence_of_pytest(tmp_path: Path) -> None:
    names = dict.fromkeys(name for name, _ in FILES)
    for name, text in FILES:
        (tmp_path / name).write_text(text)

    found = []
    for name in names:
        found.append(read_configuration(tmp_path).path)
        (tmp_path / name).unlink()

    assert found == [tmp_path / name for name in names]


def test_the_nearest_directory_with_a_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npyinstall_python = 3.9\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    assert read_configuration(inner).requests == ("3.9",)
    (inner.parent / "pytest.ini").touch()
    assert read_configuration(inner) == Configuration(directory=inner.parent, path=inner.parent / "pytest.ini")


def test_a_file_with_requests_that_pytest_does_not_read_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    read, unread = inner / "pytest.ini", tmp_path / "pyproject.toml"
    read.touch()
    assert unread_configuration(read, inner) is None
    assert reason_without_requests(read, None) == f"{read} has no pyinstall_python"
    assert reason_without_requests(None, None) == ""

    (inner / "tox.ini").write_text("not an ini file")
    unread.write_text("[tool.pytest]\npyinstall_python = ['3.9', 3.10]\n")
    found = unread_configuration(read, inner)
    assert found is not None
    assert found.path == unread
    expected = f"pytest reads {read}, and not {unread}, which has pyinstall_python"
    assert reason_without_requests(read, found) == expected
    assert unused_requests({}, {}, found) == ("3.9", "3.10")

    unread.write_text("[tool.pytest.ini_options]\naddopts = '--python 3.9'\n")
    found = unread_configuration(None, tmp_path)
    assert reason_without_requests(None, found) == f"pytest does not read {unread}, which has --python in addopts"
    assert unused_requests({}, {}, found) == ("3.9",)


def test_requests_with_a_misspelled_name_are_known() -> None:
    assert unused_requests({"pyinstall_pythons": [3.9, "3.12"]}, {}, None) == ("3.9", "3.12")
    assert unused_requests({}, {"PYTEST_PYINSTALL_PYTHONS": "3.9,3.12"}, None) == ("3.9,3.12",)
    assert unused_requests({"pyinstall_jbs": "3", "other": "3.9"}, {}, None) == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\n"),
        ("pyproject.toml", "tool = 1\n"),
        ("tox.ini", "[tox]\n"),
        ("setup.cfg", "[pytest]\npyinstall_python = 3.9\n"),
    ],
)
def test_a_file_that_does_not_configure_pytest_is_ignored(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "setup.cfg").touch()

    assert read_configuration(tmp_path).path is None


def test_notes_name_what_has_no_effect(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text("[tool.pytest]\npyinstal_python = ['3.9']\npython_files = ['x.py']\n")
    note = "there is no ini value pyinstal_python; did you mean pyinstall_python?"
    assert read_configuration(tmp_path).notes({}) == [note]

    path.write_text("[tool.pytest]\npyinstall_python = ['3.9']\n[tool.pytest.ini_options]\n")
    [both] = read_configuration(tmp_path).notes({})
    assert "[tool.pytest] and [tool.pytest.ini_options], which pytest 9 rejects" in both


def test_several_lines_are_one_text_and_a_list_keeps_its_items(tmp_path: Path) -> None:
    (tmp_path / "tox.ini").write_text("[pytest]\npyinstall_python =\n    3.9\n    3.10, 3.11\n")
    assert read_configuration(tmp_path).requests == ("\n3.9\n3.10, 3.11",)

    (tmp_path / "pyproject.toml").write_text("[tool.pytest]\npyinstall_python = ['3.9', 3.10]\n")
    assert read_configuration(tmp_path).requests == ("3.9", 3.1)


@pytest.mark.parametrize(
    "value",
    [
        "'-ra --python 3.9 --python=3.10 --python-store=s'",
        "['--python', '3.9', '--python=3.10', '--python-store', 's']",
    ],
)
def test_options_in_addopts_are_read(tmp_path: Path, value: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = {value}\n")

    found = read_configuration(tmp_path)

    assert found.option_requests == ("3.9", "3.10")
    assert found.options == {"store": "s"}


def test_addopts_with_an_open_quote_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -k 'x\n")

    assert read_configuration(tmp_path).options == {}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("pyproject.toml", b"[tool.pytest", "pyproject.toml"),
        ("pytest.ini", b"pyinstall_python = 3.9\n", "pytest.ini"),
        ("pytest.ini", b"[pytest]\nx = \xff\xfe", "pytest.ini"),
        ("pyproject.toml", b"[tool.pytest]\npyinstall_store = 3\n", "pyinstall_store"),
    ],
)
def test_the_error_for_a_broken_configuration_file_names_it(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidSettingError, match=says):
        read_configuration(tmp_path)


def test_a_decimal_comma_is_corrected() -> None:
    assert hint_for("3,9", origin="--python") == "pytest --python 3.9"
    assert hint_for("3, 13", origin="pyinstall_python") == 'pyinstall_python = ["3.13"]'
    assert hint_for("3,9,13", origin="--python") == "pytest --python 3,3.9,3.13"
    assert hint_for("3,9,3,13t", origin="--python") == "pytest --python 3.9,3.13t"
    assert hint_for("3.9,pypy3,11", origin="--python") == "pytest --python 3.9,pypy3.11"


def test_braces_of_tox_and_of_a_shell_become_requests() -> None:
    assert hint_for("py{39,310}", origin="--python") == "pytest --python py39,py310"
    assert hint_for("3.{9..13},pypy3.11", origin="--python") == "pytest --python 3.9..3.13,pypy3.11"


def test_an_operator_without_a_version_is_dropped() -> None:
    assert hint_for(">=3.9,<=", origin="find") == "pytest-pyinstall find '>=3.9'"


def hint_for(*texts: object, origin: str) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        parse_requests(texts, directory=Path(), origin=origin)
    corrected = corrected_at_origin(caught.value, texts, origin=origin)
    assert corrected.message == caught.value.message
    return corrected.hint


@pytest.mark.parametrize(
    ("origin", "typed"),
    [
        ("--python", "pytest --python 3.9,3.11"),
        ("--python in PYTEST_ADDOPTS", "--python 3.9,3.11"),
        ("PYTEST_PYINSTALL_PYTHON", "PYTEST_PYINSTALL_PYTHON=3.9,3.11"),
        ("pyinstall_python in /p/pyproject.toml", 'pyinstall_python = ["3.9", "3.11"]'),
        ("-o pyinstall_python", "-o pyinstall_python=3.9,3.11"),
        ("pyinstall_python in /p/tox.ini", "pyinstall_python = 3.9, 3.11"),
        ("@pytest.mark.python", '@pytest.mark.python("3.9", "3.11")'),
        ("install", "pytest-pyinstall install 3.9 3.11"),
        ("exec", "pytest-pyinstall exec --python 3.9 3.11 -- COMMAND"),
        ("dir", "pytest-pyinstall dir --cache-key --python 3.9 3.11"),
        ("elsewhere", "3.9,3.11"),
    ],
)
def test_a_hint_is_the_whole_corrected_value_in_its_own_syntax(origin: str, typed: str) -> None:
    assert hint_for("3.9", "3.1l", origin=origin) == typed


def test_a_hint_keeps_the_other_requests_of_an_item() -> None:
    assert hint_for("3.9,cpytohn3.12,>=3.10,<3.13", origin="PYTEST_PYINSTALL_PYTHON") == (
        "PYTEST_PYINSTALL_PYTHON='3.9,cpython3.12,>=3.10,<3.13'"
    )


def test_a_hint_quotes_numbers() -> None:
    assert hint_for("3.9", 3.1, 3.11, origin="pyinstall_python") == 'pyinstall_python = ["3.9", "3.10", "3.11"]'


def test_a_hint_for_an_empty_request_is_an_example() -> None:
    assert hint_for(",", origin="--python") == "pytest --python 3.12"


def test_a_hint_replaces_a_keyword_that_cannot_be_resolved() -> None:
    error = InvalidRequestError("'supported' needs a project", hint="latest")

    corrected = corrected_at_origin(error, ["3.9,supported"], origin="--python")

    assert str(corrected) == "--python: 'supported' needs a project\nhint: pytest --python latest"


def test_a_hint_that_is_not_a_request_is_not_changed() -> None:
    error = NoMatchError("no build of Python 3.99", hint="pytest-pyinstall list --all")

    assert str(corrected_at_origin(error, ["3.99"], origin="x")) == f"x: {error}"


def test_an_error_names_its_origin_once() -> None:
    error = with_origin(NoMatchError("no build"), origin="pyinstall_python")

    assert with_origin(error, origin="pyinstall_python").message == "pyinstall_python: no build"
