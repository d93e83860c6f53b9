"""P3: after a power cut, which loses what was not yet written to the disk, the next run repairs the installation."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_report import Tally
from fault_workshop import VERSION, Workshop, digest
from volumes import image, loop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs loop mounts")

SIZES = {"ext4": 64 << 20, "xfs": 320 << 20}


@pytest.mark.parametrize("kind", SIZES)
def test_p3_the_next_run_repairs_an_installation_after_a_power_cut(
    workshop: Workshop, tally: Tally, kind: str, tmp_path: Path, times: int
) -> None:
    for cut in range(3 * times):
        disk = image(tmp_path / f"{kind}{cut}", kind, SIZES[kind])
        # Both disks have one mount point, so that the paths are equal. Journal commits are late, as under load.
        with loop(disk, tmp_path / "mounted", "commit=60" if kind == "ext4" else "") as where:
            workshop.store = where / "store"
            done = workshop.run("install", VERSION)
            assert done.code == 0, done.output
            reference = digest(workshop.home)
            if cut % 3 == 1:  # an fsync commits the journal: file names have reached the disk, but contents have not
                with (workshop.store / ".pytest-pyinstall/records" / f"{workshop.key}.json").open("rb") as file:
                    os.fsync(file.fileno())
            if cut % 3 == 2:
                subprocess.run(["sync", "-f", str(where)], check=True)
                assert workshop.run("install", "--reinstall", VERSION).code == 0
            shutil.copyfile(disk, tmp_path / "after")
        with loop(tmp_path / "after", tmp_path / "mounted"):
            found = digest(workshop.home)
            tally.attempt(f"power cut on {kind}", len(workshop.leftovers()))
            _another_boot(workshop)
            again = workshop.run("install", VERSION)
            assert again.code == 0, again.output
            assert digest(workshop.home) == reference, (cut, len(found or ()))
            assert workshop.run("verify").code == 0
            tally.survive()


@pytest.mark.parametrize("kind", SIZES)
def test_p3_the_next_run_completes_an_installation_that_a_power_cut_interrupts(
    workshop: Workshop, tally: Tally, kind: str, tmp_path: Path, times: int, seed: int
) -> None:
    """Cuts an installation, and a reinstallation of a Python that had reached the disk."""
    chance = random.Random(f"{seed} {kind}")
    reference = None
    for cut in range(2 * times):
        disk = image(tmp_path / f"{kind}{cut}", kind, SIZES[kind])
        with loop(disk, tmp_path / "mounted") as where:
            workshop.store = where / "store"
            words: tuple[str, ...] = ("install", VERSION)
            first = workshop.run(*words)
            assert first.code == 0, first.output
            reference = digest(workshop.home)
            if cut % 2:
                words = ("install", "--reinstall", VERSION)
            else:
                assert workshop.run("remove", VERSION).code == 0
            subprocess.run(["sync", "-f", str(where)], check=True)
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest_pyinstall", *words], env=workshop.environ, cwd=workshop.directory,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                time.sleep(chance.uniform(0, first.seconds))  # the fault itself: a random moment
                process.send_signal(signal.SIGSTOP)  # so that the copy shows one moment
                shutil.copyfile(disk, tmp_path / "after")
            finally:
                process.kill()
                process.wait()
        with loop(tmp_path / "after", tmp_path / "mounted"):
            tally.attempt(f"power cut on {kind}, in the middle", len(workshop.leftovers()))
            _another_boot(workshop)
            again = workshop.run("install", VERSION)
            assert again.code == 0, (seed, cut, again.output)
            assert digest(workshop.home) == reference, (seed, cut)
            assert workshop.run("verify").code == 0
            # If the installation was whole, nothing was written and nothing was swept.
            assert workshop.run("install", "--reinstall", VERSION).code == 0
            assert workshop.leftovers() == []
            tally.survive()


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_p3_files_without_their_content_are_repaired_after_a_boot(
    workshop: Workshop, tally: Tally, share: float
) -> None:
    """Within half a minute after an installation, ext4 has names and perhaps sizes, but no contents."""
    tally.attempt("files emptied by a power cut")
    files = sorted(path for path in workshop.home.rglob("*") if path.is_file() and not path.is_symlink())
    for number, path in enumerate(files[: max(1, int(len(files) * share))]):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(0)
            if number % 2:
                file.truncate(size)  # as xfs does: the right size, but only zeros
    _another_boot(workshop)
    again = workshop.run("install", VERSION)
    assert again.code == 0, again.output
    assert workshop.is_whole()
    assert workshop.leftovers() == []
    tally.survive()


@pytest.mark.parametrize("content", [b"", b"\0" * 300, None])
def test_p3_an_installation_without_its_record_is_repaired(
    workshop: Workshop, tally: Tally, content: bytes | None
) -> None:
    tally.attempt("a record lost in a power cut")
    record = workshop.store / ".pytest-pyinstall/records" / f"{workshop.key}.json"
    if content is None:
        record.unlink()
    else:
        record.write_bytes(content)
    next(workshop.home.glob("bin/python3.*")).write_bytes(b"")
    again = workshop.run("install", VERSION)
    assert again.code == 0, again.output
    assert workshop.is_whole()
    tally.survive()


def _another_boot(workshop: Workshop) -> None:
    """Make the record look as if an earlier boot had written it."""
    record = workshop.store / ".pytest-pyinstall/records" / f"{workshop.key}.json"
    try:
        document = json.loads(record.read_bytes())
    except (FileNotFoundError, ValueError):
        return  # the record did not reach the disk
    document["boot"] = "an earlier one"
    record.write_text(json.dumps(document), "utf-8")
