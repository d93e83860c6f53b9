"""An attestation is accepted only from the right workflow for the right archive, and is required on request."""

import base64
import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sigstore")

import mirror
from fault_workshop import VERSION, Workshop
from sigstore_site import DAY, REPOSITORY, WORKFLOW, Site

from pytest_pyinstall.cli.main import main
from pytest_pyinstall.download import attestations as module
from pytest_pyinstall.download.attestations import verify_bundle
from pytest_pyinstall.errors import AttestationError, InvalidSettingError, UsageError
from pytest_pyinstall.request.identity import Attestation, Build, Key, Signer
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.store.manifest import Record

SHA256 = "ab" * 32
BUILD = Build(key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"), url="https://host/a.tar.gz", sha256=SHA256)

posix = pytest.mark.skipif(sys.platform == "win32", reason="its small Python is a shell script")


@pytest.fixture(name="site", scope="module")
def _site() -> Site:
    return Site()


@pytest.fixture(name="signer")
def _signer(site: Site, tmp_path: Path) -> Signer:
    return Signer(root=str(site.write_root(tmp_path / "trusted_root.json")))


def verify(bundle: object, signer: Signer) -> Attestation:
    text = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
    return verify_bundle(text, build=BUILD, signer=signer)


def test_an_attestation_of_the_release_workflow_is_accepted(site: Site, signer: Signer) -> None:
    found = verify(site.bundle(SHA256), signer)

    assert (found.identity, found.repository) == (WORKFLOW, REPOSITORY)
    assert found.is_by(signer)
    assert Attestation.from_json(json.loads(json.dumps(found.to_json()))) == found


ANOTHER = "https://github.com/somebody/python-build-standalone"
BEFORE = datetime.now(UTC) - 500 * DAY

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another workflow": (
        {"workflow": WORKFLOW.replace("release.yml", "linux.yml")},
        "linux.yml@refs/heads/main, not by astral-sh/python-build-standalone/.github/workflows/release.yml",
    ),
    "the workflow of a fork": ({"workflow": WORKFLOW.replace("astral-sh", "somebody")}, "it was signed by https://"),
    "a longer name": ({"workflow": WORKFLOW.replace("release.yml", "release.yml2")}, "it was signed by"),
    "no ref": ({"workflow": WORKFLOW.partition("@")[0]}, "it was signed by"),
    "run for another repository": ({"repository": ANOTHER}, "OIDCSourceRepositoryURI"),
    "another issuer": ({"issuer": "https://accounts.google.com"}, "OIDCIssuerV2"),
    "another kind of statement": (
        {"predicate": "https://in-toto.io/attestation/release/v0.1"},
        "its predicate type is 'https://in-",
    ),
    "no statement": ({"statement": "https://in-toto.io/Statement/v0.1"}, "not https://in-toto.io/Statement/v1"),
    "another payload": ({"payload_type": "text/plain"}, "not an in-toto statement"),
    "before the authority began": ({"when": BEFORE}, "certificate"),
    "after the certificate ended": ({"late": timedelta(hours=1)}, "certificate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_valid_signature_with_other_facts_is_rejected(site: Site, signer: Signer, case: str) -> None:
    facts, why = WRONG[case]
    with pytest.raises(AttestationError) as caught:
        verify(site.bundle(SHA256, **facts), signer)
    assert why in caught.value.message


def test_an_attestation_of_another_archive_is_rejected(site: Site, signer: Signer) -> None:
    with pytest.raises(AttestationError, match="it covers other files"):
        verify(site.bundle("cd" * 32), signer)


def test_an_untrusted_authority_is_rejected(site: Site, signer: Signer) -> None:
    bundle = Site().bundle(SHA256)
    with pytest.raises(AttestationError, match="is not valid"):
        verify(bundle, signer)
    with pytest.raises(AttestationError, match="is not valid"):
        verify(bundle, Signer())  # the public Sigstore, whose root sigstore contains


def test_an_expired_authority_is_rejected(tmp_path: Path) -> None:
    site = Site(since=datetime.now(UTC) - 100 * DAY, days=50)
    signer = Signer(root=str(site.write_root(tmp_path / "trusted_root.json")))
    with pytest.raises(AttestationError, match="certificate"):
        verify(site.bundle(SHA256), signer)


def leaves(document: Any, *path: Any) -> list[tuple[Any, ...]]:
    if isinstance(document, dict | list):
        items = document.items() if isinstance(document, dict) else enumerate(document)
        return [leaf for key, value in items for leaf in leaves(value, *path, key)]
    return [path]


def change_a_bit(value: str) -> str:
    """`value` with one bit changed, if it is base64, and else another value."""
    try:
        data = bytearray(base64.b64decode(value, validate=True))
        data[len(data) // 2] ^= 1
        return base64.b64encode(bytes(data)).decode()
    except (ValueError, IndexError):
        return str(int(value) + 1) if value.isdigit() else f"{value}x"


def test_a_bundle_with_a_changed_or_missing_part_is_rejected(site: Site, signer: Signer) -> None:
    bundle = site.bundle(SHA256)
    harmless = {
        ("verificationMaterial", "tlogEntries", 0, "logId", "keyId")
    }  # only a hint: all keys of the root are tried
    for path in leaves(bundle):
        for change in (change_a_bit, None):
            changed = copy.deepcopy(bundle)
            place = changed
            for step in path[:-1]:
                place = place[step]
            if change is None:
                del place[path[-1]]
            else:
                place[path[-1]] = change(place[path[-1]])
            if path in harmless and change is not None:
                continue
            with pytest.raises(AttestationError):
                verify(changed, signer)


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[]", b"null", b"<html>", b"\xff\xfe", b'{"attestations": []}', b'{"attestations": [1, {}]}',
     b"[" * 100_000, b'{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}',
     b"7" * 10_000, b"x" * 5_000_000],
    ids=range(12),
)  # fmt: skip
def test_an_invalid_bundle_is_rejected_with_a_reason(signer: Signer, text: bytes) -> None:
    with pytest.raises(AttestationError, match=r"is not valid: .+"):
        verify(text, signer)


def test_one_valid_bundle_of_several_is_enough(site: Site, signer: Signer) -> None:
    wrong, right = site.bundle("cd" * 32), site.bundle(SHA256)
    lines = b"\n".join(json.dumps(each).encode() for each in (wrong, right))  # as the program gh writes them
    answer = {"attestations": [{"bundle": each, "repository_id": 1} for each in (wrong, right)]}  # as the API answers
    for several in (lines, answer):
        assert verify(several, signer).identity == WORKFLOW
    with pytest.raises(AttestationError, match="it covers other files"):
        verify({"attestations": [{"bundle": wrong}]}, signer)


def test_a_configured_ref_must_match(site: Site, signer: Signer) -> None:
    workflow = "astral-sh/python-build-standalone/.github/workflows/release.yml"
    bundle = site.bundle(SHA256)
    assert verify(bundle, replace(signer, workflow=f"{workflow}@refs/heads/main")).identity == WORKFLOW
    with pytest.raises(AttestationError, match="it was signed by"):
        verify(bundle, replace(signer, workflow=f"{workflow}@refs/heads/mai"))


def test_the_workflow_of_other_builds_can_be_configured(site: Site, signer: Signer) -> None:
    own = "https://git.example/us/pythons"
    bundle = site.bundle(
        SHA256, workflow=f"{own}/.github/workflows/b.yml@refs/tags/1", repository=own, issuer="https://git.example/oidc"
    )
    ours = replace(signer, workflow=f"{own}/.github/workflows/b.yml", issuer="https://git.example/oidc")
    assert verify(bundle, ours).repository == own
    with pytest.raises(AttestationError):
        verify(bundle, signer)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "no JSON"])
def test_an_invalid_trusted_root_is_a_usage_error(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "root.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match="cannot be used as a trusted root"):
        verify({}, Signer(root=str(path)))


def test_the_hint_without_sigstore_is_a_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    module._trust_in.cache_clear()
    with pytest.raises(UsageError) as caught:
        verify({}, Signer())
    assert caught.value.hint == "python -m pip install 'pytest-pyinstall[attest]'"


@pytest.mark.parametrize(
    "workflow", ["release.yml", "a/b", "a/b/.github/workflows/", "http://h/a/b/.github/workflows/c"]
)
def test_an_invalid_workflow_setting_is_an_error(tmp_path: Path, workflow: str) -> None:
    with pytest.raises(InvalidSettingError, match="ATTESTATION_WORKFLOW"):
        Settings.from_environ({"PYTEST_PYINSTALL_ATTESTATION_WORKFLOW": workflow}, directory=tmp_path)


# Through the commands


@pytest.fixture(name="here")
def _here(small_mirror: Path, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """A mirror with a bundle beside its archive, and settings that trust its signer."""
    here = Workshop(tmp_path / "workshop", tmp_path / "mirror")
    shutil.copytree(small_mirror, here.mirror)
    monkeypatch.chdir(here.directory)
    for name, value in here.environ.items():
        monkeypatch.setenv(name, value)
    root = site.write_root(tmp_path / "root.json")
    monkeypatch.setenv("PYTEST_PYINSTALL_ATTESTATION_ROOT", str(root))
    put_bundle(here, site.bundle(sha256_of(here)))
    return here


def sha256_of(here: Workshop) -> str:
    return hashlib.sha256(here.archive.read_bytes()).hexdigest()


def put_bundle(here: Workshop, bundle: object, suffix: str = ".sigstore.json") -> Path:
    for path in here.archive.parent.glob("*.sigstore*"):
        path.unlink()
    path = here.archive.with_name(here.archive.name + suffix)
    if bundle is not None:
        path.write_text(json.dumps(bundle))
    return path


def put_bundle_into_catalogue(here: Workshop, site: Site) -> None:
    """Puts the bundle elsewhere, and names it in the catalogue."""
    put_bundle(here, None)
    (here.mirror / "proof.json").write_text(json.dumps(site.bundle(sha256_of(here))))
    path = here.mirror / "catalogue.json"
    rows = json.loads(path.read_text())
    for row in rows.values():
        row["attestation"] = "proof.json"
    path.write_text(json.dumps(rows))


def record_of(here: Workshop) -> Record:
    record = Record.read(here.store / ".pytest-pyinstall/records" / f"{here.key}.json")
    assert record is not None
    return record


Capture = pytest.CaptureFixture[str]


@posix
@pytest.mark.parametrize("suffix", [".sigstore.json", ".sigstore"])
def test_install_records_the_attestation_that_it_verified(
    here: Workshop, site: Site, suffix: str, capsys: Capture
) -> None:
    put_bundle(here, site.bundle(sha256_of(here)), suffix)

    assert main(["install", "--require-attestation", VERSION]) == 0
    attestation = record_of(here).attestation
    assert attestation is not None
    assert attestation.identity == WORKFLOW
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["installed"][0]["attestation"] == attestation.to_json()


@posix
@pytest.mark.parametrize(
    "words", [("install", "--require-attestation"), ("install", "--python-attestation", "require")]
)
@pytest.mark.parametrize("what", ["missing", "wrong", "broken"])
def test_nothing_is_downloaded_or_installed_without_a_valid_attestation(
    here: Workshop, site: Site, what: str, words: tuple[str, ...], capsys: Capture
) -> None:
    put_bundle(here, {"missing": None, "wrong": site.bundle("cd" * 32), "broken": {"mediaType": 1}}[what])

    assert main([*words, VERSION]) == 5
    said = capsys.readouterr().err
    assert ("there is none at" if what == "missing" else "is not valid") in said
    assert "hint: " in said
    assert not here.home.exists()
    assert list(here.cache.glob("archives/*/*")) == []
    assert here.leftovers() == []


@posix
def test_an_installation_without_an_attestation_is_verified_and_installed_again(
    here: Workshop, site: Site, capsys: Capture
) -> None:
    assert main(["install", VERSION]) == 0
    assert record_of(here).attestation is None
    assert main(["find", VERSION]) == 0
    bundle = put_bundle(here, None)

    assert main(["find", "--python-attestation", "require", VERSION]) == 3
    assert main(["install", "--require-attestation", VERSION]) == 5
    assert main(["exec", "--python", VERSION, "--python-attestation", "require", "--", "true"]) == 5
    assert here.home.exists()
    bundle.write_text(json.dumps(site.bundle(sha256_of(here))))
    assert main(["install", "--require-attestation", VERSION]) == 0
    assert record_of(here).attestation is not None
    bundle.unlink()  # the record has the attestation
    assert main(["install", "--require-attestation", VERSION]) == 0
    capsys.readouterr()


@posix
def test_an_attestation_of_another_signer_does_not_count(here: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["install", "--require-attestation", VERSION]) == 0
    monkeypatch.setenv("PYTEST_PYINSTALL_ATTESTATION_WORKFLOW", "us/pythons/.github/workflows/build.yml")
    assert main(["install", "--require-attestation", VERSION]) == 5
    assert main(["find", "--python-attestation", "require", VERSION]) == 3


@posix
def test_an_attestation_is_verified_again_if_the_trusted_root_changes(
    here: Workshop, site: Site, tmp_path: Path
) -> None:
    assert main(["install", "--require-attestation", VERSION]) == 0
    root, require = tmp_path / "root.json", ("--python-attestation", "require")
    assert main(["find", *require, VERSION]) == 0
    before, another = root.read_bytes(), Site()
    another.write_root(root)
    assert main(["find", *require, VERSION]) == 3
    assert main(["install", *require, VERSION]) == 5
    put_bundle(here, another.bundle(sha256_of(here)))
    assert main(["install", *require, VERSION]) == 0
    root.write_bytes(before)
    assert main(["find", *require, VERSION]) == 3
    root.unlink()
    assert main(["find", *require, VERSION]) == 2


@posix
def test_an_attestation_stays_valid_if_the_root_file_moves(
    here: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["install", "--require-attestation", VERSION]) == 0
    (tmp_path / "root.json").rename(tmp_path / "moved.json")
    monkeypatch.setenv("PYTEST_PYINSTALL_ATTESTATION_ROOT", str(tmp_path / "moved.json"))
    put_bundle(here, None)
    assert main(["install", "--require-attestation", VERSION]) == 0


@posix
@pytest.mark.parametrize("change", ["predicate", "an older version of ours"])
def test_a_recorded_attestation_with_other_facts_does_not_count(here: Workshop, change: str) -> None:
    assert main(["install", "--require-attestation", VERSION]) == 0
    path = here.store / ".pytest-pyinstall/records" / f"{here.key}.json"
    document = json.loads(path.read_text())
    if change == "predicate":
        document["attestation"]["predicate"] = "https://slsa.dev/provenance/v0.2"
    else:
        del document["attestation"]["bundle"]
    path.write_text(json.dumps(document))

    assert main(["find", VERSION]) == 0
    assert main(["find", "--python-attestation", "require", VERSION]) == 3
    assert main(["install", "--require-attestation", VERSION]) == 0
    assert record_of(here).attestation is not None


@posix
def test_a_python_of_the_machine_is_not_used_if_attestations_are_required(
    here: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_PYINSTALL_PREFERENCE", "system")
    monkeypatch.setenv("PYTEST_PYINSTALL_ATTESTATION", "require")
    assert main(["find", VERSION]) == 3
    monkeypatch.setenv("PYTEST_PYINSTALL_PREFERENCE", "only-system")
    assert main(["find", VERSION]) == 2


@posix
def test_the_catalogue_can_name_the_bundle(here: Workshop, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put_bundle_into_catalogue(here, site)

    assert main(["install", "--require-attestation", VERSION]) == 0
    next(here.home.glob("lib/python3*/os.py")).unlink()
    assert main(["install", "--require-attestation", VERSION]) == 0, "a repair also finds the bundle"
    assert record_of(here).attestation is not None


@posix
@pytest.mark.parametrize("fault", ["fails", "missing", "page"])
def test_a_bundle_is_downloaded_before_the_archive(
    here: Workshop, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture, responses: Callable[..., Any]
) -> None:
    with mirror.serve(here.mirror) as server:
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", f"{server.url}")
        path = f"/20261122/{here.archive.name.replace('+', '%2B')}"
        for suffix in (".sigstore.json", ".sigstore"):
            server.always(path + suffix, responses(fault))
        code = main(["install", "--require-attestation", VERSION])
        assert code == (4 if fault == "fails" else 5), capsys.readouterr().err
        assert not here.home.exists()
        asked = [request.path for request in server.requests]
        assert path not in asked
    with mirror.serve(here.mirror) as server:
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", server.url)
        assert main(["install", "--require-attestation", VERSION]) == 0


@pytest.fixture(name="responses")
def _responses() -> Callable[[str], Any]:
    return {"fails": mirror.status(500), "missing": mirror.status(404), "page": mirror.html()}.__getitem__


# `mirror pull`


Pull = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(name="pull")
def _pull(here: Workshop, tmp_path: Path, capsys: Capture) -> Pull:
    def pull(*options: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = main(["mirror", "pull", str(tmp_path / "mine"), VERSION, "--json", *options])
        return code, json.loads(capsys.readouterr().out)

    return pull


@pytest.fixture(name="server")
def _server(here: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[mirror.Mirror]:
    with mirror.serve(here.mirror) as server:
        monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", server.url)
        yield server


def bundles(server: mirror.Mirror) -> list[str]:
    return [request.path for request in server.requests if ".sigstore" in request.path]


@posix
@pytest.mark.parametrize("suffix", [".sigstore.json", ".sigstore"])
def test_mirror_pull_downloads_attestations(
    here: Workshop, site: Site, server: mirror.Mirror, pull: Pull, suffix: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    bundle = put_bundle(here, site.bundle(sha256_of(here)), suffix).read_bytes()

    code, document = pull("--require-attestation")

    assert code == 0
    assert document["archives"][0]["attestation"]["identity"] == WORKFLOW
    archive = Path(document["archives"][0]["path"])
    assert archive.with_name(archive.name + ".sigstore.json").read_bytes() == bundle
    assert sorted(path.name for path in archive.parent.iterdir()) == [archive.name, f"{archive.name}.sigstore.json"]
    asked = [request.path for request in server.requests]
    assert max(asked.index(path) for path in bundles(server)) < asked.index(path_of(here)), (
        "the attestation is downloaded before the archive"
    )
    # The same without the network.
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", str(tmp_path / "mine"))
    monkeypatch.setenv("PYTEST_PYINSTALL_CATALOGUE", str(tmp_path / "mine/catalogue.json"))
    monkeypatch.setenv("PYTEST_PYINSTALL_CACHE", str(tmp_path / "another cache"))
    assert main(["install", "--require-attestation", VERSION]) == 0
    assert record_of(here).attestation is not None


def path_of(here: Workshop) -> str:
    return f"/20261122/{here.archive.name.replace('+', '%2B')}"


@posix
def test_attestations_are_downloaded_only_if_they_are_required(server: mirror.Mirror, pull: Pull) -> None:
    code, document = pull()

    assert code == 0
    assert document["archives"][0]["attestation"] is None
    assert bundles(server) == []
    archive = Path(document["archives"][0]["path"])
    assert list(archive.parent.iterdir()) == [archive]


@posix
@pytest.mark.parametrize("what", ["missing", "wrong", "broken"])
def test_nothing_is_pulled_without_a_valid_attestation(
    here: Workshop, site: Site, server: mirror.Mirror, pull: Pull, what: str, tmp_path: Path
) -> None:
    put_bundle(here, {"missing": None, "wrong": site.bundle("cd" * 32), "broken": {"mediaType": 1}}[what])

    code, document = pull("--python-attestation", "require")

    assert code == 5
    assert document["error"]["kind"] == "AttestationError"
    assert path_of(here) not in [request.path for request in server.requests]
    assert not (tmp_path / "mine").exists()


@posix
def test_a_server_error_is_not_a_missing_attestation(server: mirror.Mirror, here: Workshop, pull: Pull) -> None:
    server.always(f"{path_of(here)}.sigstore.json", mirror.status(403))
    server.always(f"{path_of(here)}.sigstore", mirror.status(500))

    code, document = pull("--require-attestation")

    assert (code, document["error"]["kind"]) == (4, "FetchError")


def test_mirror_pack_rejects_required_attestations(here: Workshop, capsys: Capture) -> None:
    assert main(["mirror", "pack", "mine", sys.executable, "--require-attestation"]) == 2
    assert "a packed archive has no attestation" in capsys.readouterr().err
    assert not (here.directory / "mine").exists()


@posix
def test_p13_the_error_for_a_missing_attestation_shows_no_password(
    here: Workshop, server: mirror.Mirror, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    put_bundle(here, None)
    url = server.url.replace("http://", "http://bob:s3cr3t@")
    monkeypatch.setenv("PYTEST_PYINSTALL_MIRROR", f"{url}?token=s3cr3t")
    for words in (("install", VERSION), ("mirror", "pull", "mine", VERSION)):
        assert main([*words, "--python-attestation", "require", "-v"]) == 5
        said = "".join(capsys.readouterr())
        assert "there is none at" in said
        assert "s3cr3t" not in said


@posix
def test_a_second_pull_adds_and_repairs_attestations(
    here: Workshop, site: Site, server: mirror.Mirror, pull: Pull
) -> None:
    assert pull()[0] == 0
    server.reset_counts()

    code, document = pull("--require-attestation")
    assert (code, document["archives"][0]["was_there"]) == (0, True)
    assert path_of(here) not in [request.path for request in server.requests]
    beside_it = Path(document["archives"][0]["path"] + ".sigstore.json")
    right = beside_it.read_bytes()

    server.reset_counts()
    put_bundle(here, None)
    assert pull("--require-attestation")[0] == 0
    assert bundles(server) == [], "the bundle in the mirror is valid"

    for wrong in (b"", b"{}", json.dumps(site.bundle("cd" * 32)).encode()):
        beside_it.write_bytes(wrong)
        put_bundle(here, json.loads(right))
        assert pull("--require-attestation")[0] == 0
        assert json.loads(beside_it.read_bytes()) == json.loads(right)


@posix
def test_a_bundle_that_the_catalogue_names_is_pulled_beside_the_archive(
    here: Workshop, site: Site, pull: Pull, tmp_path: Path
) -> None:
    put_bundle_into_catalogue(here, site)

    code, document = pull("--require-attestation")

    assert code == 0
    assert Path(document["archives"][0]["path"] + ".sigstore.json").exists()
    (row,) = json.loads((tmp_path / "mine/catalogue.json").read_text()).values()
    assert not row.get("attestation"), "a reader looks beside the archive anyway"


@posix
def test_a_missing_attestation_is_an_offline_error_when_offline(
    here: Workshop, server: mirror.Mirror, pull: Pull, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    code, document = pull("--require-attestation")
    assert (code, document["error"]["kind"]) == (4, "OfflineError")
    assert "an attestation is required" in document["error"]["message"]
    monkeypatch.delenv("UV_OFFLINE")
    assert pull("--require-attestation")[0] == 0
    shutil.rmtree(here.directory.parent / "mine")
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert pull("--require-attestation")[0] == 0, "archive and attestation are in the cache"
