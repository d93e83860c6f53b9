"""A user can cause each error class, and it looks as ``docs/reference/errors.md`` shows."""

import json
import os
import pickle
import re
import shutil
import sys
import tarfile
import textwrap
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import archives
import pytest
from pages import DOCS, SHOWN, is_as_shown

from pytest_pyinstall import errors, provision_all
from pytest_pyinstall.cli.main import main
from pytest_pyinstall.system.locks import hold

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions and shell scripts")


class World(NamedTuple):
    """A working directory with its own mirror and store."""

    path: Path
    mirror: Path
    store: Path
    archive: Path
    minor: str
    cli: Callable[..., str]
    """Runs a command that fails, and returns the class of its error, and its message and hint as printed."""
    pytester: pytest.Pytester


@pytest.fixture(name="world")
def _world(
    mirror_directory: Path,
    isolated_home: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> World:
    minor = "3.9" if "3.9" in archives.interpreters() else next(iter(archives.interpreters()))
    path, mirror = pytester.path, pytester.path / "mirror"
    document = json.loads((mirror_directory / "catalogue.json").read_text())
    rows = {key: row for key, row in document.items() if f"{row['major']}.{row['minor']}" == minor}
    (row,) = rows.values()
    archive = next(file for file in mirror_directory.glob("*/*") if f"cpython-{minor}." in file.name)
    copy = mirror / archive.parent.name / archive.name
    copy.parent.mkdir(parents=True)
    shutil.copyfile(archive, copy)
    row["size"] = copy.stat().st_size
    (mirror / "catalogue.json").write_text(json.dumps(rows))
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(mirror))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(mirror / "catalogue.json"))
    monkeypatch.setenv("PYTEST_PYINSTALL_PREFERENCE", "only-managed")

    def cli(*words: str) -> str:
        capsys.readouterr()
        code = main([*words, "--json"])
        error = json.loads(capsys.readouterr().out)["error"]
        assert code == error["exit_code"] == getattr(errors, error["kind"]).exit_code
        hint = error["hint"].removesuffix(" --json")  # hints keep what was typed
        return f"{error['kind']}\nerror: {error['message']}\nhint: {hint}".removesuffix("\nhint: ")

    return World(path, mirror, isolated_home / "pyinstall" / "store", copy, minor, cli, pytester)


SCENARIOS: dict[str, Callable[[World], str]] = {}


def causes(scenario: Callable[[World], str]) -> Callable[[World], str]:
    SCENARIOS[scenario.__name__] = scenario
    return scenario


@causes
def PyinstallError(world: World) -> str:  # noqa: N802  # the class that it causes
    suite = '<testsuite><testcase classname="t" name="it"><failure message="no"/></testcase></testsuite>'
    (world.path / "junit-py39.xml").write_text(suite)
    return world.cli("report", ".")


@causes
def UsageError(world: World) -> str:  # noqa: N802
    return world.cli("instal", "3.9")


@causes
def InvalidRequestError(world: World) -> str:  # noqa: N802
    return world.cli("find", "pypi3.11")


@causes
def InvalidSettingError(world: World) -> str:  # noqa: N802
    return world.cli("list", "--python-downloads", "sometimes")


@causes
def NoMatchError(world: World) -> str:  # noqa: N802
    return world.cli("install", "3.99")


@causes
def FetchError(world: World) -> str:  # noqa: N802
    world.archive.unlink()
    return world.cli("install", world.minor)


@causes
def OfflineError(world: World) -> str:  # noqa: N802
    return world.cli("install", world.minor, "--python-downloads", "never")


@causes
def CatalogueError(world: World) -> str:  # noqa: N802
    (world.mirror / "catalogue.json").write_text("<html>please sign in</html>")
    return world.cli("install", world.minor)


@causes
def IntegrityError(world: World) -> str:  # noqa: N802
    main(["install", world.minor])
    next(world.store.glob(f"cpython-{world.minor}.*/bin/python{world.minor}")).unlink()
    return world.cli("verify")


@causes
def SizeMismatchError(world: World) -> str:  # noqa: N802
    world.archive.write_bytes(b"x" * 100)
    return world.cli("install", world.minor)


@causes
def DigestMismatchError(world: World) -> str:  # noqa: N802
    content = bytearray(world.archive.read_bytes())
    content[len(content) // 2] ^= 1
    world.archive.write_bytes(content)
    return world.cli("install", world.minor)


@causes
def AttestationError(world: World) -> str:  # noqa: N802
    pytest.importorskip("sigstore")
    return world.cli("install", "--require-attestation", world.minor)


@causes
def UnsafeArchiveError(world: World) -> str:  # noqa: N802
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("python/bin/python3"))
        tar.addfile(tarfile.TarInfo("python/../../outside"))
    world.archive.write_bytes(content.getvalue())
    catalogue = world.mirror / "catalogue.json"
    rows = json.loads(catalogue.read_text())
    for row in rows.values():
        row["sha256"] = sha256(content.getvalue()).hexdigest()
        del row["size"]
    catalogue.write_text(json.dumps(rows))
    return world.cli("install", world.minor)


@causes
def StoreError(world: World) -> str:  # noqa: N802
    (world.path / "packed").mkdir()
    (world.path / "packed" / "catalogue.json").write_text("{")
    return world.cli("mirror", "pull", "packed", world.minor)


@causes
def InUseError(world: World) -> str:  # noqa: N802
    main(["install", world.minor])
    lease = next(world.store.glob(".pytest-pyinstall/locks/*.lease"))
    with hold(lease, timeout=60, purpose="", setting=""):
        return world.cli("remove", world.minor)


@causes
def LockTimeoutError(world: World) -> str:  # noqa: N802
    main(["install", world.minor])
    lock = next(world.store.glob(f".pytest-pyinstall/locks/cpython-{world.minor}.*.lock"))
    os.environ["PYTEST_PYINSTALL_LOCK_TIMEOUT"] = "0.1"
    try:
        with hold(lock, timeout=60, purpose="", setting="", note=lock.with_suffix(".holder")):
            return world.cli("install", "--reinstall", world.minor)
    finally:
        del os.environ["PYTEST_PYINSTALL_LOCK_TIMEOUT"]


@causes
def UnreadableStoreError(world: World) -> str:  # noqa: N802
    world.store.mkdir(parents=True)
    world.store.chmod(0o777)
    return world.cli("list")


@causes
def ProbeError(world: World) -> str:  # noqa: N802
    (world.path / "python3").write_text("#!/bin/sh\necho hello\n")
    (world.path / "python3").chmod(0o755)
    return world.cli("find", "./python3")


@causes
def PackError(world: World) -> str:  # noqa: N802
    fake = world.path / "pypy3"
    code = "import sys; sys.implementation.name = 'pypy'; text = sys.argv.pop(1); exec(text)"
    fake.write_text(f'#!/bin/sh\nexec "{archives.interpreters()[world.minor]}" -I -B -c "{code}" "$4" "$5" "$6"\n')
    fake.chmod(0o755)
    return world.cli("mirror", "pack", "packed", "./pypy3")


@causes
def CallError(world: World) -> str:  # noqa: N802
    return under_pytest(world, "def half(number):\n    return number / 0\n", "python.call(half, 1)")


@causes
def EnvironmentCreationError(world: World) -> str:  # noqa: N802
    return under_pytest(world, "", "python_env.run('pylint')")


@causes
def SeveralFailedError(world: World) -> str:  # noqa: N802
    with pytest.raises(errors.SeveralFailedError) as raised:
        provision_all(["3.98", "3.99"])
    return f"SeveralFailedError\nerror: {raised.value}"


def under_pytest(world: World, before: str, call: str) -> str:
    name = call.partition(".")[0]
    world.pytester.makepyfile(test_it=f"{before}\ndef test_it({name}):\n    {call}\n")
    result = world.pytester.runpytest_subprocess("-p", "no:randomly")
    result.assert_outcomes(failed=1)
    output = textwrap.dedent("\n".join(line[1:] for line in result.outlines if line.startswith("E  ")))
    kind, _, message = output.partition(": ")
    return f"{kind.rpartition('.')[2]}\nerror: {message}"


def test_each_error_class_has_a_scenario() -> None:
    assert set(SCENARIOS) == set(errors.__all__)


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_looks_as_the_reference_shows(name: str, world: World, isolated_home: Path) -> None:
    output = SCENARIOS[name](world)

    kind, _, text = output.partition("\n")
    assert kind == name
    if missing := [version for version in SHOWN if version not in archives.interpreters()]:
        pytest.skip(f"the page shows Python {', '.join(missing)}")
    text = text.replace(str(world.path), "/home/you/slug").replace(str(isolated_home), "/home/you")
    shown = shown_under(name)
    assert is_as_shown(text, shown), f"{text}\n--- but the page shows ---\n{shown}"


def shown_under(name: str) -> str:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    match = re.search(rf"^### `?{name}`?$.*?^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert match, f"the page shows nothing under {name}"
    return match[1]


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__], ids=errors.__all__)
def test_an_error_survives_pickle_and_shows_its_hint_on_a_separate_line(kind: type[errors.PyinstallError]) -> None:
    error = kind("what went wrong", "3.12")

    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), copy.message, copy.hint) == (kind, "what went wrong", "3.12")
    assert str(copy) == "what went wrong\nhint: 3.12"
    assert str(kind("what went wrong")) == "what went wrong"


def test_attributes_of_an_error_survive_pickle() -> None:
    call = errors.CallError("it raised", exception="ValueError", traceback="Traceback …")
    several = errors.SeveralFailedError("two failed", results=[errors.NoMatchError("no"), 1, errors.StoreError("full")])

    copied_call, copied_several = pickle.loads(pickle.dumps((call, several)))

    assert (copied_call.exception, copied_call.traceback) == ("ValueError", "Traceback …")
    assert [type(each) for each in copied_several.results] == [errors.NoMatchError, int, errors.StoreError]
    assert [each.message for each in copied_several.errors] == ["no", "full"]


def test_the_exit_code_of_several_failures_is_that_of_the_first() -> None:
    found = [errors.StoreError("full"), errors.NoMatchError("no")]
    assert errors.SeveralFailedError("x", results=found).exit_code == errors.StoreError.exit_code == 6
    assert errors.SeveralFailedError("x", results=found[::-1]).exit_code == 3
    assert errors.SeveralFailedError("x").exit_code == 1


def test_exit_codes_follow_the_class_hierarchy() -> None:
    codes = {name: getattr(errors, name).exit_code for name in errors.__all__}
    families = {
        "UsageError": 2,
        "NoMatchError": 3,
        "FetchError": 4,
        "IntegrityError": 5,
        "StoreError": 6,
        "ProbeError": 7,
    }
    for name, code in codes.items():
        kind = getattr(errors, name)
        [expected] = [value for family, value in families.items() if issubclass(kind, getattr(errors, family))] or [1]
        assert code == expected, name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä €", "plain ä €"),
        ("a\nb\tc", "a\nb\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("bell\a nul\0", "bell\\x07 nul\\x00"),
        ("right\u202eleft", "right\\u202eleft"),
        ("undecodable \udcff", "undecodable \udcff"),
    ],
)
def test_control_characters_of_a_message_are_escaped(text: str, shown: str) -> None:
    assert errors.PyinstallError(text).message == shown
    assert errors.PyinstallError("x", text).hint == shown


def test_adjacent_errors_with_the_same_hint_show_it_once() -> None:
    messages = ["no 3.9", "no 3.10", "no 3.10", "no disk", "no network"]
    hints = ["wait", "wait", "wait", "", "wait"]

    assert errors.texts_of(messages, hints) == ["no 3.9", "no 3.10\nhint: wait", "no disk", "no network\nhint: wait"]


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        (
            [f"no build of 3.{minor} here" for minor in range(14, 100)],
            ["no build of 3.14, 3.15 … 3.99 here\nhint: list"],
        ),
        (["no 3.14", "no 3.15", "no 3.16"], ["no 3.14, 3.15, 3.16\nhint: list"]),
        (["no 3.14", "no 3.15"], ["no 3.14", "no 3.15\nhint: list"]),
        (["no 3.14", "no 3.15", "bad 3.15"], ["no 3.14", "no 3.15", "bad 3.15\nhint: list"]),
        (["a 1 c", "a 2 c", "a 3 d", "no"], ["a 1 c", "a 2 c", "a 3 d", "no\nhint: list"]),
        (
            [f"Python 3.{minor} is not here" for minor in (14, 15, 16)],
            ["Python 3.14, 3.15, 3.16 are not here\nhint: list"],
        ),
        (["no 3.14: x\n  url 3.14", "no 3.15: x\n  url 3.15"], ["no 3.14, 3.15: x\n  url 3.14\nhint: list"]),
    ],
)
def test_many_messages_that_differ_in_one_word_become_one(messages: list[str], texts: list[str]) -> None:
    assert errors.texts_of(messages, ["list"] * len(messages)) == texts
