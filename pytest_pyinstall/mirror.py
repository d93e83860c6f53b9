"""Fills a directory with archives and their catalogue, for machines that cannot reach the release host."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock

from pytest_pyinstall.build import Build
from pytest_pyinstall.errors import StoreError, UsageError
from pytest_pyinstall.key import Key
from pytest_pyinstall.pack import Packable, look_at, pack_one
from pytest_pyinstall.target import Target

__all__ = ["RELEASES", "Packed", "pack"]

RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"
"""The canonical place of an archive. A mirror setting, ours or uv's, replaces exactly this part of a URL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An archive that `pack` put into a mirror.

    `source` is the interpreter that was packed: the base, where a virtual environment was asked for. `left_out` names
    what the source holds and the archive does not, `needs` the shared libraries that it takes from the machine on which
    it will run.
    """

    build: Build
    path: Path
    source: Path
    left_out: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def pack(
    directory: Path,
    executables: Iterable[Path],
    *,
    tag: str,
    environ: Mapping[str, str],
    progress: Callable[[str], None] | None = None,
) -> list[Packed]:
    """Pack installed CPythons (3.6 or newer) into the mirror `directory`; no network is used.

    On disk afterwards: ``directory/<tag>/<file>`` for each of `executables`, named and laid out as
    python-build-standalone does it, and ``directory/catalogue.json`` in uv's schema, which keeps what it held. `tag` is
    a date like ``20261122``. `progress` is told a sentence for each step.

    An archive appears only after a copy of it ran from another place without touching the original, and the same
    interpreter gives the same bytes. Any number of packers may work on one directory. Packing ends at the first
    interpreter that cannot be packed; what was packed before it stays.

    Raises `PackError` (and says what to do) for what cannot be packed, `ProbeError` for what is no interpreter,
    `StoreError` when the disk refuses.
    """
    if not re.fullmatch(r"\d{8}", tag):
        msg = f"the tag of a mirror is a date like 20261122, not {tag!r}"
        raise UsageError(msg)
    say = progress or (lambda _: None)
    packed: dict[Path, Packed] = {}
    try:
        for executable in executables:
            packable = look_at(executable, environ=environ)
            if packable.prefix not in packed:
                packed[packable.prefix] = _pack(directory, packable, tag=tag, environ=environ, say=say)
    except OSError as error:
        msg = f"cannot pack into {directory}: {error}"
        raise StoreError(msg) from error
    return list(packed.values())


def _pack(
    directory: Path, packable: Packable, *, tag: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> Packed:
    key = packable.key
    suffix = f"-{key.variant}" if key.variant else ""
    name = f"cpython-{key.version}+{tag}-{_triple(key.target)}{suffix}-install_only.tar.gz"
    say(f"packing {key} from {packable.prefix}")
    with tempfile.TemporaryDirectory(prefix="pytest-pyinstall-") as scratch:
        archive = Path(scratch, name)
        contents = pack_one(packable, archive, scratch=Path(scratch), environ=environ)
        build = Build(
            key=key,
            url=f"{RELEASES}/{tag}/{quote(name)}",
            sha256=_sha256(archive),
            size=archive.stat().st_size,
            tag=tag,
        )
        _publish(directory, archive, directory / tag / name, build)
    say(f"packed {directory / tag / name}")
    return Packed(
        build=build,
        path=directory / tag / name,
        source=packable.executable,
        left_out=contents.left_out,
        needs=contents.needs,
    )


def _publish(directory: Path, archive: Path, path: Path, build: Build) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Both under one lock: of two packers of one key, the digest in the catalogue has to be that of the file that stays.
    with FileLock(directory / ".lock", mode=0o666):
        new = path.with_name(f".{path.name}.new")
        try:
            shutil.copyfile(archive, new)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        _merge(directory / "catalogue.json", [build])


def _merge(path: Path, builds: Iterable[Build]) -> None:
    """Put `builds` into the catalogue at `path`, which is replaced as a whole. The caller holds the lock."""
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("not an object")  # noqa: TRY004  # as with everything else that is not what we wrote
    except FileNotFoundError:
        document = {}
    except ValueError as error:
        msg = f"{path} is not a catalogue: {error}"
        raise StoreError(msg, hint=f"mv '{path}' '{path}.broken'") from error
    document |= {_name(build.key): _row(build) for build in builds}
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_TRIPLE_ARCHITECTURES = {"x86": "i686", "powerpc64le": "ppc64le", "riscv64gc": "riscv64"}
_TRIPLE_SYSTEMS = {"macos": "apple-darwin", "windows": "pc-windows-msvc"}


def _triple(target: Target) -> str:
    arch = _TRIPLE_ARCHITECTURES.get(target.arch, target.arch)
    return f"{arch}-{_TRIPLE_SYSTEMS.get(target.os, f'unknown-{target.os}-{target.libc}')}"


# How uv's download-metadata.json spells what its keys, and ours, spell otherwise.
_SYSTEMS = {"macos": "darwin"}
_ARCHITECTURES = {"x86": "i686", "riscv64gc": "riscv64"}


def _name(key: Key) -> str:
    variant = f"+{key.variant}" if key.variant else ""
    row = _arch(key)
    arch = f"{row['family']}_{row['variant']}" if row["variant"] else row["family"]
    system = _SYSTEMS.get(key.target.os, key.target.os)
    return f"{key.implementation}-{key.version}{variant}-{system}-{arch}-{key.target.libc}"


def _arch(key: Key) -> dict[str, str | None]:
    match = re.fullmatch(r"(.+)_(v\d)", key.target.arch)
    family, variant = match.groups() if match else (key.target.arch, None)
    return {"family": _ARCHITECTURES.get(family, family), "variant": variant}


def _row(build: Build) -> dict[str, object]:
    """A row in the schema of uv's ``download-metadata.json``, and the size, which uv passes over."""
    version = build.key.version
    return {
        "name": build.key.implementation,
        "arch": _arch(build.key),
        "os": _SYSTEMS.get(build.key.target.os, build.key.target.os),
        "libc": build.key.target.libc,
        "major": version.major,
        "minor": version.minor,
        "patch": version.micro,
        "prerelease": "".join(map(str, version.pre or ())),
        "url": build.url,
        "sha256": build.sha256,
        "size": build.size,
        "variant": build.key.variant or None,
        "build": build.tag or None,
    }
