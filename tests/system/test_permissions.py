"""P15: other users who can write to a directory are found by its owner, mode, access control list and parents."""

import os
import stat
import struct
import sys
from pathlib import Path

import pytest

from pytest_pyinstall.system import permissions
from pytest_pyinstall.system.permissions import (
    Other,
    OtherWriter,
    Place,
    is_noexec,
    is_ours_alone,
    other_writer,
    place,
    user_name,
    who_else_can_write,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions are not checked on Windows")

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
STRANGER = 54321  # no machine has this user or this group


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    directory = tmp_path / "ours"
    directory.mkdir(mode=0o755)
    return directory


def writer(directory: Path) -> tuple[str, str] | None:
    """The name of the writable directory, and the flag of chmod for its other writer."""
    found = other_writer(directory)
    return None if found is None else (found.directory.name, found.other.flag)


def test_a_directory_that_only_its_owner_can_write_to_is_ours(ours: Path) -> None:
    assert other_writer(ours) is None
    assert is_ours_alone(ours, below=ours.parent)


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o702, 0o1777])
def test_a_directory_that_everyone_can_write_to_is_not_ours(ours: Path, mode: int) -> None:
    ours.chmod(mode)

    assert other_writer(ours) == OtherWriter(directory=ours, other=Other(name="everyone", flag="o"))
    assert not is_ours_alone(ours, below=ours.parent)


def test_the_message_and_the_hint_name_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "some where"
    directory.mkdir()
    directory.chmod(0o757)

    found = other_writer(directory)

    assert found
    assert str(found) == f"everyone can write to {directory}"
    assert found.way_out == f"chmod o-w '{directory}'"
    directory.chmod(0o755)
    assert other_writer(directory) is None


def test_a_writer_to_a_parent_can_replace_the_directory(ours: Path) -> None:
    inner = ours / "inner"
    inner.mkdir(mode=0o755)
    ours.chmod(0o777)

    assert writer(inner) == ("ours", "o")
    ours.chmod(0o1777)  # with the sticky bit, as for /tmp, others can add entries but rename none
    assert writer(inner) is None


def test_a_missing_directory_is_judged_by_its_parent(ours: Path) -> None:
    missing = ours / "a" / "b"
    assert writer(missing) is None
    ours.chmod(0o777)
    assert writer(missing) == ("ours", "o")


def test_a_link_is_judged_by_its_target_and_its_parent(tmp_path: Path, ours: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (tmp_path / "link").symlink_to(open_to_all / "inner", target_is_directory=True)
    (open_to_all / "inner").mkdir(mode=0o755)
    (open_to_all / "out").symlink_to(ours, target_is_directory=True)

    assert writer(tmp_path / "link") == ("open", "o")
    assert writer(open_to_all / "out") == ("open", "o")
    assert not is_ours_alone(tmp_path / "link", below=tmp_path)


@as_root
def test_an_owner_who_is_neither_us_nor_root_is_named(ours: Path) -> None:
    os.chown(ours, STRANGER, -1)

    found = other_writer(ours)

    assert found
    assert str(found) == f"{ours} belongs to user {STRANGER}"
    assert found.way_out == ""


@as_root
def test_a_group_that_can_write_is_named_if_it_has_other_members(ours: Path) -> None:
    import grp
    import pwd

    user = next(user for user in pwd.getpwall() if user.pw_uid)
    shared = grp.getgrgid(user.pw_gid)
    os.chown(ours, -1, shared.gr_gid)
    ours.chmod(0o775)
    assert other_writer(ours) == OtherWriter(directory=ours, other=Other(name=f"group {shared.gr_name}", flag="g"))

    os.chown(ours, -1, 0)
    assert other_writer(ours) is None


def test_a_group_without_an_entry_is_ours_if_we_are_in_it() -> None:
    permissions._is_ours_alone.cache_clear()
    assert permissions._is_ours_alone(STRANGER, os.geteuid()) is (os.getegid() == STRANGER)
    assert permissions._is_ours_alone(os.getegid(), STRANGER)  # a container with an arbitrary user id


def test_a_group_is_not_ours_alone_if_it_lists_another_member(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd

    permissions._is_ours_alone.cache_clear()
    own = pwd.getpwuid(os.geteuid()).pw_name
    for members, is_ours in (([], True), ([own, "root"], True), ([own, "guest"], False)):
        monkeypatch.setattr(grp, "getgrgid", lambda gid, members=members: grp.struct_group(("g", "x", gid, members)))
        permissions._is_ours_alone.cache_clear()
        assert permissions._is_ours_alone(STRANGER, os.geteuid()) is is_ours
    permissions._is_ours_alone.cache_clear()


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ONE = 0xFFFFFFFF
BASE = [(0x01, 7, NO_ONE), (0x04, 5, NO_ONE), (0x10, 7, NO_ONE), (0x20, 5, NO_ONE)]


@as_root
@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs the access control lists of Linux")
@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ((0x02, 7, STRANGER), f"user {STRANGER}"),
        ((0x02, 5, STRANGER), None),
        ((0x02, 7, 0), None),
        ((0x08, 7, STRANGER), f"group {STRANGER}"),
        ((0x08, 5, STRANGER), None),
    ],
    ids=["user writes", "user reads", "root writes", "group writes", "group reads"],
)
def test_access_control_lists_are_evaluated(ours: Path, entry: tuple[int, int, int], name: str | None) -> None:
    permissions._is_ours_alone.cache_clear()
    ours.chmod(0o775)
    entries = sorted([*BASE, entry])
    try:
        os.setxattr(ours, "system.posix_acl_access", acl(*entries))
    except OSError as error:
        pytest.skip(f"this volume has no access control lists: {error}")

    found = other_writer(ours)

    assert (found and found.other.name) == name
    assert not found or found.way_out.startswith("chmod g-w ")


def test_the_owner_of_a_parent_does_not_matter(ours: Path) -> None:
    status = os.stat_result((stat.S_IFDIR | 0o755, 0, 0, 1, STRANGER, STRANGER, 0, 0, 0, 0))
    assert who_else_can_write(status, is_parent=True) is None
    assert who_else_can_write(status, is_parent=False) == Other(name=f"user {STRANGER}", flag="")


def test_a_user_without_a_name_is_shown_as_a_number() -> None:
    assert user_name(STRANGER) == str(STRANGER)
    assert user_name(0) == "root"


def test_a_place_describes_an_existing_directory(ours: Path) -> None:
    found = place(ours)

    assert (found.path, found.exists, found.is_writable) == (ours, True, True)
    assert found.volume
    assert found.volume.device == ours.stat().st_dev
    assert found.volume.free > 0
    assert found.volume.mount_point.is_mount()
    assert ours.is_relative_to(found.volume.mount_point)


def device_of(found: Place) -> int:
    assert found.volume is not None
    return found.volume.device


def test_a_place_of_a_missing_directory_describes_its_parent_and_creates_nothing(ours: Path) -> None:
    found = place(ours / "a" / "b")

    assert (found.exists, found.is_writable) == (False, True)
    assert device_of(found) == device_of(place(ours))
    assert list(ours.iterdir()) == []


def test_a_place_below_a_file_is_not_writable(ours: Path) -> None:
    (ours / "file").touch()

    found = place(ours / "file" / "store")

    assert (found.exists, found.is_writable) == (False, False)
    assert device_of(found) == device_of(place(ours))


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
def test_a_volume_is_shown_with_its_filesystem() -> None:
    found = place(Path("/proc"))
    assert found.volume
    assert str(found.volume) == "proc on /proc"


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux")
def test_noexec_is_detected() -> None:
    mounted = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    flags = {fields[4]: "noexec" in fields[5].split(",") for fields in mounted if Path(fields[4]).is_dir()}

    assert {Path(where): is_noexec(Path(where)) for where in ("/", "/proc")} == {
        Path(where): flags[where] for where in ("/", "/proc")
    }
    assert not is_noexec(Path("/there/is/no/such/directory"))
