"""`provision` finds, installs or rejects Pythons, and shares its store with uv."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import archives
import pytest
from archives import NEWEST
from mirror import Mirror

from pytest_pyinstall import Interpreter, provision, provision_all
from pytest_pyinstall.errors import (
    FetchError,
    InvalidRequestError,
    NoMatchError,
    ProbeError,
    SeveralFailedError,
)
from pytest_pyinstall.progress import Silence
from pytest_pyinstall.provisioner import Provisioner, ProvisionResult, open_provisioner
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.settings import Settings

VERSIONS = list(archives.interpreters())


needs_two = pytest.mark.skipif(len(VERSIONS) < 2, reason="needs a second interpreter on this machine")


def test_a_missing_python_is_installed_and_then_found(settings: Settings) -> None:
    first = provision(NEWEST, settings)
    again = provision(NEWEST, settings._replace(downloads="never", offline=True))

    assert first == again
    assert first.source == "store"
    assert first.executable.is_relative_to(settings.store)
    assert f"{first.version.major}.{first.version.minor}" == NEWEST
    assert first.run("-c", "import sys; print(sys.prefix)").stdout.strip() == str(first.prefix)


@needs_two
def test_p19_one_failure_does_not_hide_other_results(settings: Settings) -> None:
    with pytest.raises(SeveralFailedError) as caught:
        provision_all([VERSIONS[0], "3.99", NEWEST, "pypy3.2"], settings)

    first, missing, newest, pypy = caught.value.results
    assert isinstance(first, Interpreter)
    assert isinstance(newest, Interpreter)
    assert isinstance(missing, NoMatchError)
    assert isinstance(pypy, NoMatchError)
    assert caught.value.exit_code == 3
    assert "3.99" in str(caught.value)
    assert "pypy3.2" in str(caught.value)


def test_a_single_failure_is_raised_unchanged(settings: Settings) -> None:
    with pytest.raises(NoMatchError, match=r"3\.99"):
        provision_all(["3.99"], settings)


def test_provision_rejects_several_pythons(settings: Settings) -> None:
    with pytest.raises(InvalidRequestError, match="means 2 Pythons"):
        provision("3.12,3.13", settings)


def test_a_python_requested_twice_is_installed_once(provisioner: Provisioner) -> None:
    results = provisioner.provide(provisioner.parse([NEWEST, f"python{NEWEST}", f"cp{NEWEST.replace('.', '')}"]))

    assert len({result.interpreter for result in results if isinstance(result, ProvisionResult)}) == 1
    assert sorted(result.how for result in results if isinstance(result, ProvisionResult)) == [
        "installed",
        "present",
        "present",
    ]


def test_results_are_reported_in_the_order_of_the_requests(settings: Settings) -> None:
    reported: list[str] = []
    with open_provisioner(settings, on_result=lambda request, *_: reported.append(request.text)) as provisioner:
        provisioner.provide(provisioner.parse([NEWEST, "current"]))  # the second is there at once
    assert reported == [NEWEST, "current"]


def test_a_damaged_installation_is_not_found(settings: Settings, provisioner: Provisioner) -> None:
    interpreter = provision(NEWEST, settings)
    interpreter.executable.write_bytes(b"")

    with pytest.raises(NoMatchError):
        provisioner.find(provisioner.parse([NEWEST])[0])


def test_what_would_be_installed_is_foreseen_by_its_key(provisioner: Provisioner) -> None:
    request, missing = provisioner.parse([NEWEST, "3.99"])
    key = provisioner.foresee(request)
    assert isinstance(key, Key)
    assert not provisioner.settings.store.exists()
    with pytest.raises(NoMatchError):
        provisioner.foresee(missing)

    (installed,) = provisioner.provide([request])
    assert isinstance(installed, ProvisionResult)
    assert installed.interpreter.key == key
    assert provisioner.foresee(request) == installed.interpreter


def test_p2_a_deleted_interpreter_is_installed_again(settings: Settings) -> None:
    interpreter = provision(NEWEST, settings)
    interpreter.executable.unlink()

    assert provision(NEWEST, settings).run("-c", "print(1)").stdout == "1\n"


def test_offline_installs_from_the_cache(settings: Settings, tmp_path: Path, server: Mirror) -> None:
    remote = settings._replace(mirror=server.url)
    provision(NEWEST, remote)
    elsewhere = remote._replace(store=tmp_path / "other")
    count = len(server.requests)

    assert provision(NEWEST, elsewhere._replace(offline=True)).prefix.is_relative_to(tmp_path / "other")
    assert len(server.requests) == count


class _Interrupted(Silence):
    def advanced(self, *_: object) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_resumable", [True, False])
def test_an_interrupted_download_that_can_be_resumed_is_reported(
    settings: Settings, server: Mirror, is_resumable: bool
) -> None:
    said: list[str] = []
    mirror = server.url if is_resumable else settings.mirror
    with (
        open_provisioner(settings._replace(mirror=mirror), progress=_Interrupted(), warn=said.append) as provisioner,
        pytest.raises(KeyboardInterrupt),
    ):
        provisioner.provide(provisioner.parse(NEWEST))

    assert said == ["partial downloads are kept; the next run resumes them"] * is_resumable


def test_the_error_for_a_missing_catalogue_names_it(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"nowhere\.json"):
        provision(NEWEST, settings._replace(catalogue=str(tmp_path / "nowhere.json")))


def test_an_installed_python_needs_no_catalogue(settings: Settings, tmp_path: Path) -> None:
    provision(NEWEST, settings)

    assert provision(NEWEST, settings._replace(catalogue=str(tmp_path / "nowhere.json")))


def test_a_path_is_used_unchanged(settings: Settings) -> None:
    path = archives.interpreters()[NEWEST]

    assert provision(str(path), settings).executable == path


def test_the_error_for_a_path_that_is_not_a_python_names_it(settings: Settings, tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho rubbish\n")
    script.chmod(0o755)

    with pytest.raises(ProbeError, match=str(script)):
        provision(str(script), settings)


def test_a_python_of_the_machine_is_preferred_to_a_download(settings: Settings) -> None:
    interpreter = provision(
        f"{sys.version_info.major}.{sys.version_info.minor}", settings._replace(preference="managed")
    )

    assert interpreter.source != "store"
    assert not settings.store.exists()


def test_only_system_installs_nothing(settings: Settings) -> None:
    origins = {"preference": "PYTEST_PYINSTALL_PREFERENCE"}
    with pytest.raises(NoMatchError, match=r"\(PYTEST_PYINSTALL_PREFERENCE: only-system\)") as caught:
        provision("3.99", settings._replace(preference="only-system", origins=origins))
    assert caught.value.hint == "PYTEST_PYINSTALL_PREFERENCE=system"


def test_install_uses_the_store_even_if_the_machine_has_the_python(settings: Settings) -> None:
    with open_provisioner(settings._replace(preference="managed")) as provisioner:
        (result,) = provisioner.install(provisioner.parse([NEWEST]))

    assert isinstance(result, ProvisionResult)
    assert result.interpreter.source == "store"


def test_p7_an_installed_python_is_provided_without_a_write(settings: Settings) -> None:
    interpreter = provision(NEWEST, settings)
    before = {path: path.lstat().st_mtime_ns for path in settings.store.rglob("*")}

    provision(NEWEST, settings._replace(lock_timeout=0))

    after = {path: path.lstat().st_mtime_ns for path in settings.store.rglob("*")}
    assert interpreter.executable in before
    assert after == before


def test_p22_uv_finds_and_uses_our_installation(settings: Settings, tmp_path: Path, uv: str) -> None:
    interpreter = provision(NEWEST, settings)
    environ = {"UV_PYTHON_INSTALL_DIR": str(settings.store), "UV_PYTHON_DOWNLOADS": "never", "HOME": str(tmp_path)}
    uv_run = [uv, "python", "find", "--no-project", "--managed-python", NEWEST]
    found = subprocess.run(uv_run, env=environ, capture_output=True, text=True, check=True).stdout.strip()
    made = subprocess.run(
        [uv, "venv", "--no-project", "-q", "-p", NEWEST, "--managed-python", tmp_path / "venv"], env=environ, check=True
    )

    assert Path(found).resolve().is_relative_to(interpreter.prefix)
    assert made.returncode == 0


def test_p22_uv_python_install_does_not_change_our_installation(
    settings: Settings, install_with_uv: Callable[[str], None]
) -> None:
    interpreter = provision(NEWEST, settings)
    install_with_uv(str(interpreter.version))

    with open_provisioner(settings) as provisioner:
        assert provisioner.store.verify(interpreter.key) == ()
    assert provision(NEWEST, settings._replace(offline=True)) == interpreter


def test_p22_an_installation_of_uv_is_used(settings: Settings, install_with_uv: Callable[[str], None]) -> None:
    install_with_uv(NEWEST)
    interpreter = provision(NEWEST, settings._replace(offline=True, downloads="never"))

    assert interpreter.source == "uv"
    assert interpreter.prefix.resolve().is_relative_to(settings.store.resolve())


def test_p22_a_broken_installation_of_uv_is_replaced(
    settings: Settings, install_with_uv: Callable[[str], None]
) -> None:
    install_with_uv(NEWEST)
    (home,) = (path for path in settings.store.glob("cpython-*") if not path.is_symlink())
    (home / f"bin/python{NEWEST}").write_bytes(b"")

    interpreter = provision(NEWEST, settings)

    assert interpreter.source == "store"
    assert interpreter.run("-c", "print(1)").stdout == "1\n"


@pytest.fixture
def uv() -> str:
    import uv as package

    return str(package.find_uv_bin())


@pytest.fixture
def install_with_uv(settings: Settings, tmp_path: Path, uv: str, mirror_directory: Path) -> Callable[[str], None]:
    """Runs ``uv python install`` with our store and the mirror."""
    environ = {
        "UV_PYTHON_INSTALL_DIR": str(settings.store),
        "UV_PYTHON_DOWNLOADS_JSON_URL": str(mirror_directory / "catalogue.json"),
        "UV_PYTHON_INSTALL_MIRROR": mirror_directory.as_uri(),
        "UV_PYTHON_INSTALL_BIN": "0",
        "HOME": str(tmp_path),
    }

    def install(version: str) -> None:
        subprocess.run([uv, "python", "install", version], env=environ, check=True)

    return install


def test_equal_failures_are_reported_once(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SeveralFailedError) as caught:
        provision_all(["3.97", "3.98", "3.99"], settings._replace(catalogue=str(tmp_path / "nowhere.json")))

    assert str(caught.value).count("nowhere.json") == 1
    assert len(caught.value.errors) == 3


def test_provision_all_accepts_a_string(settings: Settings) -> None:
    assert provision_all(NEWEST, settings) == [provision(NEWEST, settings)]


def test_an_error_for_a_pinned_python_names_the_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / ".python-version").write_text(f"{NEWEST}\n3.77\n")
    (tmp_path / "tests").mkdir()
    for directory, name in ((tmp_path, ".python-version"), (tmp_path / "tests", str(tmp_path / ".python-version"))):
        with open_provisioner(settings, directory=directory) as provisioner:
            requests = provisioner.parse("pinned")
            _, error = provisioner.provide(requests)
            with pytest.raises(NoMatchError, match=rf"^{re.escape(name)}: no Python 3\.77 found"):
                provisioner.find(requests[1])
        assert isinstance(error, NoMatchError)
        assert error.message.startswith(f"{name}: no build of Python 3.77")


def test_the_class_of_an_error_of_a_download_is_public(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        provision(NEWEST, settings._replace(mirror=str(tmp_path)))
    assert type(caught.value) is FetchError
