"""Each distribution in site-packages is either the published one or the user's, as a whole."""

import base64
import hashlib
from pathlib import Path

import pytest

from pytest_pyinstall.store._distributions import Distribution, Packages, is_same_project, read_distributions
from pytest_pyinstall.store.manifest import Entry, find_differences, take_manifest

SITE = "lib/python3.12/site-packages"


def install(tree: Path, name: str, version: str, **files: str) -> str:
    """A distribution as pip installs it; returns its ``.dist-info``."""
    info = f"{SITE}/{name}-{version}.dist-info"
    rows = []
    contents = {f"{SITE}/{path.replace('__', '/')}.py": text for path, text in files.items()}
    contents |= {f"{info}/METADATA": f"Name: {name}\nVersion: {version}\n"}
    for path, text in contents.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path.removeprefix(SITE + '/')},sha256={digest},{len(text)}")
    (tree / info / "RECORD").write_text("\n".join([*rows, f"{Path(info).name}/RECORD,,"]) + "\n")
    return info


def uninstall(tree: Path, distribution: Distribution) -> None:
    for name in distribution.files:
        (tree / name).unlink()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    install(tmp_path, "demo", "1.0", demo__base="one = 1\n", demo__more="more = 1\n")
    install(tmp_path, "Other_Thing", "2", other_thing="x = 1\n")
    return tmp_path


@pytest.fixture
def entries(tree: Path) -> tuple[Entry, ...]:
    return tuple(take_manifest(tree))


def packages(tree: Path, entries: tuple[Entry, ...], *, content: bool = True) -> tuple[Packages, list[str]]:
    """The changes that the user made to the packages, and the names of the damaged files."""
    published = read_distributions_of(entries)
    differences = find_differences(tree, entries, content=True)
    found = Packages(tree, published, differences, content=content)
    return found, sorted(each.name for each in found.damage(differences))


PUBLISHED: dict[tuple[Entry, ...], tuple[Distribution, ...]] = {}


def read_distributions_of(entries: tuple[Entry, ...]) -> tuple[Distribution, ...]:
    """The distributions as their RECORD files described them when they were published."""
    return PUBLISHED[entries]


@pytest.fixture(autouse=True)
def published(tree: Path, entries: tuple[Entry, ...]) -> tuple[Distribution, ...]:
    PUBLISHED[entries] = read_distributions(tree, entries)
    return PUBLISHED[entries]


def names(distributions: tuple[Distribution, ...]) -> list[tuple[str, str]]:
    return [(each.name, each.info.rpartition("/")[2]) for each in distributions]


def test_distributions_are_read_with_their_files(published: tuple[Distribution, ...]) -> None:
    other, demo = published
    assert (demo.name, other.name) == ("demo", "other-thing")
    assert demo.site == SITE
    assert {f"{SITE}/demo/base.py", f"{SITE}/demo/more.py", f"{demo.info}/RECORD"} <= set(demo.files)
    assert demo.folders == {f"{SITE}/demo", demo.info}
    assert other.folders == {other.info}


def test_an_untouched_installation_has_no_damage(tree: Path, entries: tuple[Entry, ...]) -> None:
    found, damage = packages(tree, entries)
    assert (found.theirs, found.gone, damage) == ((), (), [])


def test_an_upgraded_distribution_is_the_users_and_replaces_the_published_one(
    tree: Path, entries: tuple[Entry, ...], published: tuple[Distribution, ...]
) -> None:
    uninstall(tree, published[1])
    install(tree, "demo", "1.1", demo__base="one = 11\n", demo__new="new = 1\n")

    found, damage = packages(tree, entries)

    assert names(found.theirs) == [("demo", "demo-1.1.dist-info")]
    assert names(found.gone) == [("demo", "demo-1.0.dist-info")]
    assert damage == []


def test_an_uninstalled_distribution_is_gone(
    tree: Path, entries: tuple[Entry, ...], published: tuple[Distribution, ...]
) -> None:
    uninstall(tree, published[1])

    found, damage = packages(tree, entries)

    assert (found.theirs, names(found.gone), damage) == ((), [("demo", "demo-1.0.dist-info")], [])


@pytest.mark.parametrize("broken", ["demo/more.py", "demo-1.0.dist-info/METADATA"])
def test_a_distribution_without_one_of_its_files_is_damaged(
    tree: Path, entries: tuple[Entry, ...], broken: str
) -> None:
    (tree / SITE / broken).unlink()

    found, damage = packages(tree, entries)

    assert (found.theirs, found.gone, damage) == ((), (), [f"{SITE}/{broken}"])


def test_an_incomplete_upgrade_is_damage(
    tree: Path, entries: tuple[Entry, ...], published: tuple[Distribution, ...]
) -> None:
    uninstall(tree, published[1])
    install(tree, "demo", "1.1", demo__base="one = 11\n", demo__more="more = 11\n")
    (tree / SITE / "demo/more.py").unlink()

    found, damage = packages(tree, entries)

    assert found.theirs == ()
    assert f"{SITE}/demo/base.py" in damage


def test_content_is_compared_only_on_request(tree: Path, entries: tuple[Entry, ...]) -> None:
    install(tree, "demo", "1.1", demo__base="one = 11\n", demo__more="more = 1\n")
    (tree / SITE / "demo/more.py").write_text("more = 2\n")  # has the size that its RECORD says

    assert packages(tree, entries, content=True)[0].theirs == ()
    assert names(packages(tree, entries, content=False)[0].theirs) == [("demo", "demo-1.1.dist-info")]


@pytest.mark.parametrize(
    "record",
    ["", "../../../../../etc/passwd,,\n", "/etc/passwd,,\n", "demo/base.py,sha256=x,many\n", "demo/base.py\n"],
    ids=["empty", "climbs", "absolute", "no number", "no metadata"],
)
def test_files_of_an_invalid_record_are_not_the_users(tree: Path, entries: tuple[Entry, ...], record: str) -> None:
    info = install(tree, "evil", "1", evil="x = 1\n")
    (tree / info / "RECORD").write_text(record)

    assert packages(tree, entries)[0].theirs == ()


@pytest.mark.parametrize("path", ["../../../../victim", "{}/victim"])
def test_p11_files_of_a_record_that_names_a_file_outside_are_not_the_users(
    tree: Path, entries: tuple[Entry, ...], path: str
) -> None:
    victim = tree.parent / "victim"
    victim.write_text("x")
    info = install(tree, "evil", "1", evil="x = 1\n")
    assert names(packages(tree, entries)[0].theirs) == [("evil", "evil-1.dist-info")]
    with (tree / info / "RECORD").open("a") as record:
        record.write(f"{path.format(tree.parent)},,\n")

    assert packages(tree, entries)[0].theirs == ()


def test_distributions_are_read_from_site_packages_only(tree: Path) -> None:
    (tree / "lib/other-1.dist-info").mkdir()
    (tree / "lib/other-1.dist-info/RECORD").write_text("other-1.dist-info/METADATA,,\n")
    (tree / "lib/other-1.dist-info/METADATA").write_text("x")

    assert [each.name for each in read_distributions(tree, take_manifest(tree))] == ["other-thing", "demo"]


@pytest.mark.parametrize(
    ("name", "is_same"),
    [
        ("demo-2.0.dist-info", True),
        ("Demo-1.0.dist-info", True),
        ("~emo", True),
        ("~emo-1.0.dist-info", False),
        ("demo_x-1.dist-info", False),
        ("demo", False),
        ("lib/demo-2.0.dist-info", False),
    ],
)
def test_another_version_of_a_project_has_the_same_name(
    published: tuple[Distribution, ...], name: str, is_same: bool
) -> None:
    assert is_same_project(f"{SITE}/{name}", published[1]) is is_same
