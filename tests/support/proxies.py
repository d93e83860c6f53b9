"""A real proxy on loopback that connects every request to one address.

``with proxy("http", to=url) as p`` starts a proxy with the URL ``p.url``. ``p.asked`` lists the host and port of each
tunnel, with the user and password of the request. Kinds: ``http`` and ``https`` (CONNECT, the latter over TLS), and
``socks5``.
"""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import trustme

__all__ = ["Proxy", "proxy"]


class Proxy:
    def __init__(self, kind: str, to: str, ca: trustme.CA | None) -> None:
        self.kind = kind
        self.asked: list[tuple[str, str]] = []
        target = urlsplit(to)
        self._to = (target.hostname, target.port)
        self._context = None
        if ca is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ca.issue_cert("127.0.0.1").configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{kind}://peep:hunter2@127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                self.asked.append(self._socks(connection) if self.kind == "socks5" else self._connect(connection))
                with socket.create_connection(self._to) as there:
                    back = threading.Thread(target=_pipe, args=(there, connection), daemon=True)
                    back.start()
                    _pipe(connection, there)
                    back.join()

    def _connect(self, connection: socket.socket) -> tuple[str, str]:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (byte := connection.recv(1)):
                raise ConnectionResetError  # the client disconnected
            head += byte
        first, *lines = head.decode().split("\r\n")
        user = next((line for line in lines if line.lower().startswith("proxy-authorization: basic ")), "")
        connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        return first.split()[1], base64.b64decode(user.rpartition(" ")[2]).decode()

    def _socks(self, connection: socket.socket) -> tuple[str, str]:
        """RFC 1928, with the user and password of RFC 1929."""
        file = connection.makefile("rb")
        _, methods = file.read(2)
        file.read(methods)
        connection.sendall(b"\x05\x02")
        file.read(1)
        user = file.read(*file.read(1)).decode()
        password = file.read(*file.read(1)).decode()
        connection.sendall(b"\x01\x00")
        assert file.read(4) == b"\x05\x01\x00\x03"  # connect to a name, which the proxy resolves
        host = file.read(*file.read(1)).decode()
        port = int.from_bytes(file.read(2))
        connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return f"{host}:{port}", f"{user}:{password}"


def _pipe(source: socket.socket, destination: socket.socket) -> None:
    with contextlib.suppress(OSError):
        try:
            while data := source.recv(1 << 16):
                destination.sendall(data)
        finally:  # also after a reset: otherwise the other side waits for its timeout
            destination.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(kind: str, *, to: str, ca: trustme.CA | None = None) -> Iterator[Proxy]:
    made = Proxy(kind, to, ca)
    try:
        yield made
    finally:
        made.close()
