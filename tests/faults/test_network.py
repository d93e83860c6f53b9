"""P9, P12, P13: with a failing network, a command succeeds or gives a reason, and leaves nothing broken.

`tests/download` tests the effect of each fault on a single download. These tests run the whole installation, from the
command to the published tree.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import mirror
import pytest
import trustme
from fault_report import Tally
from fault_workshop import TAG, VERSION, Ended, Workshop
from mirror import Behaviour, Mirror

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its small Python is a shell script")

# Limits of a download that are too short to wait for. Nothing else is changed.
_IMPATIENT = """
import sys
import pytest_pyinstall.download._response as limits
defaults = dict(
    backoff=0.01, longest_backoff=0.05, longest_retry_after=0.3, read=1.0, headers=1.0, connect=2.0, total=30.0,
    slow_bytes=60_000, slow_time=2.0,
)
if sys.argv[1] == "busy":  # a busy machine also responds late
    defaults.update(read=20.0, headers=20.0, total=100.0)
for name, value in defaults.items():
    setattr(limits.RetryPolicy, name, value)
del sys.argv[1]
from pytest_pyinstall.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(name="server")
def _server(workshop: Workshop) -> Iterator[Mirror]:
    """Serves the mirror of the workshop, which has nothing installed or cached."""
    with mirror.serve(workshop.mirror) as server:
        workshop.url = server.url
        workshop.reset()
        yield server


def place(workshop: Workshop) -> str:
    return f"/{TAG}/{quote(workshop.archive.name)}"


def install(workshop: Workshop, *, waits: bool = True, **environ: str) -> Ended:
    """Install the Python. With `waits`, a silent server is given up after one second."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPATIENT, "quick" if waits else "busy", "install", VERSION],
        env={**workshop.environ, **environ},
        cwd=workshop.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done.returncode, done.stdout + done.stderr)


TEMPORARY: dict[str, Callable[[], list[Behaviour]]] = {
    "reset before the headers": lambda: [mirror.reset(after=None)],
    "reset at byte 1": lambda: [mirror.reset(after=1)],
    "reset at byte 300000": lambda: [mirror.reset(after=300_000)],
    "reset six times, each time further": lambda: [mirror.reset(after=70_000)] * 6,
    "closed early, with the right length": lambda: [mirror.fin(after=200_000)],
    "closed early, in chunks": lambda: [mirror.cut(after=200_000)],
    "closed early, without a length": lambda: [mirror.nolength(after=200_000)],
    "shorter than it is, consistently": lambda: [mirror.short(by=1000)],
    "longer than it is": lambda: [mirror.long(by=1000)],
    "a byte flipped": lambda: [mirror.flip(at=5000)],
    "stalls at byte 100000": lambda: [mirror.stall(after=100_000)],
    "stalls before the headers": lambda: [mirror.stall(after=None)],
    "trickles": lambda: [mirror.trickle(step=10, pause=0.1)],
    "408": lambda: [mirror.status(408)],
    "429 with Retry-After": lambda: [mirror.status(429, {"Retry-After": "1"})],
    "500 and 503": lambda: [mirror.status(500), mirror.status(503, {"Retry-After": "0"})],
    "a page with 200": lambda: [mirror.html()],
    "ignores Range": lambda: [mirror.reset(after=100_000), mirror.norange()],
    "another file between the ranges": lambda: [mirror.reset(after=100_000), mirror.etag('"another"')],
}
"""Faults that a download survives, except for those in `REJECTED`."""

REJECTED = {"shorter than it is, consistently": 5, "a page with 200": 4}


@pytest.mark.parametrize("fault", TEMPORARY)
def test_p12_a_temporary_network_fault_is_survived(
    workshop: Workshop, server: Mirror, tally: Tally, fault: str
) -> None:
    server.script(place(workshop), *TEMPORARY[fault]())
    ended = install(workshop, waits="stalls" in fault)
    tally.attempt("a temporary network fault", len(workshop.leftovers()))
    if ended.code and fault in REJECTED:
        assert ended.code == REJECTED[fault], ended.output
        assert not workshop.home.exists()
        assert "hint: " in ended.output
        ended = install(workshop, waits=False)
    assert ended.code == 0, ended.output
    assert workshop.is_whole()
    assert workshop.leftovers() == []
    tally.survive()


LASTING: dict[str, tuple[Callable[[], Behaviour], set[int], int]] = {
    # the fault, the exit codes, and the maximum number of requests
    "403": (lambda: mirror.status(403), {4}, 1),
    "404": (lambda: mirror.status(404), {4}, 1),
    "429 for ever": (lambda: mirror.status(429, {"Retry-After": "3600"}), {4}, 5),
    "500 for ever": (lambda: mirror.status(500), {4}, 5),
    "503 for ever": (lambda: mirror.status(503), {4}, 5),
    "a page with 200": (mirror.html, {4, 5}, 5),
    "resets for ever": (lambda: mirror.reset(after=None), {4}, 5),
    "stalls for ever": (lambda: mirror.stall(after=None), {4}, 5),
    "without end": (mirror.endless, {4, 5}, 5),
    "another file": (lambda: mirror.flip(at=5000), {5}, 2),
    "longer, consistently": (lambda: mirror.trail(b"and more"), {5}, 2),
    "redirects to itself": (lambda: mirror.redirect(f"/{TAG}/loop"), {4}, 6),
    "redirects to a file": (lambda: mirror.redirect("file:///etc/passwd"), {4}, 1),
    "redirects to ftp": (lambda: mirror.redirect("ftp://127.0.0.1/x"), {4}, 1),
    "redirects to another host over http": (lambda: mirror.redirect("http://host.invalid/x"), {4}, 1),
}


@pytest.mark.parametrize("fault", LASTING)
def test_p12_p13_a_lasting_network_fault_is_an_error_and_the_next_run_succeeds(
    workshop: Workshop, server: Mirror, tally: Tally, fault: str
) -> None:
    behaviour, codes, most = LASTING[fault]
    server.always(place(workshop), behaviour())
    server.always(f"/{TAG}/loop", mirror.redirect(f"/{TAG}/loop"))
    ended = install(workshop, waits="stalls" in fault)
    left = [name for name in workshop.leftovers() if ".part" not in name]
    tally.attempt("a lasting network fault", len(workshop.leftovers()))
    assert ended.code in codes, ended.output
    assert "hint: " in ended.output, ended.output
    assert not workshop.home.exists()
    assert left == []
    downloads = [request for request in server.requests if not request.path.endswith("catalogue.json")]
    assert len(downloads) <= most, downloads
    server.always(place(workshop), None)
    again = install(workshop, waits=False)
    assert again.code == 0, again.output
    assert workshop.is_whole()
    assert workshop.leftovers() == []
    tally.survive()


def test_p12_a_refused_connection_is_an_error_and_the_next_run_succeeds(workshop: Workshop, tally: Tally) -> None:
    import socket

    tally.attempt("a lasting network fault")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # it does not listen, so connections are refused
        workshop.reset()
        port = taken.getsockname()[1]
        ended = install(workshop, PYTEST_PYINSTALL_MIRROR=f"http://127.0.0.1:{port}")
    assert ended.code == 4, ended.output
    assert install(workshop, waits=False).code == 0
    assert workshop.is_whole()
    tally.survive()


@pytest.mark.parametrize("is_right", [False, True], ids=["another digest", "its digest"])
def test_p9_an_archive_with_a_wrong_digest_is_not_run_or_kept(
    workshop: Workshop, server: Mirror, tally: Tally, tmp_path: Path, is_right: bool
) -> None:
    """The archive is unpacked during the download. Its Python creates a file when it starts."""
    tally.attempt("an archive with a wrong digest")
    mark = tmp_path / "started"
    buffer = io.BytesIO()
    with tarfile.open(workshop.archive) as theirs, tarfile.open(fileobj=buffer, mode="w:gz") as ours:
        for member in theirs:
            content = opened.read() if member.isfile() and (opened := theirs.extractfile(member)) else b""
            if content.startswith(b"#!/bin/sh"):
                content = content.replace(b"exec", f"touch '{mark}'\nexec".encode())
                member.size = len(content)
            ours.addfile(member, io.BytesIO(content))
    catalogue = json.loads((workshop.mirror / "catalogue.json").read_text("utf-8"))
    for row in catalogue.values():
        row["size"] = len(buffer.getvalue())
        if is_right:
            row["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    server.files["/catalogue.json"] = json.dumps(catalogue).encode()
    server.files[place(workshop)] = buffer.getvalue()

    ended = install(workshop, waits=False)

    assert ended.code == (0 if is_right else 5), ended.output
    assert mark.exists() == is_right
    assert workshop.home.exists() == is_right
    assert workshop.leftovers() == []
    assert [path.name for path in workshop.cache.glob("archives/*/*.tar.gz")] == [workshop.archive.name] * is_right
    tally.survive()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_p12_a_resumed_download_does_not_fetch_bytes_twice(
    workshop: Workshop, server: Mirror, tally: Tally, share: float
) -> None:
    """The server sends the bytes of the archive once, plus what a reset discards from its buffers."""
    tally.attempt("a download is resumed")
    size = workshop.archive.stat().st_size
    assert install(workshop, waits=False).code == 0  # to know the size of the catalogue
    before = server.bytes_served
    assert before >= size
    workshop.reset()
    server.script(place(workshop), mirror.reset(after=int(size * share)))
    start = server.bytes_served
    assert install(workshop, waits=False).code == 0
    assert workshop.is_whole()
    # A reset discards unread bytes, at most the size of the buffers.
    assert server.bytes_served - start <= before + (1 << 17)
    assert "range" in server.gets(place(workshop))[-1].headers or share * size < 1 << 17
    tally.survive()


def test_p12_a_killed_download_is_resumed_by_the_next_run(workshop: Workshop, server: Mirror, tally: Tally) -> None:
    tally.attempt("a download is resumed")
    size = workshop.archive.stat().st_size
    half = size // 2
    stall, parts = mirror.stall(after=half), workshop.cache / "archives"
    server.script(place(workshop), stall)
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_pyinstall", "install", VERSION], env=workshop.environ, cwd=workshop.directory,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert stall.reached.wait(100)
        while (kept := sum(path.stat().st_size for path in parts.glob("*/*.part"))) < half - (1 << 17):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    start = server.bytes_served
    assert install(workshop, waits=False).code == 0
    assert workshop.is_whole()
    catalogue = (workshop.mirror / "catalogue.json").stat().st_size
    assert server.bytes_served - start <= size - kept + catalogue
    tally.survive()


@pytest.mark.parametrize("trust", ["unknown", "named"])
def test_p13_only_a_trusted_certificate_is_accepted(
    workshop: Workshop, tally: Tally, trust: str, tmp_path: Path
) -> None:
    tally.attempt("an unknown certificate")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with mirror.serve(workshop.mirror, ca=authority) as server:
        workshop.url = server.url
        workshop.reset()
        ended = install(workshop, waits=False, SSL_CERT_FILE=str(tmp_path / "ca.pem") if trust == "named" else "")
        if trust == "unknown":
            assert ended.code == 4, ended.output
            assert "certificate" in ended.output
            assert server.bytes_served == 0
            assert not workshop.home.exists()
        else:
            assert ended.code == 0, ended.output
            assert workshop.is_whole()
    tally.survive()


def test_p13_a_redirect_from_https_to_http_is_not_followed(workshop: Workshop, tally: Tally, tmp_path: Path) -> None:
    tally.attempt("a redirect from https to http")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with mirror.serve(workshop.mirror, ca=authority) as server, mirror.serve(workshop.mirror) as plain:
        server.always(place(workshop), mirror.redirect(plain.url + place(workshop)))
        workshop.url = server.url
        workshop.reset()
        ended = install(workshop, SSL_CERT_FILE=str(tmp_path / "ca.pem"))
        assert ended.code == 4, ended.output
        assert plain.requests == []
    assert not workshop.home.exists()
    tally.survive()
