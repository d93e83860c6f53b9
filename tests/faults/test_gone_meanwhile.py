"""P2, P21: what disappears while a command reads it is reported as missing and not as damaged.

An installation that one process takes while another removes it stays, or is provided again.

Each test runs in one process and acts at a counted step, so that no failure depends on chance.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from fault_report import Tally
from fault_workshop import VERSION, Workshop

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.errors import StoreError
from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.session import PythonProvider
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system import locks as lock_module
from pytest_pyinstall.system.files import current_boot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs to move what is open")

needs_flock = pytest.mark.skipif(sys.platform != "linux", reason="needs shared locks, and /proc")

_hook: Callable[[str], None] | None = None


_readlink = os.readlink


def _audited(event: str, arguments: tuple[object, ...]) -> None:
    if _hook is None:
        return
    if event in {"open", "os.scandir", "os.listdir", "os.rename", "os.remove", "subprocess.Popen"}:
        _hook(str(arguments[0]))
    elif event == "fcntl.flock":
        _hook(_readlink(f"/proc/self/fd/{arguments[0]}") if sys.platform == "linux" else "")


sys.addaudithook(_audited)  # an audit hook cannot be removed


class Steps:
    """Counts the accesses of this process to a directory, and runs actions at some of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._text = str(directory)
        self.count = 0
        self.paths: list[str] = []
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
            self.paths.append(path)
            if action := self.actions.pop(self.count, None):
                action()
        finally:
            self._is_busy = False


@pytest.fixture
def steps_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Steps]]:
    def steps_in(directory: Path) -> Steps:
        global _hook  # noqa: PLW0603  # an audit hook cannot be removed
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
    """The workshop, with its variables set in this process."""
    for name, value in workshop.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(workshop.directory)
    environment = workshop.cache / "environments" / ("e" * 24)
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(sys.executable)
    return workshop


def copy_tree(source: Path, target: Path) -> None:
    """Copy a tree; the files of the copy are hard links."""
    target.mkdir()
    for entry in os.scandir(source):
        path = target / entry.name
        if entry.is_symlink():
            path.symlink_to(Path(entry.path).readlink())
        elif entry.is_dir():
            copy_tree(Path(entry.path), path)
        else:
            os.link(entry.path, path)


def moments(count: int, times: int) -> list[int]:
    """The first and the last steps, and some in between."""
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
def test_p2_an_installation_that_disappears_is_missing_and_not_broken(
    here: Workshop, steps_in: Callable[[Path], Steps], tally: Tally, how: str, times: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    home, record = here.home, here.store / ".pytest-pyinstall/records" / f"{here.key}.json"
    spare, replacement, kept = here.directory / "spare", here.directory / "replacement", here.directory / "record.json"
    shutil.copyfile(record, kept)
    copy_tree(home, spare)
    steps = steps_in(home)

    def restore() -> None:
        steps.actions = {}
        shutil.rmtree(replacement, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        copy_tree(spare, home)
        shutil.copyfile(kept, record)
        steps.count = 0

    def move_away() -> None:
        home.rename(here.directory / "removed")
        if how == "removed by us":
            record.unlink()
        else:
            copy_tree(here.directory / "removed", replacement)
        shutil.rmtree(here.directory / "removed")

    def put_replacement() -> None:
        replacement.rename(home)

    for words, allowed in COMMANDS.items():
        restore()
        assert main(words) == 0
        count = steps.count
        for moment in moments(count, times):
            restore()
            capsys.readouterr()
            if how == "removed by uv":  # uv deletes the files one after the other
                steps.actions[moment] = partial(shutil.rmtree, home / "lib")
                steps.actions[moment + 3] = partial(shutil.rmtree, home)
            else:
                steps.actions[moment] = move_away
            if how == "replaced":
                steps.actions[moment + 3] = put_replacement
            code = main(words)
            out, err = capsys.readouterr()
            if how == "removed by uv" and steps.actions:
                continue  # an installation that uv has partly deleted is damaged
            tally.attempt("an installation disappears during a check")
            details = f"{words}, {how} at step {moment} of {count}: {code}\n{out}{err}"
            assert code in allowed, details
            assert "broken" not in out, details
            assert "damaged" not in out + err, details
            assert "unusable" not in out, details
            tally.survive()


@pytest.mark.parametrize("what", ["archives", "environments"])
def test_p11_a_cache_entry_that_another_process_deletes_is_no_error(
    here: Workshop, steps_in: Callable[[Path], Steps], tally: Tally, what: str, times: int
) -> None:
    victim, spare = here.cache / what, here.directory / "spare"
    (next(victim.iterdir()) / "deep/er").mkdir(parents=True)  # a directory in place of an archive
    copy_tree(victim, spare)
    steps = steps_in(victim)

    def restore() -> None:
        steps.actions = {}
        shutil.rmtree(victim, ignore_errors=True)
        copy_tree(spare, victim)
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
                tally.attempt("a cache entry disappears during a read")
                assert main(["cache", command]) == 0, (command, moment, count)
                tally.survive()


# An installation that one process takes while another removes it


def run_exec(here: Workshop) -> None:
    """Run a command that works only if the Python is present."""
    ran = here.directory / "ran"
    ran.unlink(missing_ok=True)
    python = f"python{VERSION.rpartition('.')[0]}"
    assert main(["exec", "--python", VERSION, "--", python, "-I", "-c", "open('ran', 'w')"]) == 0
    assert ran.exists()


def run_session(here: Workshop) -> None:
    """Do what a session does before its tests or its suite."""
    settings = Settings.from_environ(here.environ, directory=here.directory)
    provisioner = open_provisioner(settings, environ=here.environ, directory=here.directory)
    pythons = PythonProvider(provisioner)
    try:
        (choice,) = pythons.choose_all([VERSION], origin="test", directory=here.directory)
        assert choice.interpreter is not None
        assert choice.interpreter.run("-c", "print(1)").stdout == "1\n"
    finally:
        pythons.close()


DOORS: dict[str, Callable[[Workshop], None]] = {
    "exec": run_exec,
    "a session": run_session,
}


@needs_flock
@pytest.mark.parametrize("door", DOORS)
def test_p21_an_installation_removed_while_it_is_taken_stays_or_is_provided_again(
    here: Workshop, steps_in: Callable[[Path], Steps], tally: Tally, door: str, times: int
) -> None:
    store = Store(root=here.store, boot=current_boot())
    steps = steps_in(here.store)
    DOORS[door](here)
    count = steps.count
    (lock,) = [number for number, path in enumerate(steps.paths, 1) if path.endswith(".lease")][-1:]
    results: dict[int, str] = {}

    def remove(moment: int) -> None:
        try:
            results[moment] = "removed" if store.remove(here.key) else "was missing"
        except StoreError as error:
            assert "was not removed" in error.message  # noqa: PT017  # the expected message
            results[moment] = "refused"

    near = range(lock - 4, lock + 5)
    for moment in sorted({*moments(count, times), *near} & {*range(1, count + 1)}):
        steps.count, steps.actions = 0, {moment: partial(remove, moment)}
        tally.attempt("remove at each step of its use")
        DOORS[door](here)
        # `lock` is the last step before the lock is requested.
        assert results[moment] == ("removed" if moment <= lock else "refused"), (moment, lock, count, results)
        assert here.is_whole(), (moment, results)
        tally.survive()
    assert {*results.values()} == {"removed", "refused"}


@needs_flock
def test_p21_an_installation_taken_during_its_removal_stays_or_is_not_held(
    here: Workshop, steps_in: Callable[[Path], Steps], tally: Tally, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "_PATIENCE", 0.0)  # the holder is this thread, so waiting is useless
    store, spare, kept = Store(root=here.store, boot=current_boot()), here.directory / "spare", here.directory / "kept"
    record = store.record_path(here.key)
    shutil.copyfile(record, kept)
    copy_tree(here.home, spare)
    steps = steps_in(here.store)

    def restore() -> None:
        steps.actions = {}
        if not here.home.exists():
            copy_tree(spare, here.home)
            shutil.copyfile(kept, record)
        steps.count = 0

    assert store.remove(here.key)
    restore()  # the tree is not the one of the record, as in each round, so its content is compared
    assert store.remove(here.key)
    count, outcomes = steps.count, set()
    names = (".lease", f"/{here.key}")
    close = [number for number, path in enumerate(steps.paths, 1) if path.endswith(names) and number > 3]
    near = {number + more for number in close for more in range(-2, 3)} & {*range(1, count + 1)}
    for moment in sorted({*moments(count, times), *near}):
        with ExitStack() as stack:
            taken: list[bool] = []

            def take(stack: ExitStack = stack, taken: list[bool] = taken) -> None:
                is_held = stack.enter_context(store.lease(here.home))
                # As each user does: take the lease, and then check that the Python exists.
                taken.append(is_held and (here.home / here.key.executable).exists())

            restore()
            steps.actions = {moment: take}
            tally.attempt("use at each step of its removal")
            try:
                was_removed = store.remove(here.key)
            except StoreError as error:
                assert "was not removed" in error.message  # noqa: PT017
                was_removed = False
            steps.actions = {}
            assert len(taken) == 1, (moment, count)
            assert was_removed is not taken[0], (moment, count)
            assert here.home.exists() is taken[0], (moment, count)
            outcomes.add(was_removed)
            tally.survive()
    assert outcomes == {True, False}
