"""Serves a directory on loopback as fast as the kernel can.

``python -m benchmarks.server DIR [BYTES_PER_SECOND [SECONDS]]``

Both sides download from it, so it must not limit them: it has a thread for each connection, uses ``sendfile``, and does
nothing else. It prints its port. With a rate, all connections together are limited to that speed. With a latency in
seconds, each connection and each request waits that long, as for a distant server.
"""

import os
import re
import socket
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote

_PIECE = 64 << 10


class Link:
    """A link with a limit of bytes per second for all connections together."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, size: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size / self._rate
            wait = self._free_at - now
        if wait > 0.001:
            time.sleep(wait)


def serve(directory: Path, rate: float, latency: float) -> None:
    link = Link(rate) if rate else None
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection, directory, link, latency), daemon=True).start()


def _answer(connection: socket.socket, directory: Path, link: Link | None, latency: float) -> None:
    with connection:
        time.sleep(latency)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked = b""
        while True:
            while b"\r\n\r\n" not in asked:
                if not (more := connection.recv(65536)):
                    return
                asked += more
            head, _, asked = asked.partition(b"\r\n\r\n")
            time.sleep(latency)
            try:
                _send(connection, directory, head.decode("latin-1"), link)
            except OSError:  # it has seen enough
                return


def _send(connection: socket.socket, directory: Path, head: str, link: Link | None) -> None:
    method, path, _ = head.split("\r\n", 1)[0].split(" ")
    try:
        file = (directory / unquote(path).lstrip("/")).open("rb")
    except OSError:
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    with file:
        size = os.fstat(file.fileno()).st_size
        start, status = 0, "200 OK"
        if match := re.search(r"\r\nrange: bytes=(\d+)-\r\n", f"{head}\r\n", re.IGNORECASE):
            start, status = int(match[1]), f"206 Partial Content\r\nContent-Range: bytes {match[1]}-{size - 1}/{size}"
        lines = f'HTTP/1.1 {status}\r\nContent-Length: {size - start}\r\nETag: "{size}"\r\n'
        connection.sendall(f"{lines}Content-Type: application/octet-stream\r\n\r\n".encode())
        if method == "HEAD":
            return
        while start < size:
            most = size - start if link is None else min(_PIECE, size - start)
            if link is not None:
                link.take(most)
            start += os.sendfile(connection.fileno(), file.fileno(), start, most)


if __name__ == "__main__":
    numbers = [*map(float, sys.argv[2:]), 0.0, 0.0]
    serve(Path(sys.argv[1]), numbers[0], numbers[1])
