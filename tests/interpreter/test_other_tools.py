"""The Pythons of uv, pyenv, hatch, nox, mise, asdf and pdm are found in their directories."""

import json
import os
import sys
from pathlib import Path

import pytest
from archives import NEWEST
from packaging.version import Version
from tool_homes import OTHERS, VERSIONS, Machine

from pytest_pyinstall.interpreter import other_tools
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Target

KEY = f"cpython-{VERSIONS[NEWEST]}-{Target.current()}"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links and executable text files")


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
def test_a_python_of_each_tool_is_found_with_its_source(
    source: str, place: str, variable: str, machine: Machine
) -> None:
    executable = machine.put(place)
    if variable:
        machine.environ[variable] = str(machine.home / "elsewhere")

    (found,) = machine.find(NEWEST)

    assert (found.source, found.executable, found.version) == (source, executable, Version(VERSIONS[NEWEST]))


def test_the_executable_that_hatch_records_is_found(machine: Machine) -> None:
    machine.environ["HATCH_DATA_DIR"] = str(machine.home)
    executable = machine.put(f"pythons/{NEWEST}/odd/place/python")
    note = machine.home / "pythons" / NEWEST / "hatch-dist.json"
    note.write_text(json.dumps({"source": "https://host/file", "python_path": "odd/place/python"}))

    assert [found.executable for found in machine.find(NEWEST)] == [executable]
    executable.unlink()
    assert machine.find(NEWEST) == []


def test_shims_are_never_run(machine: Machine) -> None:
    machine.trap(f"shims/python{NEWEST}")
    mise = machine.trap("bin/mise")
    (machine.home / "path" / "python3").symlink_to(mise)
    machine.environ["PATH"] += f"{os.pathsep}{machine.home}/shims"

    assert machine.find("3") == []
    assert not machine.sprung


def test_p14_relative_directories_are_not_searched(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.trap(f"python{NEWEST}")
    machine.trap(f"versions/{VERSIONS[NEWEST]}/bin/python3")
    monkeypatch.chdir(machine.home)
    machine.environ |= {"PATH": f".{os.pathsep}{os.pathsep}bin", "PYENV_ROOT": ".", "XDG_DATA_HOME": "x"}

    assert machine.find("3") == []
    assert not machine.sprung


def test_an_environment_among_the_versions_of_pyenv_is_not_found(machine: Machine) -> None:
    probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / ".pyenv" / "versions" / "mine")

    assert machine.find(NEWEST) == []


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
def test_a_python_registered_by_a_link_is_found_once(machine: Machine, way: str) -> None:
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


def test_broken_links_and_files_among_the_versions_are_ignored(machine: Machine) -> None:
    versions = machine.home / ".pyenv" / "versions"
    versions.mkdir(parents=True)
    (versions / NEWEST).symlink_to("nowhere")
    (versions / "README").touch()
    (versions / "3.11.0").mkdir()
    (versions / "empty").mkdir()
    (machine.home / "path").rmdir()
    (machine.home / "path").touch()

    assert machine.find("3") == []


def test_tools_have_other_directories_on_windows(tmp_path: Path) -> None:
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


def test_tools_have_other_directories_on_macos(tmp_path: Path) -> None:
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
def test_an_executable_can_have_several_places_on_windows(place: str, tmp_path: Path) -> None:
    executable = tmp_path / place
    executable.parent.mkdir(exist_ok=True)
    executable.touch()

    target = Target(os="windows", arch="x86_64", libc="none")

    assert other_tools.executable_in(tmp_path, target) == executable


def test_an_executable_at_the_top_of_its_prefix_is_found_on_windows(tmp_path: Path) -> None:
    target = Target(os="windows", arch="x86_64", libc="none")
    (tmp_path / "python.exe").touch()

    assert other_tools._first(tmp_path, ("python3.12", "python"), target) == tmp_path / "python.exe"
