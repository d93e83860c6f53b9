"""`mirror pack` and `mirror pull` make a directory from which uv and pytest-pyinstall install."""

import hashlib
import io
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import archives
import pytest
import uv
from archives import NEWEST, OLDEST
from command_line import Cli
from mirror import Mirror, serve, status

from pytest_pyinstall.cli.mirror import RELEASES, Pulled, _publish, pack, pull
from pytest_pyinstall.download.client import Client, open_client
from pytest_pyinstall.errors import (
    CatalogueError,
    DigestMismatchError,
    FetchError,
    OfflineError,
    ProbeError,
    StoreError,
    UsageError,
)
from pytest_pyinstall.request.catalogue import mirrored, parse_catalogue
from pytest_pyinstall.request.identity import Build, Key

VERSIONS = list(archives.interpreters())


ENVIRON = dict(os.environ)


needs_posix = pytest.mark.skipif(os.name == "nt", reason="packing is tested on POSIX systems only")


def catalogue(directory: Path) -> dict[str, Build]:
    """The builds in the catalogue of a mirror, by key."""
    path = directory / "catalogue.json"
    return {str(build.key): build for build in parse_catalogue(path.read_bytes(), origin=str(path)).builds}


# Packing
@needs_posix
def test_a_packed_archive_has_the_path_that_the_mirror_setting_expects(mirror_directory: Path) -> None:
    builds = catalogue(mirror_directory)

    assert {f"{build.key.version.major}.{build.key.version.minor}" for build in builds.values()} == set(VERSIONS)
    for build in builds.values():
        path = Path(mirrored(build, mirror=str(mirror_directory), pypy_mirror=None))
        assert path.parent == mirror_directory / archives.TAG
        assert hashlib.sha256(path.read_bytes()).hexdigest() == build.sha256
        assert path.stat().st_size == build.size
        assert build.tag == archives.TAG
        assert build.url.startswith(f"{RELEASES}/{archives.TAG}/cpython-{build.key.version}%2B{archives.TAG}-")


@needs_posix
def test_two_processes_that_pack_at_once_make_one_archive(tmp_path: Path, mirror_directory: Path) -> None:
    """The catalogue keeps its other rows."""
    (tmp_path / "catalogue.json").write_text('{"other": {}}')
    said: list[str] = []

    def packing(_: int) -> str:
        (packed,) = pack(
            tmp_path, [archives.interpreters()[NEWEST]], tag=archives.TAG, environ=ENVIRON, progress=said.append
        )
        return packed.build.sha256

    with ThreadPoolExecutor(2) as pool:
        digests = set(pool.map(packing, range(2)))

    document = json.loads((tmp_path / "catalogue.json").read_text())
    ((key, build),) = ((key, row) for key, row in document.items() if key != "other")
    assert digests == {build["sha256"]} == {catalogue(mirror_directory)[key].sha256}
    assert "other" in document
    assert len(list((tmp_path / archives.TAG).iterdir())) == 1
    assert sorted(line.partition(" ")[0] for line in said) == ["+", "+", "packing", "packing"]


@needs_posix
def test_an_interpreter_named_twice_is_packed_once(tmp_path: Path) -> None:
    executable = archives.interpreters()[OLDEST]

    packed = pack(tmp_path, [executable, executable], tag=archives.TAG, environ=ENVIRON)

    assert [each.path for each in packed] == list((tmp_path / archives.TAG).iterdir())
    assert packed[0].path.name in packed[0].build.file_name
    assert f"lib/python{OLDEST}/test" in packed[0].left_out


@needs_posix
def test_a_failed_pack_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProbeError):
        pack(tmp_path / "mirror", [tmp_path / "nothing"], tag=archives.TAG, environ=ENVIRON)

    assert not (tmp_path / "mirror").exists()


def test_a_tag_must_be_a_date(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a date such as 20261122") as caught:
        pack(tmp_path, [], tag="../latest", environ=ENVIRON)
    assert caught.value.hint == "--tag 20261122"


@needs_posix
def test_an_os_error_while_packing_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / archives.TAG).write_text("in the way")

    with pytest.raises(StoreError, match="cannot pack into"):
        pack(tmp_path, [archives.interpreters()[OLDEST]], tag=archives.TAG, environ=ENVIRON)


def uv_install(store: Path, *requests: str, source: str, catalogue: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | {
        "UV_PYTHON_INSTALL_DIR": str(store),
        "UV_PYTHON_DOWNLOADS_JSON_URL": catalogue,
        "UV_PYTHON_INSTALL_MIRROR": source,
        "UV_CACHE_DIR": str(store.parent / "uv-cache"),
        "UV_NO_CONFIG": "1",
    }
    command = [uv.find_uv_bin(), "python", "install", "--no-bin", *requests]
    answer = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=store.parent, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stderr


def check_installed(store: Path, minor: str) -> None:
    (home,) = (path for path in store.glob(f"cpython-{minor}.*") if not path.is_symlink())
    said = subprocess.run(
        [home / "bin" / "python", "-I", "-c", "import ssl, sqlite3, ctypes, sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.strip() == str(home), said.stderr
    # uv corrects only words that begin with the prefix, so scripts must find the interpreter themselves.
    script = subprocess.run([home / "bin" / "pydoc3", "sys"], capture_output=True, text=True, check=False)
    assert script.returncode == 0, script.stderr


@needs_posix
def test_uv_installs_every_version_from_the_directory(mirror_directory: Path, tmp_path: Path) -> None:
    uv_install(
        tmp_path / "store",
        *VERSIONS,
        source=mirror_directory.as_uri(),
        catalogue=str(mirror_directory / "catalogue.json"),
    )

    for minor in VERSIONS:
        check_installed(tmp_path / "store", minor)


@needs_posix
def test_uv_installs_from_the_mirror_over_http(mirror_directory: Path, tmp_path: Path) -> None:
    with serve(mirror_directory) as server:
        uv_install(tmp_path / "store", NEWEST, source=server.url, catalogue=f"{server.url}/catalogue.json")

    check_installed(tmp_path / "store", NEWEST)


# Pulling
Make = Callable[..., Build]


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Mirror]:
    (tmp_path / "upstream").mkdir()
    with serve(tmp_path / "upstream") as server:
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with ExitStack() as stack:
        yield stack.enter_context(open_client(environ={}))


@pytest.fixture
def make(upstream: Mirror) -> Make:
    """Makes a build of the release host, and puts its archive into the upstream mirror."""

    def made(version: str = "3.12.1", *, url: str = "", key: str = "") -> Build:
        body = f"archive of {version}".encode()
        name = f"cpython-{version}%2B20261021-x86_64-unknown-linux-gnu-install_only.tar.gz"
        url = url or f"{RELEASES}/20261021/{name}"
        build = Build(
            key=Key.parse(key or f"cpython-{version}-linux-x86_64-gnu"),
            url=url,
            sha256=hashlib.sha256(body).hexdigest(),
            tag="20261021",
        )
        place = mirrored(build, mirror=upstream.url, pypy_mirror=None)
        upstream.files[place.removeprefix(upstream.url)] = body
        return build

    return made


@pytest.fixture
def pulling(tmp_path: Path, client: Client, upstream: Mirror) -> Callable[..., list[Pulled]]:
    def pulls(*builds: Build, offline: bool = False) -> list[Pulled]:
        return pull(
            tmp_path / "mine", builds, client=client, cache=tmp_path / "cache", mirror=upstream.url, offline=offline
        )

    return pulls


Pulling = Callable[..., list[Pulled]]


def test_a_pulled_archive_has_the_path_that_the_mirror_setting_expects(
    make: Make, pulling: Pulling, tmp_path: Path
) -> None:
    build = make()

    (pulled,) = pulling(build)

    found = catalogue(tmp_path / "mine")[str(build.key)]
    assert found == replace(build, size=17) == pulled.build
    assert pulled.path == Path(mirrored(found, mirror=str(tmp_path / "mine"), pypy_mirror=None))
    assert pulled.path == tmp_path / "mine" / "20261021" / build.file_name
    assert pulled.path.read_bytes() == b"archive of 3.12.1"
    assert not pulled.was_there


def test_pypy_archives_are_in_their_own_directory(make: Make, pulling: Pulling, tmp_path: Path) -> None:
    url = "https://downloads.python.org/pypy/pypy3.10-v7.3.17-linux64.tar.bz2"
    build = make("pypy", url=url, key="pypy-3.10.14-linux-x86_64-gnu")

    (pulled,) = pulling(build)

    assert pulled.path == tmp_path / "mine" / "pypy" / "pypy3.10-v7.3.17-linux64.tar.bz2"
    found = catalogue(tmp_path / "mine")[str(build.key)]
    assert mirrored(found, mirror=None, pypy_mirror=str(tmp_path / "mine" / "pypy")) == str(pulled.path)


def test_an_archive_that_is_present_is_not_fetched_again(
    make: Make, pulling: Pulling, upstream: Mirror, tmp_path: Path
) -> None:
    build = make()
    pulling(build)
    (tmp_path / "mine" / "catalogue.json").unlink()
    upstream.reset_counts()

    (pulled,) = pulling(build)

    assert pulled.was_there
    assert not upstream.requests
    assert str(build.key) in catalogue(tmp_path / "mine")


def test_a_wrong_archive_is_replaced(make: Make, pulling: Pulling) -> None:
    build = make()
    (first,) = pulling(build)
    first.path.write_bytes(b"archive of 3.12.2")

    (again,) = pulling(build)

    assert not again.was_there
    assert again.path.read_bytes() == b"archive of 3.12.1"


def test_archives_pulled_before_an_error_are_kept(
    make: Make, pulling: Pulling, upstream: Mirror, tmp_path: Path
) -> None:
    good, missing = make("3.12.1"), make("3.13.1")
    upstream.always(f"/20261021/{missing.url.rpartition('/')[2]}", status(404))

    with pytest.raises(FetchError):
        pulling(good, missing)

    assert list(catalogue(tmp_path / "mine")) == [str(good.key)]
    assert [path.name for path in (tmp_path / "mine" / "20261021").iterdir()] == [good.file_name]


def test_many_pulls_at_once_lose_no_row(make: Make, pulling: Pulling, tmp_path: Path) -> None:
    builds = [make(f"3.12.{patch}") for patch in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pulling, builds))

    assert set(catalogue(tmp_path / "mine")) == {str(build.key) for build in builds}
    assert not list((tmp_path / "mine").rglob("*.new"))


def test_offline_uses_the_cache(make: Make, pulling: Pulling) -> None:
    build = make()
    pulling(build)[0].path.unlink()

    assert pulling(build, offline=True)[0].path.exists()
    with pytest.raises(OfflineError):
        pulling(make("3.13.1"), offline=True)


def test_a_pulled_file_url_points_into_the_mirror(tmp_path: Path, client: Client, pulling: Pulling) -> None:
    file = tmp_path / "an archive.tar.gz"
    file.write_bytes(b"bytes")
    build = Build(
        key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), url=file.as_uri(), sha256=hashlib.sha256(b"bytes").hexdigest()
    )

    (pulled,) = pulling(build)

    assert pulled.path == tmp_path / "mine" / "files" / "an archive.tar.gz"
    assert catalogue(tmp_path / "mine")[str(build.key)].url == pulled.path.as_uri()


def test_p13_a_password_in_a_url_is_not_written_to_the_mirror(
    make: Make, client: Client, upstream: Mirror, tmp_path: Path
) -> None:
    url = upstream.url.replace("http://", "http://user:secret@") + "/20261021/it.tar.gz?token=secret"
    upstream.files["/20261021/it.tar.gz"] = b"archive of 3.12.1"
    build = replace(make(), url=url)

    (pulled,) = pull(tmp_path / "mine", [build], client=client, cache=tmp_path / "cache")

    assert pulled.path == tmp_path / "mine" / "20261021" / "it.tar.gz"
    assert "secret" not in (tmp_path / "mine" / "catalogue.json").read_text()


@pytest.mark.parametrize(
    "url",
    [
        f"{RELEASES}/../../../x/it.tar.gz",
        f"{RELEASES}/%2e%2e/%2e%2e/it.tar.gz",
        f"{RELEASES}/20261021%2F..%2F..%2F..%2Fit.tar.gz",
        f"{RELEASES}/catalogue.json",
        "https://example.com/catalogue.json",
        "https://example.com/.ssh/it.tar.gz",
        "https://example.com/",
    ],
)
def test_p10_a_url_that_leads_out_of_the_mirror_is_rejected(url: str, tmp_path: Path, client: Client) -> None:
    build = Build(key=Key.parse("cpython-3.12.1-linux-x86_64-gnu"), url=url, sha256="0" * 64)

    with pytest.raises(CatalogueError, match="does not lead to a file of a mirror"):
        pull(tmp_path / "deep" / "mine", [build], client=client, cache=tmp_path / "cache")

    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_an_invalid_catalogue_is_kept(content: str, make: Make, pulling: Pulling, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "catalogue.json").write_text(content)

    with pytest.raises(StoreError, match="is not a catalogue") as caught:
        pulling(make())

    catalogue = tmp_path / "mine" / "catalogue.json"
    assert shlex.split(caught.value.hint) == ["mv", str(catalogue), f"{catalogue}.broken"]
    assert (tmp_path / "mine" / "catalogue.json").read_text() == content


def test_a_mirror_that_cannot_be_written_is_a_store_error(make: Make, pulling: Pulling, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("in the way")

    with pytest.raises(StoreError):
        pulling(make())


@pytest.mark.parametrize(
    ("key", "arch", "system", "name"),
    [
        (
            "cpython-3.13.0rc1+freethreaded-linux-x86_64_v3-musl",
            {"family": "x86_64", "variant": "v3"},
            "linux",
            "cpython-3.13.0rc1+freethreaded-linux-x86_64_v3-musl",
        ),
        (
            "cpython-3.13.1-macos-aarch64-none",
            {"family": "aarch64", "variant": None},
            "darwin",
            "cpython-3.13.1-darwin-aarch64-none",
        ),
        (
            "cpython-3.13.1-windows-x86-none",
            {"family": "i686", "variant": None},
            "windows",
            "cpython-3.13.1-windows-i686-none",
        ),
    ],
)
def test_catalogue_rows_have_the_spelling_of_uv(
    key: str, arch: object, system: str, name: str, make: Make, pulling: Pulling, tmp_path: Path
) -> None:
    build = make(Key.parse(key).version.public, key=key)

    pulling(build)

    ((found, row),) = json.loads((tmp_path / "mine" / "catalogue.json").read_text()).items()
    assert (found, row["arch"], row["os"]) == (name, arch, system)
    assert catalogue(tmp_path / "mine")[key].sha256 == build.sha256


def test_p9_an_archive_that_changes_during_the_copy_is_not_published(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "20261021" / "it.tar.gz"

    with pytest.raises(DigestMismatchError):
        _publish(tmp_path / "mine", io.BytesIO(b"something else"), path, make())

    assert not list(path.parent.iterdir())
    assert not (tmp_path / "mine" / "catalogue.json").exists()


def test_an_interpreter_packed_from_its_prefix_can_be_installed(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "mirror"
    version, executable = [*archives.interpreters().items()][-1]

    packed = cli("mirror", "pack", str(place), str(executable.parents[1]), "--tag", "20260101")
    options = ["--python-mirror", str(place), "--python-catalogue", str(place / "catalogue.json")]
    installed = cli("install", version, *options)

    assert packed.code == 0, packed.err
    assert Path(packed.lines[0]).parent == place / "20260101"
    assert installed.code == 0, installed.err


def test_pulled_archives_can_be_installed_without_the_release_host(
    cli: Cli, minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mirror"

    pulled = cli("mirror", "pull", str(place), minor, "3.99")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(place))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(place / "catalogue.json"))
    cli("cache", "clear")
    installed = cli("install", minor)

    assert (pulled.code, len(pulled.lines)) == (3, 1)
    assert installed.code == 0, installed.err


def test_nothing_is_pulled_if_downloads_are_disabled(cli: Cli, minor: str, tmp_path: Path) -> None:
    assert cli("mirror", "pull", str(tmp_path / "m"), minor, "--python-downloads", "never").code == 4
