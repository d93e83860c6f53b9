"""The unpacked bytes of a tar, block by block, and never more of them than its budget."""

from collections.abc import Iterator

from pytest_pyinstall.bounds import TOO_MUCH
from pytest_pyinstall.refusal import give_up, refuse

__all__ = ["BLOCK", "Stream"]

BLOCK = 512


class Stream:
    """The unpacked bytes of an archive, in their order and within a budget."""

    def __init__(self, chunks: Iterator[bytes], *, budget: int) -> None:
        self._chunks = chunks
        self._budget = budget
        self._chunk = memoryview(b"")
        self._at = 0
        self._unread = 0  # of the current member's content
        self._padding = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        piece = bytes(self._take(size)) if size else b""
        while len(piece) < size:
            piece += self._take(size - len(piece))
        return piece

    def begin_content(self, size: int, member: str) -> None:
        if size > self._budget + len(self._chunk) - self._at:
            refuse(f"{size} bytes, {TOO_MUCH}", member)
        self._unread, self._padding = size, -size % BLOCK

    def content(self) -> Iterator[memoryview]:
        """The current member's content, or what of it nobody has read yet."""
        while self._unread:
            piece = self._take(self._unread)
            self._unread -= len(piece)
            yield piece

    def skip_content(self) -> None:
        """Go behind the current member, whether or not somebody read it."""
        for _ in self.content():
            pass
        self.read(self._padding)
        self._padding = 0

    def expect_zeros(self) -> None:
        """Read on to the end of the file, so that what follows the archive is judged, not passed over."""
        rest = bytes(self._chunk[self._at :]) or self._next()
        while rest:
            if rest.count(0) != len(rest):
                refuse("something follows after its end")
            rest = self._next()

    def _take(self, limit: int) -> memoryview:
        """Some of the next bytes: at least one, at most `limit`."""
        if self._at == len(self._chunk):
            self._chunk, self._at = memoryview(self._next()), 0
            if not self._chunk:
                give_up("it is cut off")
        piece = self._chunk[self._at : self._at + limit]
        self._at += len(piece)
        return piece

    def _next(self) -> bytes:
        chunk = next(self._chunks, b"")
        self._budget -= len(chunk)
        if self._budget < 0:
            refuse(f"{len(chunk)} bytes, {TOO_MUCH}")
        return chunk
