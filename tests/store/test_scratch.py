"""P8, P11: a writer sweeps the scratch of dead processes, and deletes nothing else."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_installations import KEY, OLDER, names_in, publish

from pytest_pyinstall.store.store import Store


@pytest.mark.skipif(sys.platform == "win32", reason="needs symlinks")
@pytest.mark.parametrize("where", ["scratch", "scratch/{key}", "scratch/{key}/{name}"])
def test_p11_sweeping_does_not_follow_links(store: Store, tmp_path: Path, where: str) -> None:
    publish(store)
    precious = tmp_path / "precious"
    (precious / str(OLDER) / "12-0123abcd").mkdir(parents=True)
    (precious / "12-0123abcd").mkdir()
    (precious / "12-0123abcd.alive").touch()
    (precious / "file").touch()
    link = store.private / where.format(key=KEY, name="12-0123abcd")
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rmdir()
    link.symlink_to(precious)
    before = sorted(precious.rglob("*"))

    store.leftovers()
    publish(store, OLDER)
    assert sorted(precious.rglob("*")) == before


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs access control lists")
def test_p15_nothing_in_a_tree_inherits_an_access_control_list(store: Store) -> None:
    """Python saves byte code with the umask, which such a list replaces. Others could then write to it."""
    store.root.mkdir(parents=True)
    done = subprocess.run(["setfacl", "-d", "-m", "u:4242:rwx", store.root], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip("this filesystem has no access control lists")
    before = os.umask(0o022)
    try:
        with store.claim(KEY) as claim:
            (claim.scratch / "tree").mkdir()
            assert (claim.scratch / "tree").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


def test_p11_sweeping_keeps_names_that_are_not_ours(store: Store) -> None:
    publish(store)
    for name in ("notes", "12-abc", ".hidden", "12-0123abcd.d"):
        (store.private / "scratch" / str(KEY) / name).mkdir(parents=True)
    publish(store, OLDER)
    assert names_in(store.private / "scratch" / str(KEY)) == sorted(("notes", "12-abc", ".hidden", "12-0123abcd.d"))


def test_p8_the_next_writer_sweeps_what_killed_processes_left(store: Store) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store.store import Store
with Store(root=Path(sys.argv[1])).claim(Key.parse(sys.argv[2])) as claim:
    (claim.scratch / "half").write_text("x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    for key in (KEY, OLDER, KEY):
        subprocess.run([sys.executable, "-c", script, str(store.root), str(key)], check=False)
    assert len(store.leftovers()) == 1

    with store.claim(replace(KEY, number="3.13.0")):
        assert store.leftovers() == []
    assert names_in(store.private / "scratch") == []
