from pathlib import Path

import pytest

from pytest_pyinstall.configuration import Configuration, read_configuration
from pytest_pyinstall.errors import InvalidSettingError

ASKS = [
    ("pytest.toml", "[pytest]\npyinstall_python = ['3.9']\npyinstall_store = 'here'\n"),
    (".pytest.toml", "[pytest]\npyinstall_python = ['3.9']\npyinstall_store = 'here'\n"),
    ("pytest.ini", "[pytest]\npyinstall_python = 3.9\npyinstall_store = here\n"),
    (".pytest.ini", "[pytest]\npyinstall_python = 3.9\npyinstall_store = here\n"),
    ("pyproject.toml", "[tool.pytest]\npyinstall_python = ['3.9']\npyinstall_store = 'here'\n"),
    ("pyproject.toml", "[tool.pytest.ini_options]\npyinstall_python = ['3.9']\npyinstall_store = ['here']\n"),
    ("tox.ini", "[testenv]\ncommands = a %(b)s {posargs}\n[pytest]\npyinstall_python: 3.9\npyinstall_store = here\n"),
    ("setup.cfg", "[metadata]\nname = x\n[tool:pytest]\npyinstall_python = 3.9\npyinstall_store = here\n"),
]


@pytest.mark.parametrize(("name", "text"), ASKS)
def test_each_file_that_configures_pytest_is_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)

    found = read_configuration(tmp_path)

    assert found.path == tmp_path / name
    assert found.requests == ("3.9",)
    assert found.settings == {"store": "here"}
    assert found.directory == tmp_path
    assert found.origin == f"pyinstall_python in {tmp_path / name}"


def test_the_files_count_in_the_order_of_pytest(tmp_path: Path) -> None:
    names = dict.fromkeys(name for name, _ in ASKS)
    for name, text in ASKS:
        (tmp_path / name).write_text(text)

    found = []
    for name in names:
        found.append(read_configuration(tmp_path).path)
        (tmp_path / name).unlink()

    assert found == [tmp_path / name for name in names]


def test_the_nearest_directory_counts_although_a_farther_one_says_more(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npyinstall_python = 3.9\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    assert read_configuration(inner).requests == ("3.9",)
    (inner.parent / "pytest.ini").touch()
    assert read_configuration(inner) == Configuration(directory=inner.parent, path=inner.parent / "pytest.ini")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\n"),
        ("pyproject.toml", "tool = 1\n"),
        ("tox.ini", "[tox]\n"),
        ("setup.cfg", "[pytest]\npyinstall_python = 3.9\n"),
    ],
)
def test_a_file_that_does_not_configure_pytest_is_passed_by(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "setup.cfg").touch()

    assert read_configuration(tmp_path).path is None


def test_several_lines_are_one_text_and_lists_keep_their_items(tmp_path: Path) -> None:
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
def test_our_options_among_addopts_are_options(tmp_path: Path, value: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\naddopts = {value}\n")

    found = read_configuration(tmp_path)

    assert found.option_requests == ("3.9", "3.10")
    assert found.options == {"store": "s"}


def test_addopts_with_an_open_quote_are_left_to_pytest(tmp_path: Path) -> None:
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
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidSettingError, match=says):
        read_configuration(tmp_path)
