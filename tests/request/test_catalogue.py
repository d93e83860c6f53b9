"""Catalogues in the schemas of uv and pbs-installer are parsed, and mirrors replace the URLs of the release host."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyinstall.errors import CatalogueError
from pytest_pyinstall.request.catalogue import Catalogue, default_catalogue, mirrored, parse_catalogue
from pytest_pyinstall.request.identity import Build, Key

GITHUB = "https://github.com/astral-sh/python-build-standalone/releases/download"
FILE = "cpython-3.12.4%2B20240726-x86_64-unknown-linux-gnu-install_only.tar.gz"
SHA256 = "ab" * 32


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": 3,
        "minor": 12,
        "patch": 4,
        "prerelease": "",
        "url": f"{GITHUB}/20240726/{FILE}",
        "sha256": SHA256,
        "variant": None,
        "build": "20240726",
    } | changes


def parse(*entries: Any, **options: Any) -> Catalogue:
    document = {f"row-{number}": row for number, row in enumerate(entries)}
    return parse_catalogue(json.dumps(document), **{"origin": "https://host/catalogue.json"} | options)


def build(url: str, *, implementation: str = "cpython") -> Build:
    return Build(key=Key.parse(f"{implementation}-3.12.4-linux-x86_64-gnu"), url=url, sha256=SHA256)


def test_an_entry_becomes_a_build() -> None:
    assert parse(entry(), entry(size=12345)).builds == (
        Build(
            key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"),
            url=f"{GITHUB}/20240726/{FILE}",
            sha256=SHA256,
            tag="20240726",
        ),
        Build(
            key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"),
            url=f"{GITHUB}/20240726/{FILE}",
            sha256=SHA256,
            size=12345,
            tag="20240726",
        ),
    )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"os": "darwin", "libc": "none"}, "cpython-3.12.4-macos-x86_64-none"),
        ({"os": "macos", "libc": "none"}, "cpython-3.12.4-macos-x86_64-none"),
        ({"os": "windows", "libc": "none"}, "cpython-3.12.4-windows-x86_64-none"),
        ({"libc": "musl"}, "cpython-3.12.4-linux-x86_64-musl"),
        ({"prerelease": "rc1"}, "cpython-3.12.4rc1-linux-x86_64-gnu"),
        ({"variant": "freethreaded+debug"}, "cpython-3.12.4+freethreaded+debug-linux-x86_64-gnu"),
        ({"arch": {"family": "x86_64", "variant": "v3"}}, "cpython-3.12.4-linux-x86_64_v3-gnu"),
        ({"arch": {"family": "i686", "variant": None}}, "cpython-3.12.4-linux-x86-gnu"),
        ({"arch": {"family": "riscv64"}}, "cpython-3.12.4-linux-riscv64gc-gnu"),
        ({"name": "graalpy"}, "graalpy-3.12.4-linux-x86_64-gnu"),
        ({"sha256": "AB" * 32}, "cpython-3.12.4-linux-x86_64-gnu"),
    ],
)
def test_entries_of_uv_become_keys(changes: dict[str, Any], key: str) -> None:
    (found,) = parse(entry(**changes)).builds

    assert str(found.key) == key
    assert found.sha256 == SHA256


@pytest.mark.parametrize(
    "changes",
    [
        {"os": "emscripten"},
        {"arch": {"family": "wasm32", "variant": None}},
        {"arch": {"family": "x86_64", "variant": "v9"}},
        {"libc": "bionic"},
        {"name": "pyodide"},
        {"variant": "hardened"},
    ],
)
def test_an_entry_for_an_unknown_platform_is_skipped(changes: dict[str, Any]) -> None:
    assert parse(entry(**changes)) == Catalogue(builds=(), origin="https://host/catalogue.json")


def test_p9_an_entry_without_a_digest_is_rejected() -> None:
    catalogue = parse(entry(sha256=None), entry(patch=5))

    assert [str(build.key) for build in catalogue.builds] == ["cpython-3.12.5-linux-x86_64-gnu"]
    assert [str(key) for key in catalogue.without_digest] == ["cpython-3.12.4-linux-x86_64-gnu"]


@pytest.mark.parametrize("field", ["major", "size", "sha256"])
def test_p13_a_url_in_another_field_is_shown_without_its_password(field: str) -> None:
    row = entry(**{field: "https://u:hunter2@x/"})

    with pytest.raises(CatalogueError) as caught:
        parse_catalogue(json.dumps({"x": row}), origin="test")

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (entry(sha256="abc"), "the sha256 'abc' is not 64 hexadecimal digits"),
        (entry(sha256="z" * 64), "is not 64 hexadecimal digits"),
        (entry(sha256=5), "sha256 must be a string, not a number"),
        (entry(arch="x86_64"), "arch must be an object with family and variant, not a string"),
        (entry(arch={}), "'family' is missing"),
        (entry(minor="12"), "whole numbers, not '12'"),
        (entry(patch=-1), "whole numbers, not -1"),
        (entry(major=True), "whole numbers, not True"),
        (entry(size="big"), "whole numbers, not 'big'"),
        (entry(prerelease="final"), "Invalid version"),
        (entry(prerelease="a" * 10_000), "Invalid version: '3.12.4aaa"),
        (entry(prerelease="+local"), "'3.12.4+local' is not major.minor.patch"),
        (entry(prerelease=".post1"), "'3.12.4.post1' is not major.minor.patch"),
        (entry(prerelease=".dev1"), "'3.12.4.dev1' is not major.minor.patch"),
        (entry(minor=1000), "whole numbers, not 1000,"),
        (entry(patch=10**400), "whole numbers, not 1000000"),
        (entry(size=10**400), "whole numbers, not 1000000"),
        (entry(size=1.5), "whole numbers, not 1.5"),
        (entry(size=math.nan), "whole numbers, not nan"),
        (entry(size=-1), "whole numbers, not -1"),
        (entry(build="\ud800"), "build contains control characters or half of a surrogate pair"),
        (entry(url="https://host/a\nb"), "url contains control characters"),
        (entry(attestation="\x1b[31m"), "attestation contains control characters"),
        (entry(url="https://[::1/x"), "the url is not a valid URL"),
        (entry(url="https:///x"), "the url is not a valid URL"),
        (entry(url="https://host:99999/x"), "the url is not a valid URL"),
        (entry(url="host/x"), "the url is relative, but the catalogue has no place of its own"),
        (entry(url="https://host/a%00b"), "the url is not a valid URL"),
        (entry(url="file:///a%00b"), "the url is not a valid URL"),
        (entry(attestation="https://host:port/x"), "the attestation is not a valid URL"),
        (entry(url=None), "url must be a string, not a null"),
        (entry(url="ftp://host/x"), "neither https, http nor file"),
        (entry(url="https2"), "row-0"),
        ({"name": "cpython"}, "'arch' is missing"),
        ("Not Found", "it must be a JSON object, not a string"),
        (None, "it must be a JSON object, not a null"),
    ],
)
def test_the_error_for_a_broken_entry_names_it(row: object, said: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        parse(row, origin="catalogue.json")

    assert "the catalogue catalogue.json is broken: " in caught.value.message
    assert said in caught.value.message
    assert "'row-0'" in caught.value.message
    assert caught.value.hint
    assert len(str(caught.value)) < 400
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("host", ["ho[st", "host:port", "ex\N{ACCOUNT OF}mple", "host:99999"])
def test_p13_the_error_for_an_invalid_url_does_not_contain_its_password(host: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        parse(entry(url=f"https://bob:hunter2@{host}/x"))

    error: BaseException | None = caught.value
    while error is not None:
        assert not re.search("bob|hunter2", str(error))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON: it is empty"),
        (b"  ", "is not JSON: it is empty"),
        ("<!doctype html><title>Sign in</title>", "is not JSON: it is a web page"),
        ("{", "is not JSON: Expecting"),
        ("NaN", "it must be a JSON object, not a number"),
        (
            "1" * 5000,
            "is not JSON: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits\n",
        ),
        ('{"a":' * 100_000, "is not JSON: nested too deeply"),
        (b"\xff\xfe\xfd", "is not JSON: "),
        ("[" * 100_000, "is not JSON: nested too deeply"),
        ("[]", "it must be a JSON object, not a list"),
        ("5", "it must be a JSON object, not a number"),
        ('{"version": 2, "downloads": []}', "newer schema (version 2)"),
        ('{"message": "Not Found"}', "it must be a JSON object, not a string, in the entry 'message'"),
    ],
)
def test_a_document_that_is_not_a_catalogue_is_an_error_with_a_hint(text: str | bytes, said: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        parse_catalogue(text, origin="https://host/x.json")

    assert said in str(caught.value)
    assert "https://host/x.json" in caught.value.message
    assert caught.value.hint


def test_p13_secrets_of_the_origin_are_hidden() -> None:
    with pytest.raises(CatalogueError) as caught:
        parse_catalogue("<", origin="https://bob:hunter2@host/x.json?token=s3cret#f")

    assert "https://host/x.json" in str(caught.value)
    assert not re.search("bob|hunter2|s3cret", str(caught.value))
    assert parse(origin="https://bob:hunter2@host/x.json?token=s3cret").origin == "https://host/x.json"


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("20240726/a%2Bb.tar.gz", {}, "https://host/20240726/a%2Bb.tar.gz"),
        ("/a.tar.gz", {}, "https://host/a.tar.gz"),
        ("http://localhost/a", {}, "http://localhost/a"),
        ("a", {"base_url": "https://other/dir/"}, "https://other/dir/a"),
        ("a%2Bb", {"origin": "/srv/my mirror/catalogue.json"}, "file:///srv/my%20mirror/a%2Bb"),
        ("a", {"origin": "/srv/mirror/"}, "file:///srv/mirror/a"),
        ("/elsewhere/a", {"origin": "/srv/mirror/"}, "file:///elsewhere/a"),
        ("a", {"origin": "file:///srv/mirror/catalogue.json"}, "file:///srv/mirror/a"),
        ("file:///srv/a", {"origin": "x"}, "file:///srv/a"),
    ],
)
def test_a_relative_url_is_relative_to_the_document(url: str, options: dict[str, str], expected: str) -> None:
    (found,) = parse(entry(url=url), **options).builds

    assert found.url == expected


def test_a_relative_url_in_a_document_without_a_place_is_an_error() -> None:
    with pytest.raises(CatalogueError, match=r"the url is relative, but .* no place of its own, in the entry 'row-0'"):
        parse(entry(url="a.tar.gz"), origin="standard input")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(sorted(entry())), inner),
        ).map(lambda value: entry() | value if isinstance(value, dict) else value),
        max_size=3,
    )
)
def test_any_document_gives_a_catalogue_or_a_catalogue_error(document: dict[str, Any]) -> None:
    try:
        catalogue = parse_catalogue(json.dumps(document), origin="x")
    except CatalogueError:
        return
    assert len(catalogue.builds) + len(catalogue.without_digest) <= len(document)


def test_the_default_catalogue_is_that_of_pbs_installer() -> None:
    catalogue = default_catalogue()
    keys = {str(build.key) for build in catalogue.builds}

    assert catalogue is default_catalogue()
    assert catalogue.origin == "pbs-installer"
    assert {
        "cpython-3.12.4-linux-x86_64-gnu",
        "cpython-3.13.17+freethreaded-linux-x86_64-gnu",
        "cpython-3.9.18-macos-aarch64-none",
        "cpython-3.12.1-windows-x86_64-none",
        "pypy-3.11.13-linux-x86_64-gnu",
        "pypy-3.11.13-windows-x86_64-none",
    } <= keys
    assert len(keys) == len(catalogue.builds)


def test_p9_the_default_catalogue_has_only_installable_archives_with_digests_and_tags() -> None:
    for build in default_catalogue().builds:
        assert re.fullmatch("[0-9a-f]{64}", build.sha256)
        assert build.tag, build.url
        assert build.file_name.endswith((".tar.gz", ".tar.bz2", ".tar.zst", ".zip")), build.url
        assert "musl" not in build.file_name
        assert urlsplit(build.url).scheme == "https"


def test_the_default_catalogue_lists_keys_without_a_digest() -> None:
    catalogue = default_catalogue()
    refused = {str(key) for key in catalogue.without_digest}

    assert "cpython-3.7.9-linux-x86_64-gnu" in refused
    assert not refused & {str(build.key) for build in catalogue.builds}


def test_the_error_without_pbs_installer_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pbs_installer", None)

    with pytest.raises(CatalogueError, match=r"is missing or too old: it has no versions\.json") as caught:
        default_catalogue.__wrapped__()
    assert caught.value.hint == "python -m pip install --upgrade pbs-installer"


@pytest.mark.parametrize("text", ["", "{", "5", "[1]", "[{}]", '[{"python_version": {}, "files": [{}]}]'])
def test_a_default_catalogue_with_another_format_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    package = tmp_path / "pbs_installer"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "versions.json").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pbs_installer", raising=False)

    with pytest.raises(CatalogueError, match="the catalogue of pbs-installer cannot be read"):
        default_catalogue.__wrapped__()


STANDALONE = f"{GITHUB}/20240726/{FILE}"
ASTRAL = f"https://releases.astral.sh/github/python-build-standalone/releases/download/20240726/{FILE}"
PYPY = "https://downloads.python.org/pypy/pypy3.11-v7.3.20-linux64.tar.bz2"
GRAALPY = "https://github.com/oracle/graalpython/releases/download/graal-24.2.2/graalpy-24.2.2-linux-amd64.tar.gz"


@pytest.mark.parametrize(
    ("url", "mirror", "expected"),
    [
        (STANDALONE, None, STANDALONE),
        (STANDALONE, "https://mirror/py", f"https://mirror/py/20240726/{FILE}"),
        (STANDALONE, "https://mirror/py/", f"https://mirror/py/20240726/{FILE}"),
        (ASTRAL, "http://localhost:8000", f"http://localhost:8000/20240726/{FILE}"),
        (GRAALPY, "https://mirror", "https://mirror/graal-24.2.2/graalpy-24.2.2-linux-amd64.tar.gz"),
        (PYPY, "https://mirror", "https://mirror/pypy/pypy3.11-v7.3.20-linux64.tar.bz2"),
        ("https://other/a/b.tar.gz?x=1", "https://mirror/py", "https://mirror/py/a/b.tar.gz"),
        (STANDALONE, "https://u:p@mirror/py?token=1", f"https://u:p@mirror/py/20240726/{FILE}?token=1"),
        (STANDALONE, "file:///srv/py", f"file:///srv/py/20240726/{FILE}"),
        ("https://mirror/py/20240726/x.tar.gz", "https://mirror/py", "https://mirror/py/20240726/x.tar.gz"),
        ("file:///srv/x.tar.gz", "https://mirror", "file:///srv/x.tar.gz"),
        ("/srv/x.tar.gz", "https://mirror", "/srv/x.tar.gz"),
    ],
)
def test_a_mirror_replaces_the_release_host(url: str, mirror: str | None, expected: str) -> None:
    assert mirrored(build(url), mirror=mirror, pypy_mirror=None) == expected


def test_paths_of_a_mirror_directory_are_decoded() -> None:
    assert mirrored(build(STANDALONE), mirror="/srv/my mirror", pypy_mirror=None) == str(
        Path("/srv/my mirror/20240726/cpython-3.12.4+20240726-x86_64-unknown-linux-gnu-install_only.tar.gz")
    )


def test_pypy_can_have_its_own_mirror() -> None:
    pypy = build(PYPY, implementation="pypy")

    assert mirrored(pypy, mirror="https://m", pypy_mirror="https://p/") == "https://p/pypy3.11-v7.3.20-linux64.tar.bz2"
    assert mirrored(build(STANDALONE), mirror=None, pypy_mirror="https://p") == STANDALONE


def test_a_full_archive_is_used_only_if_there_is_no_other() -> None:
    early = Key.parse("cpython-3.14.1+freethreaded-linux-x86_64-gnu")
    later = Key.parse("cpython-3.14.9+freethreaded-linux-x86_64-gnu")
    builds = {build.key: build for build in default_catalogue().builds}

    assert builds[early].file_name.endswith("-full.tar.zst")
    assert "install_only" in builds[later].file_name
