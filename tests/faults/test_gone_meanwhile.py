"""P2, P21: what goes away while a command walks over it is told as gone, and not as damage or as an error."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from campaign import VERSION, Workshop
from fault_table import Tally

from pytest_pyinstall.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs to move what is open")

_hook: Callable[[str], None] | None = None


def _audited(event: str, arguments: tuple[object, ...]) -> None:
    if _hook is not None and event in {"open", "os.scandir", "os.listdir", "os.rename", "subprocess.Popen"}:
        _hook(str(arguments[0]))


sys.addaudithook(_audited)  # for good: it cannot be taken away again


class Steps:
    """Counts the steps that this process takes below a directory, and does something at one of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._text = str(directory)
        self.count = 0
        self.actions: dict[int, Callable[[], None]] = {}
        self._is_busy = False
        for name in ("lstat", "stat", "readlink"):
            monkeypatch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, function: Callable[..., object]) -> Callable[..., object]:
        def counting(path: object, *arguments: object, **keywords: object) -> object:
            self.step(os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else "")
            return function(path, *arguments, **keywords)

        return counting

    def step(self, path: str) -> None:
        if self._is_busy or not path.startswith(self._text):
            return
        self._is_busy = True
        try:
            self.count += 1
            if action := self.actions.pop(self.count, None):
                action()
        finally:
            self._is_busy = False


@pytest.fixture
def steps_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Steps]]:
    def steps_in(directory: Path) -> Steps:
        global _hook  # noqa: PLW0603  # audit hooks stay for ever
        steps = Steps(directory, monkeypatch)
        _hook = steps.step
        return steps

    global _hook  # noqa: PLW0603
    try:
        yield steps_in
    finally:
        _hook = None


@pytest.fixture
def here(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """The workshop, with its environment as that of this process."""
    for name, value in workshop.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workshop.directory)
    environment = workshop.cache / "environments" / ("e" * 24)
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(sys.executable)
    return workshop


def copied(source: Path, target: Path) -> None:
    """A tree of its own with the same content: its files are links."""
    target.mkdir()
    for entry in os.scandir(source):
        path = target / entry.name
        if entry.is_symlink():
            path.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            copied(Path(entry.path), path)
        else:
            os.link(entry.path, path)


def moments(count: int, times: int) -> list[int]:
    """The first and the last ones, and some in between."""
    step = max(1, count // (5 * times))
    return sorted({*range(1, min(5, count) + 1), *range(1, count + 1, step), *range(max(1, count - 2), count + 1)})


COMMANDS = {
    ("list",): {0},
    ("verify",): {0},
    ("verify", VERSION): {0, 3},
    ("find", VERSION): {0, 3},
    ("dir",): {0},
}


@pytest.mark.parametrize("how", ["removed by us", "removed by uv", "replaced"])
def test_p2_a_tree_that_goes_away_meanwhile_is_gone_and_not_broken(
    here: Workshop, steps_in: Callable[[Path], Steps], tally: Tally, how: str, times: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    home, record = here.home, here.store / ".pytest-pyinstall/records" / f"{here.key}.json"
    spare, following, kept = here.directory / "spare", here.directory / "next", here.directory / "record.json"
    shutil.copyfile(record, kept)
    copied(home, spare)
    steps = steps_in(home)

    def restore() -> None:
        steps.actions = {}
        shutil.rmtree(following, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        copied(spare, home)
        shutil.copyfile(kept, record)
        steps.count = 0

    def move_away() -> None:
        home.rename(here.directory / "removed")
        if how == "removed by us":
            record.unlink()
        else:
            copied(here.directory / "removed", following)
        shutil.rmtree(here.directory / "removed")

    def put_the_next() -> None:
        following.rename(home)

    for words, allowed in COMMANDS.items():
        restore()
        assert main(words) == 0
        count = steps.count
        for moment in moments(count, times):
            restore()
            capsys.readouterr()
            if how == "removed by uv":  # in place, and not at once
                steps.actions[moment] = partial(shutil.rmtree, home / "lib")
                steps.actions[moment + 3] = partial(shutil.rmtree, home)
            else:
                steps.actions[moment] = move_away
            if how == "replaced":
                steps.actions[moment + 3] = put_the_next
            code = main(words)
            out, err = capsys.readouterr()
            if how == "removed by uv" and steps.actions:
                continue  # what uv left half-way is damaged
            tally.attempt("a tree that goes away while it is looked at")
            story = f"{words}, {how} at step {moment} of {count}: {code}\n{out}{err}"
            assert code in allowed, story
            assert "broken" not in out, story
            assert "damaged" not in out + err, story
            assert "unusable" not in out, story
            tally.survive()


@pytest.mark.parametrize("what", ["archives", "environments"])
def test_p11_what_somebody_else_throws_out_of_the_cache_is_gone(
    here: Workshop, steps_in: Callable[[Path], Steps], tally: Tally, what: str, times: int
) -> None:
    victim, spare = here.cache / what, here.directory / "spare"
    (next(victim.iterdir()) / "deep/er").mkdir(parents=True)  # a directory in an archive's place
    copied(victim, spare)
    steps = steps_in(victim)

    def restore() -> None:
        steps.actions = {}
        shutil.rmtree(victim, ignore_errors=True)
        copied(spare, victim)
        steps.count = 0

    for command in ("list", "prune", "clear"):
        restore()
        assert main(["cache", command]) == 0
        count = steps.count
        for moment in moments(count, times):
            for is_all in (True, False):
                restore()
                gone = victim if is_all else next(victim.iterdir())
                steps.count = 0
                steps.actions = {moment: partial(shutil.rmtree, gone, ignore_errors=True)}
                tally.attempt("what goes away from the cache while it is looked at")
                assert main(["cache", command]) == 0, (command, moment, count)
                tally.survive()
