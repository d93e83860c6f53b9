"""The worker's plugin is written into an environment, and repaired."""

from pathlib import Path

import pytest

from pytest_pyinstall.suite import run
from pytest_pyinstall.suite.run import prepare_plugin

SOURCE = Path(run.__file__).with_name("_worker_plugin.py").read_bytes()
NAME = "_pyinstall_inner.py"


@pytest.mark.parametrize("damaged", [b"", SOURCE[:1000], b"\0" * len(SOURCE)], ids=["empty", "cut off", "zeros"])
def test_a_damaged_plugin_is_written_again(tmp_path: Path, damaged: bytes) -> None:
    place = prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch")
    (place / NAME).write_bytes(damaged)

    assert prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch") == place
    assert (place / NAME).read_bytes() == SOURCE
    assert [path.name for path in place.iterdir()] == [NAME]


def test_a_plugin_that_cannot_be_repaired_is_written_elsewhere(tmp_path: Path) -> None:
    place = prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch")
    (place / NAME).unlink()
    (place / NAME / "in the way").mkdir(parents=True)

    other = prepare_plugin(tmp_path / "environment", otherwise=tmp_path / "scratch")

    assert other.is_relative_to(tmp_path / "scratch")
    assert (other / NAME).read_bytes() == SOURCE
    assert [path.name for path in place.iterdir()] == [NAME]
