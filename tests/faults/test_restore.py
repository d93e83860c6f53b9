"""P2, P3, P15, P23, P24: a store that a CI cache or a backup has restored is used and not downloaded again."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mirror
import pytest
from fault_report import Tally
from fault_workshop import RUNNING, VERSION, Ended, Workshop, digest

import pytest_pyinstall

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs GNU tar, rsync, and the boot id of Linux")

is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="needs root")

STRANGER = 4242
"""A user id without a passwd entry, as in containers."""

# Each way of saving and restoring loses something. Most CI caches use one of them.
WAYS = {
    "tar": ("tar cf {bag} .", "tar xpf {bag}"),
    "tar without times": ("tar cf {bag} .", "tar xpmf {bag}"),
    "tar without modes": ("tar cf {bag} --mode=a=rX,u+w .", "tar xf {bag} --no-same-permissions"),
    "tar without empty directories": ("find . ! -type d -print0 | tar cf {bag} --null -T -", "tar xpf {bag}"),
    "tar that follows links": ("tar chf {bag} .", "tar xpf {bag}"),
    "tar of one file system, sparse": ("tar cSf {bag} --one-file-system .", "tar xpf {bag}"),
    "tar that knows no owners": ("tar cf {bag} --owner=0 --group=0 --sort=name .", "tar xpf {bag} --no-same-owner"),
    "zstd": ("tar cf {bag} --zstd .", "tar xf {bag} --zstd"),
    "zip": ("zip -qry {bag}.zip .", "unzip -q {bag}.zip"),
    "zip that follows links": ("zip -qr {bag}.zip .", "unzip -q {bag}.zip"),
    "zip without empty directories": ("zip -qryD {bag}.zip .", "unzip -q {bag}.zip"),
    "zip read by Python": ("zip -qry {bag}.zip .", f"{sys.executable} -m zipfile -e {{bag}}.zip ."),
    "rsync": ("rsync -a ./ {bag}/", "rsync -a {bag}/ ./"),
    "rsync without modes": ("rsync -rlt ./ {bag}/", "rsync -rlt --no-perms {bag}/ ./"),
    "rsync without executables": ("rsync -a --chmod=F644 ./ {bag}/", "rsync -a {bag}/ ./"),
    "rsync without links": ("rsync -rtp ./ {bag}/", "rsync -rtp {bag}/ ./"),
    "rsync without times": ("rsync -rlp ./ {bag}/", "rsync -rlp {bag}/ ./"),
    "rsync without empty directories": ("rsync -am ./ {bag}/", "rsync -am {bag}/ ./"),
    "cp": ("cp -r . {bag}", "cp -r {bag}/. ."),
    "cp that follows links": ("cp -rL . {bag}", "cp -r {bag}/. ."),
}


@dataclass
class Machine:
    """The machine on which a store is restored: its paths, its user, its umask and its boot."""

    directory: Path
    store: Path
    url: str
    user: int | None = None
    umask: int = 0o022
    boot: str | None = None
    requests: list[mirror.Request] | None = None

    def run(self, *words: str, **environ: str) -> Ended:
        return self.start(sys.executable, "-m", "pytest_pyinstall", *words, environ=environ)

    def start(self, *command: str, environ: Mapping[str, str] | None = None) -> Ended:
        """Run a command as the user, with the umask and the boot id of the machine."""
        if self.user is not None:
            command = ("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", *command)
        mounts = [] if self.user is None else make_reachable(self.directory / "view")
        if self.boot is not None:
            name = self.directory / "boot"
            name.write_text(f"{self.boot}\n")
            mounts.append(f"mount --bind {name} /proc/sys/kernel/random/boot_id")
        if mounts:
            command = (
                "unshare",
                "-m",
                "sh",
                "-ec",
                "\n".join(["umask 022", *mounts, f"umask {self.umask:o}", 'exec "$@"']),
                "sh",
                *command,
            )
        done = subprocess.run(
            command,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.directory / "nowhere"),
                "TMPDIR": str(self.directory / "tmp"),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_PYINSTALL_STORE": str(self.store),
                "PYTEST_PYINSTALL_CACHE": str(self.directory / "cache"),
                "PYTEST_PYINSTALL_MIRROR": self.url,
                "PYTEST_PYINSTALL_CATALOGUE": f"{self.url}/catalogue.json",
                "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
                **(environ or {}),
            },
            cwd=self.directory, umask=self.umask, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=100,
        )  # fmt: skip
        return Ended(done.returncode, done.stdout + done.stderr)


def make_reachable(view: Path) -> list[str]:
    """Commands that let every user reach the running Python and the code under test, in a mount namespace.

    Both may be below a home directory that is closed to others.
    """
    places = {RUNNING.parents[1], Path(sys.prefix).resolve(), Path(pytest_pyinstall.__file__).parents[1].resolve()}
    closed = {
        max(
            (parent for parent in place.parents if not parent.stat().st_mode & 0o001), key=lambda path: -len(path.parts)
        )
        for place in places
        if any(not parent.stat().st_mode & 0o001 for parent in place.parents)
    }
    commands = []
    for number, directory in enumerate(sorted(closed)):
        behind = f"{view}{number}"
        commands += [
            f"mkdir -p {behind}",
            f"mount --bind {directory} {behind}",
            f"mount -t tmpfs -o mode=755 none {directory}",
        ]
        for place in sorted(place for place in places if directory in place.parents):
            commands += [f"mkdir -p {place}", f"mount --bind {behind}/{place.relative_to(directory)} {place}"]
    return commands


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may enter, unlike the directories of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="pyinstall-public-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def saved(workshop: Workshop) -> Workshop:
    """A store with one installation and some byte code."""
    cache = workshop.home / f"lib/python{VERSION.rpartition('.')[0]}/__pycache__"
    cache.mkdir()
    (cache / "os.cpython-39.pyc").write_bytes(b"old byte code")
    return workshop


def restore(saved: Workshop, machine: Machine, way: str) -> None:
    """Restore the store of `saved` on `machine` as its user, and move the original away."""
    pack, unpack = WAYS[way]
    bag = machine.directory / "bag"
    pack, unpack = (text.format(bag=bag) for text in (pack, unpack))
    done = subprocess.run(["bash", "-ec", pack], cwd=saved.store, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    away = saved.store.with_name("away")
    saved.store.rename(away)
    for directory in (machine.directory / "tmp", machine.store):
        directory.mkdir(parents=True, exist_ok=True)
    if machine.user is not None:
        for directory in (machine.directory, machine.directory / "tmp", machine.store):
            os.chown(directory, machine.user, machine.user)
        subprocess.run(["chmod", "-R", "a+rX", machine.directory], check=True)
    done2 = machine.start("bash", "-ec", f"cd {machine.store} && {unpack}")
    assert done2.code == 0, done2.output


def assert_usable(machine: Machine, server: mirror.Mirror, saved: Workshop) -> None:
    """Assert that each command finds the Python whole, that it runs, and that nothing is downloaded."""
    for words in (("install", VERSION), ("find", VERSION), ("verify",), ("list",), ("install", VERSION)):
        ended = machine.run(*words)
        assert ended.code == 0, (words, ended.output)
        assert "Traceback" not in ended.output
        for wrong in ("Downloading", "damaged", "broken", "cannot"):
            assert wrong not in ended.output, (words, ended.output)
    home = machine.store / saved.home.name
    assert machine.start(str(home / saved.key.executable), "-I", "-c", "").code == 0
    found = digest(home)
    assert found is not None
    assert _content(found, home) == _content(saved.reference, saved.home)
    assert [request.path for request in server.requests] == []


def _content(tree: Mapping[str, str], home: Path) -> dict[str, str]:
    """The kind and content of each file, without modes and without files that name the installation directory."""
    naming = ("_sysconfigdata", "bin/demo")
    return {
        name: " ".join(said.split()[::2]) if said.startswith("file") else said.partition(" ")[0]
        for name, said in tree.items()
        if not any(part in name for part in naming)
    }


@pytest.mark.parametrize("place", ["same path", "other path"])
@pytest.mark.parametrize("way", WAYS)
def test_p2_p23_p24_a_restored_store_needs_no_download(
    saved: Workshop, public: Path, tally: Tally, way: str, place: str
) -> None:
    tally.attempt(f"a store restored to the {place}")
    with mirror.serve(saved.mirror) as server:
        store = saved.store if place == "same path" else public / "store"
        machine = Machine(public, store, server.url)
        restore(saved, machine, way)
        assert_usable(machine, server, saved)
    tally.survive()


@needs_root
@pytest.mark.parametrize(
    ("umask", "boot"), [(0o022, "same boot"), (0o002, "other boot"), (0o027, "other boot"), (0o077, "same boot")]
)
@pytest.mark.parametrize("user", ["root", "an ordinary user"])
@pytest.mark.parametrize("way", ["tar without modes", "zip read by Python", "rsync without modes"])
def test_p3_p23_p24_a_store_restored_by_another_user_umask_and_boot_needs_no_download(
    saved: Workshop, public: Path, tally: Tally, way: str, user: str, umask: int, boot: str
) -> None:
    tally.attempt("a store restored by another user, umask and boot")
    with mirror.serve(saved.mirror) as server:
        machine = Machine(
            public,
            public / "store",
            server.url,
            user=None if user == "root" else STRANGER,
            umask=umask,
            boot=None if boot == "same boot" else "00000000-1111-2222-3333-444444444444",
        )
        restore(saved, machine, way)
        assert_usable(machine, server, saved)
    tally.survive()


@needs_root
@pytest.mark.parametrize("way", ["tar without modes", "rsync without modes"])
def test_p15_a_restored_store_that_everyone_can_write_to_is_rejected(
    saved: Workshop, public: Path, tally: Tally, way: str
) -> None:
    tally.attempt("a store restored with umask 000")
    with mirror.serve(saved.mirror) as server:
        machine = Machine(public, public / "store", server.url, umask=0)
        saved.store.chmod(0o777)
        restore(saved, machine, way)
        machine.store.chmod(0o777)
        ended = machine.run("install", VERSION)
        assert ended.code == 6, ended.output
        assert f"everyone can write to {machine.store}" in ended.output
        trusted = machine.run("install", VERSION, PYTEST_PYINSTALL_TRUSTED_STORE=str(machine.store))
        assert trusted.code == 0, trusted.output
        assert server.requests == []
    tally.survive()


@pytest.mark.parametrize("way", ["tar", "rsync"])
def test_p3_damage_of_a_restored_store_is_found_at_its_first_use(
    saved: Workshop, public: Path, tally: Tally, way: str
) -> None:
    """The checks of one machine are not valid for the tree of another."""
    tally.attempt("damage in a restored store")
    assert saved.run("verify").code == 0
    with mirror.serve(saved.mirror) as server:
        machine = Machine(public, saved.store, server.url)
        restore(saved, machine, way)
        module = next(saved.home.glob("lib/*/package1/module1.py"))
        content = module.read_bytes()
        module.write_bytes(bytes(len(content)))
        ended = machine.run("install", VERSION)
        assert ended.code == 0, ended.output
        assert "module1.py: has other content; repairing it" in ended.output
        assert module.read_bytes() == content
    tally.survive()


def test_p3_a_record_of_the_first_version_is_read_and_completed(saved: Workshop, tally: Tally) -> None:
    """The first version wrote `durable` and no `distributions`."""
    tally.attempt("a record of the first version")
    path = saved.store / ".pytest-pyinstall/records" / f"{saved.key}.json"
    document = json.loads(path.read_text("utf-8"))
    document = {name: value for name, value in document.items() if name != "distributions"}
    document |= {"durable": True, "boot": "another", "inode": document["inode"]}
    path.write_text(json.dumps(document), "utf-8")
    with mirror.serve(saved.mirror) as server:
        saved.url = server.url
        for words in (("find", VERSION), ("install", VERSION), ("verify",), ("list",)):
            ended = saved.run(*words)
            assert ended.code == 0, ended.output
        assert server.requests == []
    again = json.loads(path.read_text("utf-8"))
    assert again["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    tally.survive()
