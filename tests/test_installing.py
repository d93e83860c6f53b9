"""A build is installed, repaired or rejected, with real archives, interpreters and servers."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import archives
import pytest
from archives import NEWEST
from mirror import Mirror

from pytest_pyinstall import provision
from pytest_pyinstall.errors import (
    DigestMismatchError,
    FetchError,
    LockTimeoutError,
    NoMatchError,
    OfflineError,
    ProbeError,
    PyinstallError,
)
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.progress import Lines
from pytest_pyinstall.provisioner import Provisioner, ProvisionResult
from pytest_pyinstall.settings import Settings
from pytest_pyinstall.store.installation import Installation
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.locks import is_free

VERSIONS = list(archives.interpreters())


needs_two = pytest.mark.skipif(len(VERSIONS) < 2, reason="needs a second interpreter on this machine")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_python_of_this_machine_can_be_installed(settings: Settings, version: str) -> None:
    interpreter = provision(version, settings)

    # An incomplete archive first breaks the modules that need shared libraries.
    assert interpreter.run("-c", "import ssl, sqlite3, ctypes; print('ok')").stdout == "ok\n"


def test_a_damaged_installation_is_repaired_automatically(settings: Settings, provisioner: Provisioner) -> None:
    interpreter = provision(NEWEST, settings)
    (interpreter.prefix / f"lib/python{NEWEST}/json/__init__.py").unlink()
    warnings: list[str] = []
    provisioner.warn = warnings.append

    provided = provisioner.provide_one(NEWEST)

    assert provided.how == "repaired"
    assert provided.interpreter.run("-c", "import json").returncode == 0
    assert "json/__init__.py: missing; repairing it" in warnings[0]


def test_p4_a_process_that_waited_for_an_installation_checks_it_without_the_claim(
    settings: Settings, provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = provision(NEWEST, settings)
    store = provisioner.store
    (build,) = (each.record.build for each in store.installations() if isinstance(each, Installation) and each.record)
    lock = store.private / "locks" / f"{build.key}.lock"
    is_waiting = threading.Event()
    free: list[bool] = []

    def asked(path: Path) -> bool:
        answer = is_free(path)
        is_waiting.set()
        return answer

    def probed(*arguments: Any, **more: Any) -> Interpreter:
        free.append(is_free(lock))
        return probe(*arguments, **more)

    monkeypatch.setattr("pytest_pyinstall.store.store.is_free", asked)
    monkeypatch.setattr("pytest_pyinstall.interpreter.probe.probe", probed)
    with ThreadPoolExecutor(1) as threads:
        with store.claim(build.key):
            installing = threads.submit(provisioner.installer.install, build)
            assert is_waiting.wait(60)
        assert installing.result() == (interpreter, "present")
    assert free == [True]


def test_p5_a_wait_for_an_installation_that_failed_has_one_deadline(
    settings: Settings, provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(NEWEST, settings)
    store = provisioner.store
    (build,) = (each.record.build for each in store.installations() if isinstance(each, Installation) and each.record)
    store.remove(build.key)
    # It has waited longer than `lock_timeout` when the next process has already claimed the key.
    long_ago = time.monotonic() - store.lock_timeout - 1
    monkeypatch.setattr("pytest_pyinstall.installing.time", SimpleNamespace(monotonic=lambda: long_ago))
    monkeypatch.setattr(Store, "wait", lambda *_, **__: True)

    start = time.monotonic()
    with store.claim(build.key), pytest.raises(LockTimeoutError):
        provisioner.installer.install(build)
    assert time.monotonic() - start < store.lock_timeout


@pytest.mark.parametrize("version", sorted({VERSIONS[0], NEWEST}))
def test_an_installed_python_starts_without_compiling_anything(settings: Settings, version: str) -> None:
    """The archives of python-build-standalone contain no byte code, and each probe would compile the same modules."""
    before = os.umask(0)
    try:
        interpreter = provision(version, settings)
    finally:
        os.umask(before)
    trace = interpreter.run("-I", "-B", "-v", "-c", "").stderr
    read = re.findall(r"# code object from '?(.*?)'?$", trace, re.MULTILINE)

    assert [name for name in read if name.endswith(".py")] == []
    assert "lib/python" in trace
    assert {each.stat().st_mode & 0o777 for each in interpreter.prefix.rglob("__pycache__")} == {0o755}
    assert [each for each in settings.store.rglob("*.pyc") if each.stat().st_mode & 0o022] == []


def test_an_installation_from_the_cache_is_announced_because_it_has_no_bar(provisioner: Provisioner) -> None:
    events: list[str] = []

    class Events(Lines):
        @contextmanager
        def busy(self, sentence: str) -> Iterator[None]:
            events.append(sentence)
            yield

    provisioner.progress = Events(events.append)
    installed = provisioner.provide_one(NEWEST).interpreter
    assert [event.partition(" ")[0] for event in events] == ["Downloading"]
    provisioner.store.remove(installed.key)
    provisioner.provide_one(NEWEST)

    assert events[1:] == [f"installing {installed.key}"]


def test_p20_ctrl_c_ends_an_installation_from_the_cache(provisioner: Provisioner) -> None:
    class Interrupted(Lines):
        @contextmanager
        def busy(self, _: str) -> Iterator[None]:
            provisioner._stop()  # as another thread does
            yield

    provisioner.progress = Interrupted(print)
    provisioner.store.remove(provisioner.provide_one(NEWEST).interpreter.key)
    with pytest.raises(FetchError, match="stopped"):
        provisioner.provide_one(NEWEST)


def test_the_error_of_a_repair_without_an_archive_names_the_damage_and_the_archive(
    settings: Settings, tmp_path: Path
) -> None:
    interpreter = provision(NEWEST, settings)
    interpreter.executable.write_bytes(b"")

    with pytest.raises(PyinstallError) as caught:
        provision(NEWEST, settings._replace(mirror=str(tmp_path / "nowhere"), cache=tmp_path / "empty"))
    assert "broken" in str(caught.value)
    assert "nowhere" in str(caught.value)


def test_p9_a_wrong_digest_installs_nothing(settings: Settings, tmp_path: Path, mirror_directory: Path) -> None:
    catalogue = tmp_path / "catalogue.json"
    rows = json.loads((mirror_directory / "catalogue.json").read_text())
    for row in rows.values():
        row["sha256"] = "0" * 64
    catalogue.write_text(json.dumps(rows))

    with pytest.raises(DigestMismatchError):
        provision(NEWEST, settings._replace(catalogue=str(catalogue)))
    assert _installations(settings) == []


def test_p9_a_build_without_a_digest_is_not_installed(
    settings: Settings, tmp_path: Path, mirror_directory: Path
) -> None:
    catalogue = tmp_path / "catalogue.json"
    rows = json.loads((mirror_directory / "catalogue.json").read_text())
    for row in rows.values():
        row["sha256"] = None
    catalogue.write_text(json.dumps(rows))

    with pytest.raises(NoMatchError, match="sha256"):
        provision(NEWEST, settings._replace(catalogue=str(catalogue)))


@needs_two
def test_p2_an_archive_with_another_version_is_not_installed(
    settings: Settings, tmp_path: Path, mirror_directory: Path
) -> None:
    rows = json.loads((mirror_directory / "catalogue.json").read_text())
    by_minor = {row["minor"]: row for row in rows.values()}
    older, newer = (by_minor[int(version.split(".")[1])] for version in (VERSIONS[0], NEWEST))
    for word in ("url", "sha256", "size"):
        newer[word] = older[word]
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps(rows))

    with pytest.raises(ProbeError, match=r"\.tar\.gz does not contain a") as caught:
        provision(NEWEST, settings._replace(catalogue=str(catalogue)))
    assert str(catalogue) in caught.value.hint
    assert _installations(settings) == []


def test_the_hint_for_disabled_downloads_enables_them(settings: Settings) -> None:
    with pytest.raises(OfflineError, match="is not in the store, and downloads are switched off") as caught:
        provision(NEWEST, settings._replace(downloads="never"))
    assert caught.value.hint == "--python-downloads auto"
    assert not settings.store.exists()


def test_a_reinstallation_makes_a_new_directory(settings: Settings, provisioner: Provisioner) -> None:
    before = provision(NEWEST, settings).prefix.stat().st_ino
    (result,) = provisioner.install(provisioner.parse([NEWEST]), reinstall=True)

    assert isinstance(result, ProvisionResult)
    assert result.how == "installed"
    assert result.interpreter.prefix.stat().st_ino != before


def test_p10_others_cannot_write_to_an_installation(settings: Settings) -> None:
    prefix = provision(NEWEST, settings).prefix

    assert [path for path in prefix.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o7022] == []


def _installations(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.store.glob("[!.]*-*")) if settings.store.exists() else []


def test_a_repair_downloads_nothing_if_downloads_are_disabled(
    settings: Settings, tmp_path: Path, server: Mirror
) -> None:
    remote = settings._replace(mirror=server.url)
    interpreter = provision(NEWEST, remote)
    interpreter.executable.write_bytes(b"")
    count = len(server.requests)

    never = remote._replace(downloads="never", origins={"downloads": "PYTEST_PYINSTALL_DOWNLOADS"})
    with pytest.raises(OfflineError, match=r"broken.* \(PYTEST_PYINSTALL_DOWNLOADS\)") as caught:
        provision(NEWEST, never._replace(cache=tmp_path / "empty"))
    assert caught.value.hint == "PYTEST_PYINSTALL_DOWNLOADS=auto"
    assert len(server.requests) == count
    assert provision(NEWEST, remote._replace(downloads="never")).run("-c", "print(1)").stdout == "1\n"
