"""What is answered without looking anew is what a look would have found; everything else is no answer."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from archives import NEWEST

from pytest_pyinstall import recall as module
from pytest_pyinstall.archive.relocate import standard_library
from pytest_pyinstall.request.identity import Key

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and owners")


class Place:
    def __init__(self, directory: Path, mirror: Path) -> None:
        self.directory = directory / "project"
        self.directory.mkdir()
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "UV_"))}
        self.environ |= {
            "PYTEST_PYINSTALL_HOME": str(directory / "pyinstall"),
            "PYTEST_PYINSTALL_MIRROR": str(mirror),
            "PYTEST_PYINSTALL_CATALOGUE": str(mirror / "catalogue.json"),
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
        }
        self.answers = directory / "pyinstall" / "cache" / "answers"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest_pyinstall", *words]
        return subprocess.run(
            command, cwd=self.directory, env=self.environ, capture_output=True, text=True, check=False, timeout=300
        )

    def recall(self, *words: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str] | None:
        monkeypatch.chdir(self.directory)
        return module.recall(words, self.environ)

    @property
    def home(self) -> Path:
        store = Path(self.environ["PYTEST_PYINSTALL_HOME"], "store")
        return next(path for path in store.iterdir() if path.name.startswith("cpython-") and not path.is_symlink())

    @property
    def library(self) -> Path:
        return self.home / standard_library(Key.parse(self.home.name))[0]


@pytest.fixture
def place(tmp_path: Path, mirror_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("PYTEST_PYINSTALL_STORE", raising=False)
    place = Place(tmp_path, mirror_directory)
    assert place.run("install", NEWEST).returncode == 0
    then = time.time() - 60  # as if it had been installed a while ago
    os.utime(place.home.parent, (then, then))
    for record in (place.home.parent / ".pytest-pyinstall/records").iterdir():
        os.utime(record, (then, then))
    return place


def _noted(place: Place) -> subprocess.CompletedProcess[str]:
    done = place.run("install", NEWEST)
    assert done.returncode == 0, done.stderr
    assert len(list(place.answers.iterdir())) == 1
    return done


def test_the_answer_is_what_the_command_line_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    done = _noted(place)

    answer = place.recall("install", NEWEST, monkeypatch=monkeypatch)

    assert answer == (done.stdout.rstrip("\n"), done.stderr.rstrip("\n"))
    again = place.run("install", NEWEST)
    assert (again.stdout, again.stderr, again.returncode) == (done.stdout, done.stderr, 0)


def test_the_answer_imports_nothing_of_the_command_line(place: Place) -> None:
    _noted(place)
    code = (
        "import sys; sys.argv = ['x', *sys.argv[1:]]; from pytest_pyinstall.start import main; main();"
        "print(*(name for name in ('argparse', 'json', 'dataclasses', 'packaging', 'pathlib') if name in sys.modules))"
    )
    command = [sys.executable, "-S", "-c", code, "install", NEWEST]
    path = os.pathsep.join(filter(None, sys.path))
    environ = {**place.environ, "PYTHONPATH": path}
    subprocess.run(command, cwd=place.directory, env=environ, check=True, capture_output=True, timeout=300)

    done = subprocess.run(
        command, cwd=place.directory, env=environ, check=True, capture_output=True, text=True, timeout=300
    )

    assert done.stdout.splitlines()[1:] == [""]


def _deleted(place: Place) -> None:
    (place.library / "wave.py" if (place.library / "wave.py").exists() else place.library / "weakref.py").unlink()


CHANGES: dict[str, Callable[[Place], object]] = {
    "a module is deleted": _deleted,
    "a module is emptied": lambda place: (place.library / "weakref.py").write_text(""),
    "a right is gained": lambda place: (place.library / "weakref.py").chmod(0o666),
    "the executable is gone": lambda place: (place.home / f"bin/python{NEWEST}").unlink(),
    "BUILD is emptied": lambda place: (place.home / "BUILD").write_text(""),
    "the record is another one": lambda place: [
        path.write_text(path.read_text() + " ")
        for path in (place.home.parent / ".pytest-pyinstall/records").glob("*.json")
    ],
    "something else is installed": lambda place: (place.home.parent / "cpython-3.99.0-linux-x86_64-gnu").mkdir(),
    "the store is gone": lambda place: place.home.parent.rename(place.home.parent.with_name("elsewhere")),
    "others can write to the store": lambda place: place.home.parent.chmod(0o777),
    "a configuration came": lambda place: (place.directory / "pytest.ini").write_text("[pytest]\n"),
    "a configuration came above": lambda place: (place.directory.parent / "tox.ini").write_text("[pytest]\n"),
    "a variable says something else": lambda place: place.environ.update(PYTEST_PYINSTALL_DOWNLOADS="never"),
    "others can write the note": lambda place: next(place.answers.iterdir()).chmod(0o666),
    "others can write notes": lambda place: place.answers.chmod(0o777),
    "the note is garbage": lambda place: next(place.answers.iterdir()).write_bytes(b"\0\xff"),
    "the note is cut off": lambda place: _changed_note(place, lambda text: text.partition("\n")[0]),
    "the note is of another form": lambda place: _changed_note(place, lambda text: f"x{text}"),
    "the note is of another boot": lambda place: _changed_note(place, _of_another_boot),
    "the note has a line that nobody knows": lambda place: _changed_note(place, lambda text: f"{text}\n?\tx"),
}


def _changed_note(place: Place, change: Callable[[str], str]) -> None:
    path = next(place.answers.iterdir())
    path.write_text(change(path.read_text()))


def _of_another_boot(text: str) -> str:
    return "\n".join("b\tanother" if line.startswith("b\t") else line for line in text.split("\n"))


@pytest.mark.parametrize("change", CHANGES)
def test_p2_what_has_changed_is_no_answer(place: Place, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    _noted(place)
    assert place.recall("install", NEWEST, monkeypatch=monkeypatch) is not None

    CHANGES[change](place)

    assert place.recall("install", NEWEST, monkeypatch=monkeypatch) is None


@pytest.mark.parametrize(
    "words",
    [
        ("install",),
        ("install", "--json", NEWEST),
        ("install", "supported"),
        ("install", "./3.12"),
        ("install", "3.9..3.13"),
        ("list", NEWEST),
        (),
    ],
)
def test_words_that_may_mean_something_else_tomorrow_have_no_answer(
    place: Place, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    place.run(*words)

    assert place.recall(*words, monkeypatch=monkeypatch) is None
    assert not place.answers.exists()


def test_what_was_installed_just_now_is_not_noted(place: Place) -> None:
    later = time.time() + 3600
    os.utime(place.home.parent, (later, later))

    assert place.run("install", NEWEST).returncode == 0

    assert not place.answers.exists()


def test_damage_is_repaired_although_there_is_a_note(place: Place) -> None:
    _noted(place)
    _deleted(place)

    done = place.run("install", NEWEST)

    assert done.returncode == 0
    assert "repaired" in done.stderr
    verified = json.loads(place.run("verify", "--json").stdout)
    assert [row["state"] for row in verified["installations"]] == ["whole"]


@pytest.mark.parametrize("action", ["clear", "prune"])
def test_the_cache_is_swept_of_notes(place: Place, action: str) -> None:
    _noted(place)

    assert place.run("cache", action).returncode == 0

    assert not place.answers.exists()
