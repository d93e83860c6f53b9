"""A mistyped test id, path or Python is an error with a hint."""

from pathlib import Path

import pytest

from pytest_pyinstall.suite.words import Piece, Words, closest_parameters, mistyped_place, plugins_of, with_hint

LABELS = ("py3.9", "py3.13")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "slug.py").touch()
    (tmp_path / "tests" / "test_it.py").write_text(
        "def helper(): pass\ndef test_limit(): pass\nclass TestSlug:\n    async def test_title(self): pass\n"
    )
    (tmp_path / "tests" / "test_odd.py").write_text("def test_limit(:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("test_limt", "tests/test_it.py::test_limit"),
        ("TestSlug::test_titel", "tests/test_it.py::TestSlug::test_title"),
        ("TestSlg", "tests/test_it.py::TestSlug"),
    ],
)
def test_a_mistyped_test_suggests_the_closest(directory: Path, typed: str, hint: str) -> None:
    text = (
        f"ERROR: not found: {directory / 'tests' / 'test_it.py'}::{typed}\n(no match in any of [<Module test_it.py>])"
    )
    assert with_hint(text, [f"tests/test_it.py::{typed}"], LABELS, directory) == f"{text}\nhint: {hint}"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("tests/test_its.py::test_limit", "tests/test_it.py"),
        ("test/test_it.py", "tests/test_it.py"),
        ("{}/tets/test_it.py", "tests/test_it.py"),
        ("zzz.py", ""),
        ("nosuch.py", ""),  # similar to slug.py only with its suffix
        ("tests/zzz.py[py3.9]", ""),
    ],
)
def test_a_mistyped_place_is_found_in_the_arguments(directory: Path, typed: str, hint: str) -> None:
    typed = typed.format(directory)
    words = Words([Piece(("tests",)), Piece((typed,))])
    text = f"file or directory not found: {typed}"
    assert mistyped_place(words, directory) == (f"{text}\nhint: {hint}" if hint else text)


@pytest.mark.parametrize(
    "piece",
    [
        Piece(("tests/test_it.py::test_limt[py3.9]",)),
        Piece(("tests[py3.9]",)),
        Piece(("value",), may_be_value=True),
        Piece(("-k", "zzz"), "-k"),
    ],
)
def test_what_may_be_right_is_left_to_pytest(directory: Path, piece: Piece) -> None:
    assert mistyped_place(Words([piece]), directory) == ""


def test_a_mistyped_file_suggests_the_closest(directory: Path) -> None:
    text = "ERROR: file or directory not found: tests/test_its.py::test_limit"
    assert with_hint(text, ["tests/test_its.py::test_limit"], LABELS, directory) == f"{text}\nhint: tests/test_it.py"


@pytest.mark.parametrize("suffix", ["", "[py3.8]"], ids=["pytest 9", "pytest 8"])
def test_a_python_that_does_not_run_is_named(directory: Path, suffix: str) -> None:
    word = "tests/test_it.py::test_limit[py3.8]"
    text = f"ERROR: not found: {directory / 'tests' / 'test_it.py'}::test_limit{suffix}\n(no match in any of [])"
    assert with_hint(text, ["-v", word], LABELS, directory) == (
        f"ERROR: not found: {word}\n(py3.8 is not a Python of this session: py3.9, py3.13)"
        "\nhint: 'tests/test_it.py::test_limit[py3.9,py3.13]'"
    )


@pytest.mark.parametrize("suffix", ["", "[3.9]"], ids=["pytest 9", "pytest 8"])
def test_a_python_without_its_prefix_is_corrected(directory: Path, suffix: str) -> None:
    word = "tests/test_it.py::test_limit[3.9]"
    text = f"ERROR: not found: {directory / 'tests' / 'test_it.py'}::test_limit{suffix}\n(no match in any of [])"
    assert with_hint(text, [word], LABELS, directory) == (
        f"ERROR: not found: {word}\n(it is py3.9)\nhint: 'tests/test_it.py::test_limit[py3.9]'"
    )


@pytest.mark.parametrize(
    ("typed", "why", "hint"),
    [
        ("[ab]", "the test exists, but not with [ab]", "[a b]"),
        ("[ab][py3.13]", "the test exists, but not with [ab]", "[a b][py3.13]"),
        ("[ü][py3.9,py3.13]", "the test exists, but not with [ü]", "[\\xfc][py3.9,py3.13]"),
        ("[zzz]", "the test exists, but not with [zzz]", None),
        ("[a c][py3.8]", "py3.8 is not a Python of this session: py3.9, py3.13", "[a b][py3.9,py3.13]"),
        ("[a c][3.9]", "it is py3.9", "[a b][py3.9]"),
    ],
)
def test_mistyped_parameters_suggest_the_closest_of_the_same_test(
    directory: Path, typed: str, why: str, hint: str | None
) -> None:
    test = "tests/test_it.py::test_limit"
    known = [f"{test}[{each}]" for each in ("a b", "\\xfc", "10")] + ["tests/test_it.py::helper[zzz]"]
    error = f"ERROR: not found: {directory}/{test}\n(no match in any of [<Module test_it.py>])"
    text = with_hint(error, [f"{test}[10]", f"{test}{typed}"], LABELS, directory, known=known)
    first, reason, found = text.splitlines()
    assert (first, reason) == (f"ERROR: not found: {test}{typed}", f"({why})")
    if hint is not None:
        assert found == f"hint: '{test}{hint}'"
    assert found.startswith(f"hint: '{test}[")


def test_each_id_that_is_not_found_has_a_hint_of_its_own(directory: Path) -> None:
    test = "tests/test_it.py::test_limit"
    error = f"ERROR: not found: {directory}/{test}\n(no match in any of [<Module test_it.py>])\n"
    text = with_hint(
        f"{error}\n{error}", [f"{test}[aa]", f"{test}[bb]"], LABELS, directory, known=[f"{test}[a]", f"{test}[b]"]
    )
    hints = [line for line in text.splitlines() if line.startswith("hint")]
    assert hints == [f"hint: '{test}[a]'", f"hint: '{test}[b]'"]


def test_a_test_without_parameters_is_suggested_without_them(directory: Path) -> None:
    test = "tests/test_it.py::test_limit"
    error = f"ERROR: not found: {directory}/{test}\n(no match in any of [<Module test_it.py>])"
    text = with_hint(error, [f"{test}[ab][py3.9]"], LABELS, directory, known=[test])
    assert text == f"ERROR: not found: {test}[ab][py3.9]\n(the test has no parameters)\nhint: '{test}[py3.9]'"


def test_a_mistyped_name_keeps_its_label_and_its_parameters(directory: Path) -> None:
    error = f"ERROR: not found: {directory}/tests/test_it.py::test_limt\n(no match in any of [<Module test_it.py>])"
    known = ["tests/test_it.py::test_limit[a]"]
    hints = [
        with_hint(error, [f"tests/test_it.py::test_limt{typed}"], LABELS, directory, known=known).splitlines()[-1]
        for typed in ("[a][py3.9]", "[py3.9]", "[b]")
    ]
    test = "tests/test_it.py::test_limit"
    assert hints == [f"hint: '{test}[a][py3.9]'", f"hint: '{test}[py3.9]'", f"hint: {test}"]


@pytest.mark.parametrize(
    "text",
    [
        "ERROR: not found: /nowhere/test_it.py::test_limit",
        "ERROR: not found: {}/tests/test_odd.py::test_limit",
        "ERROR: not found: {}/tests/test_it.py::completely_different",
        "ERROR: not found: {}/tests/test_it.py::test_limit[7]",
        "ERROR: file or directory not found: nowhere/at/all.py",
        "ERROR: file or directory not found: zzz",
        "ERROR: unrecognized arguments: --nope",
    ],
)
def test_without_a_close_name_there_is_no_hint(directory: Path, text: str) -> None:
    text = text.format(directory)
    assert with_hint(text, ["tests/test_it.py::test_limit"], LABELS, directory) == text


@pytest.mark.parametrize(
    ("typed", "reason"), [("3.9", "it is py3.9"), ("py3.8", "py3.8 is not a Python of this session: py3.9, py3.13")]
)
def test_a_file_with_a_mistyped_python_has_a_hint(directory: Path, typed: str, reason: str) -> None:
    text = f"ERROR: path cannot contain [] parametrization: test_it.py[{typed}]"
    meant = "test_it.py[py3.9]" if typed == "3.9" else "test_it.py[py3.9,py3.13]"
    assert with_hint(text, [], LABELS, directory) == f"{text}\n({reason})\nhint: '{meant}'"
    other = text.replace(typed, "x")
    assert with_hint(other, [], LABELS, directory) == other


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--python-jbos", "\n  did you mean: --python-jobs"),
        ("--nope --pythn --python-reprot=x.html", "\n  did you mean: --python, --python-report"),
        ("--cov=x --prefix", ""),
    ],
)
def test_a_mistyped_option_of_ours_suggests_the_closest(directory: Path, arguments: str, line: str) -> None:
    text = f"pytest: error: unrecognized arguments: {arguments}\n  inifile: None"
    assert with_hint(text, [], LABELS, directory) == text + line


@pytest.mark.parametrize(
    ("arguments", "plugins"),
    [
        ("--cov=parse --cov-append --timeout 3", {"pytest-cov": "--cov", "pytest-timeout": "--timeout"}),
        ("-n4 --reruns=2", {"pytest-xdist": "-n4", "pytest-rerunfailures": "--reruns"}),
        ("--no-cov-on-fail -nauto", {"pytest-cov": "--no-cov-on-fail", "pytest-xdist": "-nauto"}),
        ("--nope -nope --covfefe -x", {}),
    ],
)
def test_an_unknown_option_names_the_plugin_that_has_it(arguments: str, plugins: dict[str, str]) -> None:
    assert plugins_of(f"pytest: error: unrecognized arguments: {arguments}\n  inifile: None") == plugins


@pytest.mark.parametrize(
    ("typed", "known", "closest"),
    [
        ("[ab]", ["[a b]", "[c]"], "[a b]"),
        ("[ü]", ["[u]", "[\\xfc]"], "[\\xfc]"),
        ("[py3.9]", ["[3.12]", "[3.9]"], "[3.9]"),
        ("[py39]", ["[3.12]", "[3.9]"], "[3.9]"),
        ("[3.9.18]", ["[3.8]", "[3.9]"], "[3.9]"),
        ("[3.8]", ["[3.12]", "[3.9]"], "[3.9]"),
        ("[3.9-1]", ["[2-3.9]", "[1-3.12]", "[1-3.9]"], "[1-3.9]"),
        ("[2]", ["[1-3.9]", "[2-3.9]"], "[2-3.9]"),
        ("[3.12-b-a]", ["[a-b-3.9]", "[a-b-3.12]", "[a-c-3.12]"], "[a-b-3.12]"),
        ("[completely different]", ["[x]"], "[x]"),
    ],
)
def test_the_closest_parameters_have_the_most_values_in_common(typed: str, known: list[str], closest: str) -> None:
    assert closest_parameters(typed, known) == closest
