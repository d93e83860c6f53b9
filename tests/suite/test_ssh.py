"""Workers of a suite that use xdist's workers on another host: a real sshd on loopback, with keys of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import interpreters
from suite_fixtures import NEW, OLD, Run, marks

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin")
pytestmark = [
    *marks,
    pytest.mark.skipif(not (SSHD and shutil.which("ssh")), reason="needs sshd: apt-get install openssh-server"),
]
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""
CLIENT = """
Host *
  HostName 127.0.0.1
  Port {port}
  IdentityFile {directory}/user
  IdentitiesOnly yes
  UserKnownHostsFile {directory}/known
  StrictHostKeyChecking no
  LogLevel ERROR
"""


@pytest.fixture(name="ssh_config")
def _ssh_config(tmp_path: Path) -> Iterator[Path]:
    """The path of a client's configuration for an sshd that runs during the test."""
    directory = tmp_path / "ssh"
    directory.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(command, check=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd needs it if it runs as root
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, text in (("server", SERVER), ("client", CLIENT)):
        (directory / name).write_text(text.format(port=port, directory=directory), "utf-8")
    assert SSHD
    with subprocess.Popen([SSHD, "-D", "-e", "-f", str(directory / "server")], stderr=subprocess.PIPE) as server:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert server.poll() is None, server.stderr and server.stderr.read()
                time.sleep(0.1)
            yield directory / "client"
        finally:
            server.terminate()


def prepare(project: Path, there: Path) -> None:
    """Make environments on the other host, without our plugin, and tests that check where they run."""
    from uv import find_uv_bin

    there.mkdir()
    for version in (OLD, NEW):
        python = there / f"py{version}"
        subprocess.run([find_uv_bin(), "venv", "-q", "-p", str(interpreters()[version]), str(python)], check=True)
        words = ["--python", str(python), "pytest", "pytest-xdist"]
        subprocess.run([find_uv_bin(), "pip", "install", "-q", *words], check=True)
    (project / "pyproject.toml").write_text(
        '[project]\nname = "demo"\nversion = "1"\n'
        '[tool.pytest.ini_options]\npyinstall_suite_install = ["pytest-xdist"]\n',
        "utf-8",
    )
    (project / "test_demo.py").write_text(
        "import os, sys\n"
        "def test_there(request):\n"
        f"    assert sys.prefix.startswith({str(there)!r})\n"
        f"    assert str(request.config.rootpath).startswith({str(there)!r})\n"
        "    assert 'py%d.%d' % sys.version_info[:2] in os.path.basename(os.getcwd())\n"
        "    assert 'SSH_CONNECTION' in os.environ\n"
        "def test_old():\n"
        "    assert sys.version_info >= (3, 10), 'too old'\n",
        "utf-8",
    )


@pytest.mark.parametrize("place", ["//chdir={there}/work-{{python}}", ""])
def test_xdist_runs_tests_on_another_host(
    run: Run, project: Path, tmp_path: Path, ssh_config: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    prepare(project, there)
    if not place:  # xdist uses the home directory, which the fake ssh replaces
        (there / "bin").mkdir()
        script = f'#!/bin/sh\nfor last; do :; done\ncd {there} && SSH_CONNECTION=none exec /bin/sh -c "$last"\n'
        (there / "bin" / "ssh").write_text(script, "utf-8")
        (there / "bin" / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{there / 'bin'}{os.pathsep}{os.environ['PATH']}")
    spec = f"2*ssh=localhost//ssh_config={ssh_config}//python={there}/{{python}}/bin/python{place.format(there=there)}"
    words = ("-d", "--tx", spec, "--rsyncdir", str(project), str(project / "test_demo.py"))
    result = run("-W", "ignore::DeprecationWarning", *words)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_demo.py::test_old[[]py3.9[]] - AssertionError: too old"])
    assert len([*there.glob("pyexecnetcache-py*" if not place else "work-py*")]) == 2
