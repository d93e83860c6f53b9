"""The wheel, the public names, the layout of modules, and what an import or a command loads are as decided."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import fault_workshop
import pytest
from packaging.requirements import Requirement

import pytest_pyinstall

ROOT = Path(__file__).parent.parent
PACKAGE = Path(pytest_pyinstall.__file__).parent
RUN_BY_PATH = {"system/_guard.py", "suite/_worker_plugin.py", "interpreter/_probe_script.py", "__main__.py"}
"""Files that another Python runs and that no module imports."""

# What users can rely on. Adding a name is a decision. Everything else can change.
PUBLIC_API = [
    "Environment",
    "Interpreter",
    "PyinstallError",
    "Request",
    "RunError",
    "Settings",
    "provision",
    "provision_all",
]
MOST_FILES = 20
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def declared(path: Path) -> list[str]:
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    return []


def imported_from_us(path: Path) -> list[tuple[str, str]]:
    """Each name that the file imports from this package, with the path of its module below the package."""
    return [
        (node.module.partition(".")[2], alias.name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pytest_pyinstall"
        for alias in node.names
    ]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, timeout=200
    ).stdout


def test_the_public_api_has_the_decided_names() -> None:
    assert pytest_pyinstall.__all__ == PUBLIC_API
    assert all(hasattr(pytest_pyinstall, name) for name in PUBLIC_API)


@pytest.mark.parametrize("module", sorted(set(MODULES) - RUN_BY_PATH))
def test_each_name_in_all_of_a_module_exists(module: str) -> None:
    if module in {"tox_plugin.py", "virtualenv_plugin.py"}:
        pytest.importorskip(module.partition("_")[0])
    name = ".".join(Path("pytest_pyinstall", module).with_suffix("").parts).removesuffix(".__init__")
    imported = importlib.import_module(name)
    assert not [each for each in declared(PACKAGE / module) if not hasattr(imported, each)]


@pytest.mark.parametrize("module", MODULES)
def test_private_names_of_a_package_are_imported_only_by_that_package(module: str) -> None:
    package = module.rpartition("/")[0]
    for source, name in imported_from_us(PACKAGE / module):
        if source.partition(".")[0] != package:
            assert not any(part.startswith("_") for part in (*source.split("."), name)), (source, name)


def test_each_directory_has_a_limited_number_of_files_and_each_init_only_a_docstring() -> None:
    for directory in {PACKAGE, *(path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())}:
        assert len([path for path in directory.iterdir() if path.is_file()]) <= MOST_FILES, directory
        if directory != PACKAGE:
            body = ast.parse((directory / "__init__.py").read_text(encoding="utf-8")).body
            assert [type(statement) for statement in body] == [ast.Expr], directory


@pytest.mark.parametrize(
    "module", [module for module in MODULES if Path(module).name not in {"__init__.py", "__main__.py"}]
)
def test_each_module_has_a_test_file(module: str) -> None:
    path = Path(module)
    assert (ROOT / "tests" / path.parent / f"test_{path.name.lstrip('_')}").is_file()


def test_importing_the_package_imports_only_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
import pytest_pyinstall
print(*(name for name in sorted(set(sys.modules) - before) if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    assert run(code).split() == ["pytest_pyinstall"]


IN_EACH_SESSION = [
    "pytest_pyinstall",
    *(
        f"pytest_pyinstall.{name}"
        for name in ("hookspecs", "options", "pytest_options", "pytest_plugin", "pytest_state")
    ),
]


def test_the_plugin_imports_only_pytest_and_the_standard_library() -> None:
    code = """
import sys
import pytest
before = set(sys.modules)
import pytest_pyinstall.pytest_plugin
print(*(name for name in sorted(set(sys.modules) - before) if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    assert run(code).split() == [name for name in IN_EACH_SESSION if not name.endswith("hookspecs")]


def test_a_session_without_a_request_imports_only_the_plugin(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import sys
        def test_it():
            ours = [name for name in sys.modules if name.startswith("pytest_pyinstall")]
            assert sorted(ours) == {IN_EACH_SESSION}
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)


def test_pytest_rewrites_none_of_our_modules(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would read their byte code slowly. An editable installation, unlike one from a wheel, lists no modules."""
    site = pytester.mkdir("site")
    (site / "pytest_pyinstall").symlink_to(PACKAGE)
    info = site / "pytest_pyinstall-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-pyinstall\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[pytest11]\npyinstall = pytest_pyinstall.pytest_plugin\n", encoding="utf-8")
    (info / "RECORD").write_text("pytest_pyinstall/__init__.py,,\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(site))
    pytester.makepyfile(
        """
        import sys
        import pytest_pyinstall.suite.controller
        def test_it():
            ours = {name: module for name, module in sys.modules.items() if name.startswith("pytest_pyinstall")}
            rewritten = [name for name, module in ours.items() if "rewrite" in type(module.__loader__).__module__]
            assert rewritten == ["pytest_pyinstall", "pytest_pyinstall.pytest_plugin"]
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist").assert_outcomes(passed=1)


NOT_FOR_INSTALLED = {
    *(
        "concurrent.futures",
        "ctypes",
        "dataclasses",
        "datetime",
        "difflib",
        "email",
        "filelock",
        "hashlib",
        "httpcore2",
    ),
    *("importlib.metadata", "ipaddress", "logging", "pbs_installer", "platform", "random", "rich", "shutil", "socket"),
    *("ast", "inspect", "packaging.specifiers", "packaging.version", "ssl", "tempfile", "traceback", "urllib.parse"),
}
"""Modules that a command with nothing to do must not import, because each costs a millisecond or more."""

BY_COMMAND = {
    ("--version",): {"pathlib", "subprocess", "threading", "json", "packaging.version", "pytest_pyinstall.provisioner"},
    ("--help",): {"pathlib", "subprocess", "json", "packaging.version", "pytest_pyinstall.provisioner"},
    ("install", "--help"): {"httpcore2", "rich", "filelock"},
    ("find", "VERSION"): NOT_FOR_INSTALLED,
    ("install", "VERSION"): NOT_FOR_INSTALLED,
    ("dir",): {"filelock", "httpcore2", "logging", "pbs_installer", "rich", "socket", "ssl"},
    ("list", "VERSION"): {"filelock", "httpcore2", "pbs_installer", "rich", "ssl"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a process whose store has one Python and whose settings have no URL."""
    directory = tmp_path_factory.mktemp("installed")
    workshop = fault_workshop.Workshop(directory, fault_workshop.make_mirror(directory / "mirror"))
    assert workshop.run("install", workshop.version).code == 0
    ours = {name: value for name, value in workshop.environ.items() if not name.endswith(("_MIRROR", "_CATALOGUE"))}
    return {**ours, "VERSION": workshop.version}


@pytest.mark.skipif(sys.platform == "win32", reason="its small Python is a shell script")
@pytest.mark.parametrize("words", BY_COMMAND, ids=" ".join)
def test_a_command_imports_only_what_it_uses(installed: dict[str, str], words: tuple[str, ...]) -> None:
    code = """
import sys
from pytest_pyinstall.cli.main import main
code = main(sys.argv[1:])
print("\\n", code, *sys.modules)
"""
    known = {"urllib.parse", "ipaddress"} if sys.version_info < (3, 12) else set()  # by pathlib, up to 3.11
    argv = [installed["VERSION"] if word == "VERSION" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{code}", *argv],
        env=installed, cwd=installed["HOME"], capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    exit_code, *modules = done.stdout.splitlines()[-1].split()
    assert exit_code == "0", done.stderr
    assert sorted(BY_COMMAND[words] & set(modules) - known) == []


NOT_FOR_PRESENT = {
    *("httpcore2", "pbs_installer", "rich"),
    *(f"pytest_pyinstall.{name}" for name in ("archive.unpack", "archive.finish", "download.fetch", "store.claim")),
}


@pytest.mark.skipif(sys.platform == "win32", reason="its small Python is a shell script")
def test_a_session_whose_pythons_are_present_imports_nothing_that_installs(
    installed: dict[str, str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(
        f"""
        import sys
        def test_it(python):
            assert python.run("-c", "print(1)").stdout == "1\\n"
            assert sorted(set({sorted(NOT_FOR_PRESENT)}) & set(sys.modules)) == []
        """
    )
    for name, value in installed.items():
        monkeypatch.setenv(name, value)
    pytester.runpytest_subprocess(
        "-p", "no:randomly", "-p", "no:xdist", "--python", installed["VERSION"]
    ).assert_outcomes(passed=1)


def test_the_modules_of_a_suite_do_not_import_what_explains_failures() -> None:
    """Every suite would pay for it: parsing requirements takes longer to import than one environment to look at."""
    code = (
        "import sys, pytest, pytest_pyinstall.suite.controller, pytest_pyinstall.suite.environment; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    explaining = {"pytest_pyinstall.interpreter.reasons", "packaging.requirements", "packaging.tags", "difflib"}
    assert explaining & {*done.stdout.split()} == set()


@pytest.mark.parametrize("plugin", ["tox_plugin", "virtualenv_plugin"])
def test_the_tox_and_virtualenv_plugins_import_nothing_that_installs(plugin: str) -> None:
    pytest.importorskip(plugin.partition("_")[0])
    code = f"import sys, pytest_pyinstall.{plugin}; print(*sys.modules)"
    assert sorted(NOT_FOR_PRESENT & set(run(code).split())) == []


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    pytest.importorskip("hatchling")
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=200)
    (path,) = directory.glob("*.whl")
    return zipfile.Path(path)


def test_the_wheel_contains_only_the_package(wheel: zipfile.Path) -> None:
    names = {name for name in wheel.root.namelist() if not name.endswith("/")}
    package = {name for name in names if name.startswith("pytest_pyinstall/")}
    files = (path for path in (ROOT / "pytest_pyinstall").rglob("*") if path.is_file() and path.suffix != ".pyc")
    sources = {path.relative_to(ROOT).as_posix() for path in files}
    assert package == sources
    assert "pytest_pyinstall/py.typed" in package
    assert "pytest_pyinstall/interpreter/_probe_script.py" in package
    others = {name.partition("/")[2] for name in names - package}
    assert others == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_each_entry_point_of_the_wheel_exists(wheel: zipfile.Path) -> None:
    (text,) = (
        wheel.joinpath(name).read_text(encoding="utf-8")
        for name in wheel.root.namelist()
        if name.endswith("entry_points.txt")
    )
    assert text.split("\n") == [
        "[console_scripts]",
        "pytest-pyinstall = pytest_pyinstall.cli.main:run_and_exit",
        "",
        "[pytest11]",
        "pyinstall = pytest_pyinstall.pytest_plugin",
        "",
        "[tox]",
        "pyinstall = pytest_pyinstall.tox_plugin",
        "",
        "[virtualenv.discovery]",
        "pyinstall = pytest_pyinstall.virtualenv_plugin:Pyinstall",
        "",
    ]
    for line in text.splitlines():
        if " = " in line:
            module, _, name = line.rpartition(" = ")[2].partition(":")
            path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
            assert path.is_file()
            assert not name or name in declared(path)


def test_the_installed_version_is_that_of_this_checkout() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.metadata.version("pytest-pyinstall") == project["version"]
    assert "pytest>=7.4" in project["dependencies"]
    assert project["requires-python"] == ">=3.11"


WHEELS_OF_ISAL = {
    ("linux", "x86_64", "3.11", "CPython"): True,
    ("linux", "aarch64", "3.15", "CPython"): True,
    ("darwin", "arm64", "3.14", "CPython"): True,
    ("darwin", "x86_64", "3.13", "CPython"): True,
    ("win32", "AMD64", "3.12", "CPython"): True,
    ("win32", "ARM64", "3.13", "CPython"): False,
    ("win32", "x86", "3.13", "CPython"): False,
    ("linux", "armv7l", "3.13", "CPython"): False,
    ("linux", "i686", "3.13", "CPython"): False,
    ("linux", "ppc64le", "3.13", "CPython"): False,
    ("linux", "riscv64", "3.13", "CPython"): False,
    ("linux", "s390x", "3.13", "CPython"): False,
    ("linux", "x86_64", "3.16", "CPython"): False,
    ("linux", "x86_64", "3.11", "PyPy"): False,
    ("freebsd14", "x86_64", "3.13", "CPython"): False,
}


@pytest.mark.parametrize("machine", WHEELS_OF_ISAL, ids=" ".join)
def test_isal_is_a_dependency_on_platforms_with_a_wheel(machine: tuple[str, str, str, str]) -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (isal,) = (each for each in map(Requirement, project["dependencies"]) if each.name == "isal")
    names = ("sys_platform", "platform_machine", "python_version", "platform_python_implementation")
    assert isal.marker is not None
    assert isal.marker.evaluate(dict(zip(names, machine, strict=True))) is WHEELS_OF_ISAL[machine]
    assert project["optional-dependencies"]["speed"] == []
