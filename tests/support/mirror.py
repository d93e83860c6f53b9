"""A real HTTP server on loopback that serves a directory, and misbehaves as a test configures it.

It runs in threads of the test process, and processes that a test starts can use it::

    with serve(directory) as mirror:
        mirror.url                          # "http://127.0.0.1:40123": serves the directory, with ranges and ETags
        mirror.files["/made/up.json"] = b"{}"   # files that are not on disk; they take precedence
        mirror.script("/a.tar.gz", status(503), reset(after=100))   # the next two responses for this path
        mirror.always("/b.tar.gz", html())  # every response for this path; "*" means every path
        ...
        mirror.requests                     # each Request: method, path (with its query), headers (lower case names)
        mirror.gets("/a.tar.gz")            # those for one path
        mirror.bytes_served                 # body bytes that were sent, for all paths

Ways to misbehave (each returns a `Behaviour`; combine their fields with `dataclasses.replace`)::

    status(code, headers=None, body=b"")    responds with that status; status(503, {"Retry-After": "2"})
    redirect(to, code=302)                  to any URL, also file:, another origin, or itself
    html(code=200)                          a captive portal's page
    reset(after=N)                          RST after N body bytes (None: before the headers)
    fin(after=N)                            closes early, with the full Content-Length announced
    cut(after=N)                            the same with chunked coding: the last chunk never comes
    short(by=N) / nolength(after=N)         sends and announces N bytes less / no Content-Length, ends after N bytes
    long(by=N) / trail(extra)               announces N bytes more than it sends / appends and announces `extra`
    endless()                               no length, ends only when the client disconnects
    stall(after=N)                          stops after N body bytes (None: before the headers) until `release()`
    trickle(step, pause)                    `step` bytes every `pause` seconds; headers=True: the headers too
    flip(at=N)                              changes one byte
    norange()                               ignores Range
    etag(text) / noetag()                   another validator / no validator, not even Last-Modified
    headers({"X": "y"})                     adds headers

`stall` has two events: ``behaviour.reached`` is set when the server stops (wait for it instead of sleeping), and
``behaviour.release()`` lets it continue. The end of the ``with`` block releases every stall.

As an HTTP proxy, it responds for any host (only the path counts), and to CONNECT with 405 or as scripted for
``"host:port"``. With ``serve(directory, ca=trustme.CA())`` it speaks TLS for 127.0.0.1 and localhost.

By hand: ``python tests/support/mirror.py DIR`` prints its URL and serves until Ctrl-C.
"""

import contextlib
import io
import mimetypes
import os
import re
import socket
import ssl
import struct
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import trustme

__all__ = [
    "Behaviour",
    "Mirror",
    "Request",
    "cut",
    "endless",
    "etag",
    "fin",
    "flip",
    "headers",
    "html",
    "long",
    "noetag",
    "nolength",
    "norange",
    "redirect",
    "reset",
    "serve",
    "short",
    "stall",
    "status",
    "trail",
    "trickle",
]

_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Request:
    """A request: `path` as it was sent, with its query, and `headers` with lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """A way to respond. Fields with their default value respond correctly."""

    code: int | None = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    stop: str = ""  # "reset", "fin", "stall"
    after: int | None = None  # the number of body bytes; None: before the headers
    length_off_by: int = 0
    has_length: bool = True
    is_chunked: bool = False
    is_endless: bool = False
    shorter: int = 0
    extra: bytes = b""
    flip_at: int | None = None
    ranges: bool = True
    validator: str | None = None  # "" means no validator
    step: int = 0
    pause: float = 0.0
    slow_headers: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """End the stall."""
        self.released.set()


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Behaviour:
    return Behaviour(code=code, headers=dict(headers or {}), body=body)


def redirect(to: str, code: int = 302) -> Behaviour:
    return Behaviour(code=code, headers={"Location": to}, body=b"")


def html(code: int = 200) -> Behaviour:
    page = b"<!DOCTYPE html><html><title>Sign in to the hotel's network</title></html>"
    return Behaviour(code=code, headers={"Content-Type": "text/html; charset=utf-8"}, body=page, validator="")


def reset(*, after: int | None) -> Behaviour:
    return Behaviour(stop="reset", after=after)


def fin(*, after: int | None) -> Behaviour:
    return Behaviour(stop="fin", after=after)


def cut(*, after: int) -> Behaviour:
    return Behaviour(stop="fin", after=after, is_chunked=True)


def short(*, by: int) -> Behaviour:
    return Behaviour(shorter=by)


def long(*, by: int) -> Behaviour:
    return Behaviour(length_off_by=by)


def nolength(*, after: int | None = None) -> Behaviour:
    return Behaviour(has_length=False, stop="fin" if after is not None else "", after=after)


def trail(extra: bytes) -> Behaviour:
    return Behaviour(extra=extra)


def endless() -> Behaviour:
    return Behaviour(has_length=False, is_endless=True)


def stall(*, after: int | None) -> Behaviour:
    return Behaviour(stop="stall", after=after)


def trickle(*, step: int, pause: float, headers: bool = False) -> Behaviour:
    return Behaviour(step=step, pause=pause, slow_headers=headers)


def flip(*, at: int) -> Behaviour:
    return Behaviour(flip_at=at)


def norange() -> Behaviour:
    return Behaviour(ranges=False)


def etag(text: str) -> Behaviour:
    return Behaviour(validator=text)


def noetag() -> Behaviour:
    return Behaviour(validator="")


def headers(extra: Mapping[str, str]) -> Behaviour:
    return Behaviour(headers=dict(extra))


class Mirror:
    """The running server; see the top of this file."""

    def __init__(self, directory: Path, context: ssl.SSLContext | None) -> None:
        self.directory = directory
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.bytes_served = 0
        self._context = context
        self._scripts: dict[str, list[Behaviour]] = {}
        self._always: dict[str, Behaviour] = {}
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, name="mirror", daemon=True)
        self._acceptor.start()

    def script(self, path: str, *behaviours: Behaviour) -> None:
        """Respond to the next requests for `path` in these ways, one after the other, and then correctly."""
        with self._guard:
            self._scripts.setdefault(path, []).extend(behaviours)

    def always(self, path: str, behaviour: Behaviour | None) -> None:
        """Respond to each request for `path` (``*``: any path) in this way; None ends it. A script has precedence."""
        with self._guard:
            if behaviour is None:
                self._always.pop(path, None)
            else:
                self._always[path] = behaviour

    def gets(self, path: str) -> list[Request]:
        """The requests for `path` with any query."""
        with self._guard:
            return [request for request in self.requests if _plain(request.path) == path]

    def reset_counts(self) -> None:
        """Clear the recorded requests and bytes."""
        with self._guard:
            self.requests.clear()
            self.bytes_served = 0

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    def close(self) -> None:
        """End every connection and thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        with self._guard:
            connections = list(self._connections)
            for behaviour in (*self._always.values(), *(one for many in self._scripts.values() for one in many)):
                behaviour.release()
        for connection in connections:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._converse, args=(connection,), name="mirror", daemon=True)
            self._threads = [*(one for one in self._threads if one.is_alive()), thread]
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client that stops reading must not keep the test process from ending.
        connection.settimeout(60)
        with self._guard:
            self._connections.add(connection)
        plain = connection
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                with self._guard:
                    self._connections.add(connection)
            with connection.makefile("rb") as stream:
                while not self._closing.is_set() and (request := _read_request(stream)) is not None:
                    if not self._answer(connection, request):
                        return
        except (OSError, ValueError):
            pass  # the client disconnected, as some tests do on purpose
        finally:
            with self._guard:
                self._connections -= {connection, plain}
            connection.close()
            plain.close()

    def _answer(self, connection: socket.socket, request: Request) -> bool:
        """Respond to one request; return False if the connection ends."""
        path = request.path if request.method == "CONNECT" else _plain(request.path)
        with self._guard:
            self.requests.append(request)
            queue = self._scripts.get(path) or self._scripts.get("*")
            honest = Behaviour(code=405, body=b"") if request.method == "CONNECT" else Behaviour()
            behaviour = queue.pop(0) if queue else self._always.get(path) or self._always.get("*") or honest
        return _Reply(self, connection, request, path, behaviour).send()

    def count(self, size: int) -> None:
        with self._guard:
            self.bytes_served += size

    def wait(self, event: threading.Event, seconds: float = 60) -> None:
        """Wait for `event` or the end of the test."""
        while not event.wait(min(seconds, 0.05)) and not self._closing.is_set():
            seconds -= 0.05
            if seconds <= 0:
                return


@contextlib.contextmanager
def serve(directory: Path | str, *, ca: "trustme.CA | None" = None, name: str = "localhost") -> Iterator[Mirror]:
    """Serve `directory` on a free port of 127.0.0.1, with `ca` also as `name`, until the ``with`` block ends."""
    context = None
    if ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1", name).configure_cert(context)
    mirror = Mirror(Path(directory), context)
    try:
        yield mirror
    finally:
        mirror.close()


class _Reply:
    def __init__(
        self, mirror: Mirror, connection: socket.socket, request: Request, path: str, behaviour: Behaviour
    ) -> None:
        self.mirror = mirror
        self.connection = connection
        self.request = request
        self.path = path
        self.how = behaviour

    def send(self) -> bool:
        how = self.how
        if how.stop and how.after is None:
            return self._stop()
        content = self._open()
        with content if content is not None else contextlib.nullcontext():
            code, fields, start, end = self._head(content)
            size = max(0, end - start - how.shorter) + len(how.extra)
            if how.has_length and not how.is_chunked:
                fields["Content-Length"] = str(size + how.length_off_by)
            else:
                fields["Connection"] = "close"
            if how.is_chunked:
                fields["Transfer-Encoding"] = "chunked"
            fields |= how.headers
            lines = [f"HTTP/1.1 {code} {_REASONS.get(code, 'Because')}", *(f"{k}: {v}" for k, v in fields.items())]
            head = "\r\n".join([*lines, "", ""]).encode("latin-1")
            self._write(head, is_slow=how.slow_headers)
            if self.request.method == "HEAD" or code == 304:
                return True
            return self._body(content, start, max(start, end - how.shorter))

    def _open(self) -> BinaryIO | None:
        """The content of the response, if there is any."""
        if self.how.body is not None:
            return io.BytesIO(self.how.body)
        if self.path in self.mirror.files:
            return io.BytesIO(self.mirror.files[self.path])
        names = [name for name in unquote(self.path).split("/") if name]
        raw = [name for name in self.path.split("/") if name]
        for parts in (names, raw):  # the name of the file may be quoted or not
            path = self.mirror.directory.joinpath(*parts)
            if ".." not in parts and path.is_file():
                return path.open("rb")
        return None

    def _head(self, content: BinaryIO | None) -> tuple[int, dict[str, str], int, int]:
        """The status, the headers, and the requested range of bytes."""
        how, asked = self.how, self.request.headers
        fields = {"Server": "mirror", "Date": formatdate(usegmt=True)}
        if content is None:
            return how.code or (200 if how.is_endless else 404), fields, 0, 0
        size = content.seek(0, os.SEEK_END)
        fields["Content-Type"] = mimetypes.guess_type(self.path)[0] or "application/octet-stream"
        validator, modified = self._validators(content, size)
        if how.body is None and how.validator != "":
            fields |= {"ETag": validator, "Last-Modified": modified}
            if asked.get("if-none-match") == validator:
                return 304, fields, 0, 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
        if how.body is not None or not how.ranges or how.is_endless or wanted is None:
            return how.code or 200, fields, 0, size
        if asked.get("if-range", validator) not in {validator, modified}:
            return how.code or 200, fields, 0, size
        start, end = int(wanted[1]), min(size, int(wanted[2] or size - 1) + 1)
        if start >= size:
            return 416, fields | {"Content-Range": f"bytes */{size}"}, 0, 0
        return 206, fields | {"Content-Range": f"bytes {start}-{end - 1}/{size}"}, start, end

    def _validators(self, content: BinaryIO, size: int) -> tuple[str, str]:
        try:
            time = os.fstat(content.fileno()).st_mtime_ns
        except OSError:  # in memory
            time = zlib.crc32(self.mirror.files.get(self.path, b""))
        return self.how.validator or f'"{size:x}-{time:x}"', formatdate(time // 10**9, usegmt=True)

    def _body(self, content: BinaryIO | None, start: int, end: int) -> bool:
        how = self.how
        left = how.after if how.stop and how.after is not None else None
        for block in self._blocks(content, start, end):
            if left is not None:
                part = block[:left]
                left -= len(part)
                self._write_body(part)
                if left == 0:
                    if not self._stop():
                        return False
                    left = None
                    self._write_body(block[len(part) :])
            else:
                self._write_body(block)
        if how.is_chunked:
            self.connection.sendall(b"0\r\n\r\n")
        keeps = how.has_length and not how.is_chunked and not how.length_off_by
        if not keeps:
            self._hang_up()
        return keeps

    def _blocks(self, content: BinaryIO | None, start: int, end: int) -> Iterator[bytes]:
        position = start
        if content is not None:
            content.seek(start)
            while position < end and (block := content.read(min(_BLOCK, end - position))):
                if self.how.flip_at is not None and position <= self.how.flip_at < position + len(block):
                    at = self.how.flip_at - position
                    block = block[:at] + bytes([block[at] ^ 1]) + block[at + 1 :]
                position += len(block)
                yield block
        if self.how.extra:
            yield self.how.extra
        while self.how.is_endless and not self.mirror.is_closing:
            yield bytes(_BLOCK)

    def _write_body(self, block: bytes) -> None:
        if not block:
            return
        if self.how.is_chunked:
            self.connection.sendall(b"%x\r\n" % len(block))
        self._write(block, is_slow=bool(self.how.step) and not self.how.slow_headers, counts=True)
        if self.how.is_chunked:
            self.connection.sendall(b"\r\n")

    def _write(self, block: bytes, *, is_slow: bool, counts: bool = False) -> None:
        step = self.how.step if is_slow else len(block)
        for at in range(0, len(block), step or 1):
            piece = block[at : at + step]
            if counts:  # before the client can receive it and compare
                self.mirror.count(len(piece))
            self.connection.sendall(piece)
            if is_slow:
                self.mirror.wait(self.how.released, self.how.pause)

    def _stop(self) -> bool:
        """Stop as the behaviour says; return True if the response continues afterwards."""
        if self.how.stop == "stall":
            self.how.reached.set()
            self.mirror.wait(self.how.released)
            return self.how.after is not None and not self.mirror.is_closing
        if self.how.stop == "reset":
            self._drain()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self._hang_up()
        return False

    def _drain(self) -> None:
        """Wait until the client has received all bytes, because a reset discards the others."""
        with contextlib.suppress(ImportError, OSError):  # without the ioctl, a few bytes may be lost
            from fcntl import ioctl
            from termios import TIOCOUTQ

            while struct.unpack("i", ioctl(self.connection.fileno(), TIOCOUTQ, b"\0" * 4))[0]:
                self.mirror.wait(self.how.released, 0.001)

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_WR)


def _read_request(stream: io.BufferedReader) -> Request | None:
    if not stream.peek(1)[:1].isalpha():
        return None  # the end, or a client that speaks TLS
    line = stream.readline(65536).decode("latin-1").split()
    if len(line) != 3:
        return None
    method, target, _ = line
    fields = {}
    while row := stream.readline(65536).decode("latin-1").strip():
        name, _, value = row.partition(":")
        fields[name.strip().lower()] = value.strip()
    if "://" in target:  # requested as from a proxy
        parts = urlsplit(target)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
    return Request(method, target, fields)


def _plain(path: str) -> str:
    return path.partition("?")[0]


_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 304: "Not Modified", 404: "Not Found", 416: "Range"}


if __name__ == "__main__":
    with serve(sys.argv[1] if len(sys.argv) > 1 else ".") as running:
        sys.stdout.write(f"{running.url}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
