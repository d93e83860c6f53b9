"""P1, P4, P5, P22: many processes share one store, with real interpreters, a real server and real kills."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import archives
import mirror
import pytest
from archives import NEWEST
from mirror import Mirror

from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store.installation import Installation
from pytest_pyinstall.store.store import Store
from pytest_pyinstall.system.files import current_boot

VERSIONS = list(archives.interpreters())

_PROVISION = """
import sys
from pytest_pyinstall import provision
interpreter = provision(sys.argv[1])
print(interpreter.run("-c", "import ssl, sqlite3, ctypes, sys; print(sys.prefix)").stdout.strip())
"""


@pytest.fixture
def environ(tmp_path: Path, server: Mirror) -> dict[str, str]:
    return {
        **os.environ,
        "PYTEST_PYINSTALL_HOME": str(tmp_path / "pyinstall"),
        "PYTEST_PYINSTALL_MIRROR": server.url,
        "PYTEST_PYINSTALL_CATALOGUE": f"{server.url}/catalogue.json",
        "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
        "PYTEST_PYINSTALL_LOCK_TIMEOUT": "60",
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "pyinstall/store"),
        "UV_PYTHON_INSTALL_MIRROR": server.url,
        "UV_PYTHON_DOWNLOADS_JSON_URL": f"{server.url}/catalogue.json",
        "UV_PYTHON_INSTALL_BIN": "0",
        "UV_CACHE_DIR": str(tmp_path / "uv-cache"),
    }


def _start(environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*arguments] if len(arguments) > 1 else [sys.executable, "-c", _PROVISION, *arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _provision(environ: dict[str, str], version: str) -> tuple[int, str]:
    process = _start(environ, version)
    _, err = process.communicate(timeout=100)
    return process.returncode, err


def _downloads(server: Mirror) -> int:
    return sum(1 for request in server.requests if request.path.endswith(".tar.gz"))


def _scratch(store: Path) -> list[str]:
    return [path.name for path in (store / ".pytest-pyinstall/scratch").iterdir()]


def test_p4_sixteen_processes_make_one_download_and_one_installation(
    environ: dict[str, str], server: Mirror, tmp_path: Path
) -> None:
    processes = [_start(environ, NEWEST) for _ in range(16)]
    results = [(process.communicate(), process.returncode) for process in processes]

    assert [code for _, code in results] == [0] * 16, results
    assert len({output for (output, _), _ in results}) == 1
    assert _downloads(server) == 1
    assert _scratch(tmp_path / "pyinstall/store") == []


@pytest.mark.parametrize("seed", range(2))
def test_p4_killed_processes_do_not_affect_the_others(
    environ: dict[str, str], server: Mirror, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    processes = [_start(environ, NEWEST) for _ in range(8)]
    victims = chance.sample(processes, 4)
    for victim in victims:
        try:
            victim.wait(chance.uniform(0.05, 1.5))
        except subprocess.TimeoutExpired:
            victim.send_signal(signal.SIGKILL)
    results = [(process.communicate(), process.returncode) for process in processes if process not in victims]
    for victim in victims:
        victim.communicate()

    assert [code for _, code in results] == [0] * 4, results
    assert _provision(environ, NEWEST) == (0, "")
    store = Store(root=tmp_path / "pyinstall/store", boot=current_boot())
    assert len(store.leftovers()) <= 1  # of a victim that was killed last
    with store.claim(store.keys()[0]):
        pass
    assert _scratch(store.root) == []


def test_p1_a_killed_installer_leaves_a_whole_installation_or_none(environ: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random(1)
    store = Store(root=tmp_path / "pyinstall/store", boot=current_boot())
    for _ in range(6):
        process = _start(environ, NEWEST)
        try:
            process.wait(chance.uniform(0.2, 1.2))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        for key in store.keys():  # noqa: SIM118  # no dict
            found = store.look(key)
            assert isinstance(found, Installation)
            assert store.verify(key) == ()
        assert len(store.leftovers()) <= 1


def test_p5_a_stalled_download_does_not_delay_another_python(
    environ: dict[str, str], server: Mirror, tmp_path: Path
) -> None:
    if len(VERSIONS) < 2:
        pytest.skip("needs a second interpreter on this machine")
    path = _archive_path(server, NEWEST)
    stall = mirror.stall(after=1000)
    server.always(path, stall)
    with _start(environ, NEWEST) as stalled:
        assert stall.reached.wait(60)
        other = _start(environ, VERSIONS[0])
        out, err = other.communicate(timeout=200)
        stalled.kill()

    assert other.returncode == 0, err
    assert out


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_p5_a_stopped_process_does_not_delay_the_use_of_an_installed_python(
    environ: dict[str, str], server: Mirror
) -> None:
    assert _provision(environ, NEWEST) == (0, "")
    stall = mirror.stall(after=1000)
    server.always(_archive_path(server, NEWEST), stall)
    script = (
        "from pytest_pyinstall.provisioner import open_provisioner\n"
        "import sys, shutil\n"
        "with open_provisioner() as p:\n"
        "    shutil.rmtree(p.settings.cache, ignore_errors=True)\n"
        "    p.install(p.parse([sys.argv[1]]), reinstall=True)\n"
    )
    with _start(environ, sys.executable, "-c", script, NEWEST) as stopped:
        assert stall.reached.wait(60)
        stopped.send_signal(signal.SIGSTOP)
        user = _start(environ, NEWEST)
        _, err = user.communicate(timeout=90)
        stopped.kill()

    assert user.returncode == 0, err


def test_p1_readers_find_the_installation_at_every_moment_of_a_reinstall(
    environ: dict[str, str], tmp_path: Path
) -> None:
    first = _start(environ, NEWEST)
    prefix = Path(first.communicate()[0].strip())
    executable = prefix / f"bin/python{NEWEST}"
    poll = (
        "import os, subprocess, sys\n"
        "print('ready', flush=True)\n"
        "count = 0\n"
        "while not os.path.exists(sys.argv[2]):\n"
        "    os.stat(sys.argv[1])\n"
        "    count += 1\n"
        "    if count % 500 == 0:\n"
        "        subprocess.run([sys.argv[1], '-I', '-c', 'import json, ssl'], check=True)\n"
    )
    again = (
        "from pytest_pyinstall.provisioner import open_provisioner, unwrap\n"
        "import sys\n"
        "with open_provisioner() as p:\n"
        "    for _ in range(4):\n"
        "        unwrap(p.install(p.parse([sys.argv[1]]), reinstall=True))\n"
    )
    stop = tmp_path / "stop"
    with subprocess.Popen(
        [sys.executable, "-I", "-c", poll, str(executable), str(stop)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        writer = _start(environ, sys.executable, "-c", again, NEWEST)
        _, err = writer.communicate()
        stop.touch()
        _, complaint = reader.communicate()

    assert writer.returncode == 0, err
    assert reader.returncode == 0, complaint.decode()


def test_p22_uv_and_pytest_pyinstall_install_into_one_store_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    import uv

    binary = str(uv.find_uv_bin())
    versions = (VERSIONS * 6)[:6]
    processes = []
    for version in versions:
        processes.append(_start(environ, version))
        processes.append(_start(environ, binary, "python", "install", "--no-config", version))
    results = [(process.communicate(), process.returncode) for process in processes]

    assert [code for _, code in results] == [0] * 12, results
    for version in dict.fromkeys(versions):
        found = subprocess.run(
            [binary, "python", "find", "--no-project", "--managed-python", version],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(found.stdout.strip()).is_relative_to(tmp_path / "pyinstall/store")
        assert _provision(environ, version) == (0, "")


def _archive_path(server: Mirror, version: str) -> str:
    names = [
        path for path in (server.directory / archives.TAG).iterdir() if path.name.startswith(f"cpython-{version}.")
    ]
    return f"/{archives.TAG}/{names[0].name.replace('+', '%2B')}"


def test_the_directory_name_is_a_key_of_uv(environ: dict[str, str], tmp_path: Path) -> None:
    assert _provision(environ, NEWEST) == (0, "")

    (name,) = [path.name for path in (tmp_path / "pyinstall/store").glob("cpython-*.*.*-*")]
    assert str(Key.parse(name)) == name
