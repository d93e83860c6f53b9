"""A manifest lists each file of a tree, and finds each difference from it."""

from pathlib import Path

import pytest

from pytest_pyinstall.store.manifest import Entry, find_differences, take_manifest, unexpected


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/python3.12").write_bytes(b"\x7fELF" + b"x" * 100)
    (tree / "bin/python3.12").chmod(0o755)
    (tree / "bin/python").symlink_to("python3.12")
    (tree / "lib/python3.12/__pycache__").mkdir(parents=True)
    (tree / "lib/python3.12/os.py").write_text("import sys\n")
    (tree / "lib/python3.12/EXTERNALLY-MANAGED").write_text("[externally-managed]\n")
    (tree / "lib/python3.12/__pycache__/os.pyc").write_bytes(b"pyc")
    return tree


def test_a_manifest_lists_every_entry_except_byte_code(tree: Path) -> None:
    assert [entry.name for entry in take_manifest(tree)] == [
        "bin",
        "lib",
        "bin/python",
        "bin/python3.12",
        "lib/python3.12",
        "lib/python3.12/EXTERNALLY-MANAGED",
        "lib/python3.12/os.py",
    ]


def test_an_entry_survives_a_round_trip_through_json(tree: Path) -> None:
    entries = take_manifest(tree)

    assert tuple(Entry.from_json(entry.to_json()) for entry in entries) == entries


@pytest.mark.parametrize("row", [["a", "socket", 0, 0, ""], ["a", "file", "0", 0, ""], ["a"], [1, "file", 0, 0, ""]])
def test_invalid_rows_are_rejected(row: list[str | int]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        Entry.from_json(row)


def test_an_untouched_tree_has_no_differences(tree: Path) -> None:
    assert find_differences(tree, take_manifest(tree), content=True) == []
    assert unexpected(tree, take_manifest(tree)) == []


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda tree: (tree / "lib/python3.12/os.py").unlink(), "lib/python3.12/os.py: missing"),
        (lambda tree: (tree / "bin/python3.12").write_bytes(b""), "bin/python3.12: has 0 bytes instead of 104"),
        (lambda tree: (tree / "bin/python3.12").chmod(0o644), "bin/python3.12: has mode 644 instead of 755"),
        (lambda tree: (tree / "lib").chmod(0o757), "lib: has mode 757 instead of 755"),
        (
            lambda tree: ((tree / "bin/python").unlink(), (tree / "bin/python").symlink_to("nowhere")),
            "bin/python: leads to nowhere instead of python3.12",
        ),
        (
            lambda tree: ((tree / "bin/python").unlink(), (tree / "bin/python").touch()),
            "bin/python: is no longer a link",
        ),
        (
            lambda tree: ((tree / "lib/python3.12/os.py").unlink(), (tree / "lib/python3.12/os.py").mkdir()),
            "lib/python3.12/os.py: is no longer a regular file",
        ),
        (
            lambda tree: (tree / "lib/python3.12/EXTERNALLY-MANAGED").write_bytes(b""),
            "lib/python3.12/EXTERNALLY-MANAGED: is empty",
        ),
        (
            lambda tree: ((tree / "bin").rename(tree / "away"), (tree / "bin").symlink_to("away")),
            "bin: is no longer a directory",
        ),
    ],
)
def test_each_kind_of_damage_is_described(tree: Path, damage: object, text: str, content: bool) -> None:
    entries = take_manifest(tree)
    (tree / "bin").chmod(0o755)
    (tree / "lib").chmod(0o755)
    damage(tree)  # type: ignore[operator]

    assert text in [str(difference) for difference in find_differences(tree, entries, content=content)]


def test_changed_content_of_the_same_size_is_found_by_reading_it(tree: Path) -> None:
    entries = take_manifest(tree)
    (tree / "lib/python3.12/os.py").write_text("import SYS\n")

    assert find_differences(tree, entries, content=False) == []
    assert [str(d) for d in find_differences(tree, entries, content=True)] == [
        "lib/python3.12/os.py: has other content"
    ]


def test_a_file_that_uv_rewrites_may_change(tree: Path) -> None:
    entries = take_manifest(tree)
    (tree / "lib/python3.12/EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=other\n")

    assert find_differences(tree, entries, content=True) == []


def test_an_added_directory_is_reported_once(tree: Path) -> None:
    entries = take_manifest(tree)
    package = tree / "lib/python3.12/site-packages/package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tree / "bin/black").touch()

    assert sorted(unexpected(tree, entries)) == ["bin/black", "lib/python3.12/site-packages"]
    assert find_differences(tree, entries, content=True) == []
