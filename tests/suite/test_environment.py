"""Sessions make an environment again when its contents would change, and only then: with real projects."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archives import interpreters
from suite_fixtures import NEW, OLD, Run, asked, marks
from waiting import wait_until

from pytest_pyinstall.suite import cache as environment_cache

pytestmark = marks

MADE = "making an environment for"
SETUPTOOLS = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
FLIT = '[build-system]\nrequires = ["flit_core>=3.4,<4"]\nbuild-backend = "flit_core.buildapi"\n'
NAMED = '[project]\nname = "demo"\nversion = "1"\ndescription = "A library"\n'


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def made(result: pytest.RunResult) -> str:
    """The lines about environments that the session made; empty if it made none."""
    return "\n".join(line for line in result.outlines if MADE in line)


def environments_of(project: Path, home: Path) -> list[Path]:
    records = environment_cache.environments_directory(home / "cache").glob("*/suite.json")
    return [path.parent for path in records if f'"{project}"' in path.read_text("utf-8")]


def prove(project: Path, expression: str) -> None:
    """Write a test that asserts `expression`, in a directory where the files of the project are not importable."""
    (project / "tests").mkdir(exist_ok=True)
    (project / "tests" / "test_it.py").write_text(
        f"import importlib.metadata as metadata\ndef test_it():\n    import demo\n    assert {expression}\n", "utf-8"
    )


# A stale environment would let tests pass that must fail


@pytest.mark.parametrize("word", [".", "./", ".[more]", "file:.", "demo @ file:.", "-r reqs/all.txt"])
def test_changed_sources_of_a_copied_project_make_the_environment_again(
    run: Run, pytester: pytest.Pytester, word: str
) -> None:
    project = pytester.path
    extra = "[project.optional-dependencies]\nmore = []\n"
    write(
        project,
        {
            "pyproject.toml": FLIT
            + NAMED
            + extra
            + f"[tool.pytest.ini_options]\npyinstall_suite_install = ['{word}']\n",
            "src/demo/__init__.py": "x = 1\n",
            "src/demo/build/deep.py": "y = 1\n",
            "reqs/all.txt": ".\n",
        },
    )
    prove(project, "demo.x == 1")
    result = run(pythons=(NEW,))
    result.assert_outcomes(passed=1)
    result = run(pythons=(NEW,))
    assert not made(result)
    write(project, {"src/demo/__init__.py": "x = 2\n"})
    result = run(pythons=(NEW,))
    result.assert_outcomes(failed=1)
    assert "the sources of the project" in made(result)
    prove(project, "__import__('demo.build.deep').build.deep.y == 2")
    write(project, {"src/demo/build/deep.py": "y = 2\n"})
    run(pythons=(NEW,)).assert_outcomes(passed=1)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_copy_contains_nothing_of_earlier_builds(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """setuptools keeps what it has built in ``build``: a module that is gone, an object file older than a header."""
    project = pytester.path
    settings = "[tool.pytest.ini_options]\npyinstall_suite_install = ['.']\n"
    write(
        project,
        {
            "pyproject.toml": SETUPTOOLS + NAMED + "[tool.setuptools]\npackages = ['demo', 'demo.more']\n" + settings,
            "src/demo/__init__.py": "",
            "src/demo/more/__init__.py": "",
            "src/demo/more/gone.py": "",
            "src/demo/value.h": "#define VALUE 1",
            "src/demo/value.c": '#include "value.h"\nint value(void) { return VALUE; }\n',
            "setup.py": "from setuptools import Extension, setup\nsetup(package_dir={'': 'src'},"
            " ext_modules=[Extension('demo.value', ['src/demo/value.c'], export_symbols=[])])\n",
            "extra.cfg": "[metadata]\nDescription = of the user\n[build]\nbuild_base = elsewhere\n",
        },
    )
    monkeypatch.setenv("DIST_EXTRA_CONFIG", "extra.cfg")
    value = (
        "__import__('ctypes').CDLL(str(next(file.locate() for file in metadata.files('demo') if file.suffix == '.so'))"
    )
    prove(project, f"{value}).value() == 1 and __import__('demo.more.gone')")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    assert not (project / "build").exists()
    assert not (project / "elsewhere").exists()
    write(project, {"build/lib/demo/more/gone.py": "", "src/demo/value.h": "#define VALUE 2"})
    (project / "src/demo/more/gone.py").unlink()
    prove(project, f"{value}).value() == 2 and not __import__('importlib.util').util.find_spec('demo.more.gone')")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    assert [path.name for path in (project / "build").iterdir()] == ["lib"]


@pytest.mark.parametrize(
    ("files", "edit", "named"),
    [
        (
            {
                "pyproject.toml": SETUPTOOLS
                + '[project]\nname = "demo"\nversion = "1"\ndynamic = ["dependencies"]\n'
                + '[tool.setuptools.dynamic]\ndependencies = {file = ["reqs.txt"]}\n',
                "reqs.txt": "",
            },
            {"reqs.txt": "iniconfig\nwcwidth\n"},
            "reqs.txt",
        ),
        (
            {
                "setup.py": "from setuptools import setup\nsetup(name='demo', version='1', py_modules=['demo'],"
                " install_requires=open('reqs.txt').read().split())\n",
                "reqs.txt": "",
            },
            {"reqs.txt": "wcwidth\n"},
            "reqs.txt",
        ),
        (
            {
                "setup.py": "import os\nfrom setuptools import setup\n"
                "here = os.path.dirname(os.path.abspath(__file__))\n"
                "with open(os.path.join(here, 'requirements', 'base.txt')) as f: lines = f.read().split()\n"
                "setup(name='demo', version='1', py_modules=['demo'], install_requires=lines)\n",
                "requirements/base.txt": "",
            },
            {"requirements/base.txt": "wcwidth\n"},
            "requirements/base.txt",
        ),
        (
            {
                "setup.cfg": "[metadata]\nname = demo\nversion = 1\n[options]\npy_modules = demo\n"
                "install_requires = file: reqs.txt\n",
                "setup.py": "from setuptools import setup\nsetup()\n",
                "reqs.txt": "",
            },
            {"reqs.txt": "wcwidth\n"},
            "reqs.txt",
        ),
        (
            {
                "setup.py": "from setuptools import setup\nfrom helper import LINES\n"
                "setup(name='demo', version='1', py_modules=['demo'], install_requires=LINES)\n",
                "pyproject.toml": SETUPTOOLS.replace("setuptools.build_meta", "setuptools.build_meta:__legacy__"),
                "helper.py": "LINES = []\n",
            },
            {"helper.py": "LINES = ['wcwidth']\n"},
            "helper.py",
        ),
    ],
)
def test_a_changed_file_that_the_build_reads_makes_the_environment_again(
    run: Run, pytester: pytest.Pytester, files: dict[str, str], edit: dict[str, str], named: str
) -> None:
    project = pytester.path
    write(project, {**files, "demo.py": ""})
    prove(project, "__import__('wcwidth')")
    run(pythons=(NEW,)).assert_outcomes(failed=1)
    write(project, edit)
    result = run(pythons=(NEW,))
    result.assert_outcomes(passed=1)
    assert named in made(result)


def test_a_new_version_in_a_module_makes_the_environment_again(run: Run, pytester: pytest.Pytester) -> None:
    project = pytester.path
    write(
        project,
        {
            "pyproject.toml": FLIT + '[project]\nname = "demo"\ndynamic = ["version", "description"]\n',
            "demo.py": '"""A library."""\n__version__ = "1"\n',
        },
    )
    prove(project, "metadata.version('demo') == '1'")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    write(project, {"demo.py": '"""A library."""\n__version__ = "1"\nx = 1\n'})
    assert not made(run(pythons=(NEW,)))
    write(project, {"demo.py": '"""A library."""\n__version__ = "2"\n'})
    result = run(pythons=(NEW,))
    result.assert_outcomes(failed=1)
    assert "demo.py" in made(result)


@pytest.mark.parametrize("editable", [True, False])
def test_a_changed_local_dependency_is_installed_again_unless_it_is_editable(
    run: Run, pytester: pytest.Pytester, editable: bool
) -> None:
    project = pytester.path
    sources = f'[tool.uv.sources]\nother = {{path = "other", editable = {str(editable).lower()}}}\n'
    write(
        project,
        {
            "pyproject.toml": FLIT + NAMED + 'dependencies = ["other"]\n' + sources,
            "demo.py": "",
            "other/pyproject.toml": FLIT + NAMED.replace("demo", "other"),
            "other/other.py": "x = 1\n",
        },
    )
    prove(project, "__import__('other').x == 1")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    write(project, {"other/other.py": "x = 2\n"})
    result = run(pythons=(NEW,))
    result.assert_outcomes(failed=1)
    assert bool(made(result)) is not editable


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("pyproject.toml", "", '[tool.pytest.ini_options]\naddopts = ["-ra"]\n'),
        ("pyproject.toml", "", "# a comment\n"),
        ("pyproject.toml", "[tool.ruff]\nline-length = 100\n", "[tool.ruff]\nline-length = 120\n"),
        ("pyproject.toml", "", "[tool.mypy]\nstrict = true\n[tool.coverage.run]\nbranch = true\n"),
        ("pyproject.toml", "", '[dependency-groups]\ndocs = ["sphinx"]\n'),
        ("setup.cfg", "[flake8]\nx = 1\n", "[flake8]\nx = 2\n[tool:pytest]\n"),
        ("tox.ini", "[testenv:lint]\ndeps = ruff\n", "[testenv:lint]\ndeps = mypy\n"),
        ("README.md", "a", "b"),
    ],
)
def test_a_change_that_does_not_reach_the_environment_does_not_make_it_again(
    run: Run, pytester: pytest.Pytester, name: str, before: str, after: str
) -> None:
    project = pytester.path
    base = {"pyproject.toml": FLIT + NAMED, "setup.cfg": "", "tox.ini": "", "README.md": ""}
    write(project, {**base, "demo.py": "", name: base[name] + before})
    prove(project, "True")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    write(project, {name: base[name] + after})
    result = run(pythons=(NEW,))
    result.assert_outcomes(passed=1)
    assert not made(result)


def test_the_replaced_environment_is_deleted_and_the_reason_is_printed(
    run: Run, project: Path, shared_home: Path
) -> None:
    run("-k", "fine")
    before = environments_of(project, shared_home)
    assert len(before) == 2
    orphan = before[0].with_name(f"{1:016x}-{1:016x}")  # its Python was removed
    orphan.mkdir()
    shutil.copy(before[0] / "suite.json", orphan)
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text("utf-8") + 'dependencies = ["iniconfig"]\n', "utf-8"
    )
    result = run("-k", "fine")
    assert made(result).count("changed: pyproject.toml [project]") == 2
    after = environments_of(project, shared_home)
    assert len(after) == 2
    assert not {*before, orphan} & set(after)
    records = [json.loads((path / "suite.json").read_text("utf-8")) for path in after]
    assert {(record["variant"], record["why"]) for record in records} == {("", "changed: pyproject.toml [project]")}


# Damage


@pytest.mark.parametrize(
    ("pattern", "how"),
    [
        ("lib/*/site-packages/iniconfig/__init__.py", "empty"),
        ("lib/*/site-packages/_pytest/main.py", "delete"),
        ("lib/*/site-packages/_pytest/main.py", "same size"),
        ("pyvenv.cfg", "delete"),
        ("bin/pytest", "empty"),
        ("lib/*/site-packages/_pytest/__pycache__/main.*.pyc", "cut"),
        ("lib/*/site-packages/iniconfig/__pycache__/__init__.*.pyc", "cut"),
        ("suite.json", "cut"),
        ("content.json", "cut"),
        ("lib/*/site-packages/pluggy*", "delete"),
        ("bin/python", "delete"),
    ],
)
def test_a_damaged_environment_is_made_again(
    run: Run, project: Path, shared_home: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, how: str
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    run("-k", "fine", pythons=(NEW,)).assert_outcomes(passed=1, deselected=4)
    (environment,) = environments_of(project, shared_home)
    path = next(environment.glob(pattern))
    if how == "delete":
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "same size": b"#" * len(content)}[how])
    result = run("-k", "fine", pythons=(NEW,))
    result.assert_outcomes(passed=1, deselected=4)
    assert "damaged" in made(result)
    assert not made(run("-k", "fine", pythons=(NEW,)))


def test_an_environment_with_a_package_installed_by_hand_is_made_again(
    run: Run, project: Path, shared_home: Path
) -> None:
    run("-k", "fine", pythons=(NEW,))
    (environment,) = environments_of(project, shared_home)
    packages = next(environment.glob("lib/*/site-packages"))
    (packages / "extra-1.dist-info").mkdir()
    result = run("-k", "fine", pythons=(NEW,))
    assert "extra-1.dist-info was added to it" in made(result)
    assert not (packages / "extra-1.dist-info").exists()


def test_an_environment_is_made_again_if_the_link_to_its_python_leads_elsewhere(
    run: Run, project: Path, tmp_path: Path
) -> None:
    """To another build of the same version: here of the same Python, with a directory of its own."""
    real = interpreters()[NEW].resolve()
    for name in ("one", "other"):
        (tmp_path / name / "bin").mkdir(parents=True)
        shutil.copy(real, tmp_path / name / "bin" / real.name)
        (tmp_path / name / "lib").symlink_to(real.parent.parent / "lib")
    (project / "test_it.py").write_text(
        "import sys\ndef test_it(): assert sys.base_prefix.endswith('other')\n", "utf-8"
    )
    link = tmp_path / "python"
    for name, outcome in (("one", {"failed": 1}), ("other", {"passed": 1})):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name / "bin" / real.name)
        result = run(f"--python={link}", "test_it.py", pythons=())
        result.assert_outcomes(**outcome)
    assert "changed: the directory of the Python" in made(result)


def test_new_modification_times_are_no_damage(run: Run, project: Path, shared_home: Path) -> None:
    run("-k", "fine", pythons=(NEW,))
    (environment,) = environments_of(project, shared_home)
    for path in environment.rglob("*.py"):
        os.utime(path, (1, 1))
    assert not made(run("-k", "fine", pythons=(NEW,)))


def test_a_reboot_causes_a_comparison_of_the_content(run: Run, project: Path, shared_home: Path) -> None:
    run("-k", "fine", pythons=(NEW,))
    (environment,) = environments_of(project, shared_home)
    record = json.loads((environment / "content.json").read_text("utf-8"))
    (environment / "content.json").write_text(json.dumps({**record, "boot": "another"}), "utf-8")
    assert not made(run("-k", "fine", pythons=(NEW,)))
    (environment / "content.json").write_text(json.dumps({**record, "boot": "another"}), "utf-8")
    path = next(environment.glob("lib/*/site-packages/iniconfig/__init__.py"))
    status = path.stat()
    path.write_bytes(b"\0" * status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "damaged" in made(run("-k", "fine", pythons=(NEW,)))


# Locks


SLOW_BACKEND = (
    "import os, time\nfrom flit_core.buildapi import *\nfrom flit_core.buildapi import build_editable as build\n"
    "def build_editable(*args, **named):\n    open('building', 'w').close()\n"
    "    while not os.path.exists('go'): time.sleep(0.1)\n    return build(*args, **named)\n"
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_session_names_the_process_that_it_waits_for_and_stops_at_the_timeout(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (project / "pyproject.toml").read_text("utf-8")
    text = text.replace('["flit_core>=3.4,<4"]', '["flit_core>=3.4,<4"]\nbackend-path = ["."]')
    (project / "pyproject.toml").write_text(text.replace("flit_core.buildapi", "slow"), "utf-8")
    (project / "slow.py").write_text(SLOW_BACKEND, "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--python-suite", "-k", "fine", *asked(OLD)]
    first = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    try:
        wait_until((project / "building").exists, 300)
        monkeypatch.setenv("PYTEST_PYINSTALL_LOCK_TIMEOUT", "2")
        for pythons in ((OLD,), (NEW,)):  # the same environment, and another one of the same project
            result = run("-k", "fine", pythons=pythons)
            assert result.ret != 0
            result.stdout.fnmatch_lines([f"*gave up after 2 s waiting for *: process {first.pid} (*"])
            result.stdout.fnmatch_lines([f"*waiting for *: process {first.pid} (*"])
    finally:
        (project / "go").touch()
        first.wait(300)
    assert first.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_the_installer_of_a_killed_session_does_not_disturb_the_next_session(
    run: Run, project: Path, shared_home: Path
) -> None:
    text = (project / "pyproject.toml").read_text("utf-8")
    text = text.replace('["flit_core>=3.4,<4"]', '["flit_core>=3.4,<4"]\nbackend-path = ["."]')
    (project / "pyproject.toml").write_text(text.replace("flit_core.buildapi", "slow"), "utf-8")
    (project / "slow.py").write_text(SLOW_BACKEND, "utf-8")
    shelf = environment_cache.environments_directory(shared_home / "cache")
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "--python-suite", "-k", "fine", *asked(NEW)]
    first = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL)
    wait_until((project / "building").exists, 300)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = {path.name for path in shelf.glob(".*.new")}
    (project / "go").touch()
    second = run("-k", "fine", pythons=(NEW,))
    second.assert_outcomes(passed=1, deselected=4)
    assert left
    assert not left & {path.name for path in shelf.glob(".*.new")}
    assert not made(run("-k", "fine", pythons=(NEW,)))


MESON = """
project('demo', 'c', version: '1')
py = import('python').find_installation(pure: false)
py.install_sources('src/demo/__init__.py', subdir: 'demo')
py.extension_module('_one', 'one.c', install: true, subdir: 'demo')
"""
ONE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_one", NULL, -1, NULL};
PyMODINIT_FUNC PyInit__one(void) {
    PyObject *made = PyModule_Create(&module);
    PyModule_AddIntConstant(made, "one", 1);
    return made;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_meson_project_is_built_without_a_system_ninja(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """meson-python's editable installations build with the ninja of an isolated environment that no longer exists."""
    project = pytester.path / "project"
    write(
        project,
        {
            "pyproject.toml": '[build-system]\nrequires = ["meson-python"]\nbuild-backend = "mesonpy"\n' + NAMED,
            "meson.build": MESON,
            "src/demo/__init__.py": "from demo._one import one\n",
            "one.c": ONE,
        },
    )
    tools = pytester.path / "tools"
    tools.mkdir()
    for place in reversed(os.environ["PATH"].split(os.pathsep)):
        for path in Path(place).glob("*"):
            if "ninja" not in path.name and path.name not in {"samu", "meson"}:
                (tools / path.name).unlink(missing_ok=True)
                (tools / path.name).symlink_to(path)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.delenv("NINJA", raising=False)
    monkeypatch.chdir(project)
    prove(project, "demo.one == 1")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    write(project, {"one.c": ONE.replace('"one", 1', '"one", 2')})
    result = run(pythons=(NEW,))
    result.assert_outcomes(failed=1)
    assert "the sources" in made(result)


# The same on every Python


def hide_uv(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next sessions find no uv: neither on PATH nor as the package, which a fake replaces."""
    (project.parent / "no-uv" / "uv").mkdir(parents=True)
    (project.parent / "no-uv" / "uv" / "__init__.py").write_text(
        "def find_uv_bin(): raise FileNotFoundError\n", "utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(project.parent / "no-uv"))
    found = os.environ["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", os.pathsep.join(place for place in found if not Path(place, "uv").exists()))


@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_a_project_is_editable_on_every_python_in_pip_and_in_its_metadata(
    run: Run, project: Path, shared_home: Path, monkeypatch: pytest.MonkeyPatch, installer: str
) -> None:
    if installer == "pip":
        hide_uv(project, monkeypatch)
    (project / "test_demo.py").write_text(
        "import hashlib, base64, json, importlib.metadata as metadata\n"
        "def test_it():\n"
        "    found = metadata.distribution('demo')\n"
        "    document = json.loads(found.read_text('direct_url.json'))\n"
        "    assert document['dir_info'] == {'editable': True}\n"
        f"    assert document['url'] == {project.as_uri()!r}\n"
        "    assert found.read_text('INSTALLER').strip() in ('uv', 'pip')\n"
        "    files = {file.name: file for file in found.files}\n"
        "    for name in ('direct_url.json', 'METADATA', 'WHEEL'):\n"
        "        content = files[name].locate().read_bytes()\n"
        "        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=').decode()\n"
        "        assert (files[name].hash.value, files[name].size) == (digest, len(content))\n"
        "    for file in found.files:\n"
        "        assert file.locate().exists(), file\n",
        "utf-8",
    )
    run().assert_outcomes(passed=2)
    names = set()
    for environment in environments_of(project, shared_home):
        info = next(environment.glob("lib/*/site-packages/demo-1.dist-info"))
        names.add(frozenset(path.name for path in info.iterdir()))
        (packages,) = environment.glob("lib/*/site-packages")
        command = [sys.executable, "-m", "pip", "list", "-e", "--path", str(packages), "--format=json"]
        listed = json.loads(subprocess.check_output(command))
        assert [row["name"] for row in listed] == ["demo"]
    assert len(names) == 1


def test_a_project_that_is_a_pytest_plugin_has_its_assertions_rewritten_on_every_python(
    run: Run, project: Path
) -> None:
    text = (project / "pyproject.toml").read_text("utf-8")
    (project / "pyproject.toml").write_text(f"{text}entry-points.pytest11.demo = 'demo'\n", "utf-8")
    (project / "demo.py").write_text("def check(x):\n    assert x == 2\n", "utf-8")
    (project / "test_demo.py").write_text("import demo\ndef test_it(): demo.check(1)\n", "utf-8")
    # Only pytest 9 looks at the metadata for this, and it needs Python 3.10.
    pythons = tuple(version for version in interpreters() if int(version.split(".")[1]) >= 10 and version[-1] != "t")[
        :2
    ]
    assert len(pythons) == 2
    result = run(pythons=pythons)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*every Python*", "E*assert 1 == 2*"])


# Relative paths


@pytest.mark.parametrize(
    ("lines", "reqs"),
    [
        ("    -rreqs/r.txt\n    -cc.txt\n", {"reqs/r.txt": "-e ..[more]\n"}),
        ("    -r reqs/r.txt\n", {"reqs/r.txt": "-e .[more]  # the project\n"}),
        ("    -r reqs/r.txt\n", {"reqs/r.txt": "-r deep/s.txt\n", "reqs/deep/s.txt": "demo[more] @ file:../..\n"}),
        ("    -e file:.[more]\n    ./helper\n", {}),
        ("    -e .[more]\n    -r r.txt\n", {"r.txt": "-e ./helper\n"}),
    ],
)
def test_relative_paths_in_requirements_start_at_the_project_or_at_their_file(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, lines: str, reqs: dict[str, str]
) -> None:
    project = pytester.path
    extra = '[project.optional-dependencies]\nmore = ["wcwidth"]\n'
    write(
        project,
        {
            "pyproject.toml": FLIT + NAMED + extra,
            "pytest.ini": f"[pytest]\npyinstall_suite_install =\n{lines}",
            "src/demo/__init__.py": "",
            "helper/pyproject.toml": FLIT + NAMED.replace("demo", "helper"),
            "helper/helper.py": "",
            "c.txt": "wcwidth==0.2.13\n",
            **reqs,
        },
    )
    prove(project, "metadata.version('wcwidth')" + (" == '0.2.13'" if "-c" in lines else ""))
    monkeypatch.chdir(project / "tests")
    run(pythons=(NEW,)).assert_outcomes(passed=1)


def test_a_tox_ini_in_a_parent_directory_without_metadata_is_found(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"tox.ini": "[testenv]\ndeps = -rreqs.txt\n", "reqs.txt": "wcwidth\n", "sub/test_it.py": "import wcwidth\n"}
    write(pytester.path, {**files, "sub/test_it.py": "def test_it(): import wcwidth\n"})
    monkeypatch.chdir(pytester.path / "sub")
    run(pythons=(NEW,)).assert_outcomes(passed=1)


# The project among several directories


def test_a_session_in_a_package_of_a_monorepo_installs_that_package(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pytester.path
    for name in ("a", "b"):
        write(
            root / "packages" / name,
            {
                "pyproject.toml": FLIT + NAMED.replace("demo", name),
                f"src/{name}/__init__.py": "",
                f"tests/test_{name}.py": f"def test_it(): import {name}\n",
            },
        )
    write(root, {"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--import-mode=importlib'\n[project]\n"
                 "name = 'root'\nversion = '1'\n[tool.uv]\npackage = false\n"})  # fmt: skip
    monkeypatch.chdir(root / "packages" / "a")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    monkeypatch.chdir(root / "packages" / "b" / "tests")
    run(pythons=(NEW,)).assert_outcomes(passed=1)
    monkeypatch.chdir(root)
    run("packages/a/tests", pythons=(NEW,)).assert_outcomes(passed=1)
    # Lines that are relative to the root, because tox is started there.
    write(root, {"packages/a/test-requirements.txt": "-e packages/b\n-e packages/a\n",
                 "packages/a/tests/test_a.py": "def test_it(): import a, b\n"})  # fmt: skip
    monkeypatch.chdir(root / "packages" / "a")
    run(pythons=(NEW,)).assert_outcomes(passed=1)


@pytest.mark.parametrize("place", ["PYTEST_PYINSTALL_HOME", "PYTEST_PYINSTALL_CACHE", "pyinstall_cache"])
def test_a_store_or_cache_inside_a_project_is_no_part_of_it(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    project = pytester.path
    cache = "pyinstall/cache" if place == "PYTEST_PYINSTALL_HOME" else "pyinstall"
    ini = "[pytest]\npyinstall_cache = pyinstall\n" if place == "pyinstall_cache" else "[pytest]\n"
    write(
        project,
        {
            "pyproject.toml": SETUPTOOLS + NAMED,
            "pytest.ini": ini,
            "demo/__init__.py": "x = 1\n",
            "tests/test_it.py": "def test_it():\n    import demo\n    assert demo.x == 1\n",
            f"{cache}/trees/lib/test_not_ours.py": "def test_it(): assert False\n",
            "mirror/catalogue.json": "{}",
            "left_behind/store/.pytest-pyinstall/locks/x.lock": "",
            "left_behind/store/lib/test_not_ours.py": "def test_it(): assert False\n",
        },
    )
    if place.startswith("PYTEST"):
        monkeypatch.setenv(place, "pyinstall")
    else:
        monkeypatch.delenv("PYTEST_PYINSTALL_HOME")
    if place == "PYTEST_PYINSTALL_CACHE":
        monkeypatch.delenv("PYTEST_PYINSTALL_HOME")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", "mirror")
    result = run(pythons=(NEW,))
    result.assert_outcomes(passed=1)
    plain = pytester.runpytest_subprocess("-p", "no:randomly", "--co", "-q")
    assert [line for line in plain.outlines if "::" in line] == ["tests/test_it.py::test_it"]
    write(project, {f"{cache}/trees/lib/module.py": "", "demo/more.py": ""})
    assert not made(run(pythons=(NEW,)))


def test_a_single_module_beside_a_store_is_packaged(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = pytester.path
    monkeypatch.setenv("PYTEST_PYINSTALL_HOME", "pyinstall")
    write(project, {"pyproject.toml": SETUPTOOLS + NAMED, "demo.py": "x = 1\n", "pyinstall/store/x/y.py": ""})
    prove(project, "{file.name for file in metadata.files('demo')} and demo.x == 1")
    run("--rootdir", str(project), pythons=(NEW,)).assert_outcomes(passed=1)


# Variables of the sessions


def test_library_paths_reach_the_tests_except_those_of_another_python(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fine", "other"):
        (project / name).mkdir()
    (project / "other" / "libpython3.12.so.1.0").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{project / 'fine'}:{project / 'other'}")
    (project / "test_demo.py").write_text(
        f"import os\ndef test_it(): assert os.environ['LD_LIBRARY_PATH'] == {str(project / 'fine')!r}\n"
        f"def test_label(): assert os.environ['PYTEST_PYINSTALL_SUITE'] == 'py{NEW}'\n",
        "utf-8",
    )
    run(pythons=(NEW,)).assert_outcomes(passed=2)


def test_django_uses_a_test_database_of_its_own_for_each_python(run: Run, pytester: pytest.Pytester) -> None:
    database = "{'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'real', 'TEST': {'NAME': 'test.sqlite'}}}"
    write(
        pytester.path,
        {
            "requirements-test.txt": "django\npytest-django\n",
            "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = site_settings\npythonpath = .\n",
            "site_settings.py": f"SECRET_KEY = 'x'\nDATABASES = {database}\n",
            "test_it.py": "def test_it(db):\n    from django.db import connection\n"
            "    print('named', connection.settings_dict['NAME'])\n",
        },
    )
    result = run("-rP", pythons=("3.11", NEW))
    result.assert_outcomes(passed=2)
    assert len({line for line in result.outlines if line.startswith("named")}) == 2


def test_testmon_uses_a_data_file_of_its_own_for_each_python(run: Run, pytester: pytest.Pytester) -> None:
    write(
        pytester.path,
        {
            "requirements-test.txt": "pytest-testmon\n",
            "pytest.ini": "[pytest]\npythonpath = .\n",
            "module.py": "def one(): return 1\n",
            "test_it.py": "import module\ndef test_one(): assert module.one() == 1\ndef test_other(): pass\n",
        },
    )
    pythons = ("3.11", NEW)
    run("--testmon", pythons=pythons).assert_outcomes(passed=4)
    assert len(list(pytester.path.glob(".testmondata-py*"))) == 2
    write(pytester.path, {"module.py": "def one(): return 2\n"})
    run("--testmon", pythons=pythons).assert_outcomes(failed=2, deselected=2)


def test_a_full_disk_is_one_error_that_names_the_option_for_the_cache(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = 'echo "error: failed to copy to $word: No space left on device (os error 28)" >&2'
    write(
        pytester.path,
        {
            "pyproject.toml": FLIT + NAMED,
            "demo.py": "x = 1\n",
            "tools/full": f"#!/bin/sh\nfor word; do case $word in */bin/python) {full}; esac; done\nexit 2\n",
            "tools/uv.py": f"def find_uv_bin(): return {str(pytester.path / 'tools' / 'full')!r}\n",
        },
    )
    (pytester.path / "tools" / "full").chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "tools"))
    prove(pytester.path, "demo.x == 1")
    result = run()
    result.stdout.fnmatch_lines(
        [
            "*ERROR at session of [[]py3.*,py3.*[]]*",
            "cannot make an environment below */environments: No space left on device",
            "hint: another directory: --python-cache DIR",
        ]
    )


def test_an_error_of_an_installer_names_no_deleted_directory(run: Run, pytester: pytest.Pytester) -> None:
    write(
        pytester.path,
        {
            "pyproject.toml": FLIT
            + NAMED
            + "[tool.pytest.ini_options]\n"
            + "pyinstall_suite_install = ['pytest', 'none @ file:///no/such/none-1-py3-none-any.whl']\n",
            "demo.py": "x = 1\n",
        },
    )
    prove(pytester.path, "demo.x == 1")
    result = run(pythons=(NEW,))
    shown = result.stdout.str() + result.stderr.str()
    assert ".new" not in shown
    assert "cannot install: " in shown
    [hint] = {line.strip("E ") for line in shown.splitlines() if "hint: " in line}
    command = hint.partition("hint: ")[2]
    assert command.split().count("pytest") == 1
    for word in command.split():
        assert not word.startswith("/") or Path(word).exists()
    done = subprocess.run(["/bin/sh", "-c", command], cwd=pytester.path, capture_output=True, text=True, check=False)
    assert [path for path in pytester.path.glob("env-3*") if path.is_dir()]
    assert "/no/such" in done.stderr
