"""A request resolves to the same build that uv chooses from the same document."""

import json
from pathlib import Path

import pytest
import uv_document

from pytest_pyinstall.errors import NoMatchError
from pytest_pyinstall.request.catalogue import Catalogue, parse_catalogue
from pytest_pyinstall.request.identity import Key, Target
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.request.resolve import resolve

TARGET = Target.current()

REQUESTS = [
    *("3", "3.9", "3.12", "312", "3.12.4", "3.14", "3.15", "3.16", "cp313", "cpython@3.11", "python3.10"),
    *("3.13t", "3.14t", "3.15t", "3.13+freethreaded", "3.15.0rc1", "3.14.0rc2"),
    *(">=3.10,<3.13", "~=3.12.0", "==3.12.*", "!=3.12.1,>=3.12,<3.13", ">=3.8", ">=3.16", "<3.9"),
    *("pypy", "pypy3.11", "pypy@3.10", "pypy3.9", "graalpy", "graalpy3.12", "graalpy@3.11"),
    "cpython-3.12-linux-x86_64-musl",
    "cpython-3.13+freethreaded-linux-x86_64-musl",
    "cpython-3.12.4-linux-x86_64-gnu",
    "cpython-3.12-linux-x86_64_v3-gnu",
    "cpython-3.13-linux-x86_64_v2-musl",
    "cpython-3.12-windows-x86_64-none",
    "cpython-3.12-windows-x86-none",
    "cpython-3.13-windows-aarch64-none",
    "cpython-3.13-macos-aarch64-none",
    "cpython-3.11-linux-aarch64-gnu",
    "cpython-3.11-linux-armv7-gnueabihf",
    "cpython-3.12-linux-riscv64gc-gnu",
    "pypy-3.11-macos-aarch64-none",
    "graalpy-3.12-linux-aarch64-gnu",
]


@pytest.fixture(scope="module", name="path")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "download-metadata.json"
    path.write_text(json.dumps(uv_document.document()))
    return path


@pytest.fixture(scope="module", name="catalogue")
def _catalogue(path: Path) -> Catalogue:
    return parse_catalogue(path.read_bytes(), origin=str(path))


@pytest.mark.skipif(TARGET.libc != "gnu" or TARGET.arch != "x86_64", reason="the requests name this platform")
@pytest.mark.parametrize("text", REQUESTS)
def test_a_request_resolves_as_in_uv(text: str, path: Path, catalogue: Catalogue) -> None:
    request = Request.parse(text)
    # The list differs from what uv installs in two ways. It has pre-releases first, but uv installs the newest stable
    # match, as we do. It has the variants of a version, but uv installs only the requested one, as we do.
    rows = [Key.parse(key) for key in uv_document.listed(text, str(path))]
    same = [key for key in rows if key.variant == request.variant]
    stable = [key for key in same if not key.version.is_prerelease]
    theirs = next(iter(same if request.names_prerelease else stable or same), None)
    try:
        ours = resolve(request, catalogue, TARGET).key
    except NoMatchError:
        ours = None
    assert ours == theirs
    assert ours is not None or text == ">=3.16", "3.16.0a2 is older than 3.16"


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("3.13d", "debug"),
        ("3.13+debug", "debug"),
        ("3.14td", "freethreaded+debug"),
        ("3.14+debug+freethreaded", "freethreaded+debug"),
    ],
)
def test_a_debug_request_resolves_to_the_newest_stable_build(text: str, variant: str, catalogue: Catalogue) -> None:
    request = Request.parse(text)
    keys = [build.key for build in catalogue.builds if build.key.variant == variant and build.key.target == TARGET]
    newest = max(key for key in keys if request.specifier.contains(key.version))
    assert resolve(request, catalogue, TARGET).key == newest


@pytest.mark.parametrize("text", ["3.77", "2.7", "3.12.99", "pypy3.6", "graalpy3.7", "cpython-3.9-linux-x86_64_v9-gnu"])
def test_a_request_that_uv_cannot_resolve_is_an_error(text: str, path: Path, catalogue: Catalogue) -> None:
    try:
        request = Request.parse(text)
    except ValueError:
        return  # an architecture that neither program knows
    assert [key for key in uv_document.listed(text, str(path)) if f"-{TARGET}" in key] == []
    with pytest.raises(NoMatchError):
        resolve(request, catalogue, TARGET)


def test_the_document_has_rows_that_pbs_installer_lacks(catalogue: Catalogue) -> None:
    assert len(catalogue.builds) > 2000
    kinds = {(build.key.implementation, build.key.variant) for build in catalogue.builds}
    assert {("cpython", "freethreaded+debug"), ("cpython", "debug"), ("graalpy", ""), ("pypy", "")} <= kinds
    assert any(build.key.target.libc == "musl" for build in catalogue.builds)
    assert any(build.key.target.arch == "x86_64_v3" for build in catalogue.builds)
