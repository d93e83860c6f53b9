"""The catalogue of uv is downloaded only if pbs-installer lacks a build, and a missing one is one clear error."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mirror as server
import pytest
import uv_document
from command_line import Cli, Done

from pytest_pyinstall.provisioner import open_provisioner
from pytest_pyinstall.request.identity import Target
from pytest_pyinstall.settings import Settings

NAME = "/download-metadata.json"
MUSL = Target(os="linux", arch="x86_64", libc="musl")
LACKING = "graalpy3.12"
"""A request for which pbs-installer has no build on any machine."""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def document_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[server.Mirror]:
    """A mirror that has only the document."""
    with server.serve(tmp_path) as mirror:
        mirror.files[NAME] = json.dumps(uv_document.document()).encode()
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", mirror.url)
        yield mirror


def resolve(cli: Cli, *requests: str, options: tuple[str, ...] = ()) -> Done:
    """Resolve the requests without installing anything."""
    words = [word for request in requests for word in ("--python", request)]
    return cli("dir", "--cache-key", "--json", *words, *options)


def keys(done: Done) -> list[str]:
    return [build["key"] for build in done.document["builds"]]


@pytest.mark.parametrize(
    "request_text",
    [LACKING, "3.15.0rc1", "3.13d", "cpython-3.12-linux-x86_64-musl", "cpython-3.12-linux-x86_64_v3-gnu", ">=3.16.0a1"],
)
def test_builds_that_pbs_lacks_come_from_the_document(
    cli: Cli, document_server: server.Mirror, request_text: str
) -> None:
    done = resolve(cli, request_text)
    assert (done.code, len(keys(done))) == (0, 1)
    assert len(document_server.gets(NAME)) == 1


@pytest.mark.parametrize("request_text", ["3", "3.12", "3.13t", ">=3.10,<3.13", "pypy3.11", "3.77", "2.7"])
def test_the_document_is_not_requested_for_builds_of_pbs_or_unknown_versions(
    cli: Cli, document_server: server.Mirror, request_text: str
) -> None:
    done = resolve(cli, request_text)
    assert done.code == (0 if request_text not in {"3.77", "2.7"} else 3)
    assert document_server.requests == []


@pytest.mark.parametrize(
    "options",
    [
        ("--python-catalogue", "pbs"),
        ("--python-catalogue", "none.json"),
    ],
)
def test_the_document_is_not_requested_if_a_catalogue_is_configured(
    cli: Cli, document_server: server.Mirror, options: tuple[str, ...]
) -> None:
    Path("none.json").write_text("{}")
    assert resolve(cli, LACKING, options=options).code == 3
    assert document_server.requests == []


def test_the_keyword_uv_uses_the_document_for_all_requests(cli: Cli, document_server: server.Mirror) -> None:
    done = resolve(cli, "3.12", LACKING, options=("--python-catalogue", "uv"))
    assert (done.code, len(keys(done))) == (0, 2)
    assert len(document_server.gets(NAME)) == 1
    assert cli("install", "3.77", "--python-catalogue", "uv").code == 3


def test_a_slow_download_of_the_document_is_announced(
    cli: Cli, document_server: server.Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def said_at_once(say: Callable[[str], None], sentence: str) -> Iterator[None]:
        say(sentence)
        yield

    monkeypatch.setattr("pytest_pyinstall.catalogues.said_if_slow", said_at_once)
    assert f"waiting for the catalogue that uv publishes: {document_server.url}" in resolve(cli, LACKING).err


def test_the_document_is_revalidated_once_a_day(
    cli: Cli, document_server: server.Mirror, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve(cli, LACKING).code == resolve(cli, LACKING).code == 0
    assert len(document_server.requests) == 1
    [meta] = (isolated_home / "pyinstall" / "cache" / "catalogues").glob("*.meta")
    age(meta, hours=23)
    assert resolve(cli, LACKING).code == 0
    assert len(document_server.requests) == 1
    age(meta, hours=25)
    assert resolve(cli, LACKING).code == 0
    first, second = document_server.gets(NAME)
    assert "if-none-match" not in first.headers
    assert second.headers["if-none-match"]
    assert resolve(cli, LACKING).code == 0
    assert len(document_server.requests) == 2, "the server confirmed the copy today"


def age(meta: Path, *, hours: float) -> None:
    """Make the copy look as if it was fetched that long ago."""
    document = json.loads(meta.read_text())
    document["since"] = time.time() - hours * 3600
    meta.write_text(json.dumps(document))


def test_an_old_copy_is_used_with_a_warning_if_the_server_fails(
    cli: Cli, document_server: server.Mirror, isolated_home: Path
) -> None:
    expected = keys(resolve(cli, LACKING))
    [meta] = (isolated_home / "pyinstall" / "cache" / "catalogues").glob("*.meta")
    age(meta, hours=72)
    document_server.always(NAME, server.status(503))
    done = resolve(cli, LACKING)
    assert (done.code, keys(done)) == (0, expected)
    assert "using the copy of 3 days ago in the cache" in done.err


def test_offline_only_a_cached_copy_is_used(
    cli: Cli, document_server: server.Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    done = resolve(cli, LACKING)
    assert done.code == 3
    assert "is not in the cache" in done.document["error"]["message"]
    assert document_server.requests == []
    monkeypatch.delenv("UV_OFFLINE")
    assert resolve(cli, LACKING).code == 0
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert resolve(cli, LACKING).code == 0
    assert len(document_server.requests) == 1


BROKEN = {
    "is not there": (None, "404"),
    "is of a newer schema": (b'{"version": 2, "downloads": []}', "newer schema"),
    "is a page": (b"<!DOCTYPE html><html><body>log in</body></html>", "HTML page"),
    "is cut short": (b'{"cpython-3.12.1-linux-x86_64-gnu": {"name"', "not JSON"),
    "has a row without url": (b'{"x": {"name": "cpython", "arch": {"family": "x86_64"}, "os": "linux"}}', "broken"),
    "is a list": (b"[]", "must be a JSON object"),
}


@pytest.mark.parametrize(("body", "reason"), BROKEN.values(), ids=BROKEN)
def test_an_unusable_document_is_an_error_only_for_requests_that_need_it(
    cli: Cli, document_server: server.Mirror, body: bytes | None, reason: str
) -> None:
    if body is None:
        del document_server.files[NAME]
    else:
        document_server.files[NAME] = body
    done = resolve(cli, LACKING)
    error = done.document["error"]
    assert (done.code, error["kind"]) == (4, "CatalogueError")
    assert "graalpy3.12" in error["message"]
    assert reason in error["message"]
    assert error["hint"]
    done = cli("install", LACKING, "graalpy3.11", "3.77")
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert all(any(request in line for line in errors) for request in (LACKING, "graalpy3.11", "3.77"))
    assert "document" not in errors[-1], "3.77 does not need the document"
    assert resolve(cli, "3.12").code == 0


def test_a_mirror_directory_can_contain_the_document(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "air").mkdir()
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(tmp_path / "air"))
    assert resolve(cli, LACKING).code == 4
    (tmp_path / "air" / NAME[1:]).write_text(json.dumps(uv_document.document()))
    assert resolve(cli, LACKING).code == 0


def test_a_python_that_only_the_document_lists_can_be_pulled_and_installed(
    cli: Cli, mirror_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3.6 has no build in pbs-installer."""
    rows = json.loads((mirror_directory / "catalogue.json").read_text())
    if not any(row["minor"] == 6 for row in rows.values()):
        pytest.skip("this machine has no Python 3.6")
    document_server = tmp_path / "site"
    document_server.mkdir()
    for path in mirror_directory.iterdir():
        (document_server / path.name).symlink_to(path)
    (document_server / NAME[1:]).write_bytes((mirror_directory / "catalogue.json").read_bytes())
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(document_server))

    assert cli("mirror", "pull", str(tmp_path / "pulled"), "3.6").code == 0
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(tmp_path / "pulled"))
    done = cli("install", "-v", "3.6")

    assert done.code == 0, done.err
    assert "by the catalogue of uv" in done.err
    assert cli("find", "3.6").code == 0


def test_a_machine_with_musl_needs_no_configuration(
    document_server: server.Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environ(dict(os.environ), directory=tmp_path)
    monkeypatch.setattr(Target, "current", lambda: MUSL)
    with open_provisioner(settings, directory=tmp_path) as provisioner:
        for text in ("3.12", "3.13t", "latest"):
            [request] = provisioner.parse(text)
            assert provisioner.catalogues.resolve(request).key.target == MUSL
    assert len(document_server.gets(NAME)) == 1


def test_dir_shows_the_catalogues_and_the_age_of_the_copy(cli: Cli, document_server: server.Mirror) -> None:
    before = cli("dir", "--json").document["catalogue"]
    assert before == {
        "sources": ["pbs", "uv"],
        "decided_by": "default",
        "document": f"{document_server.url}{NAME}",
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


def test_list_all_shows_the_builds_of_both_catalogues(cli: Cli, document_server: server.Mirror) -> None:
    done = cli("list", "--all", "graalpy", "3.12", "--json")
    available = [build["key"] for build in done.document["available"]]
    assert any(key.startswith("graalpy-") for key in available)
    assert any(key.startswith("cpython-3.12.") for key in available)
    del document_server.files[NAME]


def test_list_all_without_the_document_shows_the_builds_of_pbs_and_a_warning(
    cli: Cli, document_server: server.Mirror
) -> None:
    del document_server.files[NAME]
    done = cli("list", "--all", "3.12")
    assert done.code == 0
    assert "available" in done.out
    assert "without pre-releases, debug and musl builds, and GraalPy: " in done.err


def test_a_request_that_a_local_python_matches_reads_no_catalogue(
    cli: Cli, document_server: server.Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a catalogue was read")

    monkeypatch.setattr("pytest_pyinstall.request.catalogue.default_catalogue", read)
    monkeypatch.setattr("pytest_pyinstall.request.catalogue.parse_catalogue", read)
    assert cli("find", f"{sys.version_info.major}.{sys.version_info.minor}").code == 0
    assert document_server.requests == []


# An error says which setting is the cause


def test_a_build_that_a_mirror_lacks_names_the_variable_and_the_catalogue_beside_it(
    cli: Cli, document_server: server.Mirror
) -> None:
    done = cli("install", "3.13", "--python-preference", "only-managed")
    assert done.code == 4
    assert "HTTP 404" in done.err
    assert "(PYTEST_PYINSTALL_MIRROR)" in done.err
    assert (
        f"hint: if the mirror has a catalogue of its own: --python-catalogue {document_server.url}/catalogue"
        in done.err
    )


@pytest.mark.parametrize(
    ("request_text", "options"),
    [
        ("3.13", ()),
        ("3.13", ("--python-catalogue", "uv")),
        (LACKING, ()),  # pbs-installer has no build, so the mirror should have the document of uv
    ],
)
def test_a_mirror_directory_with_a_catalogue_hints_at_it_and_one_without_at_filling_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_text: str, options: tuple[str, ...]
) -> None:
    words = ("install", request_text, "--python-preference", "only-managed", *options)
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(tmp_path / "a mirror"))
    (tmp_path / "a mirror").mkdir()
    empty = cli(*words)
    assert "no such file (PYTEST_PYINSTALL_MIRROR)" in empty.err
    assert "mirror pull" in empty.err
    (tmp_path / "a mirror" / "catalogue.json").write_text("{}")
    own = cli(*words)
    hint = f"the mirror has a catalogue of its own: --python-catalogue '{tmp_path / 'a mirror' / 'catalogue.json'}'"
    assert own.err.splitlines()[-1] == f"hint: {hint}"


def test_list_all_with_a_mirror_names_the_catalogue_of_the_mirror(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "catalogue.json").write_text("{}")
    done = cli("list", "--all", "3.12", "--python-mirror", str(tmp_path))
    assert done.code == 0
    assert f"hint: the mirror has a catalogue of its own: --python-catalogue {tmp_path}/catalogue.json" in done.err


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_mirror_in_place_of_its_catalogue_hints_at_the_catalogue(cli: Cli, tmp_path: Path, form: str) -> None:
    (tmp_path / "catalogue.json").write_text("{}")
    place = form.format(tmp_path)
    done = resolve(cli, "3.13", options=("--python-catalogue", place))
    assert done.err.splitlines()[-1] == f"hint: --python-catalogue {place}/catalogue.json"


@pytest.mark.parametrize("text", [None, "{"], ids=["missing", "damaged"])
def test_a_catalogue_that_cannot_be_used_names_the_setting(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    place = tmp_path / "catalogue.json"
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(place))
    if text is not None:
        place.write_text(text)
    assert "(PYTEST_PYINSTALL_CATALOGUE)" in resolve(cli, "3.13").err
    assert "(--python-catalogue)" in resolve(cli, "3.13", options=("--python-catalogue", str(place))).err


def test_a_build_that_a_configured_catalogue_lacks_names_the_setting(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "catalogue.json").write_text("{}")
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(tmp_path / "catalogue.json"))
    done = resolve(cli, "3.13")
    assert done.code == 3
    assert "in the catalogue of PYTEST_PYINSTALL_CATALOGUE (it is empty)" in done.err


def test_a_catalogue_that_fails_is_requested_once(cli: Cli, tmp_path: Path) -> None:
    with server.serve(tmp_path) as web:
        done = cli("install", "3.12", "3.13", "--python-catalogue", f"{web.url}/catalogue.json")

        assert len(web.requests) == 1
    assert done.err.count("HTTP 404") == 1
    assert "hint: another catalogue: --python-catalogue FILE or URL" in done.err


@pytest.mark.parametrize("is_retried", [True, False])
def test_a_catalogue_that_is_requested_again_has_no_message_about_waiting(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, is_retried: bool
) -> None:
    @contextmanager
    def slow(say: Callable[[str], object], sentence: str) -> Iterator[None]:
        yield
        say(sentence)

    monkeypatch.setattr("pytest_pyinstall.catalogues.said_if_slow", slow)
    said: list[str] = []
    with open_provisioner(settings, warn=said.append) as provisioner, provisioner.catalogues._waiting("x") as on_retry:
        if is_retried:
            on_retry()

    assert said == ["x"] * (not is_retried)
