"""P6, P7, P15, P16, P17: full, small, foreign, read-only and unusual disks."""

import errno
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_report import Again, Tally
from fault_workshop import VERSION, Ended, Workshop, digest
from volumes import tmpfs

from pytest_pyinstall.archive import finish
from pytest_pyinstall.download.local import open_file_url
from pytest_pyinstall.errors import PyinstallError, StoreError
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store._access import Access
from pytest_pyinstall.system import locks
from pytest_pyinstall.system.files import storage_error

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: tmpfs, strace, limits")

needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


def run_with_limits(workshop: Workshop, *words: str, limits: dict[int, int]) -> Ended:
    def limit() -> None:
        for what, value in limits.items():
            resource.setrlimit(what, (value, value))

    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest_pyinstall", *words],
        env=workshop.environ, cwd=workshop.directory, preexec_fn=limit,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout + done.stderr)


def run_with_faults(workshop: Workshop, *words: str, faults: tuple[str, ...]) -> Ended:
    """Run the command line under strace, which makes system calls fail."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    calls = ",".join(dict.fromkeys(fault.partition(":")[0] for fault in faults))
    command = [strace, "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}"]
    command += [part for fault in faults for part in ("-e", f"inject={fault}")]
    done = subprocess.run(
        [*command, sys.executable, "-B", "-m", "pytest_pyinstall", *words],
        env=workshop.environ, cwd=workshop.directory,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("needs ptrace")
    return Ended(done.returncode, done.stdout + done.stderr)


def assert_clear_error(ended: Ended, *said: str) -> None:
    """Assert that the command failed with an error and a hint, and that its output contains each of `said`."""
    assert "Traceback" not in ended.output, ended.output
    assert "error: " in ended.output, ended
    assert "hint: " in ended.output, ended
    assert ended.code in {4, 5, 6, 7}, ended
    for each in said:
        assert each in ended.output, ended.output


LIMIT = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def lock(path: Path) -> None:
    with locks.hold(path / "lock", timeout=0.1, purpose="for it", setting="--python-store"):
        pass


def finish_tree(path: Path) -> None:
    finish.finish(path, key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), home=Path("/home/it"), tag="20261122")


def read_mirror(path: Path) -> None:
    open_file_url(str(path / "archive"))


def use_store(path: Path) -> None:
    raise Access(root=path, private=path, trusted=frozenset()).unwritable(LIMIT)


def find_in_store(path: Path) -> None:
    raise Access(root=path, private=path, trusted=frozenset()).unreadable(LIMIT)


def use_cache(path: Path) -> None:
    raise storage_error(path, LIMIT)


@pytest.mark.parametrize("use", [lock, finish_tree, read_mirror, use_store, find_in_store, use_cache])
def test_p16_too_many_open_files_is_not_the_fault_of_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Path], object]
) -> None:
    (tmp_path / "archive").touch()

    def reach_limit(*_: object, **__: object) -> None:
        raise LIMIT

    monkeypatch.setattr(os, "open", reach_limit)
    monkeypatch.setattr(finish, "_replace", reach_limit)
    with pytest.raises(PyinstallError, match="Too many open files") as caught:
        use(tmp_path)
    monkeypatch.undo()
    assert caught.value.hint == "raise the limit for open files: ulimit -n 4096"


def remove_all(workshop: Workshop) -> None:
    assert workshop.run("remove", "--all").code == 0
    assert workshop.leftovers() == []


def assert_healed(workshop: Workshop, tally: Tally) -> None:
    again = workshop.run("install", VERSION)
    assert again.code == 0, again.output
    assert workshop.is_whole()
    assert workshop.leftovers() == []
    tally.survive()


# Full disks


@needs_root
@pytest.mark.parametrize("full", ["size", "nr_inodes"])
def test_p16_a_full_disk_at_any_phase_is_a_clear_error_and_the_next_run_succeeds(
    workshop: Workshop, tally: Tally, full: str, tmp_path: Path
) -> None:
    sizes = ["16k", "200k", "620k", "700k", "1200k", "1600k"] if full == "size" else [8, 16, 24, 40, 120, 250]
    for size in sizes:
        workshop.reset()
        with tmpfs(tmp_path / "disk", f"{full}={size},mode=755") as disk:
            small = _on_disk(workshop, disk)
            ended = small.run("install", VERSION)
            left = small.leftovers()
            tally.attempt(f"disk full ({full})", len(left))
            assert_clear_error(ended, "No space left on device")
            assert digest(small.home) is None
            assert [name for name in left if ".part" not in name] == []
            room = "64m" if full == "size" else "5000"
            subprocess.run(["mount", "-o", f"remount,{full}={room}", str(disk)], check=True)
            again = small.run("install", VERSION)
            assert again.code == 0, again.output
            assert len(digest(small.home) or ()) == len(workshop.reference)
            assert small.leftovers() == []
        tally.survive()


def _on_disk(workshop: Workshop, disk: Path) -> Workshop:
    """A workshop whose store and cache are on `disk`."""
    other = Workshop(workshop.directory, workshop.mirror)
    other.store, other.cache = disk / "store", disk / "cache"
    return other


@pytest.mark.parametrize("words", [("install",), ("install", "--reinstall")])
def test_p16_a_file_size_limit_is_a_clear_error(workshop: Workshop, tally: Tally, words: tuple[str, ...]) -> None:
    is_reinstall = "--reinstall" in words
    for size in (1000, 20_000, 300_000):
        if is_reinstall:
            shutil.rmtree(workshop.cache, ignore_errors=True)
        else:
            remove_all(workshop)
            shutil.rmtree(workshop.cache, ignore_errors=True)
        ended = run_with_limits(workshop, *words, VERSION, limits={resource.RLIMIT_FSIZE: size})
        tally.attempt("file size limit", len(workshop.leftovers()))
        assert_clear_error(ended, "File too large")
        assert digest(workshop.home) == (workshop.reference if is_reinstall else None)
        assert [name for name in workshop.leftovers() if ".part" not in name] == []
        shutil.rmtree(workshop.cache, ignore_errors=True)
        assert_healed(workshop, tally)


def test_p16_a_limit_of_open_files_is_a_clear_error_or_is_enough(workshop: Workshop, tally: Tally) -> None:
    for most in (9, 10, 11, 12, 13, 14, 16, 20):
        remove_all(workshop)
        ended = run_with_limits(workshop, "install", VERSION, limits={resource.RLIMIT_NOFILE: most})
        tally.attempt("too many open files", len(workshop.leftovers()))
        if ended.code:
            assert "Traceback" not in ended.output, (most, ended.output)
            assert "error: " in ended.output, (
                most,
                ended.output,
            )  # from the command line, or from the Python that it started
            assert digest(workshop.home) is None
        assert [name for name in workshop.leftovers() if ".part" not in name] == [], most
        assert_healed(workshop, tally)


@needs_root
def test_p16_a_limit_of_processes_is_a_clear_error_and_not_the_fault_of_a_python(
    workshop: Workshop, tally: Tally
) -> None:
    user = str(70000 + os.getpid() % 10000)  # the limit counts the processes of a user
    subprocess.run(["chown", "-R", f"{user}:{user}", workshop.directory], check=True)
    setpriv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    setpriv += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # our Python may be in root's home
    for most, words in (
        (1, ("install", VERSION)), (2, ("install", VERSION)), (2, ("install", "--reinstall", VERSION)), (3, ("list",)),
    ):  # fmt: skip
        tally.attempt("too many processes", len(workshop.leftovers()))
        done = subprocess.run(
            [*setpriv, "prlimit", f"--nproc={most}", sys.executable, "-m", "pytest_pyinstall", *words],
            env=workshop.environ, cwd=workshop.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert_clear_error(Ended(done.returncode, done.stdout + done.stderr), "ulimit -u")
        assert "repairing" not in done.stderr
        assert workshop.is_whole()
        assert workshop.leftovers() == []
        tally.survive()


# Errors of single calls. The numbers select a call of the command line, and not one of the start of Python.

INJECTED = {
    "EDQUOT on a write": ("write:error=EDQUOT:when=30",),
    "EIO on a write": ("write:error=EIO:when=60",),
    "EIO on mkdir": ("mkdir:error=EIO:when=12+",),
    "EACCES on rename": ("rename:error=EACCES:when=2+",),
    "EIO on fsync": ("fsync:error=EIO",),
    "EPERM on chmod": ("chmod,fchmod,fchmodat:error=EPERM:when=3+",),
    "EMLINK on symlink": ("symlink,symlinkat:error=EMLINK",),
    "ENOLCK on flock": ("flock:error=ENOLCK",),
    "EOPNOTSUPP on flock": ("flock:error=EOPNOTSUPP",),
}


@pytest.mark.parametrize("fault", INJECTED)
def test_p16_a_failing_system_call_is_a_clear_error(workshop: Workshop, tally: Tally, fault: str) -> None:
    remove_all(workshop)
    ended = run_with_faults(workshop, "install", VERSION, faults=INJECTED[fault])
    left = workshop.leftovers()
    tally.attempt("a failing system call", len(left))
    if ended.code:
        assert_clear_error(ended)
        assert digest(workshop.home) is None
    if "fsync" not in fault and "rename" not in fault and "write" not in fault:
        assert [name for name in left if ".part" not in name] == [], ended
    assert_healed(workshop, tally)


def test_p16_an_error_on_close_is_not_reported_as_success(workshop: Workshop, tally: Tally, again: Again) -> None:
    """NFS reports lost writes only on close. uv reports success."""
    remove_all(workshop)
    moments = [("close", when) for when in _close_calls(workshop)]
    for call, when in again.only("EIO on close", moments):
        with again.at("EIO on close", call, when):
            remove_all(workshop)
            ended = run_with_faults(workshop, "install", VERSION, faults=(f"{call}:error=EIO:when={when}",))
            tally.attempt("an error on close", len(workshop.leftovers()))
            # The interpreter also closes files, and an import that fails because of that is not an error of ours.
            assert "Traceback" not in ended.output or "\nImportError: " in ended.output, ended.output
            if ended.code == 0:
                assert workshop.is_whole()
            else:
                assert "Input/output error" in ended.output
                assert digest(workshop.home) is None
            assert_healed(workshop, tally)


def _close_calls(workshop: Workshop) -> list[int]:
    """Some calls that close files of the store and the cache, as strace counts them.

    The Python is installed afterwards.
    """
    strace, log = shutil.which("strace"), workshop.directory / "closes"
    if strace is None:
        pytest.skip("needs strace")
    done = subprocess.run(
        [strace, "-f", "-y", "-qqq", "-o", log, "-e", "trace=close", sys.executable, "-B", "-m", "pytest_pyinstall",
         "install", VERSION],
        env=workshop.environ, cwd=workshop.directory, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("needs ptrace")
    counts: Counter[str] = Counter()
    numbers = []
    for line in log.read_text("utf-8", "replace").splitlines():
        thread, _, call = line.partition(" ")
        counts[thread] += call.lstrip().startswith("close(")
        if f"<{workshop.store}/" in call or f"<{workshop.cache}/" in call:
            numbers.append(counts[thread])
    assert len(numbers) > 100
    return sorted(set(numbers))[:: max(1, len(numbers) // 6)]


@pytest.mark.parametrize("fault", ["link,linkat:error=EPERM", "link,linkat:error=EXDEV", "renameat2:error=EINVAL"])
def test_p17_an_installation_needs_no_hard_links_and_no_exchange(workshop: Workshop, tally: Tally, fault: str) -> None:
    ended = run_with_faults(workshop, "install", "--reinstall", VERSION, faults=(fault,))
    tally.attempt("no hardlinks, no exchange", len(workshop.leftovers()))
    assert ended.code == 0, ended.output
    assert workshop.is_whole()
    assert workshop.leftovers() == []
    tally.survive()


# Permissions


@needs_root
def test_p7_a_read_only_store_is_used_and_writing_to_it_is_a_clear_error(workshop: Workshop, tally: Tally) -> None:
    subprocess.run(["mount", "--bind", str(workshop.store), str(workshop.store)], check=False)
    done = subprocess.run(["mount", "-o", "remount,ro,bind", str(workshop.store)], check=False, capture_output=True)
    try:
        if done.returncode:
            pytest.skip("needs the right to mount")
        tally.attempt("read-only store")
        for words in (("install", VERSION), ("find", VERSION), ("verify",), ("list",)):
            ended = workshop.run(*words)
            assert ended.code == 0, ended.output
        ended = workshop.run("exec", "--python", VERSION, "--", "python3" + VERSION[1:4], "-c", "print(1)")
        assert ended.code == 0, ended.output
        for change in (("install", "--reinstall", VERSION), ("remove", VERSION)):
            assert_clear_error(workshop.run(*change), "Read-only file system", str(workshop.store))
        tally.survive()
    finally:
        subprocess.run(["umount", "-l", str(workshop.store)], check=False, capture_output=True)


@needs_root
def test_p7_p15_everyone_can_use_the_store_of_root_and_root_uses_no_other(
    workshop: Workshop, tally: Tally, request: pytest.FixtureRequest
) -> None:
    tally.attempt("the store of another user")
    public = Path(tempfile.mkdtemp(prefix="pyinstall-public-"))  # other users cannot enter the directories of pytest
    request.addfinalizer(lambda: shutil.rmtree(public))
    public.chmod(0o755)
    workshop.store = public / "store"
    assert workshop.run("install", VERSION).code == 0
    look = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pytest_pyinstall.request.identity import Key\n"
        "from pytest_pyinstall.store.installation import Installation\n"
        "from pytest_pyinstall.store.store import Store\n"
        "from pytest_pyinstall.system.files import current_boot\n"
        "boot = current_boot()\n"
        "os.setgroups([]); os.setgid(1000); os.setuid(1000)\n"
        "store = Store(root=Path(sys.argv[1]), boot=boot)\n"
        "found = store.look(Key.parse(sys.argv[2]))\n"
        "assert isinstance(found, Installation) and found.record, found\n"
        "with store.lease(found.home) as is_held:\n"
        "    assert is_held\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", look, str(workshop.store), str(workshop.key)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for path in (workshop.store, *workshop.store.rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    assert_clear_error(workshop.run("install", VERSION), "belongs to user", "PYTEST_PYINSTALL_TRUSTED_STORE=")
    trusted = workshop.run("install", VERSION, environ={"PYTEST_PYINSTALL_TRUSTED_STORE": str(workshop.store)})
    assert trusted.code == 0, trusted.output
    tally.survive()


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_p10_installed_files_have_our_modes_with_any_umask(workshop: Workshop, tally: Tally, mask: int) -> None:
    tally.attempt("an unusual umask")
    workshop.reset()
    done = subprocess.run(
        [sys.executable, "-m", "pytest_pyinstall", "install", VERSION], env=workshop.environ, cwd=workshop.directory,
        umask=mask, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mask == 0o777 and os.geteuid() != 0:
        assert done.returncode == 6
        return
    assert done.returncode == 0, done.stderr
    assert workshop.is_whole()
    writable = [
        path for path in (*workshop.store.rglob("*"), *workshop.cache.rglob("*"))
        if not path.is_symlink() and path.stat().st_mode & 0o022 and path.name != ".lock"
        and path.suffix not in {".lock", ".lease"}
    ]  # fmt: skip
    assert writable == []
    assert workshop.run("verify").code == 0
    tally.survive()


# Paths


def _move(workshop: Workshop, store: Path, cache: Path | None = None) -> None:
    workshop.store, workshop.cache = store, cache or workshop.cache


PLACES: dict[str, Callable[[Workshop, Path], None]] = {
    "spaces and non-ASCII": lambda w, p: _move(w, p / "a störe ü 深", p / "ein Cache"),
    "quotes and dollars": lambda w, p: _move(w, p / "a'b\"c$HOME `d`", p / "e\\f;g"),
    "a newline": lambda w, p: _move(w, p / "a\nb"),
    "deep": lambda w, p: _move(w, p.joinpath(*["deep" * 12] * 20)),
    "not UTF-8": lambda w, p: _move(w, p / os.fsdecode(b"latin-\xe9")),
}


@pytest.mark.parametrize("place", PLACES)
def test_p17_a_store_can_have_an_unusual_path(workshop: Workshop, tally: Tally, place: str, tmp_path: Path) -> None:
    tally.attempt("an unusual path")
    PLACES[place](workshop, tmp_path)
    ended = workshop.run("install", VERSION)
    assert ended.code == 0, ended.output
    assert digest(workshop.home) is not None
    assert workshop.run("verify").code == 0
    assert workshop.run("install", "--reinstall", VERSION).code == 0
    assert workshop.run("remove", VERSION).code == 0
    tally.survive()


@pytest.mark.parametrize("what", ["store", "cache"])
def test_p17_the_store_or_cache_can_be_a_link(workshop: Workshop, tally: Tally, what: str, tmp_path: Path) -> None:
    tally.attempt("store or cache behind a link")
    workshop.reset()
    (tmp_path / "real").mkdir()
    (workshop.store if what == "store" else workshop.cache).symlink_to(tmp_path / "real")
    for words in (("install",), ("install",), ("install", "--reinstall")):
        ended = workshop.run(*words, VERSION)
        assert ended.code == 0, ended.output
        assert workshop.is_whole()
    tally.survive()


def test_p17_cache_and_store_can_be_on_two_volumes(workshop: Workshop, tally: Tally, other_volume: Path) -> None:
    tally.attempt("cache and store on two volumes")
    shutil.rmtree(workshop.store)
    workshop.cache = other_volume / "cache"
    for _ in range(2):
        ended = workshop.run("install", "--reinstall", VERSION)
        assert ended.code == 0, ended.output
        assert workshop.is_whole()
    tally.survive()


def test_p16_a_store_that_is_deleted_during_use_is_made_again(workshop: Workshop, tally: Tally) -> None:
    from pytest_pyinstall.provisioner import Provisioner
    from pytest_pyinstall.settings import Settings

    tally.attempt("the store is deleted during use")
    settings = Settings.from_environ(workshop.environ, directory=workshop.directory)
    provisioner = Provisioner(
        settings=settings, environ=workshop.environ, user_home=workshop.directory, directory=workshop.directory,
        executable=Path(sys.executable),
    )  # fmt: skip
    with provisioner:
        assert provisioner.provide_one(VERSION).how == "present"
        shutil.rmtree(workshop.store)
        assert provisioner.provide_one(VERSION).how == "installed"
        assert workshop.is_whole()
        build = next(iter(provisioner.catalogues.configured.builds))
        with pytest.raises(StoreError), provisioner.store.claim(workshop.key) as claim:  # noqa: PT012  # in this order
            shutil.rmtree(workshop.store)
            claim.publish(
                claim.scratch, build=build, version_info=(3, 0, 0, "final", 0),
                keep_added=False,
            )  # fmt: skip
    tally.survive()


@pytest.mark.parametrize("seconds", [-(10**9), 10**8])
def test_p3_a_clock_that_jumps_does_not_affect_decisions(workshop: Workshop, tally: Tally, seconds: int) -> None:
    """All recorded times differ from the clock, and no decision may use them."""
    tally.attempt("the clock jumps")
    import time

    when = time.time() + seconds
    for path in (*workshop.store.rglob("*"), *workshop.cache.rglob("*")):
        os.utime(path, (when, when), follow_symlinks=False)
    (workshop.home / "lib" / f"python{VERSION.rpartition('.')[0]}" / "os.py").unlink()
    ended = workshop.run("install", VERSION)
    assert ended.code == 0, ended.output
    assert workshop.is_whole()
    assert workshop.run("install", "--reinstall", VERSION).code == 0
    assert workshop.leftovers() == []
    tally.survive()
