"""The worker's plugin without sessions: the events that it writes, and old Pythons that compile it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archives import interpreters

from pytest_pyinstall.suite import _worker_plugin

resource = pytest.importorskip("resource")
plugin: Any = _worker_plugin  # no annotations, for Python 3.6
SOURCE = Path(_worker_plugin.__file__)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events"
    path.touch()
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


@pytest.mark.parametrize("minor", interpreters())
def test_every_python_can_compile_the_plugin(minor: str) -> None:
    code = "import sys; compile(open(sys.argv[1], 'rb').read(), sys.argv[1], 'exec', dont_inherit=True)"
    subprocess.run([interpreters()[minor], "-c", code, SOURCE], check=True)


def test_an_event_is_a_line_of_json_in_ascii(events: Path) -> None:
    stream = plugin._Stream(str(events))
    stream.send("p", "test_ä", 1.5, None)
    stream.send("text", "two\nlines \udcff")
    assert read(events) == [["p", "test_ä", 1.5, None], ["text", "two\nlines \udcff"]]


def test_a_value_that_json_does_not_support_is_written_as_text(events: Path) -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    cycle: list[object] = [1]
    cycle.append(cycle)
    stream = plugin._Stream(str(events))
    stream.send("object", Path("/x"), Broken())
    stream.send("cycle", cycle, {(1, 2): {3}})

    (_, path, broken), (_, [one, inner], keys) = read(events)
    assert (path, one, inner) == ("PosixPath('/x')", 1, "[1, [...]]")
    assert "Broken object at" in broken
    assert keys == {"(1, 2)": "{3}"}


def test_a_deeply_nested_value_is_cut_off(events: Path) -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    plugin._Stream(str(events)).send("deep", [plugin._plain(deep[0])])
    assert read(events)[0][0] == "deep"


def test_reports_are_written_while_a_test_patches_the_module_os(events: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = plugin._Stream(str(events))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda *_: pytest.fail("the patched function was called"))
        patched.setattr(json.JSONEncoder, "encode", lambda *_: "")
        stream.send("p")
    assert read(events) == [["p"]]


LIMITED = f"""
import json, resource, signal, sys
sys.path.insert(0, {str(SOURCE.parent)!r})
import _worker_plugin as plugin
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
stream = plugin._Stream(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (10, int(sys.argv[2])))
for number in range(20):
    stream.send("number", number)
print(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_reports_are_written_although_a_test_limits_the_size_of_files(events: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, events, str(hard)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "10\n"
    assert read(events) == [["number", number] for number in range(20)]


def test_properties_and_attributes_for_the_junit_file_are_sent(events: Path) -> None:
    junit = plugin._Junit(plugin._Stream(str(events)), "xunit2")
    junit.add_global_property("build", 7)
    junit.node_reporter("test_a.py::test_it").add_attribute("owner", "me")
    assert not junit
    assert read(events) == [["property", "build", "7"], ["attribute", "test_a.py::test_it", "owner", "me"]]


@pytest.mark.parametrize(
    ("nodeid", "place", "is_below"),
    [
        ("tests/test_a.py::test_it", "tests", True),
        ("tests/test_a.py::test_it", "tests/test_a.py", True),
        ("tests/test_a.py::test_it[1]", "tests/test_a.py::test_it", True),
        ("tests/test_a.py::Test::test_it", "tests/test_a.py::Test", True),
        ("tests/test_a.py::test_it", ".", True),
        ("tests/test_a.py::test_it2", "tests/test_a.py::test_it", False),
        ("tests2/test_a.py::test_it", "tests", False),
        ("tests/test_a.pyx::test_it", "tests/test_a.py", False),
    ],
)
def test_a_test_is_below_a_path_only_by_whole_names(nodeid: str, place: str, is_below: bool) -> None:
    assert plugin._is_below(nodeid, place) is is_below
