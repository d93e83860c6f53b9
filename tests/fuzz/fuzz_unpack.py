"""Fuzzes the archive reader with atheris: it unpacks inside its directory or raises an error with a message.

Run it by hand: ``python tests/fuzz/fuzz_unpack.py [-max_total_time=60]`` (needs atheris).
"""

import gzip
import io
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pytest_pyinstall"]):
    from pytest_pyinstall.archive.unpack import unpack
    from pytest_pyinstall.errors import PyinstallError
    from pytest_pyinstall.request.identity import Archive, Build, Key

KEY = Key.parse("cpython-3.12.4-linux-x86_64-gnu")
PLACE = Path(tempfile.mkdtemp(prefix="fuzz-unpack-"))
CANARY = PLACE / "canary"
CANARY.write_text("whole")


def one_input(data: bytes) -> None:
    if data[:1] == b"\0":  # otherwise the checksum of gzip hides the content from the tar reader
        data = gzip.compress(data[1:], 1)
    into = PLACE / "scratch"
    into.mkdir()
    path = PLACE / "archive.tar.gz"
    path.write_bytes(data)
    build = Build(key=KEY, url="https://host/archive.tar.gz", sha256="0" * 64, size=len(data), tag="")
    try:
        with path.open("rb") as file:
            unpack(Archive(build=build, file=file), into=into)
    except PyinstallError as error:
        assert error.message  # noqa: PT017  # no pytest here
    finally:
        shutil.rmtree(into)
    assert sorted(entry.name for entry in PLACE.iterdir()) == ["archive.tar.gz", "canary"]
    assert CANARY.read_text() == "whole"


def seeds() -> str:
    """A directory with valid tar streams, because finding one from nothing would take days."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "support"))
    import fault_workshop

    directory = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    (directory / "good").write_bytes(
        b"\0" + gzip.decompress(fault_workshop._archive("3.12", fault_workshop.RUNNING))[:20000]
    )
    for number, kind in enumerate(
        (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE)
    ):
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
                for name in ("python", "python/bin/python3.12", "python/" + "long/" * 40, "../outside"):
                    member = tarfile.TarInfo(name)
                    member.type, member.linkname = (tarfile.DIRTYPE if name == "python" else kind), "../../outside"
                    tar.addfile(member)
            (directory / f"{number}-{form}").write_bytes(b"\0" + stream.getvalue())
    return str(directory)


if __name__ == "__main__":
    has_corpus = any(not word.startswith("-") for word in sys.argv[1:])
    atheris.Setup([*sys.argv, *([] if has_corpus else [seeds(), "-max_len=30000"])], one_input)
    atheris.Fuzz()
