"""Discovery finds the Pythons of other tools, newest first, and runs only those that may match."""

import os
import re
import threading
from pathlib import Path

import pytest
from archives import NEWEST, OLDEST
from tool_homes import OTHERS, VERSIONS, Machine

from pytest_pyinstall.errors import ProbeError
from pytest_pyinstall.interpreter import discover as module
from pytest_pyinstall.interpreter.discover import discover
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.request.request import Request

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links and executable text files")


needs_two = pytest.mark.skipif(len(OTHERS) < 2, reason="needs two Pythons on this machine")


KEY = f"cpython-{VERSIONS[NEWEST]}-{Target.current()}"


def test_nothing_is_found_on_an_empty_machine(machine: Machine) -> None:
    assert machine.find("3") == []
    machine.environ.clear()
    assert machine.find("3") == []


@needs_two
def test_only_pythons_that_may_match_are_probed(machine: Machine) -> None:
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
def test_the_newest_python_of_all_sources_is_found_first(machine: Machine) -> None:
    machine.put(f"path/python{NEWEST}")
    for minor in OTHERS:
        machine.put(f".pyenv/versions/{VERSIONS[minor]}/bin/python3", minor)

    assert [str(found.version) for found in machine.find(">=3.6")] == list(reversed(VERSIONS.values()))
    assert [str(found.version) for found in machine.find(f"<{NEWEST}")] == list(reversed(VERSIONS.values()))[1:]


def test_discovery_is_lazy(machine: Machine) -> None:
    machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    machine.trap(f"path/python{NEWEST}")
    request = Request.parse(NEWEST)

    found = next(discover(request, environ=machine.environ, home=machine.home, target=machine.target))

    assert found.source == "pyenv"
    assert not machine.sprung


def test_an_interpreter_with_two_names_is_found_once(machine: Machine) -> None:
    machine.link(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    machine.link(f".asdf/installs/python/{VERSIONS[NEWEST]}/bin/python3")
    machine.put(f"path/python{NEWEST}")
    machine.link("path/python3")

    assert len(machine.find(NEWEST)) == 1


@needs_two
def test_p18_a_python_with_another_version_than_its_name_is_not_found(machine: Machine) -> None:
    machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3", OLDEST)
    machine.put(f"path/python{NEWEST}", OLDEST)

    assert machine.find(NEWEST) == []


def test_a_broken_python_is_skipped_and_reported(machine: Machine) -> None:
    broken = machine.trap(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    whole = machine.put(f"path/python{NEWEST}")

    assert [found.executable for found in machine.find(NEWEST)] == [whole]
    assert [path for path, _ in machine.skipped] == [broken]
    assert "exit code 1" in str(machine.skipped[0][1])


def test_a_python_that_hangs_is_skipped(machine: Machine) -> None:
    path = machine.trap(f"path/python{NEWEST}")
    path.write_text("#!/bin/sh\nexec /bin/sleep 600\n")

    assert machine.find(NEWEST, timeout=0.3) == []
    assert "did not answer within 0.3 seconds" in str(machine.skipped[0][1])


def hang(path: Path) -> None:
    path.write_text("#!/bin/sh\nexec /bin/sleep 600\n")


def test_slow_pythons_are_probed_in_parallel(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the slow Pythons ends when all have started."""
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


def test_the_best_python_is_found_first_even_if_it_is_slow(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    slow = machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    slow.write_text(slow.read_text().replace("exec", "/bin/sleep 0.5\nexec"))
    machine.put("path/python3")

    assert machine.find(NEWEST)[0].executable == slow


def test_no_probe_runs_after_the_end_of_the_search(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    slow = machine.put(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    slow.write_text(slow.read_text().replace("exec", "/bin/sleep 0.5\nexec"))
    hang(machine.trap("path/python3"))
    threads = threading.active_count()

    assert next(iter(machine.lazily(NEWEST))).executable == slow
    assert threading.active_count() == threads


def test_the_base_of_an_environment_on_path_is_found(machine: Machine) -> None:
    base = machine.link(f"base/bin/python{NEWEST}")
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    configuration = environment.path / "pyvenv.cfg"
    configuration.write_text(f"version = 3\nhome = {base.parent}\n")
    machine.environ["PATH"] = str(environment.bin)

    assert [found.executable for found in machine.find(NEWEST)] == [base]


def test_an_environment_behind_a_wrapper_is_not_found(machine: Machine) -> None:
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    wrapper = machine.put(f"path/python{NEWEST}")
    wrapper.write_text(f'#!/bin/sh\nexec {environment.python.executable} "$@"\n')

    assert machine.find(NEWEST) == []


def test_the_base_of_the_current_environment_is_found(machine: Machine) -> None:
    base = probe(OTHERS[NEWEST], environ=os.environ)
    environment = base.environment(machine.home / "env")

    (found,) = machine.find(NEWEST, current=environment.python.executable)

    assert (found.source, found.prefix) == ("current", base.base_prefix)
    assert found.prefix != environment.path


def test_the_current_environment_is_found_if_its_base_does_not_start(machine: Machine) -> None:
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


def test_a_base_that_is_installed_replaces_the_current_environment(machine: Machine) -> None:
    base = machine.link(f".pyenv/versions/{VERSIONS[NEWEST]}/bin/python3")
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")

    found = machine.find(NEWEST, current=environment.python.executable)

    assert [interpreter.executable for interpreter in found] == [base]


def test_an_executable_whose_name_has_no_version_is_probed(machine: Machine) -> None:
    executable = machine.put(".pyenv/versions/my-own-build/bin/python3")
    machine.put(".pyenv/versions/3.99-dev/bin/python3")

    assert [found.executable for found in machine.find(NEWEST)] == [executable]


def test_a_pre_release_is_found_only_if_it_is_requested(machine: Machine) -> None:
    machine.trap(".pyenv/versions/3.99.0rc1/bin/python3")

    assert machine.find("3.99") == []
    assert not machine.sprung
    machine.find("3.99.0rc1")
    assert machine.sprung


def test_a_command_with_a_minor_version_is_probed_for_a_pre_release(machine: Machine) -> None:
    machine.trap("path/python3.99")

    machine.find("3.99.0rc1")

    assert machine.sprung


def test_a_path_request_finds_that_executable(machine: Machine) -> None:
    executable = machine.put("anywhere/odd-name", OLDEST)

    (found,) = machine.find(str(executable))

    assert (found.executable, found.source, str(found.version)) == (executable, "path", VERSIONS[OLDEST])


def test_a_path_of_a_prefix_finds_its_python(machine: Machine) -> None:
    executable = machine.link("prefix/bin/python")

    assert machine.find(str(machine.home / "prefix"))[0].executable == executable


def test_a_path_of_a_virtual_environment_finds_the_environment(machine: Machine) -> None:
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")

    (found,) = machine.find(str(environment.path))

    assert found.prefix == environment.path


@pytest.mark.skipif(tuple(map(int, OLDEST.split("."))) > (3, 10), reason="newer Pythons do not start then")
@pytest.mark.parametrize("how", ["path", "current"])
def test_an_environment_whose_base_was_replaced_by_another_version_is_an_error(machine: Machine, how: str) -> None:
    environment = probe(OTHERS[OLDEST], environ=os.environ).environment(machine.home / "env")
    executable = environment.python.executable
    base = machine.put("base/bin/python3", NEWEST)
    (environment.path / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    if how == "current":
        assert machine.find(OLDEST, current=executable) == []
        return
    message = f"is Python {VERSIONS[OLDEST]}, but {base}, which it was created from, is {VERSIONS[NEWEST]}"
    with pytest.raises(ProbeError, match=re.escape(message)):
        machine.find(str(executable))


def test_a_path_of_a_directory_without_a_python_is_an_error(machine: Machine) -> None:
    with pytest.raises(ProbeError, match="is a directory"):
        machine.find(str(machine.home))


def test_a_path_that_does_not_exist_is_an_error(machine: Machine) -> None:
    with pytest.raises(ProbeError, match="there is no"):
        machine.find(str(machine.home / "missing"))


def test_a_path_of_a_shim_finds_the_python_that_the_shim_runs(machine: Machine) -> None:
    shim = machine.put("shims/python3")

    (found,) = machine.find(str(shim))

    assert found.executable == OTHERS[NEWEST]


def test_a_path_of_a_shim_for_an_environment_finds_the_environment(machine: Machine) -> None:
    environment = probe(OTHERS[NEWEST], environ=os.environ).environment(machine.home / "env")
    shim = machine.put("shims/python3")
    shim.write_text(f'#!/bin/sh\nexec {environment.python.executable} "$@"\n')

    (found,) = machine.find(str(shim))

    assert found.executable == environment.python.executable


def test_a_keyword_finds_nothing_before_it_is_resolved(machine: Machine) -> None:
    machine.put("path/python3")

    assert machine.find("latest") == []


def test_python_discovery_finds_registered_pythons(machine: Machine) -> None:
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
def test_requests_are_translated_for_python_discovery(request_: str, spoken: str | None) -> None:
    assert module._discovery_spec(Request.parse(request_)) == spoken


def test_a_directory_named_like_an_executable_is_ignored(machine: Machine) -> None:
    (machine.home / "path" / f"python{NEWEST}").mkdir()

    assert machine.find(NEWEST) == []


def test_a_repeated_path_entry_is_searched_once(machine: Machine) -> None:
    machine.trap(f"path/python{NEWEST}")
    machine.environ["PATH"] = os.pathsep.join([str(machine.home / "path")] * 3)

    machine.find(NEWEST)

    assert len(machine.skipped) == 1
