"""Words belong to the right options, and each Python's pytest follows the options that the user gave."""

import argparse
import re

import pytest
from suite_fixtures import PYTHONS, Bench, Compare, Run, marks

from pytest_pyinstall.suite.words import Words, insert_label, labelled, read_words

pytestmark = marks

LABELS = ["py3.12", "py3.13"]


@pytest.fixture
def parser() -> pytest.Parser:
    found = argparse.ArgumentParser(allow_abbrev=False)
    found.add_argument("-k")
    found.add_argument("-v", action="count")
    found.add_argument("-x", action="store_true")
    found.add_argument("--lf", "--last-failed", action="store_true")
    found.add_argument("--deselect", action="append")
    found.add_argument("--colour", nargs="?")
    found.add_argument("--pair", nargs=2)
    found.add_argument("--many", nargs="*")
    found.add_argument("--benchmark-json")
    found.add_argument("--python", dest="pyinstall_requests", action="append")
    found.add_argument("--python-suite", dest="pyinstall_suite", action="store_true")
    made: pytest.Parser = argparse.Namespace(optparser=found)  # type: ignore[assignment]  # the only attribute that is used
    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-k x t.py", [("-k", "x"), ("", "t.py")]),
        ("-kx t.py", [("-k", "x"), ("", "t.py")]),
        ("-xvk x t.py", [("-x", "x"), ("", "t.py")]),
        ("-xvkx t.py", [("-x", "vkx"), ("", "t.py")]),
        ("--deselect t.py::a[py3.12]", [("--deselect", "t.py::a[py3.12]")]),
        ("--deselect=t.py::a[py3.12]", [("--deselect", "t.py::a[py3.12]")]),
        ("--lf t.py", [("--lf", None), ("", "t.py")]),
        ("--colour t.py", [("--colour", "t.py")]),
        ("--colour -x", [("--colour", None), ("-x", None)]),
        ("--pair a b c", [("--pair", None), ("", "c")]),
        ("--many a b -x", [("--many", None), ("-x", None)]),
        ("--unknown a", [("--unknown", None), ("", "a")]),
        ("--unknown=a", [("--unknown", "a")]),
        ("--python-version 3", [("--python-version", None), ("", "3")]),
        ("t.py -- --lf", [("", "t.py"), ("--", None), ("", "--lf")]),
        ("-1 -", [("", "-1"), ("", "-")]),
    ],
)
def test_words_are_split_as_the_parser_splits_them(
    parser: pytest.Parser, words: str, expected: list[tuple[str, str | None]]
) -> None:
    pieces = read_words(words.split(), parser)

    assert [(piece.option, piece.value) for piece in pieces] == expected
    assert [word for piece in pieces for word in piece.words] == words.split()


def test_an_option_is_ours_only_by_its_exact_name(parser: pytest.Parser) -> None:
    words = "--python 3.12 --python=3.13 --python-suite --python-version 3 --pythons=2 t.py --py x"
    ours = [piece.words for piece in read_words(words.split(), parser) if piece.is_ours]

    assert ours == [("--python", "3.12"), ("--python=3.13",), ("--python-suite",)]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", LABELS),
        ("t.py", LABELS),
        ("t.py::a[py3.12]", ["py3.12"]),
        ("t.py::a[x][py3.13] t.py::b[py3.13]", ["py3.13"]),
        ("t.py::a[py3.12,py3.13]", LABELS),
        ("t.py::a[py3.12] t.py::b", LABELS),
        ("t.py::a[py3.11]", LABELS),
        ("--deselect t.py::a[py3.12]", LABELS),
        ("-k a[py3.12]", LABELS),
        ("--unknown t.py::a[py3.12]", LABELS),
    ],
)
def test_node_ids_that_end_in_labels_select_pythons(parser: pytest.Parser, words: str, asked: list[str]) -> None:
    assert Words(read_words(words.split(), parser)).selected_labels(LABELS) == asked


def test_only_the_labels_of_the_session_are_recognised() -> None:
    assert labelled("t.py::a[x][py3.12]", LABELS) == ("t.py::a[x]", ["py3.12"])
    assert labelled("t.py::a[py3.12,py3.13]", LABELS) == ("t.py::a", LABELS)
    assert labelled("t.py::a[py3.12,x]", LABELS) is None
    assert labelled("[py3.12]", LABELS) is None


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("out.json", "out-py3.12.json"),
        ("out", "out-py3.12"),
        ("a.b/out", "a.b/out-py3.12"),
        ("py3.12.json", "py3.12.json"),
    ],
)
def test_a_label_is_inserted_before_the_extension(path: str, named: str) -> None:
    assert insert_label(path, "py3.12") == named


def test_an_option_and_its_value_become_one_word(parser: pytest.Parser) -> None:
    words = Words(
        read_words(["--deselect", "t.py::a", "-k", "x", "--python", "3.12", "--benchmark-json", "out.json"], parser)
    )

    found = words.for_python("py3.12", LABELS)

    assert found.arguments == ["--deselect=t.py::a", "-kx", "--benchmark-json=out-py3.12.json"]


# The tests below run real Pythons. The expected result is that of plain pytest in the same environments.

TESTS = """
import sys
import pytest

def test_new():
    assert sys.version_info < (3, 13)

def test_fine(): pass

@pytest.mark.parametrize("x", ["py3.12", "[py3.13]", "other"])
def test_named(x):
    assert x != "py3.12" or sys.version_info < (3, 13)
"""


@pytest.mark.parametrize("join", ["=", " "])
def test_deselecting_on_one_python_hides_nothing_on_the_others(run: Run, bench: Bench, join: str) -> None:
    bench(files={"test_it.py": TESTS})
    words = f"--deselect{join}test_it.py::test_new[py3.12]".split()

    result = run(*words, "-k", "new or fine", pythons=PYTHONS)

    result.assert_outcomes(passed=2, failed=1, deselected=7)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_new[[]py3.13[]]*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    hidden = run(*[word.replace("3.12", "3.13") for word in words], "-k", "new or fine", pythons=PYTHONS)
    hidden.assert_outcomes(passed=3, deselected=7)
    assert hidden.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("place", ["argument", "addopts", "PYTEST_ADDOPTS", "deselect", "after dashes"])
def test_a_parameter_that_looks_like_a_python_is_a_parameter(compare: Compare, bench: Bench, place: str) -> None:
    name = "test_it.py::test_named[py3.12]"
    ini = f"[pytest]\naddopts = {name}\n" if place == "addopts" else "[pytest]\n"
    bench(files={"test_it.py": TESTS, "pytest.ini": ini})
    words = {"argument": [name], "deselect": [f"--deselect={name}"], "after dashes": ["--", name]}.get(place, [])

    compared = compare(*words, environ={"PYTEST_ADDOPTS": name} if place == "PYTEST_ADDOPTS" else {})

    outcomes = {"passed": 7, "failed": 1} if place == "deselect" else {"passed": 1, "failed": 1}
    compared.suite.assert_outcomes(**outcomes, deselected=2 if place == "deselect" else 0)


def test_a_parameter_that_looks_like_a_python_can_have_a_label_after_it(run: Run, bench: Bench) -> None:
    bench(files={"test_it.py": TESTS})

    one = run("test_it.py::test_named[py3.12][py3.13]", pythons=PYTHONS)
    one.assert_outcomes(failed=1)
    both = run("test_it.py::test_named[py3.12][py3.12,py3.13]", pythons=PYTHONS)
    both.assert_outcomes(passed=1, failed=1)
    whole = run("test_it.py::test_new[py3.12]", "test_it.py::test_new[py3.13]", pythons=PYTHONS)
    whole.assert_outcomes(passed=1, failed=1)
    unclear = run("test_it.py::test_named[py3.12]", "test_it.py::test_fine", pythons=PYTHONS)
    unclear.assert_outcomes(passed=3, errors=1)
    unclear.stdout.fnmatch_lines(["hint: 'test_it.py::test_named[[]py3.12[]][[]py3.12,py3.13[]]'"])


def test_a_parameter_that_looks_like_a_python_works_with_xdist(run: Run, bench: Bench) -> None:
    bench("pytest-xdist", files={"test_it.py": TESTS})

    run("-n2", "test_it.py::test_named[py3.12]", pythons=PYTHONS).assert_outcomes(passed=1, failed=1)
    run("-n2", "test_it.py::test_new[py3.12]", pythons=PYTHONS).assert_outcomes(passed=1)


@pytest.mark.parametrize("words", [("--python-version", "3.7"), ("--python-version=3.7",), ("--pythonic",)])
def test_options_of_a_conftest_that_look_like_ours_reach_the_conftest(
    compare: Compare, bench: Bench, words: tuple[str, ...]
) -> None:
    bench(
        files={
            "conftest.py": "def pytest_addoption(parser):\n    parser.addoption('--python-version')\n"
            "    parser.addoption('--pythonic', action='store_true')\n",
            "test_it.py": "def test_it(pytestconfig):\n    option = pytestconfig.option\n"
            "    assert option.python_version == '3.7' or option.pythonic\n",
        }
    )
    compare(*words).suite.assert_outcomes(passed=2)


@pytest.mark.parametrize("place", ["command line", "PYTEST_ADDOPTS", "addopts"])
def test_last_failed_works_on_the_command_line_and_in_addopts(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    here = bench(files={"test_it.py": TESTS, "pytest.ini": "[pytest]\n"})
    run("-k", "new or fine", pythons=PYTHONS).assert_outcomes(passed=3, failed=1, deselected=6)
    if place == "PYTEST_ADDOPTS":
        monkeypatch.setenv("PYTEST_ADDOPTS", "--lf")
    elif place == "addopts":
        (here / "pytest.ini").write_text("[pytest]\naddopts = --lf\n", "utf-8")

    result = run(*(["--lf"] if place == "command line" else []), pythons=PYTHONS)

    assert result.parseoutcomes()["failed"] == 1
    assert "passed" not in result.parseoutcomes()


@pytest.mark.parametrize("words", [("--", "test_it.py"), ("-k", "fine", "--", "test_it.py::test_fine")])
@pytest.mark.parametrize("pythons", [("3.8", "3.9"), PYTHONS], ids=["old", "new"])
def test_words_after_two_dashes_are_arguments(
    compare: Compare, bench: Bench, words: tuple[str, ...], pythons: tuple[str, ...]
) -> None:
    bench(files={"test_it.py": "def test_fine(): pass\n", "test_other.py": "def test_other(): pass\n"})

    compare(*words, pythons=pythons).suite.assert_outcomes(passed=2)


def test_a_file_with_arguments_is_read_as_pytest_reads_it(compare: Compare, bench: Bench) -> None:
    bench(files={"test_it.py": TESTS, "words.txt": "-k\nnew or fine\ntest_it.py"})

    compare("@words.txt").suite.assert_outcomes(passed=3, failed=1, deselected=6)


def test_python_in_braces_is_replaced_by_the_label(run: Run, bench: Bench) -> None:
    here = bench(
        files={
            "pytest.ini": "[pytest]\nlog_file = log-{python}.txt\n",
            "conftest.py": "def pytest_addoption(parser): parser.addoption('--where')\n",
            "test_it.py": "import logging, pathlib\ndef test_it(pytestconfig):\n"
            "    pathlib.Path(pytestconfig.option.where).touch()\n    logging.warning('here')\n",
        }
    )

    run("--where=made-{python}.txt", pythons=PYTHONS).assert_outcomes(passed=2)

    assert {path.name for path in here.glob("*-py3*.txt")} == {
        f"{name}-py{version}.txt" for name in ("log", "made") for version in PYTHONS
    }


def test_tests_can_read_their_label(run: Run, bench: Bench) -> None:
    bench(
        files={
            "test_it.py": "import os, sys\ndef test_it():\n"
            "    assert os.environ['PYTEST_PYINSTALL_SUITE'] == 'py%d.%d' % sys.version_info[:2]\n"
        }
    )
    run(pythons=PYTHONS).assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nope.py"], 4),
        (["test_it.py::test_nope"], 4),
        (["nope"], 4),
        (["--no-such-option"], 4),
        (["test_it.py", "-k", "nothing_is_called_so"], 5),
        (["test_broken.py"], 2),
        (["--co"], 2),
        (["test_it.py"], 0),
        (["test_fails.py"], 1),
        (["test_raises.py", "-p", "no:terminal"], 1),
        (["accepting"], 0),
        (["accepting", "-k", "nothing_is_called_so"], 0),
    ],
)
def test_the_exit_code_is_that_of_plain_pytest(compare: Compare, bench: Bench, words: list[str], code: int) -> None:
    bench(
        files={
            "test_it.py": "def test_fine(): pass\n",
            "test_fails.py": "def test_fails(): assert 0\n",
            "test_broken.py": "import no_such_module\n",
            "accepting/conftest.py": "import pytest\ndef pytest_sessionfinish(session):\n"
            "    if session.config.args == ['accepting']: session.exitstatus = 0\n"
            "@pytest.hookimpl(tryfirst=True)\ndef pytest_runtest_logreport(report):\n"
            "    if report.failed and 'flaky' in report.nodeid: report.outcome, report.longrepr = 'passed', None\n",
            "accepting/test_accepting.py": "def test_fails(): assert 0\ndef test_flaky(): assert 0\n",
            "test_raises.py": "def test_raises(pytestconfig): pytestconfig.add_cleanup(lambda: 1 / 0)\n",
        }
    )
    compared = compare(*words)

    assert compared.suite.ret == code
    if code == 4:
        error = re.findall(r"^.*(?:error|ERROR): (?!usage)(.*)", compared.plain["3.12"].stderr, re.MULTILINE)[0]
        assert any(error in line for line in [*compared.suite.outlines, *compared.suite.errlines])
