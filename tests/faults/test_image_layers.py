"""P1, P21, P24: a store and a cache that are part of a container's image, whose directories cannot be renamed."""

import subprocess
import sys
from pathlib import Path

import pytest
from fault_report import Tally
from fault_workshop import VERSION, Ended, Workshop

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs overlayfs")

MOUNT = """\
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "redirect_dir=off,lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$2" || exit 99
cd "$2"
eval "$3"
"""
"""In a mount namespace of its own: what is written below `$2` is gone afterwards."""


def in_container(workshop: Workshop, script: str) -> Ended:
    layer = workshop.directory.with_name("layer")
    layer.mkdir(exist_ok=True)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNT, "sh", str(layer), str(workshop.directory), script],
        env={**workshop.environ, "PYINSTALL": f"{sys.executable} -m pytest_pyinstall"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=100,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stdout:
        pytest.skip(f"needs the right to mount: {done.stdout}")
    return Ended(done.returncode, done.stdout)


def test_p21_what_is_part_of_an_image_is_removed_and_installed_again(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("a store in a container image")
    ended = in_container(
        workshop,
        f"$PYINSTALL remove {VERSION}; test ! -e {workshop.home}\n"
        f"$PYINSTALL verify; $PYINSTALL install {VERSION}; $PYINSTALL verify {VERSION}\n"
        "$PYINSTALL cache clear; ls -A store/.pytest-pyinstall/scratch cache/archives\n",
    )
    assert ended.code == 0, ended.output
    assert ended.output.endswith("cache/archives:\n\nstore/.pytest-pyinstall/scratch:\n"), ended.output
    assert workshop.is_whole()
    tally.survive()


@pytest.mark.parametrize("words", ["install --reinstall", "verify --repair"])
def test_p1_what_is_part_of_an_image_is_replaced(workshop: Workshop, tally: Tally, words: str) -> None:
    tally.attempt("a store in a container image")
    minor = VERSION.rpartition(".")[0]
    home = Path("store", workshop.home.name)
    module = home / f"lib/python{minor}/package1/module1.py"
    site = home / f"lib/python{minor}/site-packages"
    original = workshop.directory / "original"
    original.write_bytes((workshop.directory / module).read_bytes())
    ended = in_container(
        workshop,
        f"echo damage > {module}; mkdir {site}/mine\n"
        f"$PYINSTALL {words} {VERSION}; cmp {module} original; $PYINSTALL verify; $PYINSTALL install {VERSION}\n"
        f"ls {site}; ls -A store/.pytest-pyinstall/scratch; {home}/bin/python3 -c 'print(42)'\n",
    )
    assert ended.code == 0, ended.output
    assert ended.output.endswith("42\n"), ended.output
    assert ("mine\n" in ended.output) == ("repair" in words)
    assert "repairing" not in ended.output
    tally.survive()
