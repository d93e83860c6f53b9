"""Keys, targets, builds and signers are parsed, compared and serialized."""

import hashlib
import pickle
import platform
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.request import identity
from pytest_pyinstall.request.identity import (
    GITHUB_ISSUER,
    PREDICATE,
    RELEASE_WORKFLOW,
    Attestation,
    Build,
    Key,
    Signer,
    Target,
    normalized_number,
)

LINUX = "linux-x86_64-gnu"
IDENTITY = f"https://github.com/{RELEASE_WORKFLOW}@refs/heads/main"


def key(text: str) -> Key:
    return Key.parse(f"{text}-{LINUX}" if text.count("-") == 1 else text)


# Targets


@pytest.mark.parametrize(
    ("system", "machine", "bits", "musl", "text"),
    [
        ("linux", "x86_64", 64, False, "linux-x86_64-gnu"),
        ("linux", "AMD64", 64, True, "linux-x86_64-musl"),
        ("linux", "x86_64", 32, False, "linux-x86-gnu"),
        ("linux", "aarch64", 32, False, "linux-armv7-gnueabihf"),
        ("linux", "armv8l", 32, True, "linux-armv7-musleabihf"),
        ("linux", "riscv64", 64, False, "linux-riscv64gc-gnu"),
        ("linux", "ppc64le", 64, False, "linux-powerpc64le-gnu"),
        ("darwin", "arm64", 64, False, "macos-aarch64-none"),
        ("win32", "AMD64", 64, False, "windows-x86_64-none"),
        ("win32", "AMD64", 32, False, "windows-x86-none"),
        ("freebsd14", "amd64", 64, False, "freebsd14-x86_64-none"),
    ],
)
def test_a_target_is_made_from_what_a_python_reports(
    system: str, machine: str, bits: int, musl: bool, text: str
) -> None:
    assert str(Target.of(system=system, machine=machine, bits=bits, musl=musl)) == text


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    identity._current.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    identity._current.cache_clear()


def set_machine(
    machine: pytest.MonkeyPatch, system: str, name: str, *, libc: str = "glibc 2.36", maxsize: int = sys.maxsize
) -> None:
    """Simulate a machine with that system, architecture and C library."""
    word = {"Darwin": "darwin", "Linux": "linux", "Windows": "win32"}.get(system, f"{system.lower()}14")
    uname = SimpleNamespace(sysname=system, machine=name)
    machine.setattr(identity, "sys", SimpleNamespace(platform=word, maxsize=maxsize))
    machine.setattr(identity, "os", SimpleNamespace(uname=lambda: uname, confstr=lambda _: libc))
    machine.setattr(platform, "machine", lambda: name)


@pytest.mark.parametrize(
    ("system", "name", "text"),
    [
        ("Darwin", "arm64", "macos-aarch64-none"),
        ("Windows", "AMD64", "windows-x86_64-none"),
        ("Linux", "aarch64", "linux-aarch64-gnu"),
        ("Linux", "armv7l", "linux-armv7-gnueabihf"),
        ("FreeBSD", "amd64", "freebsd-x86_64-none"),
    ],
)
def test_the_current_target_is_that_of_this_machine(
    machine: pytest.MonkeyPatch, system: str, name: str, text: str
) -> None:
    set_machine(machine, system, name)
    assert str(Target.current()) == text


def test_musl_is_recognized_by_its_loader(machine: pytest.MonkeyPatch) -> None:
    set_machine(machine, "Linux", "x86_64", libc="")
    machine.setattr(platform, "libc_ver", lambda: ("", ""))
    machine.setattr(
        Path, "glob", lambda _, pattern: iter([Path("/lib/ld-musl-x86_64.so.1")] if "musl" in pattern else [])
    )
    assert Target.current().libc == "musl"


def test_a_32_bit_python_on_a_64_bit_system_is_a_32_bit_target(machine: pytest.MonkeyPatch) -> None:
    set_machine(machine, "Windows", "AMD64", maxsize=2**31 - 1)
    assert Target.current().arch == "x86"


# Keys


@pytest.mark.parametrize(
    "text",
    [
        "cpython-3.12.4-linux-x86_64-gnu",
        "cpython-3.13.1+freethreaded-macos-aarch64-none",
        "cpython-3.13.1+freethreaded+debug-linux-x86_64-gnu",
        "pypy-3.11.13-windows-x86_64-none",
        "graalpy-3.12.0-linux-aarch64-gnu",
        "cpython-3.15.0rc1-linux-x86_64_v3-musl",
    ],
)
def test_a_key_survives_a_round_trip_through_its_text(text: str) -> None:
    assert str(Key.parse(text)) == text
    assert pickle.loads(pickle.dumps(Key.parse(text))) == Key.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cpython",
        "cpython-3.12-linux-x86_64-gnu",
        "cpython-3.12.4-linux-x86_64",
        "cpython-3.12.4-linux-x86_64-gnu-x",
        "cpython--linux-x86_64-gnu",
        "-3.12.4-linux-x86_64-gnu",
        "cpython-3.12.4-linux--gnu",
        "cpython-x-linux-x86_64-gnu",
        "cpython-3.12.04-linux-x86_64-gnu",
        "cpython-v3.12.4-linux-x86_64-gnu",
        "cpython-3.12.4.1-linux-x86_64-gnu",
        "cpython-3.12.4 -linux-x86_64-gnu",
        "cpython-3.15.0-rc1-linux-x86_64-gnu",
    ],
)
def test_a_text_that_is_not_a_key_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        Key.parse(text)


word = st.text(st.sampled_from("abcxyz0189_"), min_size=1, max_size=8)
numbers = st.builds(
    lambda a, b, c, d: f"{a}.{b}.{c}{d}", *[st.integers(0, 20)] * 3, st.sampled_from(["", "a1", "a10", "b2", "rc2"])
)


@given(
    st.builds(
        Key,
        implementation=word,
        number=numbers,
        variant=st.sampled_from(["", "freethreaded", "debug", "freethreaded+debug", "gil"]),
        target=st.builds(Target, os=word, arch=word, libc=word),
    )
)
def test_any_key_survives_a_round_trip_through_its_text(made: Key) -> None:
    assert Key.parse(str(made)) == made


@given(st.lists(numbers, max_size=8))
def test_keys_are_ordered_as_their_versions(texts: list[str]) -> None:
    keys = [Key(implementation="cpython", number=text, target=Target.current()) for text in texts]

    assert [key.number for key in sorted(keys)] == list(map(str, sorted(map(Version, texts))))
    assert [key.is_prerelease for key in keys] == [key.version.is_prerelease for key in keys]
    assert [key.release for key in keys] == [key.version.release for key in keys]


@pytest.mark.parametrize(
    ("text", "number"),
    [("3.14.0rc1", "3.14.0rc1"), ("3.14.0-rc.1", "3.14.0rc1"), ("3.14.0alpha7", "3.14.0a7"), ("3.09.1", "3.9.1")],
)
def test_a_number_is_normalized(text: str, number: str) -> None:
    assert normalized_number(text) == number


@pytest.mark.parametrize("text", ["3.14", "3.14.0.dev1", "3.14.0+local", "3.14.0.1", "x", "", "3.14." + "9" * 5000])
def test_another_version_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"not major.minor.patch|Invalid version|integer string"):
        normalized_number(text)


@pytest.mark.parametrize(
    ("text", "suffix", "executable", "display_name"),
    [
        ("cpython-3.12.4", "", "bin/python3.12", "3.12.4"),
        ("cpython-3.13.1+freethreaded", "t", "bin/python3.13t", "3.13.1t"),
        ("cpython-3.13.1+debug", "d", "bin/python3.13d", "3.13.1d"),
        ("cpython-3.13.1+freethreaded+debug", "td", "bin/python3.13td", "3.13.1td"),
        ("cpython-3.14.0+gil", "", "bin/python3.14", "3.14.0"),
        ("pypy-3.11.13", "", "bin/pypy3.11", "pypy3.11.13"),
        ("graalpy-3.12.0", "", "bin/graalpy", "graalpy3.12.0"),
        ("cpython-3.12.4-windows-x86_64-none", "", "python.exe", "3.12.4"),
        ("cpython-3.13.1+freethreaded-windows-x86_64-none", "t", "python.exe", "3.13.1t"),
        ("pypy-3.11.13-windows-x86_64-none", "", "pypy3.11.exe", "pypy3.11.13"),
        ("graalpy-3.12.0-windows-x86_64-none", "", "bin/graalpy.exe", "graalpy3.12.0"),
    ],
)
def test_a_key_has_a_suffix_an_executable_and_a_display_name(
    text: str, suffix: str, executable: str, display_name: str
) -> None:
    made = key(text)
    assert (made.suffix, made.executable, made.display_name) == (suffix, executable, display_name)


def test_the_minor_link_has_the_variant_but_not_the_patch() -> None:
    assert key("cpython-3.13.1+freethreaded").minor_link == f"cpython-3.13+freethreaded-{LINUX}"
    assert key("cpython-3.12.4").minor_version == "3.12"


def test_keys_sort_by_number_with_cpython_last() -> None:
    ordered = [
        *("graalpy-3.12.0", "pypy-3.9.19", "pypy-3.11.13"),
        *("cpython-3.9.25", "cpython-3.12.4", "cpython-3.12.13", "cpython-3.13.1", "cpython-3.13.1+freethreaded"),
    ]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert [str(each) for each in sorted(map(key, shuffled))] == [f"{each}-{LINUX}" for each in ordered]
    assert key("cpython-3.15.0rc1") < key("cpython-3.15.0")
    with pytest.raises(TypeError):
        _ = key("cpython-3.12.4") < "3.13"


# Builds


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/20261021/cpython-3.12.4%2B20261021-x.tar.gz", "cpython-3.12.4+20261021-x.tar.gz"),
        ("https://host/a.tar.gz?token=1#x", "a.tar.gz"),
        ("https://host/", ""),
        ("https://host/dir%2Fname.zip", "name.zip"),
    ],
)
def test_the_file_name_of_a_build_is_the_last_part_of_its_path(url: str, name: str) -> None:
    assert Build(key=key("cpython-3.12.4"), url=url, sha256="0" * 64).file_name == name


# Signers


@pytest.mark.parametrize(
    ("workflow", "identity", "fits"),
    [
        (RELEASE_WORKFLOW, IDENTITY, True),
        (RELEASE_WORKFLOW, f"https://github.com/{RELEASE_WORKFLOW}@refs/tags/1", True),
        (f"{RELEASE_WORKFLOW}@refs/heads/main", IDENTITY, True),
        (f"{RELEASE_WORKFLOW}@refs/tags/1", IDENTITY, False),
        (RELEASE_WORKFLOW, f"https://github.com/{RELEASE_WORKFLOW}", False),
        (RELEASE_WORKFLOW, f"https://github.com/{RELEASE_WORKFLOW}@", False),
        (RELEASE_WORKFLOW, IDENTITY.replace("github.com", "github.com.evil.test"), False),
        (RELEASE_WORKFLOW, IDENTITY.replace("astral-sh", "evil"), False),
        (RELEASE_WORKFLOW, f"https://github.com/{RELEASE_WORKFLOW}x@refs/heads/main", False),
        (f"https://git.test/{RELEASE_WORKFLOW}", f"https://git.test/{RELEASE_WORKFLOW}@refs/heads/x", True),
        (f"https://git.test/{RELEASE_WORKFLOW}", IDENTITY, False),
    ],
)
def test_a_signer_matches_only_its_workflow(workflow: str, identity: str, fits: bool) -> None:
    assert Signer(workflow=workflow).fits(identity) is fits


def attestation(**changes: str) -> Attestation:
    facts = {
        "identity": IDENTITY,
        "issuer": GITHUB_ISSUER,
        "repository": "https://github.com/astral-sh/python-build-standalone",
        "predicate": PREDICATE,
        "root": "",
        "bundle": "0" * 64,
    }
    return Attestation(**{**facts, **changes})


def test_an_attestation_with_the_facts_of_a_signer_is_by_that_signer() -> None:
    assert Signer().repository == "https://github.com/astral-sh/python-build-standalone"
    assert attestation().is_by(Signer())


@pytest.mark.parametrize("field", ["identity", "issuer", "repository", "predicate", "root"])
def test_an_attestation_with_another_fact_is_not_by_the_signer(field: str) -> None:
    assert not attestation(**{field: "other"}).is_by(Signer())


def test_a_trusted_root_is_compared_by_its_content(tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_text("one")
    signer = Signer(root=str(root))
    verified = attestation(root=hashlib.sha256(b"one").hexdigest())

    assert verified.is_by(signer)
    root.write_text("two")
    assert not verified.is_by(signer)
    root.unlink()
    with pytest.raises(UsageError, match="No such file"):
        verified.is_by(signer)


def test_an_attestation_survives_json_and_invalid_documents_are_rejected() -> None:
    document = attestation().to_json()
    assert Attestation.from_json(document) == attestation()
    refused: list[object] = [{**document, "issuer": 1}, {}, None, [], {**document, "bundle": None}]
    for bad in refused:
        with pytest.raises((ValueError, TypeError, KeyError)):
            Attestation.from_json(bad)
