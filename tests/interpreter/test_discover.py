"""Finding what other tools installed. Each of these machines is made of links to real interpreters."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import NEWEST, OLDEST, interpreters
from packaging.version import Version

from pytest_pyinstall.errors import ProbeError
from pytest_pyinstall.interpreter import discover as module
from pytest_pyinstall.interpreter import other_tools
from pytest_pyinstall.interpreter.discover import discover
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.request.request import Request

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links and executable text files")

OTHERS = interpreters()
VERSIONS = {minor: str(probe(path, environ=os.environ).version) for minor, path in OTHERS.items()}
needs_two = pytest.mark.skipif(len(OTHERS) < 2, reason="needs two Pythons on this machine")  # as it says


class Machine:
    """A home directory and a PATH that hold nothing but what a test puts there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"PATH": str(home / "path"), "HOME": str(home)}
        self.target = Target.current()
        self.skipped: list[tuple[Path, ProbeError]] = []

    def put(self, place: str, minor: str = NEWEST) -> Path:
        """Something at `place` that runs the Python of `minor`, and does not look like a link to it."""
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {OTHERS[minor]} "$@"\n')
        path.chmod(0o755)
        return path

    def link(self, place: str, minor: str = NEWEST) -> Path:
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(OTHERS[minor])
        return path

    def trap(self, place: str) -> Path:
        """Something that leaves a mark when it is run."""
        path = self.home / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho $0 >> {self.home}/sprung\nexit 1\n")
        path.chmod(0o755)
        return path

    @property
    def sprung(self) -> list[str]:
        mark = self.home / "sprung"
        return mark.read_text().splitlines() if mark.exists() else []

    def find(self, request: str, **more: object) -> list[Interpreter]:
        return list(self.lazily(request, **more))

    def lazily(self, request: str, **more: object) -> Iterator[Interpreter]:
        return discover(
            Request.parse(request, directory=self.home),
            environ=self.environ,
            home=self.home,
            target=self.target,
            on_skip=lambda path, error: self.skipped.append((path, error)),
            **more,  # type: ignore[arg-type]  # what each test wants to vary
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    home = tmp_path / "machine"
    (home / "path").mkdir(parents=True)
    return Machine(home)


KEY = f"cpython-{VERSIONS[NEWEST]}-{Target.current()}"
DATA = "Library/Application Support" if sys.platform == "darwin" else ".local/share"
PLACES = [
    ("uv", f".local/share/uv/python/{KEY}/bin/python{NEWEST}", ""),
    ("uv", f"elsewhere/{KEY}/bin/python{NEWEST}", "UV_PYTHON_INSTALL_DIR"),
    ("uv", f"elsewhere/uv/python/{KEY}/bin/python{NEWEST}", "XDG_DATA_HOME"),
    ("pyenv", f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python{NEWEST}", ""),
    ("pyenv", f"elsewhere/versions/{VERSIONS[NEWEST]}/bin/python3", "PYENV_ROOT"),
    ("hatch", f"{DATA}/hatch/pythons/{NEWEST}/python/bin/python3", ""),
    ("hatch", f"elsewhere/env/virtual/.pythons/{NEWEST}/python/bin/python{NEWEST}", "HATCH_DATA_DIR"),
    ("nox", f".local/share/nox/pythons/cpython@{VERSIONS[NEWEST]}/bin/python", ""),
    ("mise", f".local/share/mise/installs/python/{VERSIONS[NEWEST]}/bin/python{NEWEST}", ""),
    ("mise", f"elsewhere/installs/python/{VERSIONS[NEWEST]}/bin/python{NEWEST}", "MISE_DATA_DIR"),
    ("asdf", f".asdf/installs/python/{VERSIONS[NEWEST]}/bin/python3", ""),
    ("asdf", f"elsewhere/installs/python/{VERSIONS[NEWEST]}/bin/python3", "ASDF_DATA_DIR"),
    ("pdm", f"{DATA}/pdm/python/cpython@{VERSIONS[NEWEST]}/bin/python3", ""),
    ("path", f"path/python{NEWEST}", ""),
    ("path", "path/python3", ""),
    ("path", "path/python", ""),
]


@pytest.mark.parametrize(("source", "place", "variable"), PLACES)
def test_each_tool_is_found_and_named(source: str, place: str, variable: str, machine: Machine) -> None:
    executable = machine.put(place)
    if variable:
        machine.environ[variable] = str(machine.home / "elsewhere")

    (found,) = machine.find(NEWEST)

    assert (found.source, found.executable, found.version) == (source, executable, Version(VERSIONS[NEWEST]))


def test_hatch_says_itself_where_its_executable_is(machine: Machine) -> None:
    machine.environ["HATCH_DATA_DIR"] = str(machine.home)
    executable = machine.put(f"pythons/{NEWEST}/odd/place/python")
    note = machine.home / "pythons" / NEWEST / "hatch-dist.json"
    note.write_text(json.dumps({"source": "https://host/file", "python_path": "odd/place/python"}))

    assert [found.executable for found in machine.find(NEWEST)] == [executable]
    executable.unlink()
    assert machine.find(NEWEST) == []


def test_an_empty_machine_has_nothing(machine: Machine) -> None:
    assert machine.find("3") == []
    machine.environ.clear()
    assert machine.find("3") == []


@needs_two
def test_only_what_may_fit_is_asked(machine: Machine) -> None:
    wanted = machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    for place in (
        ".pyenv/versions/3.5.1/bin/python3",
        ".pyenv/versions/2.7.18/bin/python",
        f".pyenv/versions/{VERSIONS[NEWEST]}t/bin/python3",
        f".pyenv/versions/{VERSIONS[NEWEST]}-debug/bin/python3",
        ".pyenv/versions/pypy3.10-7.3.17/bin/pypy3",
        f".local/share/uv/python/{KEY.replace('linux', 'solaris')}/bin/python{NEWEST}",
        f".local/share/uv/python/{KEY.replace(VERSIONS[NEWEST], NEWEST)}/bin/python{NEWEST}",
        "path/python2.7",
        "path/python3.5",
        "path/pypy3",
        "path/python-config",
        f"path/python{NEWEST}-config",
        f"path/python{NEWEST}t",
    ):
        machine.trap(place)

    assert [found.executable for found in machine.find(VERSIONS[NEWEST])] == [wanted]
    assert not machine.sprung


@needs_two
def test_the_newest_comes_first_whoever_has_it(machine: Machine) -> None:
    machine.put(f"path/python{NEWEST}")
    for minor in OTHERS:
        machine.put(f".pyenv/versions/{VERSIONS[minor]}/bin/python3", minor)

    assert [str(found.version) for found in machine.find(">=3.6")] == list(reversed(VERSIONS.values()))
    assert [str(found.version) for found in machine.find(f"<{NEWEST}")] == list(reversed(VERSIONS.values()))[1:]


def test_it_is_lazy(machine: Machine) -> None:
    machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    machine.trap(f"path/python{NEWEST}")
    request = Request.parse(NEWEST)

    found = next(discover(request, environ=machine.environ, home=machine.home, target=machine.target))

    assert found.source == "pyenv"
    assert not machine.sprung


def test_two_names_of_one_interpreter_count_once(machine: Machine) -> None:
    machine.link(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    machine.link(f".asdf/installs/python/{VERSIONS[NEWEST]}/bin/python3")
    machine.put(f"path/python{NEWEST}")
    machine.link("path/python3")

    assert len(machine.find(NEWEST)) == 1


@needs_two
def test_a_name_that_lies_does_not_count(machine: Machine) -> None:
    """P18: what an interpreter answers decides."""
    machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3", OLDEST)
    machine.put(f"path/python{NEWEST}", OLDEST)

    assert machine.find(NEWEST) == []


def test_what_is_broken_is_passed_by_and_reported(machine: Machine) -> None:
    broken = machine.trap(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    whole = machine.put(f"path/python{NEWEST}")

    assert [found.executable for found in machine.find(NEWEST)] == [whole]
    assert [path for path, _ in machine.skipped] == [broken]
    assert "exit code 1" in str(machine.skipped[0][1])


def test_what_hangs_is_passed_by(machine: Machine) -> None:
    path = machine.trap(f"path/python{NEWEST}")
    path.write_text("#!/bin/sh\nexec /bin/sleep 600\n")

    assert machine.find(NEWEST, timeout=0.3) == []
    assert "did not answer within 0.3 seconds" in str(machine.skipped[0][1])


def hang(path: Path) -> None:
    path.write_text("#!/bin/sh\nexec /bin/sleep 600\n")


def test_several_that_are_slow_are_waited_for_together(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them ends when all have begun."""
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    names = [f"first/python{NEWEST}", f"second/python{NEWEST}", "third/python3", "fourth/python"]
    hanging = [machine.trap(name) for name in names]
    whole = machine.put("last/python3")
    began = " -a ".join(f"-e {path}.began" for path in hanging)
    for path in hanging:
        path.write_text(f'#!/bin/sh\n: > "$0.began"\nuntil [ {began} ]; do /bin/sleep 0.05; done\nexit 7\n')
    machine.environ["PATH"] = os.pathsep.join(str(path.parent) for path in [*hanging, whole])

    found = machine.find(NEWEST, timeout=60)

    assert [each.executable for each in found] == [whole]
    assert [path for path, _ in machine.skipped] == hanging
    assert all("exit code 7" in str(error) for _, error in machine.skipped)


def test_the_best_comes_first_though_it_is_slow(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    slow = machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    slow.write_text(slow.read_text().replace("exec", "/bin/sleep 0.5\nexec"))
    machine.put("path/python3")

    assert machine.find(NEWEST)[0].executable == slow


def test_nothing_runs_on_when_nobody_wants_more(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    slow = machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    slow.write_text(slow.read_text().replace("exec", "/bin/sleep 0.5\nexec"))
    hang(machine.trap("path/python3"))
    threads = threading.active_count()

    assert next(iter(machine.lazily(NEWEST))).executable == slow
    assert threading.active_count() == threads


def test_shims_are_never_asked(machine: Machine) -> None:
    machine.trap(f"shims/python{NEWEST}")
    mise = machine.trap("bin/mise")
    (machine.home / "path" / "python3").symlink_to(mise)
    machine.environ["PATH"] += f"{os.pathsep}{machine.home}/shims"

    assert machine.find("3") == []
    assert not machine.sprung


def test_relative_directories_are_not_searched(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """P14."""
    machine.trap(f"python{NEWEST}")
    machine.trap(f"versions/{VERSIONS[NEWEST]}/bin/python3")
    monkeypatch.chdir(machine.home)
    machine.environ |= {"PATH": f".{os.pathsep}{os.pathsep}bin", "PYENV_ROOT": ".", "XDG_DATA_HOME": "x"}

    assert machine.find("3") == []
    assert not machine.sprung


def test_in_place_of_an_environment_counts_its_base(machine: Machine) -> None:
    base = machine.link(f"base/bin/python{NEWEST}")
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    configuration = environment.path / "pyvenv.cfg"
    configuration.write_text(f"version = 3\nhome = {base.parent}\n")
    machine.environ["PATH"] = str(environment.bin)

    assert [found.executable for found in machine.find(NEWEST)] == [base]


def test_an_environment_among_pyenvs_versions_does_not_count(machine: Machine) -> None:
    probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / ".pyenv" / "versions" / "mine")

    assert machine.find(NEWEST) == []


def test_an_environment_behind_another_name_does_not_count(machine: Machine) -> None:
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    wrapper = machine.put(f"path/python{NEWEST}")
    wrapper.write_text(f'#!/bin/sh\nexec {environment.python.executable} "$@"\n')

    assert machine.find(NEWEST) == []


def test_the_base_of_the_current_environment_answers_without_its_packages(machine: Machine) -> None:
    base = probe(OTHERS[NEWEST], environ=os.environ)
    environment = base.environment(machine.home / "env")

    (found,) = machine.find(NEWEST, current=environment.python.executable)

    assert (found.source, found.prefix) == ("current", base.base_prefix)
    assert found.prefix != environment.path


def test_a_current_environment_whose_base_does_not_start_answers_itself(machine: Machine) -> None:
    home = machine.home / "base" / "bin"
    home.mkdir(parents=True)
    base = home / f"python{NEWEST}"
    base.symlink_to(OTHERS[NEWEST])
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    settings = environment.path / "pyvenv.cfg"
    lines = settings.read_text().splitlines()
    settings.write_text("\n".join(f"home = {home}" if line.startswith("home") else line for line in lines) + "\n")
    base.unlink()
    base.write_text("#!/bin/sh\nexit 1\n")
    base.chmod(0o755)

    found = machine.find(NEWEST, current=environment.python.executable)

    assert [each.source for each in found] == ["current"]


def test_a_base_comes_before_the_current_environment_made_from_it(machine: Machine) -> None:
    base = machine.link(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")

    found = machine.find(NEWEST, current=environment.python.executable)

    assert [interpreter.executable for interpreter in found] == [base]


def test_an_executable_without_a_telling_name_is_asked(machine: Machine) -> None:
    executable = machine.put(".pyenv/versions/my-own-build/bin/python3")
    machine.put(".pyenv/versions/3.99-dev/bin/python3")

    assert [found.executable for found in machine.find(NEWEST)] == [executable]


REGISTERED = {
    "mise sync python --pyenv": (f".local/share/mise/installs/python/{VERSIONS[NEWEST]}", ".pyenv/versions/{name}"),
    "mise sync python --uv": (f".local/share/uv/python/{KEY}", ".local/share/mise/installs/python/{name}"),
    "mise link": ("opt/python", f".local/share/mise/installs/python/{NEWEST}"),
    "brew pyenv-sync": ("opt/homebrew/Frameworks/Python.framework/Versions/X", ".pyenv/versions/{name}"),
    "a link to uv's": (f"elsewhere/{KEY}", f".local/share/uv/python/{KEY}"),
    "asdf by hand": ("opt/python", ".asdf/installs/python/{name}"),
    "a chain of links": ("opt/python", ".pyenv/versions/{name}"),
}


@pytest.mark.parametrize("way", REGISTERED)
def test_what_is_registered_by_a_link_is_found_once(machine: Machine, way: str) -> None:
    where, link = REGISTERED[way]
    machine.put(f"{where}/bin/python{NEWEST}")
    machine.put(f"{where}/bin/python3")
    path = machine.home / link.format(name=VERSIONS[NEWEST])
    path.parent.mkdir(parents=True, exist_ok=True)
    target = machine.home / where
    if way == "a chain of links":
        (machine.home / "opt/current").symlink_to(target)
        target = machine.home / "opt/current"
    path.symlink_to(target)
    (path.parent / "latest").symlink_to(path.name)
    (path.parent / "3").symlink_to(f"./{path.name}")
    (path.parent / "gone").symlink_to("/nowhere/at/all")
    (path.parent / "loop").symlink_to("loop")

    found = machine.find(f"=={VERSIONS[NEWEST]}")
    assert [str(each.version) for each in found] == [VERSIONS[NEWEST]]
    assert found[0].executable.resolve().is_relative_to((machine.home / where).resolve())


def test_links_and_files_among_the_versions_do_no_harm(machine: Machine) -> None:
    versions = machine.home / ".pyenv" / "versions"
    versions.mkdir(parents=True)
    (versions / NEWEST).symlink_to("nowhere")
    (versions / "README").touch()
    (versions / "3.11.0").mkdir()
    (versions / "empty").mkdir()
    (machine.home / "path").rmdir()
    (machine.home / "path").touch()

    assert machine.find("3") == []


def test_a_pre_release_is_only_found_when_it_is_named(machine: Machine) -> None:
    machine.trap(".pyenv/versions/3.99.0rc1/bin/python3")

    assert machine.find("3.99") == []
    assert not machine.sprung
    machine.find("3.99.0rc1")
    assert machine.sprung


def test_a_pre_release_may_hide_behind_a_minor_version(machine: Machine) -> None:
    machine.trap("path/python3.99")

    machine.find("3.99.0rc1")

    assert machine.sprung


def test_a_path_is_that_executable(machine: Machine) -> None:
    executable = machine.put("anywhere/odd-name", OLDEST)

    (found,) = machine.find(str(executable))

    assert (found.executable, found.source, str(found.version)) == (executable, "path", VERSIONS[OLDEST])


def test_a_path_of_a_prefix_is_the_python_in_it(machine: Machine) -> None:
    executable = machine.link("prefix/bin/python")

    assert machine.find(str(machine.home / "prefix"))[0].executable == executable


def test_a_path_of_a_virtual_environment_is_that_environment(machine: Machine) -> None:
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")

    (found,) = machine.find(str(environment.path))

    assert found.prefix == environment.path


def test_a_path_of_a_directory_without_a_python_is_an_error(machine: Machine) -> None:
    with pytest.raises(ProbeError, match="is a directory"):
        machine.find(str(machine.home))


def test_a_path_that_is_no_python_is_an_error(machine: Machine) -> None:
    with pytest.raises(ProbeError, match="there is no"):
        machine.find(str(machine.home / "missing"))


def test_a_path_of_a_shim_gives_what_the_shim_runs_now(machine: Machine) -> None:
    shim = machine.put("shims/python3")

    (found,) = machine.find(str(shim))

    assert found.executable == OTHERS[NEWEST]


def test_a_path_of_a_shim_for_an_environment_gives_the_environment(machine: Machine) -> None:
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    shim = machine.put("shims/python3")
    shim.write_text(f'#!/bin/sh\nexec {environment.python.executable} "$@"\n')

    (found,) = machine.find(str(shim))

    assert found.executable == environment.python.executable


def test_a_word_finds_nothing_before_it_is_expanded(machine: Machine) -> None:
    machine.put("path/python3")

    assert machine.find("latest") == []


def test_python_discovery_reads_what_we_do_not(machine: Machine) -> None:
    found = list(module._in_registry(Request.parse(NEWEST), {**os.environ, "PATH": str(OTHERS[NEWEST].parent)}))

    assert any(other_tools.executable.samefile(OTHERS[NEWEST]) for other_tools in found)
    assert {other_tools.source for other_tools in found} == {"registry"}


@pytest.mark.parametrize(
    ("request_", "spoken"),
    [
        ("3.12", "python3.12"),
        ("3.13t", "python3.13t"),
        ("pypy3.11", "pypy3.11"),
        (">=3.9", "python"),
        ("any-3.12-any-any-any", None),
    ],
)
def test_requests_are_said_in_its_words(request_: str, spoken: str | None) -> None:
    assert module._spoken(Request.parse(request_)) == spoken


def test_windows_has_places_of_its_own(tmp_path: Path) -> None:
    target = Target(os="windows", arch="x86_64", libc="none")

    def places(environ: dict[str, str]) -> list[tuple[str, str]]:
        found = other_tools._directories(environ, tmp_path, target)
        return [(source, path.relative_to(tmp_path).as_posix()) for source, path in found]

    assert places({}) == [
        ("uv", "AppData/Roaming/uv/python"),
        ("uv", "AppData/Roaming/uv/data/python"),
        ("pyenv", ".pyenv/versions"),
        ("pyenv", ".pyenv/pyenv-win/versions"),
        ("hatch", "AppData/Local/hatch/pythons"),
        ("hatch", "AppData/Local/hatch/env/virtual/.pythons"),
        ("nox", ".local/share/nox/pythons"),
        ("mise", "AppData/Local/mise/installs/python"),
        ("asdf", ".asdf/installs/python"),
        ("pdm", "AppData/Local/pdm/python"),
        ("pdm", "AppData/Local/pdm/pdm/python"),
    ]
    assert ("mise", "x/mise/installs/python") in places({"LOCALAPPDATA": str(tmp_path / "x")})


def test_macos_has_places_of_its_own(tmp_path: Path) -> None:
    target = Target(os="macos", arch="aarch64", libc="none")

    places = list(other_tools._directories({}, tmp_path, target))

    assert ("uv", tmp_path / "Library/Application Support/uv/python") in places
    assert ("hatch", tmp_path / "Library/Application Support/hatch/pythons") in places


def test_an_execution_alias_of_windows_is_a_shim(tmp_path: Path) -> None:
    alias = tmp_path / "WindowsApps" / "python.exe"
    alias.parent.mkdir()
    alias.touch()

    assert other_tools.is_shim(alias)


@pytest.mark.parametrize("place", ["python.exe", "Scripts/python.exe", "bin/python.exe"])
def test_windows_has_several_places_below_a_prefix(place: str, tmp_path: Path) -> None:
    executable = tmp_path / place
    executable.parent.mkdir(exist_ok=True)
    executable.touch()

    target = Target(os="windows", arch="x86_64", libc="none")

    assert other_tools.executable_in(tmp_path, target) == executable


def test_windows_executables_lie_at_the_top(tmp_path: Path) -> None:
    target = Target(os="windows", arch="x86_64", libc="none")
    (tmp_path / "python.exe").touch()

    assert other_tools._first(tmp_path, ("python3.12", "python"), target) == tmp_path / "python.exe"


def test_a_directory_named_like_an_executable_does_no_harm(machine: Machine) -> None:
    (machine.home / "path" / f"python{NEWEST}").mkdir()

    assert machine.find(NEWEST) == []


def test_a_copied_path_entry_is_read_once(machine: Machine) -> None:
    machine.trap(f"path/python{NEWEST}")
    machine.environ["PATH"] = os.pathsep.join([str(machine.home / "path")] * 3)

    machine.find(NEWEST)

    assert len(machine.skipped) == 1
