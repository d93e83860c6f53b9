"""`--python-with` runs the suite under each Python with each of several sets of requirements."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from suite_fixtures import NEW, OLD, Run, marks

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.suite.shard import read_cells
from pytest_pyinstall.suite.variants import Variant, keyword_expression, keyword_hint, parse_variants

pytestmark = marks
TWO = ("--python-with=wcwidth==0.2.12", "--python-with=new: wcwidth==0.2.13")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("django~=4.2", Variant("django4.2", "django~=4.2", ("django~=4.2",))),
        ("django==5.2.* psycopg[binary]", Variant("django5.2+psycopg", "", ("django==5.2.*", "psycopg[binary]"))),
        ("numpy<2", Variant("numpy-lt2", "", ("numpy<2",))),
        ("numpy>=2,<3", Variant("numpy-ge2", "", ("numpy>=2,<3",))),
        ("old: numpy<2", Variant("old", "", ("numpy<2",))),
        ("plain:", Variant("plain", "", ())),
        ("lowest-direct", Variant("lowest-direct", "", (), "lowest-direct")),
        ("low: lowest django~=4.2", Variant("low", "", ("django~=4.2",), "lowest")),
        ("'django ~= 4.2'", Variant("django4.2", "", ("django ~= 4.2",))),
    ],
)
def test_requirements_become_a_variant_with_a_name(text: str, expected: Variant) -> None:
    assert parse_variants([text]) == (expected._replace(text=text),)


@pytest.mark.parametrize("texts", [[""], [":"], ["a:", "A: b"], ["a", "a"], ["lowest highest"], ["'open"], ["=4"]])
def test_an_invalid_variant_is_a_usage_error_with_a_hint(texts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_variants(texts)
    assert caught.value.message.startswith("--python-with: ")
    assert "--python-with" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "value", "words", "place", "hint"),
    [
        ("pytest.ini", "=4", [], "pyinstall_suite_with in {}", "pyinstall_suite_with = django~=4.2"),
        ("pyproject.toml", "['=4']", [], "pyinstall_suite_with in {}", 'pyinstall_suite_with = ["django~=4.2"]'),
        (
            "pytest.ini",
            "numpy",
            ["-o", "pyinstall_suite_with==4"],
            "-o pyinstall_suite_with",
            "-o 'pyinstall_suite_with=django~=4.2'",
        ),
    ],
)
def test_an_invalid_variant_of_the_configuration_is_corrected_in_its_form(
    pytester: pytest.Pytester, name: str, value: str, words: list[str], place: str, hint: str
) -> None:
    table = "pytest" if name == "pytest.ini" else "tool.pytest.ini_options"
    (pytester.path / name).write_text(f"[{table}]\npyinstall_suite_with = {value}\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        read_cells(pytester.parseconfig(*words), ["3.9"])
    place = place.format(pytester.path / name)
    assert str(caught.value) == f"{place}: '=4' is not a requirement\nhint: {hint}"


def test_a_file_of_requirements_needs_an_option() -> None:
    assert parse_variants(["-r base.txt -cextra.txt"])
    with pytest.raises(UsageError) as caught:
        parse_variants(["old: django~=4.2 base.txt"])
    assert str(caught.value) == (
        "--python-with: base.txt is a file of requirements, not a requirement\n"
        "hint: --python-with 'old: django~=4.2 -r base.txt'"
    )


def test_the_name_of_a_variant_has_no_space() -> None:
    with pytest.raises(UsageError, match="'django 4' is not a name of a variant") as caught:
        parse_variants(["django 4: django~=4.2"])
    assert caught.value.hint == "--python-with 'django-4: django~=4.2'"


@pytest.fixture
def versions(project: Path) -> Path:
    (project / "test_demo.py").write_text(
        "import importlib.metadata as metadata\n"
        "def test_version(): assert metadata.version('wcwidth') == '0.2.13'\n"
        "def test_fine(): pass\n",
        "utf-8",
    )
    return project


def test_each_variant_runs_under_each_python_in_an_environment_of_its_own(run: Run, versions: Path) -> None:
    result = run(*TWO, "--junitxml=out.xml", "--python-report=out.html")
    result.assert_outcomes(passed=6, failed=2)
    result.stdout.fnmatch_lines(
        [
            "suite: the project, under 2 Pythons, each with wcwidth0.2.12, new, * at once",
            "*test_version — on py3.9, py3.12 with wcwidth0.2.12; not on py3.9, py3.12 with new*",
            "FAILED test_demo.py::test_version[[]py3.9-wcwidth0.2.12,py3.12-wcwidth0.2.12[]]*",
            "3.9.* wcwidth0.2.12 *1 *1 *",
            "3.9.* new *2 *0 *",
        ]
    )
    names = {case.get("name") for case in ET.parse(versions / "out.xml").getroot().iter("testcase")}
    assert "test_version[py3.12-new]" in names
    assert re.search(r"3\.12\.\d+ new", (versions / "out.html").read_text("utf-8"))

    again = run(*TWO, "--lf")
    again.assert_outcomes(failed=2, deselected=4)
    assert "making an environment" not in again.stdout.str()
    pasted = run(*TWO, "test_demo.py::test_version[py3.9-new]")
    pasted.assert_outcomes(passed=1)


def test_variants_can_be_set_in_the_ini_file(run: Run, versions: Path) -> None:
    (versions / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-config\npyinstall_suite_with =\n    wcwidth==0.2.13\n", "utf-8"
    )
    run(pythons=(NEW,)).assert_outcomes(passed=2)


def test_a_variant_that_cannot_be_resolved_is_an_error_of_its_cell_alone(run: Run, versions: Path) -> None:
    result = run("--python-with=wcwidth==0.2.13", "--python-with=bad: wcwidth==0.0.999", pythons=(OLD,))
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*wcwidth==0.0.999*"])


def test_the_resolution_lowest_installs_the_oldest_supported_versions(run: Run, project: Path) -> None:
    text = (project / "pyproject.toml").read_text("utf-8")
    # A plain `pytest`, as most projects have it, is not the first pytest.
    tests = "[dependency-groups]\ntest = ['pytest']\n"
    (project / "pyproject.toml").write_text(f'{text}dependencies = ["wcwidth>=0.2.6"]\n{tests}', "utf-8")
    (project / "test_demo.py").write_text(
        "import importlib.metadata as metadata\n"
        "def test_low(): assert metadata.version('wcwidth') == '0.2.6'\n"
        "def test_high(): assert metadata.version('wcwidth') > '0.2.6'\n",
        "utf-8",
    )
    result = run("--python-with=lowest-direct", "--python-with=highest", "--python-with=lowest", pythons=(NEW,))
    assert sorted(line.split(" - ")[0] for line in result.outlines if line.startswith("FAILED")) == [
        "FAILED test_demo.py::test_high[py3.12-lowest-direct,py3.12-lowest]",
        "FAILED test_demo.py::test_low[py3.12-highest]",
    ]
    result.stdout.fnmatch_lines(["3.12.* lowest-direct  8.2.2 *", "3.12.* lowest * 8.2.2 *"])


def test_each_variant_has_a_record(run: Run, versions: Path, shared_home: Path) -> None:
    run(*TWO, "-k", "fine", pythons=(NEW,))
    records = (shared_home / "cache" / "environments").glob("*/suite.json")
    found = [json.loads(path.read_text("utf-8")) for path in records]
    assert sum(record["project"] == str(versions) for record in found) == 2


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ("parse", ["py3.9-new", "py3.9-old", "py3.12-old"]),
        ("new", ["py3.9-new"]),
        ("NEW and parse", ["py3.9-new"]),
        ("not py3.9", ["py3.12-old"]),
        ("py3.9-old or py3.12-old", ["py3.9-old", "py3.12-old"]),
        ("not(new or py3.12)", ["py3.9-old"]),
        ("3.9 or py3 or ol", []),  # parts of names do not count
    ],
)
def test_an_expression_of_k_can_name_pythons_and_variants(expression: str, matches: list[str]) -> None:
    from _pytest.mark.expression import Expression

    def is_chosen(label: str) -> bool:
        return Expression.compile(keyword_expression(expression, label)).evaluate(
            lambda word, /, **_: word.lower() in "test_parse"
        )

    assert [label for label in ("py3.9-new", "py3.9-old", "py3.12-old") if is_chosen(label)] == matches


@pytest.mark.parametrize(
    ("expression", "names", "hint"),
    [
        ("test_a and 3.9", "py3.9 py3.12", "py3.9, py3.12: -k 'test_a and py3.9'"),
        ("test_a and not (39 or python3.12)", "py3.9 py3.12", "py3.9, py3.12: -k 'test_a and not (py3.9 or py3.12)'"),
        ("PY39", "py3.9", "py3.9: -k py3.9"),
        ("3.13t or pypy-3.11", "py3.13t pypy3.11", "py3.13t, pypy3.11: -k 'py3.13t or pypy3.11'"),
        ("cp312", "py3.12", "py3.12: -k py3.12"),
        ("3.12.4", "py3.12", "py3.12: -k py3.12"),
        ("test_a and py3.9", "3.9 3.12", "3.9, 3.12: -k 'test_a and 3.9'"),
        ("py3.8", "py3.9 py3.12", "py3.9, py3.12"),
        ("test_a and 38", "py3.9", ""),  # a number
        ("test_a and py3.9", "py3.9", ""),
        ("test_py or 1.5 or 4", "py3.9", ""),
        ("test_a[py3.9]", "py3.9 py3.12", "py3.9, py3.12: -k 'test_a and py3.9'"),
        ("not test_a[x][py3.9]", "py3.9", "py3.9: -k 'not (test_a[x] and py3.9)'"),
        ("test_a[x]", "py3.9", ""),
        ("", "py3.9", ""),
    ],
)
def test_another_spelling_of_a_python_in_k_has_a_hint(expression: str, names: str, hint: str) -> None:
    assert keyword_hint(expression, names.split()) == (hint and f"hint: in -k, the Pythons are called {hint}")


def test_k_selects_variants_and_coverage_combines_them(run: Run, versions: Path) -> None:
    text = (versions / "pyproject.toml").read_text("utf-8")
    text += '[tool.pytest.ini_options]\npyinstall_suite_install = ["-e .", "pytest-cov"]\n'
    (versions / "pyproject.toml").write_text(text, "utf-8")
    (versions / "demo.py").write_text(
        "import importlib.metadata as metadata\n"
        "def one():\n"
        "    if metadata.version('wcwidth') == '0.2.12':\n"
        "        return 1\n"
        "    return 2\n",
        "utf-8",
    )
    (versions / "test_demo.py").write_text("import demo\ndef test_one(): assert demo.one() in (1, 2)\n", "utf-8")
    both = run(*TWO, "--cov=demo", "--cov-report=term-missing", "--cov-fail-under=100", pythons=(NEW,))
    both.assert_outcomes(passed=2)
    both.stdout.fnmatch_lines(["demo.py * 100%"])
    assert both.ret == 0
    one = run(*TWO, "-k", "new and one", "--cov=demo", "--cov-report=term-missing", pythons=(NEW,))
    one.assert_outcomes(passed=1, deselected=1)
    one.stdout.fnmatch_lines(["demo.py * 80% * 4"])


def test_a_bisection_accepts_only_one_variant(run: Run, versions: Path) -> None:
    words = ("--python-bisect=test_demo.py::test_version",)
    result = run(*words, "--python-with=wcwidth==0.2.13")
    result.stdout.fnmatch_lines(["3.12.* wcwidth0.2.13 *", "bisect: test_demo.py::test_version passes on both *"])
    result.stdout.no_fnmatch_line("*fails*")
    failing = run(*words, "--python-with=wcwidth==0.2.12")
    failing.stdout.fnmatch_lines(["bisect: test_demo.py::test_version fails on both *"])
    several = run(*words, *TWO)
    several.stderr.fnmatch_lines(
        [
            "ERROR: --python-bisect runs one test with one set of dependencies, not with wcwidth==0.2.12, *",
            "hint: --python-with wcwidth==0.2.12",
        ]
    )
