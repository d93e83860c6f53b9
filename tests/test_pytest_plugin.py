"""A session installs the Pythons that it needs, runs tests with them, and reports all that is wrong in one message."""

import json
import os
from datetime import date
from pathlib import Path

import pytest
from archives import interpreters
from plugin_fixtures import USES_PYTHON, ids, installed, marks, store

pytestmark = marks
native = pytest.mark.skipif(
    pytest.version_tuple < (9,), reason="needs pytest 9, which reads [tool.pytest] and pytest.toml"
)


# Requests
def test_missing_pythons_are_installed_and_each_runs_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES_PYTHON)
    result = pytester.runpytest_subprocess("-v", "--python", "3.9", "--python=3.11")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "Downloading cpython-3.*",
            "*test session starts*",
            "python 3.9 -> CPython 3.9.* (installed now in *s) *store*cpython-3.9.*",
            "python 3.11 -> CPython 3.11.* (installed now in *s) *store*cpython-3.11.*",
            "*::test_it[[]3.9[]] PASSED*",
            "*::test_it[[]3.11[]] PASSED*",
        ]
    )
    again = pytester.runpytest_subprocess("--python", "3.9")
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["pythons: 3.9.* (already installed)"])
    again.stdout.no_fnmatch_line("python 3.9 -> *")
    again.stdout.no_fnmatch_line("Downloading*")


def test_p2_a_changed_byte_that_keeps_pytest_from_starting_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert pytester.runpytest_subprocess("--python=3.9", "--python-suite").ret == 0
    name = "cpython-3.9.* is broken: lib/python3.9/json/decoder.py: has other content"
    (module,) = store().glob("cpython-3.9.*/lib/python3.9/json/decoder.py")
    module.write_bytes(module.read_bytes().replace(b"import re", b"imPort re", 1))  # each use compares only the size
    result = pytester.runpytest_subprocess("--python=3.9", "--python-suite")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*SyntaxError: invalid syntax",
            name,
            "hint: pytest-pyinstall verify --repair 3.9.*",
        ]
    )
    # The same if the environment cannot be made.
    pytester.makepyprojecttoml("[dependency-groups]\ntest = ['iniconfig']")
    result = pytester.runpytest_subprocess("--python=3.9", "--python-suite")
    result.stdout.fnmatch_lines([name, "hint: pytest-pyinstall verify --repair 3.9.*", "ERROR [[]py3.9[]]*"])


def test_without_a_request_the_running_interpreter_runs_the_test_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_it(python, pythons):
            assert python.version_info == tuple(sys.version_info)
            assert pythons == (python,)
        """
    )
    result = pytester.runpytest_inprocess("-v")
    result.assert_outcomes(passed=1)
    assert ids(result) == ["test_it"]
    result.stdout.no_fnmatch_line("python* -> *")
    result.stdout.no_fnmatch_line("pythons:*")
    assert installed() == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("pyproject.toml", '[tool.pytest]\npyinstall_python = ["3.9", "3.10"]', marks=native),
        pytest.param("pyproject.toml", '[tool.pytest]\npyinstall_python = "3.9, 3.10"', marks=native),
        ("pyproject.toml", '[tool.pytest.ini_options]\npyinstall_python = ["3.9", "3.10"]'),
        ("pyproject.toml", '[tool.pytest.ini_options]\npyinstall_python = "3.9,3.10"'),
        pytest.param("pytest.toml", '[pytest]\npyinstall_python = ["3.9..3.10"]', marks=native),
        ("pytest.ini", "[pytest]\npyinstall_python =\n    3.9\n    3.10"),
        ("pytest.ini", "[pytest]\npyinstall_python = 3.9,3.10"),
    ],
)
def test_the_ini_value_can_be_a_list_or_a_string(
    pytester: pytest.Pytester, full: Path, name: str, content: str
) -> None:
    pytester.path.joinpath(name).write_text(content, encoding="utf-8")
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess("-v", "--strict-config")
    assert ids(result) == ["test_it[3.9]", "test_it[3.10]"]
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("table", "value", "meant"),
    [
        pytest.param("tool.pytest", "[3.9, '3.10..3.13', 3.10]", '["3.9", "3.10..3.13", "3.10"]', marks=native),
        ("tool.pytest.ini_options", "[3.10]", '["3.10"]'),
        ("tool.pytest.ini_options", "3.10", '["3.10"]'),
    ],
)
def test_an_unquoted_version_in_toml_is_an_error_with_a_hint(
    pytester: pytest.Pytester, table: str, value: str, meant: str
) -> None:
    pytester.makepyprojecttoml(f"[{table}]\npyinstall_python = {value}")
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pyinstall_python*float*3.*"])
    assert result.errlines[1] == f"hint: pyinstall_python = {meant}"
    result.stderr.no_fnmatch_line("*Traceback*")


UNUSED_REQUESTS = [
    (
        "pyproject.toml",
        '[tool.pytest.ini_options]\npyinstall_suite = true\npyinstall_pythons = ["3.9", "3.12"]',
        "--python 3.9,3.12",
        ["there is no ini value pyinstall_pythons; did you mean pyinstall_python?"],
    ),
    ("setup.cfg", "[tool:pytest]\npyinstall_python =\n    3.9\n    3.12", "--python 3.9,3.12 --python-suite", []),
]


@pytest.mark.parametrize(("name", "content", "hint", "notes"), UNUSED_REQUESTS)
def test_a_session_that_ends_before_its_header_names_what_has_no_effect(
    pytester: pytest.Pytester, name: str, content: str, hint: str, notes: list[str]
) -> None:
    pytester.path.joinpath(name).write_text(content, encoding="utf-8")
    origin, words = f"pyinstall_suite in {pytester.path / name}", []
    if name == "setup.cfg":
        path = pytester.makeini("[pytest]")
        origin, words = "--python-suite", ["--python-suite"]
        reason = f"pytest reads {path}, and not {pytester.path / name}, which has pyinstall_python"
    else:
        reason = f"{pytester.path / name} has no pyinstall_python"
    result = pytester.runpytest_inprocess(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [f"ERROR: {origin}: no Python was requested; {reason}", f"hint: {hint}"]
    assert list(filter(None, result.errlines)) == [*lines, *(f"note: {note}" for note in notes)]


def test_an_ini_value_of_the_command_line_overrides_an_unquoted_version(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\npyinstall_python = 3.10")
    pytester.makepyfile("def test_it(python): pass")
    pytester.runpytest_inprocess("-o", "pyinstall_python=3.9").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("name", "text", "meant"), [("pyinstall_path", "maybe", "false"), ("pyinstall_suite", "yess", "true")]
)
@pytest.mark.parametrize("table", [pytest.param("tool.pytest", marks=native), "tool.pytest.ini_options"])
def test_an_invalid_boolean_is_an_error_with_a_hint(
    pytester: pytest.Pytester, full: Path, name: str, text: str, meant: str, table: str
) -> None:
    path = pytester.makepyprojecttoml(f'[{table}]\n{name} = "{text}"')
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_subprocess("--python=3.9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{name}*{text}*", f"hint: {name} = {meant}"])
    assert str(path) in result.errlines[0]
    result.stderr.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("suite=yess", "invalid truth value 'yess'", "suite=true"),
        ("missing=skp", "'skp' is not one of fail, skip", "missing=skip"),
        ("python=3.9,3.1l", "'3.1l' is not a valid request*", "python=3.9,3.11"),
    ],
)
def test_the_error_for_an_ini_value_of_the_command_line_does_not_name_a_file(
    pytester: pytest.Pytester, value: str, message: str, hint: str
) -> None:
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\npyinstall_python = ["3.9"]\npyinstall_missing = "fail"\n')
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess("-o", f"pyinstall_{value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    name = value.partition("=")[0]
    result.stderr.fnmatch_lines([f"ERROR: -o pyinstall_{name}: {message}", f"hint: -o pyinstall_{hint}"])


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["3.9"], "--python 3.9"),
        (["--python", "3.9", "3.10", "3.12..3.13"], "--python 3.9,3.10,3.12..3.13"),
        (["--python=>=3.9", "3.10t", "--python-suite"], "--python '>=3.9,3.10t' --python-suite"),
    ],
)
def test_a_version_among_the_paths_is_an_error_with_a_hint(
    pytester: pytest.Pytester, words: list[str], hint: str
) -> None:
    result = pytester.runpytest_inprocess(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: file or directory not found: 3.*", f"hint: {hint}"])


def test_a_directory_that_is_named_like_a_version_is_a_path(pytester: pytest.Pytester, full: Path) -> None:
    pytester.mkdir("3.10")
    result = pytester.runpytest_inprocess("--python=3.9", "3.10")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


@native
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("jobs = 2", 'jobs = "2"'),
        ('suite_with = "lowest"', 'suite_with = ["lowest"]'),
        ('suite_install = "-e ."', 'suite_install = ["-e ."]'),
        ('missing = ["skip"]', 'missing = "skip"'),
        ('suite = "yes"', "suite = true"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_with_a_hint(pytester: pytest.Pytester, written: str, meant: str) -> None:
    pytester.makefile(".toml", pytest=f"[pytest]\npyinstall_{written}\n")
    result = pytester.runpytest_inprocess("--python=3.99", "--python-suite")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[1] == f"hint: pyinstall_{meant}"


def test_the_option_overrides_the_variable_and_the_variable_overrides_the_ini_value(
    pytester: pytest.Pytester, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\npyinstall_python = 3.9")
    pytester.makepyfile("def test_it(python): pass")
    configured = pytester.runpytest_inprocess("-v")
    assert ids(configured) == ["test_it[3.9]"]
    assert f"pythons: requested by pyinstall_python in {pytester.path / 'tox.ini'}" in configured.outlines
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", "3.10")
    by_variable = pytester.runpytest_inprocess("-v")
    assert ids(by_variable) == ["test_it[3.10]"]
    assert "pythons: requested by PYTEST_PYINSTALL_PYTHON" in by_variable.outlines
    typed = pytester.runpytest_inprocess("-v", "--python=3.11")
    assert ids(typed) == ["test_it[3.11]"]
    assert "requested by" not in typed.stdout.str()
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", "")
    assert ids(pytester.runpytest_inprocess("-v")) == ["test_it[3.9]"]


def test_the_command_line_overrides_addopts(
    pytester: pytest.Pytester, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\naddopts = --python 3.9")
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{os.environ['PYTEST_ADDOPTS']} --python 3.10")
    pytester.makepyfile("def test_it(python): pass")
    assert ids(pytester.runpytest_inprocess("-v")) == ["test_it[3.9]", "test_it[3.10]"]
    assert ids(pytester.runpytest_inprocess("-v", "--python", "3.11")) == ["test_it[3.11]"]


def test_each_setting_has_an_ini_value_and_paths_are_relative_to_its_file(
    pytester: pytest.Pytester, full: Path, packed_mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "MIRROR", "CATALOGUE", "PREFERENCE", "DOWNLOADS"):
        monkeypatch.delenv(f"PYTEST_PYINSTALL_{name}")
    pytester.makeini(
        f"""
        [pytest]
        pyinstall_python = 3.9, 3.6
        pyinstall_missing = skip
        pyinstall_downloads = never
        pyinstall_preference = only-managed
        pyinstall_store = their/store
        pyinstall_cache = their/cache
        pyinstall_mirror = {packed_mirror}
        pyinstall_catalogue = {packed_mirror / "catalogue.json"}
        """
    )
    pytester.path.joinpath("their").symlink_to(full)
    pytester.makepyfile(**{"sub/test_it": "def test_it(python): assert 'their' in str(python.executable)"})
    monkeypatch.chdir("sub")
    pytester.runpytest_inprocess("-v").assert_outcomes(passed=1, skipped=1)


def test_requests_for_one_interpreter_run_once_in_the_requested_order(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess("-v", "--python=3.11", "--python=py39,>=3.11,<3.12", "--python=3.9..3.10")
    assert ids(result) == ["test_it[3.11]", "test_it[3.9]", "test_it[3.10]"]
    result.stdout.fnmatch_lines(["python 3.11, >=3.11,<3.12 -> CPython 3.11*", "python py39, 3.9 -> CPython 3.9*"])


def test_supported_requests_the_versions_that_the_project_declares(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyprojecttoml(
        """
        [project]
        name = "demo"
        classifiers = ["Programming Language :: Python :: 3.9", "Programming Language :: Python :: 3.11"]
        """
    )
    pytester.makepyfile("def test_it(python): pass")
    assert ids(pytester.runpytest_inprocess("-v", "--python", "supported")) == ["test_it[3.9]", "test_it[3.11]"]


@pytest.mark.parametrize(("words", "left_out"), [(["-v"], "3.9, 3.10"), (["--python=3.9"], "3.10")])
def test_the_header_names_what_supported_leaves_out(
    pytester: pytest.Pytester, full: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], left_out: str
) -> None:
    monkeypatch.setattr("pytest_pyinstall.project.END_OF_LIFE", dict.fromkeys(("3.8", "3.9", "3.10"), date.min))
    pytester.makepyprojecttoml('[project]\nname = "demo"\nrequires-python = ">=3.9"\n')
    result = pytester.runpytest_inprocess(*words, "--python", "supported")
    line = f"pyinstall: supported leaves out versions after their end of life: {left_out}; classifiers keep them"
    assert line in result.outlines


def test_a_path_and_a_version_are_two_pythons(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(USES_PYTHON)
    result = pytester.runpytest_inprocess("-v", "--python", str(interpreters()["3.9"]), "--python", "3.9")
    result.assert_outcomes(passed=2)
    first, second = ids(result)
    assert first != second
    assert all(name.startswith("test_it[3.9.") for name in (first, second))


# Sessions that run no test
@pytest.mark.parametrize(
    "option",
    ["--help", "--version", "--markers", "--fixtures", "--fixtures-per-test", "--setup-plan", "--collect-only"],
)
def test_nothing_is_installed_if_no_test_runs(pytester: pytest.Pytester, option: str) -> None:
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess("--python", "3.9", option)
    assert result.ret == 0
    assert not store().exists()
    assert "store" not in os.environ["PATH"]


def test_collect_only_shows_ids_of_present_and_missing_pythons(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_it(python): pass
        @pytest.mark.python("3.10.1", "pypy3.11", "3.13t")
        def test_own(python): pass
        """
    )
    result = pytester.runpytest_inprocess("--collect-only", "-q", "--python=3.9,3.6", "--python=>=3.20")
    names = ids(result)  # pytest 9.1 mixes the order of the two tests
    assert [name for name in names if "it" in name] == ["test_it[3.9]", "test_it[3.6]", "test_it[3.20]"]
    assert [name for name in names if "own" in name] == ["test_own[3.10]", "test_own[pypy3.11]", "test_own[3.13t]"]


def test_fixtures_and_markers_are_listed(pytester: pytest.Pytester) -> None:
    listed = pytester.runpytest_inprocess("--fixtures")
    listed.stdout.fnmatch_lines_random(
        ["python [[]session scope[]]*", "pythons [[]session scope[]]*", "python_env*", "install_python [[]session*"]
    )
    listed.stdout.no_fnmatch_line("_pyinstall*")
    marked = pytester.runpytest_inprocess("--markers")
    marked.stdout.fnmatch_lines(["@pytest.mark.python(*", "@pytest.mark.requires_python(*"])


# Fixtures
def test_a_fixture_python_of_the_user_replaces_ours_and_is_not_parametrized(
    pytester: pytest.Pytester, full: Path
) -> None:
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef python(pythons): return 'theirs'")
    pytester.makepyfile(
        """
        import pytest
        def test_it(python):
            assert python == "theirs"
        @pytest.mark.python("3.10")
        def test_marked(python):
            assert python == "theirs"
        @pytest.mark.parametrize("python", ["a", "b"])
        def test_direct(python):
            assert python in "ab"
        """
    )
    result = pytester.runpytest_inprocess("-v", "--python=3.9..3.11")
    assert ids(result) == ["test_it", "test_marked", "test_direct[a]", "test_direct[b]"]
    result.assert_outcomes(passed=4)


@pytest.mark.skipif(
    pytest.version_tuple < (9,), reason="needs pytest 9, which keeps what an overridden fixture requests"
)
def test_a_fixture_that_wraps_ours_is_parametrized(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makeconftest(
        """
        import pytest
        @pytest.fixture
        def python(python): return ("wrapped", python)
        """
    )
    pytester.makepyfile("def test_it(python): assert python[0] == 'wrapped'")
    result = pytester.runpytest_inprocess("-v", "--python=3.9,3.10")
    assert ids(result) == ["test_it[3.9]", "test_it[3.10]"]
    result.assert_outcomes(passed=2)


def test_a_test_can_combine_python_with_its_own_parameters(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture(scope="session")
        def made(python):
            return python.version_info[:2]
        @pytest.mark.parametrize("flag", ["-B", "-I"])
        def test_it(flag, made, python):
            assert made == python.version_info[:2]
        class TestIn:
            def test_it(self, made):
                pass
        """
    )
    result = pytester.runpytest_inprocess("-v", "--python=3.9,3.10")
    result.assert_outcomes(passed=6)
    assert set(ids(result)) == {
        *("test_it[-B-3.9]", "test_it[-I-3.9]", "test_it[-B-3.10]", "test_it[-I-3.10]"),
        *("TestIn::test_it[3.9]", "TestIn::test_it[3.10]"),
    }


def test_a_session_fixture_is_made_once_for_each_python(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(
        """
        import pytest
        made = []
        @pytest.fixture(scope="session")
        def tool(python):
            made.append(python.version_info[:2])
        def test_a(tool): pass
        @pytest.mark.python("3.9")
        def test_b(tool): pass
        def test_c(tool): pass
        def test_last():
            assert len(made) == 2
        """
    )
    pytester.runpytest_inprocess("--python=3.9,3.10").assert_outcomes(passed=6)


def test_if_k_selects_nothing_a_hint_says_how_the_pythons_are_called(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess("--python=3.9,3.10", "-k", "it and py39")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["hint: in -k, the Pythons are called 3.9, 3.10: -k 'it and 3.9'"])
    assert "hint:" not in pytester.runpytest_inprocess("--python=3.9,3.10", "-k", "it or py39").stdout.str()


def test_pythons_contains_all_requested_pythons(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(pythons): assert [p.version_info[:2] for p in pythons] == [(3, 11), (3, 9)]")
    result = pytester.runpytest_inprocess("--python=3.11,3.9")
    result.assert_outcomes(passed=1)


def test_python_env_is_a_new_environment_in_tmp_path(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(
        """
        def test_it(python_env, python, tmp_path):
            assert python_env.path.parent == tmp_path
            prefix = python_env.run("python", "-c", "import sys; print(sys.prefix)").stdout.strip()
            assert prefix == str(python_env.path)
            assert python_env.python.version_info == python.version_info
        """
    )
    result = pytester.runpytest_inprocess("-v", "--python=3.9,3.11")
    result.assert_outcomes(passed=2)


def test_install_python_installs_a_missing_python(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from pytest_pyinstall.errors import NoMatchError, InvalidRequestError
        def test_it(install_python):
            python = install_python("3.9")
            assert python.version_info[:2] == (3, 9)
            assert install_python("==3.9.*") == python == install_python(python)
        def test_refusals(install_python):
            with pytest.raises(NoMatchError):
                install_python("3.1")
            for wrong in ("three", "3.9..3.11", 3.10):
                with pytest.raises(InvalidRequestError, match="^install_python: ") as caught:
                    install_python(wrong)
                assert caught.value.hint.startswith('install_python("')
        def test_shown(install_python):
            install_python("3.1")
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2, failed=1)
    assert len(installed()) == 1
    result.stdout.fnmatch_lines(["E * 3.1 *"])
    result.stdout.no_fnmatch_line("*provisioner.py*")


def test_the_short_summary_begins_with_the_class_of_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_s="""
        import pytest
        def test_it(install_python):
            install_python("2.6")
        @pytest.fixture
        def other(python):
            python.run("-c", "import sys; sys.exit(3)")
        def test_other(other):
            pass
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(["E *pytest_pyinstall.errors.NoMatchError: no build*"])
    result.stdout.fnmatch_lines(["FAILED *::test_it - NoMatchError: no*", "ERROR *::test_other - RunError: *"])


def test_install_python_skips_if_missing_pythons_are_skipped(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(install_python): install_python('3.1')")
    result = pytester.runpytest_inprocess("-rs", "--python-missing=skip")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*3.1*"])


def test_getfixturevalue_returns_the_only_python_or_fails_with_a_reason(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(request): request.getfixturevalue('python')")
    pytester.runpytest_inprocess("--python=3.9").assert_outcomes(passed=1)
    result = pytester.runpytest_inprocess("--python=3.9,3.10")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*`python` means 3.9, 3.10*"])


def test_a_session_fixture_that_requests_python_dynamically_is_made_again_for_another_python(
    pytester: pytest.Pytester, full: Path
) -> None:
    pytester.makepyfile("""
        import pytest, sys
        @pytest.fixture(scope="session")
        def version(request):
            yield request.getfixturevalue("python").version_info[:2]
            print("finished")
        @pytest.fixture(scope="session")
        def deeper(version): return version
        @pytest.mark.python("3.9")
        def test_marked(version): assert version == (3, 9)
        @pytest.mark.python("3.10")
        def test_other(deeper): assert deeper == (3, 10)
        def test_plain(deeper): assert deeper == sys.version_info[:2]
        def test_again(deeper): assert deeper == sys.version_info[:2]
    """)
    result = pytester.runpytest_inprocess("-s")
    result.assert_outcomes(passed=4)
    assert result.stdout.str().count("finished") == 3


def test_session_fixtures_that_request_python_dynamically_agree_in_any_order(
    pytester: pytest.Pytester, full: Path
) -> None:
    pytester.makepyfile("""
        import pytest
        @pytest.fixture(scope="session")
        def one(request):
            yield request.getfixturevalue("python").version_info[:2]
            print("finished")
        @pytest.fixture(scope="session")
        def other(request): return request.getfixturevalue("python").version_info[:2]
        @pytest.fixture(scope="session")
        def deeper(request): return request.getfixturevalue("other")
        def test_before(one, other, python): assert one == other == python.version_info[:2]
        def test_after(python, deeper, one): assert one == deeper == python.version_info[:2]
    """)
    result = pytester.runpytest_inprocess("-s", "--python=3.9,3.10")
    result.assert_outcomes(passed=4)
    assert result.stdout.str().count("finished") == 2


def test_getfixturevalue_returns_the_python_of_the_marks(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile(
        test_dynamic="""
        import pytest, sys
        @pytest.fixture
        def version(request): return request.getfixturevalue("python").version_info[:2]
        def test_plain(version): assert version == sys.version_info[:2]
        @pytest.mark.python("3.9")
        def test_marked(version): assert version == (3, 9)
        @pytest.mark.python("3.10")
        def test_env(request): assert request.getfixturevalue("python_env").python.version_info[:2] == (3, 10)
        def test_plain_again(version): assert version == sys.version_info[:2]
        @pytest.mark.python("3.9", "3.10")
        @pytest.mark.requires_python(">=3.10")
        def test_fits(version): assert version == (3, 10)
        @pytest.mark.requires_python("<3")
        def test_old(version): pass
        @pytest.mark.python("3.9")
        @pytest.mark.requires_python("<3")
        def test_none(version): pass
        @pytest.mark.python("3.9", "3.10")
        def test_two(version): pass
        @pytest.mark.python(3.9)
        def test_wrong(version): pass
        """,
        test_unittest="""
        import pytest, unittest
        @pytest.mark.usefixtures("python_env")
        @pytest.mark.python("3.9")
        @pytest.mark.requires_python("<3.10")
        class TestIt(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def keep(self, python): self.python = python
            def test_it(self): assert self.python.version_info[:2] == (3, 9)
        """,
    )
    result = pytester.runpytest_inprocess("-v", "-rs")
    result.assert_outcomes(passed=6, skipped=2, errors=2)
    result.stdout.fnmatch_lines_random(
        [
            "*`python` means 3.9, 3.10*",
            "*3.9 is a float, not a string*",
            "SKIPPED*does not fit <3",
            "SKIPPED*none of the Pythons 3.9 fits <3",
        ]
    )
    result.stdout.no_fnmatch_line("*During handling*")
    result.stdout.no_fnmatch_line("*_plugin.py:*Error*")


def test_python_env_fails_with_a_hint_if_the_fixture_python_is_not_an_interpreter(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def python(): return "python3"
        def test_it(python_env): pass
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["`python_env` needs*'python3'*", "hint: install_python*"])
    result.stdout.no_fnmatch_line("*AttributeError*")


# Missing and invalid Pythons
def test_a_session_without_its_pythons_ends_with_one_message(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_subprocess("--python=3.9,3.6", "--python=3.99", "--python=/no/such/python3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --python: 3 of 4 Pythons cannot be used:*"])
    text = result.stderr.str()
    assert all(name in text for name in ("3.6", "3.99", "/no/such/python3"))
    assert "Traceback" not in text + result.stdout.str()
    assert "test session starts" not in result.stdout.str()


@pytest.mark.parametrize(
    ("option", "addopts", "variable", "ini", "origin"),
    [
        ("3.1l", "", "", "", "--python"),
        ("", "--python-suite --python 3.1l", "", "", "--python in PYTEST_ADDOPTS"),
        ("", "--python 3.1l", "", "", "--python in PYTEST_ADDOPTS"),
        ("", "", "3.1l", "", "PYTEST_PYINSTALL_PYTHON"),
        ("", "", "", 'pyinstall_python = ["3.1l"]', "pyinstall_python in {}"),
        ("", "", "", 'addopts = ["--python", "3.1l"]', "--python in addopts of {}"),
    ],
)
def test_a_mistyped_request_is_reported_with_its_origin_and_a_correction(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    addopts: str,
    variable: str,
    ini: str,
    origin: str,
) -> None:
    place = pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\n{ini}\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", addopts)
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", variable)
    result = pytester.runpytest_subprocess(*([f"--python={option}"] if option else []))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    error, hint = (line for line in result.errlines if line)
    assert error.startswith(f"ERROR: {origin.format(place)}: '3.1l' is not a valid request")
    assert "3.11" in hint
    assert origin.split(maxsplit=1)[0] in hint


def test_the_origin_is_not_confused_with_another_option(pytester: pytest.Pytester) -> None:
    place = pytester.makepyprojecttoml('[tool.pytest.ini_options]\naddopts = ["--python", "3.1l"]\n')
    result = pytester.runpytest_subprocess("--python-suite")
    result.stderr.fnmatch_lines([f"ERROR: --python in addopts of {place}: '3.1l' is not a valid request*"])


def test_an_unknown_version_is_reported_with_its_origin(pytester: pytest.Pytester, full: Path) -> None:
    ini = '[tool.pytest.ini_options]\npyinstall_python = "3.99"\npyinstall_downloads = "auto"\n'
    place = pytester.makepyprojecttoml(ini)
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: pyinstall_python in {place}: *3.99*", "hint: *"])


CONFIGURED = {
    "ini": 'pyinstall_python = ["3.9", "3.99"]',
    "addopts": 'addopts = ["--python", "3.9,3.99"]',
    "variable": "",
}


@pytest.fixture(name="configured", params=CONFIGURED)
def _configured(
    request: pytest.FixtureRequest, pytester: pytest.Pytester, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project that configures one Python that is present and one that is missing."""
    pytester.makepyprojecttoml(f"[tool.pytest.ini_options]\n{CONFIGURED[request.param]}\n")
    if request.param == "variable":
        monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", "3.9,3.99")


MISSING_LINE = "missing: 3.99 (offline); --python-missing skip or --python current"


@pytest.mark.usefixtures("configured")
def test_a_missing_configured_python_is_only_a_line_if_no_selected_test_uses_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_plain(): pass
        @pytest.mark.python("3.9")
        def test_own(python): pass
        @pytest.mark.requires_python("<3.10")
        def test_old(python): pass
        def test_each(python): pass
        """
    )
    result = pytester.runpytest_subprocess("-k", "not each")
    result.assert_outcomes(passed=3, deselected=2)
    result.stdout.fnmatch_lines_random(["pythons: 3.9.* (already installed)", MISSING_LINE])
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            "ERROR: *1 of 2 Pythons*",
            "*3.99*",
            "hint: *",
            "hint: pytest --python-missing skip",
            "hint: pytest --python current",
        ]
    )
    result.stderr.no_fnmatch_line("*Traceback*")
    current = pytester.runpytest_subprocess("--python", "current")
    current.assert_outcomes(passed=3, skipped=1)
    current.stdout.fnmatch_lines(["pythons: * (current)"])
    skipped = pytester.runpytest_subprocess("--python-missing", "skip")
    skipped.assert_outcomes(passed=4, skipped=1)
    skipped.stdout.fnmatch_lines(["missing: 3.99 (offline); their tests are skipped"])


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    "body", ["def test_it(pythons): pass", "def test_it(request): request.getfixturevalue('pythons')"]
)
def test_a_test_of_all_pythons_fails_if_one_is_missing(pytester: pytest.Pytester, body: str) -> None:
    pytester.makepyfile(f"{body}\ndef test_plain(): pass")
    result = pytester.runpytest_subprocess()
    outcomes = result.parseoutcomes()
    assert outcomes.pop("passed") == 1
    assert [*outcomes] in (["error"], ["errors"], ["failed"])
    result.stdout.fnmatch_lines(["*3.99*", "hint: *"])


@pytest.mark.usefixtures("xdist", "configured")
def test_an_xdist_worker_fails_the_tests_of_a_missing_python(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(python): pass\ndef test_plain(): pass")
    result = pytester.runpytest_subprocess("-n1")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*3.99*", "hint: *"])


def test_missing_commands_on_path_end_only_sessions_that_use_the_option(
    pytester: pytest.Pytester, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PYINSTALL_PYTHON", "3.9")
    pytester.makeconftest(
        """
        from pytest_pyinstall.errors import StoreError
        from pytest_pyinstall.interpreter import path_commands
        def refuse(*args, **kwargs):
            raise StoreError("nothing can be started from here")
        path_commands.commands_on_path = refuse
        """
    )
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pyinstall: no commands on PATH: nothing can be started from here"])
    result = pytester.runpytest_subprocess("--python", "3.9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    "arguments", [["--python=three"], ["--python="], ["--python=3.9", "--python-missing=maybe"], ["--python=supported"]]
)
def test_an_invalid_option_ends_the_session_with_one_message_even_when_skipping(
    pytester: pytest.Pytester, full: Path, arguments: list[str]
) -> None:
    pytester.makepyfile("def test_it(python): pass")
    result = pytester.runpytest_inprocess("--python-missing=skip", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_tests_of_a_missing_python_are_skipped_with_the_reason(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(python): pass\ndef test_all(pythons): assert len(pythons) == 2")
    result = pytester.runpytest_inprocess(
        "-v", "-rs", "--python=3.9,3.6,3.10", "--python=./no/python", "--python-missing=skip"
    )
    result.assert_outcomes(passed=3, skipped=2)
    assert ids(result)[:4] == ["test_it[3.9]", "test_it[3.6]", "test_it[3.10]", "test_it[python]"]
    result.stdout.fnmatch_lines(["python 3.6 -> missing: *3.6*", "SKIPPED*Python 3.6 *", "SKIPPED*no/python*"])


def test_p18_a_python_with_another_version_than_its_name_fails_the_session(
    pytester: pytest.Pytester, packed_mirror: Path
) -> None:
    pytester.makepyfile("def test_it(python): pass")
    pytester.runpytest_inprocess("--python=3.9").assert_outcomes(passed=1)
    (executable,) = store().glob("cpython-3.9.*-*/bin/python3.9")
    state = executable.stat()
    lie = f'#!/bin/sh\nexec {interpreters()["3.11"]} "$@"\n'.encode()
    executable.write_bytes(lie + b"#" * (state.st_size - len(lie)))
    os.utime(executable, ns=(state.st_atime_ns, state.st_mtime_ns))
    result = pytester.runpytest_inprocess("-v", "--python=3.9", "--python-missing=skip")
    if result.ret == 0:  # the store found and repaired the difference, which is also correct
        result.stdout.fnmatch_lines(["python 3.9 -> CPython 3.9.* (repaired now*"])
    else:
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *is cpython-3.11.*, not cpython-3.9.*", "hint: *"])


# Output
def test_very_quiet_sessions_print_nothing_about_downloads(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess("-qq", "--python=3.9")
    assert result.ret == 0
    assert len(installed()) == 1
    result.stdout.no_fnmatch_line("*3.9*")


def test_progress_is_neither_captured_nor_mixed_into_other_lines(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        print("while collecting")
        @pytest.mark.python("3.9")
        def test_it(python):
            print("while running")
            assert 0
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"Downloading cpython-3\.9\.\S+ \([\d.]+ \w+\)$"])
    captured = result.stdout.str().partition("Captured stdout call")[2]
    assert "while running" in captured
    assert "Downloading" not in captured


# xdist
@pytest.mark.usefixtures("xdist")
def test_a_session_with_xdist_mentions_unused_pythons(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-n1", "--python=3.9")
    result.stdout.fnmatch_lines(["pyinstall: python3.9 was on PATH, but no test used the fixture `python`; to run *"])


# Other plugins and conftests
def test_a_conftest_with_an_option_python_works_with_and_without_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--python')")
    pytester.makepyfile("def test_it(pytestconfig): assert pytestconfig.getoption('--python') == 'x'")
    pytester.runpytest_subprocess("--python=x").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("-p", "no:pyinstall", "--python=x").assert_outcomes(passed=1)


def test_the_junit_file_names_each_python(pytester: pytest.Pytester, full: Path) -> None:
    pytester.makepyfile("def test_it(python): pass")
    pytester.runpytest_inprocess("--junitxml=junit.xml", "--python=3.9,3.10").assert_outcomes(passed=2)
    written = pytester.path.joinpath("junit.xml").read_text(encoding="utf-8")
    assert 'name="test_it[3.9]"' in written
    assert 'name="test_it[3.10]"' in written


def test_help_shows_ini_values(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(
        ["Pythons for the tests*", "*--python*, --pyinstall-python=REQUEST*", "*pyinstall_python (linelist)*"]
    )
    assert json.dumps(result.outlines)
