"""Messages name the cause of a fault, hide secrets, and give a hint that works."""

import os
import re
import shutil
import sys
from pathlib import Path

import mirror
import pytest
from fault_report import Tally
from fault_workshop import RUNNING, VERSION, Workshop
from volumes import tmpfs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs")
needs_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to mount")


@needs_root
def test_the_error_for_a_noexec_store_names_the_mount_option(workshop: Workshop, tally: Tally, tmp_path: Path) -> None:
    tally.attempt("a noexec store")
    with tmpfs(tmp_path / "noexec", "mode=755,noexec") as place:
        workshop.store = place / "store"
        ended = workshop.run("install", VERSION)
        assert ended.code == 6, ended.output
        assert "noexec" in ended.output
        assert str(place) in ended.output
        assert "--python-store" in ended.output
        assert "catalogue" not in ended.output
    tally.survive()


def test_the_error_for_a_build_for_another_machine_names_its_architecture(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("a build for another machine")
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    catalogue = workshop.mirror / "catalogue.json"
    text = catalogue.read_text().replace(f'"family": "{os.uname().machine}"', f'"family": "{other}"')
    place = workshop.directory / "catalogue.json"
    place.write_text(text.replace(f"-{os.uname().machine}-gnu", f"-{other}-gnu"))
    key = f"cpython-{VERSION}-linux-{other}-gnu"
    ended = workshop.run("install", key, environ={"PYTEST_PYINSTALL_CATALOGUE": str(place)})
    assert ended.code in {3, 7}, ended.output
    assert "is the catalogue right" not in ended.output
    assert other in ended.output
    tally.survive()


@pytest.mark.parametrize("place", ["missing.json", "directory", "file:///nowhere/missing.json"])
def test_the_error_for_a_missing_catalogue_names_the_option(workshop: Workshop, tally: Tally, place: str) -> None:
    tally.attempt("a missing catalogue")
    (workshop.directory / "directory").mkdir()
    ended = workshop.run("list", "--all", environ={"PYTEST_PYINSTALL_CATALOGUE": place})
    assert ended.code in {2, 4}, ended.output
    assert "catalogue" in ended.output.partition("hint:")[0]
    assert "mirror pull" not in ended.output
    assert "--python-catalogue" in ended.output
    tally.survive()


OFF = [
    ({"PYTEST_PYINSTALL_DOWNLOADS": "never"}, "PYTEST_PYINSTALL_DOWNLOADS"),
    ({"UV_PYTHON_DOWNLOADS": "never"}, "UV_PYTHON_DOWNLOADS"),
    ({"UV_OFFLINE": "1"}, "UV_OFFLINE"),
]


@pytest.mark.parametrize(("environ", "named"), OFF)
def test_the_error_for_disabled_downloads_names_the_variable_that_disables_them(
    workshop: Workshop, tally: Tally, environ: dict[str, str], named: str
) -> None:
    tally.attempt("downloads turned off")
    with mirror.serve(workshop.mirror) as server:
        workshop.url = server.url
        assert workshop.run("list", "--all").code == 0  # the catalogue is in the cache
        # damage the installation, and leave nothing in the cache to repair it
        shutil.rmtree(workshop.cache / "archives")
        shutil.rmtree(workshop.cache / "trees", ignore_errors=True)
        (workshop.home / "lib" / "pkgconfig" / f"python-{VERSION.rpartition('.')[0]}.pc").unlink()
        ended = workshop.run("install", VERSION, environ=environ)
        assert ended.code == 4, ended.output
        hint = ended.output.rpartition("hint: ")[2]
        assert named in ended.output
        for _, other in OFF:
            assert other == named or other not in ended.output
        (name, _, value) = next(word for word in re.split(r"[\s;,]+", hint) if word.startswith(named)).partition("=")
        assert workshop.run("install", VERSION, environ={**environ, name: value}).code == 0
    tally.survive()


def test_find_and_list_report_a_broken_python(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("find and list with a broken Python")
    shutil.rmtree(workshop.home / "lib")
    assert "broken" in workshop.run("list").output
    ended = workshop.run("find", VERSION)
    assert ended.code == 3, ended.output
    assert "is broken" in ended.output
    assert "no Python" not in ended.output
    hint = ended.output.rpartition("hint: pytest-pyinstall ")[2].split()
    assert workshop.run(*hint).code == 0
    assert workshop.run("find", VERSION).code == 0
    tally.survive()


ESCAPE = "\x1b]0;owned\x07\x1b[2J"


def test_control_characters_from_a_server_are_escaped(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("control characters")
    with mirror.serve(workshop.mirror) as server:
        workshop.url = server.url
        server.always("/catalogue.json", mirror.redirect("https://example.invalid/\x1b]0;owned\x07"))
        output = workshop.run("list", "--all").output
        server.always("/catalogue.json", None)
        document = (workshop.mirror / "catalogue.json").read_text()
        server.files["/odd.json"] = document.replace(
            "/releases/download", "/releases/\\u001b[2J\\u0007/download"
        ).encode()
        workshop.reset()
        environ = {"PYTEST_PYINSTALL_CATALOGUE": f"{server.url}/odd.json", "PYTEST_PYINSTALL_MIRROR": ""}
        output += workshop.run("install", VERSION, environ={**environ, "HTTPS_PROXY": "http://127.0.0.1:9"}).output
        output += workshop.run(
            "install", "-v", VERSION, environ={**environ, "HTTPS_PROXY": "http://127.0.0.1:9"}
        ).output
    assert "\x1b" not in output
    assert "\x07" not in output
    assert "\\x1b" in output
    tally.survive()


def test_control_characters_in_file_names_are_escaped(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("control characters")
    (workshop.home / "lib" / f"evil{ESCAPE}name").touch()
    place = workshop.directory / f"odd{ESCAPE}place"
    place.mkdir()
    (place / "python3.11").write_text("#!/bin/sh\nprintf 'said \\033[2J'\nexit 3\n")
    (place / "python3.11").chmod(0o755)
    output = workshop.run("verify").output
    assert "evil" in output
    output += workshop.run("find", str(place / "python3.11")).output
    output += workshop.run("find", "3.11", environ={"PATH": str(place), "PYTEST_PYINSTALL_PREFERENCE": "system"}).output
    output += workshop.run("mirror", "pack", str(workshop.directory / "site"), str(place / "python3.11")).output
    output += workshop.run("install", "--python-mirror", str(place), "--reinstall", VERSION).output
    output += workshop.run("install", "--python-catalogue", str(place / "x.json"), "--reinstall", VERSION).output
    assert "\x1b" not in output, output
    assert "\x07" not in output
    tally.survive()


PASSWORDS = ["pa/qss", "p@qss", "p?qss", "p#qss", "12/qss", "p@qss/qss"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_p13_a_password_that_is_not_percent_encoded_is_hidden(workshop: Workshop, tally: Tally, password: str) -> None:
    tally.attempt("secrets in URLs")
    workshop.reset()
    url = f"https://user:{password}@127.0.0.1:9/x"
    for name in ("MIRROR", "CATALOGUE"):
        output = workshop.run("install", "-v", VERSION, environ={f"PYTEST_PYINSTALL_{name}": url}).output
        assert "qss" not in output, output
    tally.survive()


@needs_root
@pytest.mark.parametrize("inodes", range(3, 14))
def test_p16_a_full_disk_during_the_creation_of_scratch_is_a_clear_error(
    workshop: Workshop, tally: Tally, tmp_path: Path, inodes: int
) -> None:
    tally.attempt("disk full while scratch is created")
    with tmpfs(tmp_path / "full", f"mode=755,nr_inodes={inodes}") as place:
        workshop.store = place / "store"
        ended = workshop.run("install", VERSION)
        assert ended.code == 6, ended.output
        assert "No space left on device" in ended.output
        assert "No such file" not in ended.output
    tally.survive()


@pytest.mark.parametrize("spelled", ["+", "%2B", "%2b"])
@pytest.mark.parametrize("form", ["path", "file"])
def test_a_mirror_directory_can_have_quoted_file_names(
    workshop: Workshop, tally: Tally, spelled: str, form: str
) -> None:
    tally.attempt("a mirror with %2B in its names")
    site = workshop.directory / "a site"
    (site / "20261122").mkdir(parents=True)
    shutil.copy(workshop.archive, site / "20261122" / workshop.archive.name.replace("+", spelled))
    workshop.reset()
    place = str(site) if form == "path" else site.as_uri()
    ended = workshop.run("install", VERSION, environ={"PYTEST_PYINSTALL_MIRROR": place})
    assert ended.code == 0, ended.output
    tally.survive()


def test_p13_secrets_in_catalogue_rows_are_not_written_or_printed(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("secrets in URLs")
    with mirror.serve(workshop.mirror) as server:
        path = f"/20261122/{workshop.archive.name.replace('+', '%2B')}"
        document = (workshop.mirror / "catalogue.json").read_text()
        prefix = "https://github.com/astral-sh/python-build-standalone/releases/download"
        place = server.url.replace("http://", "http://bob:s3cr3t-password@")
        row = document.replace(prefix, place).replace('.tar.gz"', '.tar.gz?sig=s3cr3t-token"')
        server.files["/private.json"] = row.encode()
        workshop.reset()
        environ = {"PYTEST_PYINSTALL_MIRROR": "", "PYTEST_PYINSTALL_CATALOGUE": f"{server.url}/private.json"}
        done = workshop.run("install", "-v", "--json", VERSION, environ=environ)
        assert done.code == 0, done.output
        assert any("sig=s3cr3t-token" in request.path for request in server.requests), (
            "the secret is sent to its server"
        )
        output = done.output
        for words in (("list", "--json"), ("list", "--all", "--json"), ("verify", "--json"), ("cache", "list")):
            output += workshop.run(*words, environ=environ).output
        output += workshop.run("list", "--all", "--json", environ={**environ, "UV_OFFLINE": "1"}).output
        written = b"".join(
            each.read_bytes() for directory in (workshop.store, workshop.cache) for each in directory.rglob("*")
            if each.is_file()
        )  # fmt: skip
        for secret in ("s3cr3t-password", "s3cr3t-token"):
            assert secret not in output, output
            assert secret.encode() not in written
        # A repair still finds the archive.
        shutil.rmtree(workshop.cache / "archives")
        shutil.rmtree(workshop.cache / "trees", ignore_errors=True)
        server.reset_counts()
        (workshop.home / workshop.key.executable).unlink()
        done = workshop.run("install", VERSION, environ=environ)
        assert done.code == 0, done.output
        assert any(request.path.startswith(path) and "sig=" in request.path for request in server.requests)
    tally.survive()


def test_p13_no_value_of_an_environment_variable_is_written(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("secrets in the environment")
    assert RUNNING.exists()
    names = (
        "UV_PUBLISH_TOKEN",
        "UV_INDEX_COMPANY_PASSWORD",
        "PIP_INDEX_URL",
        "UV_INDEX_URL",
        "GITHUB_TOKEN",
        "PYTEST_ADDOPTS_X",
    )
    environ = {name: f"https://u:s3cr3t-{name}@host.invalid/" for name in names}
    for _ in range(2):
        assert workshop.run("install", VERSION, environ=environ).code == 0
    for path in workshop.directory.rglob("*"):
        if path.is_file():
            assert b"s3cr3t" not in path.read_bytes(), path
    tally.survive()
