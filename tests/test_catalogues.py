"""When the document that uv publishes is asked, and what happens if it cannot be had."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mirror as server
import pytest
import uv_document

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.settings import Settings

NAME = "/download-metadata.json"
MUSL = Target(os="linux", arch="x86_64", libc="musl")
LACKING = "graalpy3.12"
"""What pbs-installer has no build of, on any machine."""


class Cli:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.code, self.out, self.err = 0, "", ""

    def __call__(self, *words: str) -> "Cli":
        self._capsys.readouterr()
        self.code = main(words)
        self.out, self.err = self._capsys.readouterr()
        return self

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[server.Mirror]:
    """A mirror that holds the document, and nothing else."""
    with server.serve(tmp_path) as mirror:
        mirror.files[NAME] = json.dumps(uv_document.document()).encode()
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", mirror.url)
        yield mirror


def resolve(cli: Cli, *requests: str, options: tuple[str, ...] = ()) -> Cli:
    """What would be installed, without installing it."""
    words = [word for request in requests for word in ("--python", request)]
    return cli("dir", "--cache-key", "--json", *words, *options)


def keys(done: Cli) -> list[str]:
    return [build["key"] for build in done.document["builds"]]


@pytest.mark.parametrize(
    "request_text",
    [LACKING, "3.15.0rc1", "3.13d", "cpython-3.12-linux-x86_64-musl", "cpython-3.12-linux-x86_64_v3-gnu", ">=3.16.0a1"],
)
def test_what_pbs_lacks_is_answered_by_the_document(cli: Cli, site: server.Mirror, request_text: str) -> None:
    done = resolve(cli, request_text)
    assert (done.code, len(keys(done))) == (0, 1)
    assert len(site.gets(NAME)) == 1


@pytest.mark.parametrize("request_text", ["3", "3.12", "3.13t", ">=3.10,<3.13", "pypy3.11", "3.77", "2.7"])
def test_it_is_not_requested_for_what_pbs_has_nor_for_what_does_not_exist(
    cli: Cli, site: server.Mirror, request_text: str
) -> None:
    done = resolve(cli, request_text)
    assert done.code == (0 if request_text not in {"3.77", "2.7"} else 3)
    assert site.requests == []


@pytest.mark.parametrize(
    "options",
    [
        ("--python-catalogue", "pbs"),
        ("--python-catalogue", "none.json"),
    ],
)
def test_it_is_not_asked_if_a_catalogue_is_configured(cli: Cli, site: server.Mirror, options: tuple[str, ...]) -> None:
    Path("none.json").write_text("{}")
    assert resolve(cli, LACKING, options=options).code == 3
    assert site.requests == []


def test_the_word_uv_asks_it_for_everything(cli: Cli, site: server.Mirror) -> None:
    done = resolve(cli, "3.12", LACKING, options=("--python-catalogue", "uv"))
    assert (done.code, len(keys(done))) == (0, 2)
    assert len(site.gets(NAME)) == 1
    assert cli("install", "3.77", "--python-catalogue", "uv").code == 3


def test_it_is_asked_once_a_day_and_then_by_its_etag(
    cli: Cli, site: server.Mirror, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve(cli, LACKING).code == resolve(cli, LACKING).code == 0
    assert len(site.requests) == 1
    [meta] = (isolated_home / "pyinstall" / "cache" / "catalogues").glob("*.meta")
    age(meta, hours=23)
    assert resolve(cli, LACKING).code == 0
    assert len(site.requests) == 1
    age(meta, hours=25)
    assert resolve(cli, LACKING).code == 0
    first, second = site.gets(NAME)
    assert "if-none-match" not in first.headers
    assert second.headers["if-none-match"]
    assert resolve(cli, LACKING).code == 0
    assert len(site.requests) == 2, "that it is the same was said today"


def age(meta: Path, *, hours: float) -> None:
    """The copy was fetched so long ago."""
    document = json.loads(meta.read_text())
    document["since"] = time.time() - hours * 3600
    meta.write_text(json.dumps(document))


def test_an_old_copy_is_used_with_a_line_if_the_network_is_gone(
    cli: Cli, site: server.Mirror, isolated_home: Path
) -> None:
    expected = keys(resolve(cli, LACKING))
    [meta] = (isolated_home / "pyinstall" / "cache" / "catalogues").glob("*.meta")
    age(meta, hours=72)
    site.always(NAME, server.status(503))
    done = resolve(cli, LACKING)
    assert (done.code, keys(done)) == (0, expected)
    assert "using the copy of 3 days ago in the cache" in done.err


def test_offline_the_copy_is_used_and_without_one_the_message_says_so(
    cli: Cli, site: server.Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    done = resolve(cli, LACKING)
    assert done.code == 3
    assert "is not in the cache" in done.document["error"]["message"]
    assert site.requests == []
    monkeypatch.delenv("UV_OFFLINE")
    assert resolve(cli, LACKING).code == 0
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert resolve(cli, LACKING).code == 0
    assert len(site.requests) == 1


BROKEN = {
    "is not there": (None, "404"),
    "is of a newer schema": (b'{"version": 2, "downloads": []}', "newer schema"),
    "is a page": (b"<!DOCTYPE html><html><body>log in</body></html>", "HTML page"),
    "is cut short": (b'{"cpython-3.12.1-linux-x86_64-gnu": {"name"', "not JSON"),
    "has a row without url": (b'{"x": {"name": "cpython", "arch": {"family": "x86_64"}, "os": "linux"}}', "broken"),
    "is a list": (b"[]", "must be a JSON object"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_document_that_cannot_be_used_is_one_message_and_the_rest_goes_on(
    cli: Cli, site: server.Mirror, body: bytes | None, reason: str
) -> None:
    if body is None:
        del site.files[NAME]
    else:
        site.files[NAME] = body
    done = resolve(cli, LACKING)
    error = done.document["error"]
    assert (done.code, error["kind"]) == (4, "CatalogueError")
    assert "graalpy3.12" in error["message"]
    assert reason in error["message"]
    assert error["hint"]
    done = cli("install", LACKING, "graalpy3.11", "3.77")
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3, "each request is told, and 3.77 does not need the document"
    assert resolve(cli, "3.12").code == 0


def test_a_directory_holds_it_too(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "air").mkdir()
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(tmp_path / "air"))
    assert resolve(cli, LACKING).code == 4
    (tmp_path / "air" / NAME[1:]).write_text(json.dumps(uv_document.document()))
    assert resolve(cli, LACKING).code == 0


def test_a_python_that_only_the_document_lists_is_installed_and_the_mirror_that_is_pulled_has_both(
    cli: Cli, mirror_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.6 has no build in pbs-installer."""
    rows = json.loads((mirror_directory / "catalogue.json").read_text())
    if not any(row["minor"] == 6 for row in rows.values()):
        pytest.skip("this machine has no Python 3.6")
    site = tmp_path / "site"
    site.mkdir()
    for path in mirror_directory.iterdir():
        (site / path.name).symlink_to(path)
    (site / NAME[1:]).write_bytes((mirror_directory / "catalogue.json").read_bytes())
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(site))

    assert cli("mirror", "pull", str(tmp_path / "pulled"), "3.6").code == 0
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(tmp_path / "pulled"))
    done = cli("install", "-v", "3.6")

    assert done.code == 0, done.err
    assert "by the catalogue of uv" in done.err
    assert cli("find", "3.6").code == 0


def test_a_machine_with_musl_is_served_without_configuration(
    site: server.Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environ(dict(os.environ), directory=tmp_path)
    monkeypatch.setattr(Target, "current", lambda: MUSL)
    with open_provisioner(settings, directory=tmp_path) as provisioner:
        for text in ("3.12", "3.13t", "latest"):
            [request] = provisioner.parse(text)
            assert provisioner.catalogues.resolve(request).key.target == MUSL
    assert len(site.gets(NAME)) == 1


def test_dir_says_which_catalogues_answer_and_how_old_the_copy_is(cli: Cli, site: server.Mirror) -> None:
    before = cli("dir", "--json").document["catalogue"]
    assert before == {
        "sources": ["pbs", "uv"],
        "decided_by": "default",
        "document": f"{site.url}{NAME}",
        "fetched": None,
    }
    assert "not fetched yet" in cli("dir").out
    resolve(cli, LACKING)
    assert cli("dir", "--json").document["catalogue"]["fetched"]
    assert "catalogue     pbs, then uv" in cli("dir").out
    configured = cli("dir", "--json", "--python-catalogue", "https://user:secret@host.test/c.json").document[
        "catalogue"
    ]
    assert configured["sources"] == [configured["document"]]
    assert "secret" not in json.dumps(configured)
    assert cli("dir", "--json", "--python-catalogue", "pbs").document["catalogue"]["document"] is None


def test_list_all_has_what_both_have(cli: Cli, site: server.Mirror) -> None:
    done = cli("list", "--all", "graalpy", "3.12", "--json")
    available = [build["key"] for build in done.document["available"]]
    assert any(key.startswith("graalpy-") for key in available)
    assert any(key.startswith("cpython-3.12.") for key in available)
    del site.files[NAME]


def test_list_all_without_the_document_has_the_rest_and_a_line(cli: Cli, site: server.Mirror) -> None:
    del site.files[NAME]
    done = cli("list", "--all", "3.12")
    assert done.code == 0
    assert "available" in done.out
    assert "without pre-releases, debug and musl builds, and GraalPy: " in done.err


def test_no_request_that_is_answered_here_reads_a_catalogue(
    cli: Cli, site: server.Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a catalogue was read")

    monkeypatch.setattr("pytest_pyinstall.request.catalogue.default_catalogue", read)
    monkeypatch.setattr("pytest_pyinstall.request.catalogue.parse_catalogue", read)
    assert cli("find", f"{sys.version_info.major}.{sys.version_info.minor}").code == 0
    assert site.requests == []
