"""`mirror`: fills a directory with archives and their catalogue, for machines that cannot reach the release host.

    DIR/catalogue.json                in uv's schema, so both tools can use it as their catalogue
    DIR/<tag>/<file>                  archives of python-build-standalone, and those that `mirror pack` creates
    DIR/pypy/<file>                   archives of PyPy
    DIR/…/<file>.sigstore.json        the bundle of an archive, if attestations were required
    DIR/.lock                         held while the catalogue is replaced

Both tools can use it as a mirror: served over HTTP, as a directory, or as a ``file://`` URL.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from pytest_pyinstall.cli.context import (
    REQUEST_HELP,
    CommandContext,
    CommandResult,
    each_request,
    error_lines,
    examples_text,
)
from pytest_pyinstall.cli.install import add_require_attestation, found
from pytest_pyinstall.download.attestations import SUFFIX, Proof, attest, verify_bundle
from pytest_pyinstall.download.fetch import DownloadProgress, fetch
from pytest_pyinstall.errors import (
    AttestationError,
    CatalogueError,
    DigestMismatchError,
    OfflineError,
    PyinstallError,
    StoreError,
    UsageError,
)
from pytest_pyinstall.interpreter.pack import Packable, look_at, pack_one
from pytest_pyinstall.progress import size_text
from pytest_pyinstall.request.catalogue import document_place, key_name, mirrored, row_of, triple_of
from pytest_pyinstall.request.identity import Attestation, Build, Key, Signer
from pytest_pyinstall.system.documents import parse_json
from pytest_pyinstall.system.files import children, delete, is_abandoned, new_file, write_atomically
from pytest_pyinstall.system.locks import hold
from pytest_pyinstall.system.temporary import temporary_directory
from pytest_pyinstall.system.urls import redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_pyinstall.download.client import Client
    from pytest_pyinstall.request.request import Request

__all__ = ["RELEASES", "Packed", "Pulled", "mirror_pack", "mirror_parser", "mirror_pull", "pack", "pull"]


RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"
"""The beginning of every archive's URL. A mirror setting, ours or uv's, replaces exactly this part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An archive that `pack` put into a mirror.

    `source` is the interpreter that was packed; for a virtual environment, its base. `left_out` are files of `source`
    that the archive does not contain. `needs` are the shared libraries that a machine must have to run it.
    """

    build: Build
    path: Path
    source: Path
    left_out: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An archive that `pull` put into a mirror, or that `was_there` already. `attestation` is the content of its
    bundle, if one was required."""

    build: Build
    path: Path
    was_there: bool
    attestation: Attestation | None = None


def pack(
    directory: Path,
    executables: Iterable[Path],
    *,
    tag: str,
    environ: Mapping[str, str],
    progress: Callable[[str], None] | None = None,
) -> list[Packed]:
    """Pack installed CPythons (3.6 or newer) into the mirror `directory`, without a network.

    For each of `executables`, writes ``directory/<tag>/<file>``, with the name and the layout of a
    python-build-standalone archive, and adds a row to ``directory/catalogue.json``, in uv's schema. `tag` is a date
    such as ``20261122``. `progress` is called with a sentence for each step.

    An archive is published only after a copy of it ran in another directory without using the original. The same
    interpreter gives the same bytes. Several processes can pack into one directory. Packing ends at the first
    interpreter that cannot be packed, and keeps the archives before it.

    Raises `PackError` with a hint if an interpreter cannot be packed, `ProbeError` if an executable is not an
    interpreter, and `StoreError` if the disk fails.
    """
    if not re.fullmatch(r"\d{8}", tag):
        msg = f"--tag must be a date such as 20261122, not {tag!r}"
        raise UsageError(msg, hint="--tag 20261122")
    say = progress or (lambda _: None)
    packed: dict[tuple[Path, Key], Packed] = {}
    try:
        for executable in executables:
            packable = look_at(executable, environ=environ)
            place = (packable.prefix, packable.key)  # several Pythons can have the prefix /usr
            if place not in packed:
                packed[place] = _pack(directory, packable, tag=tag, environ=environ, say=say)
    except OSError as error:
        msg = f"cannot pack into {directory}: {error}"
        raise StoreError(msg, hint="another directory: pytest-pyinstall mirror pack DIR PYTHON") from error
    return list(packed.values())


def _pack(
    directory: Path, packable: Packable, *, tag: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> Packed:
    key = packable.key
    suffix = f"-{key.variant}" if key.variant else ""
    name = f"{key.implementation}-{key.number}+{tag}-{triple_of(key.target)}{suffix}-install_only.tar.gz"
    say(f"packing {key} from {packable.prefix}")
    with temporary_directory() as scratch:
        archive = scratch / name
        contents = pack_one(packable, archive, scratch=scratch, environ=environ)
        size = archive.stat().st_size
        url = f"{RELEASES}/{tag}/{quote(name)}"
        build = Build(key=key, url=url, sha256=_sha256(archive), size=size, tag=tag)
        with archive.open("rb") as file:
            _publish(directory, file, directory / tag / name, build)
    say(f"+ {key} packed, {size_text(size)}")
    return Packed(
        build=build,
        path=directory / tag / name,
        source=packable.executable,
        left_out=contents.left_out,
        needs=contents.needs,
    )


def pull(
    directory: Path,
    builds: Iterable[Build],
    *,
    client: Client,
    cache: Path,
    mirror: str | None = None,
    pypy_mirror: str | None = None,
    signer: Signer | None = None,
    offline: bool = False,
    progress: DownloadProgress | None = None,
) -> list[Pulled]:
    """Copy the verified archives of `builds` into the mirror `directory`, and their rows into its ``catalogue.json``.

    `mirror` and `pypy_mirror` replace the release host as the source. Each archive is stored at the path that a mirror
    setting with `directory` leads to. An archive that exists is kept if its digest is right, and otherwise replaced.
    After an error, the builds before it are complete, and the next call continues. Several processes can pull and pack
    into one directory.

    With a `signer`, only archives that the signer built are pulled: the bundle is verified before the archive is
    fetched, and stored beside it, at the path that sessions which require attestations look at. A valid bundle that
    exists is not fetched again. Without a `signer`, no bundles are fetched.

    Raises the errors of `fetch`, with a `signer` those of `attest`, `CatalogueError` if the URL of a build leads out of
    `directory`, and `StoreError` if the disk fails.
    """
    pulled = []
    for build in builds:
        path, url = _destination(directory, build)
        try:
            proof = None
            if signer is not None:
                proof = _proof_beside(path, build, signer) or attest(
                    build,
                    mirror=mirror,
                    pypy_mirror=pypy_mirror,
                    signer=signer,
                    client=client,
                    cache=cache,
                    offline=offline,
                )
            was_there = _is_right(path, build)
            if was_there:
                file: BinaryIO = path.open("rb")
            else:
                source = mirrored(build, mirror=mirror, pypy_mirror=pypy_mirror)
                file = fetch(build, url=source, cache=cache, client=client, offline=offline, progress=progress).file
            with file:
                row = replace(build, url=url, size=os.fstat(file.fileno()).st_size, attestation=None)
                _publish(directory, None if was_there else file, path, row, bundle=proof.text if proof else None)
        except OSError as error:
            msg = f"cannot put {build.key} into the mirror {directory}: {error}"
            raise StoreError(msg, hint="another directory: pytest-pyinstall mirror pull DIR REQUEST") from error
        attestation = proof.attestation if proof else None
        pulled.append(Pulled(build=row, path=path, was_there=was_there, attestation=attestation))
    return pulled


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _proof_beside(path: Path, build: Build, signer: Signer) -> Proof | None:
    """The bundle that was pulled before, if it proves that `signer` built the archive. Raises `OSError`."""
    try:
        text = _beside(path).read_bytes()
        return Proof(attestation=verify_bundle(text, build=build, signer=signer), text=text)
    except (FileNotFoundError, AttestationError):
        return None


def _destination(directory: Path, build: Build) -> tuple[Path, str]:
    """The path of the archive, and its URL for the catalogue of `directory`."""
    root, url = Path(os.path.abspath(directory)), build.url  # noqa: PTH100  # a symlinked mirror keeps its name
    if url.startswith(("https://", "http://")):
        parts = urlsplit(url)
        # A user, a password or a token in the URL must not be copied into the mirror.
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        path = Path(mirrored(replace(build, url=url), mirror=str(root), pypy_mirror=None))
    else:  # a file of this machine, whose path means nothing on other machines
        url = "/".join(quote(part, safe="") for part in (build.tag or "files", build.file_name))
        path = root.joinpath(*unquote(url).split("/"))
    names = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if len(names) < 2 or any(name.startswith(".") for name in names):
        msg = f"{build.key}: the URL of its archive does not lead to a file of a mirror: {redacted(build.url)}"
        raise CatalogueError(msg, hint="--python-catalogue URL")
    return path, url


def _is_right(path: Path, build: Build) -> bool:
    try:
        return _sha256(path) == build.sha256
    except FileNotFoundError:
        return False


def _publish(
    directory: Path, archive: BinaryIO | None, path: Path, build: Build, *, bundle: bytes | None = None
) -> None:
    """Write `archive` to `path`, and add `build` to the catalogue. If `archive` is None, the file exists already.

    Both happen under one lock: if two processes pack the same key, the catalogue gets the digest of the file that was
    kept. The `bundle` is written first, so that the archive never exists without it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold(directory / ".lock", timeout=_LOCK_TIMEOUT, purpose=f"to write into {directory}", setting="MIRROR"):
        if bundle is not None:
            _replace(_beside(path), bundle)
        if archive is not None:
            _write(path, archive, build)
        _merge(directory / "catalogue.json", build)


_LOCK_TIMEOUT = 300.0


def _write(path: Path, archive: BinaryIO, build: Build) -> None:
    digest = hashlib.sha256()
    with _new_file(path) as file:
        while chunk := archive.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
        if digest.hexdigest() != build.sha256:
            msg = f"the archive of {build.key} changed while it was copied to {path}"
            raise DigestMismatchError(msg)


def _merge(path: Path, build: Build) -> None:
    """Add the row of `build` to the catalogue at `path`, which is replaced atomically. The caller holds the lock."""
    try:
        document = parse_json(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("not an object")  # noqa: TRY004  # handled like invalid JSON
    except FileNotFoundError:
        document = {}
    except ValueError as error:
        msg = f"{path} is not a catalogue: {error}"
        raise StoreError(msg, hint=shlex.join(["mv", str(path), f"{path}.broken"])) from error
    document[key_name(build.key)] = row_of(build)
    _replace(path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    with _new_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends without an error. No existing file or link is written to.

    The caller holds the mirror's lock, so an existing temporary file was left by a process that was killed.
    """
    for left in children(path.parent):
        if is_abandoned(left) is not False:
            delete(left)
    with new_file(path, mode=0o666) as file:
        yield file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mirror_pack(session: CommandContext, directory: Path, texts: Sequence[str], *, tag: str | None) -> CommandResult:
    """Pack each interpreter into the mirror `directory`: a path, or the one that a request finds on this machine."""

    provisioner = session.provisioner
    tag = tag or datetime.now(UTC).strftime("%Y%m%d")

    def packed(request: Request) -> list[Packed]:
        executable = found(provisioner, request).interpreter.executable
        return pack(directory, [executable], tag=tag, environ=provisioner.environ, progress=session.display.say)

    results = list(each_request(packed, session.requests(texts)))
    done = [each for result in results if not isinstance(result, PyinstallError) for each in result]
    if session.is_verbose:
        for each in done:
            for title, names in (("left out", each.left_out), ("needs from the machine", each.needs)):
                session.display.say(f"{each.build.key}: {title}: {', '.join(names) or 'nothing'}")
    document = {"archives": [{"key": str(each.build.key), "path": str(each.path)} for each in done]}
    return CommandResult(lines=tuple(str(each.path) for each in done), document=document, errors=error_lines(results))


def mirror_pull(session: CommandContext, directory: Path, texts: Sequence[str]) -> CommandResult:
    """Pull the archive of each request into the mirror `directory`, and add it to the catalogue. If attestations are
    required, each archive must have one, and its bundle is pulled too."""
    from pytest_pyinstall.catalogues import naming_the_mirror
    from pytest_pyinstall.download.client import open_client

    provisioner, settings = session.provisioner, session.provisioner.settings
    if settings.downloads == "never":
        message = f"mirror pull downloads, and downloads are switched off ({settings.decided('downloads')})"
        raise OfflineError(message, hint=settings.example("downloads", "auto"))
    requests = session.requests(texts)
    with open_client(
        environ=provisioner.environ, insecure_hosts=settings.insecure_hosts, warn=session.display.say
    ) as client:

        def pulled(request: Request) -> list[Pulled]:
            build = provisioner.catalogues.resolve(request)
            with naming_the_mirror(settings, mirrored(build, mirror=settings.mirror, pypy_mirror=settings.pypy_mirror)):
                return pull(
                    directory,
                    [build],
                    client=client,
                    cache=settings.cache,
                    mirror=settings.mirror,
                    pypy_mirror=settings.pypy_mirror,
                    signer=settings.signer if settings.attestation == "require" else None,
                    offline=settings.offline,
                    progress=session.display,
                )

        results = list(each_request(pulled, requests))
    done = [each for result in results if not isinstance(result, PyinstallError) for each in result]
    if done and provisioner.catalogues.asked_uv:
        _put_document(directory, provisioner.catalogues.uv_document)
    document = {
        "archives": [
            {
                "key": str(each.build.key),
                "path": str(each.path),
                "was_there": each.was_there,
                "attestation": each.attestation.to_json() if each.attestation else None,
            }
            for each in done
        ]
    }
    return CommandResult(lines=tuple(str(each.path) for each in done), document=document, errors=error_lines(results))


def _put_document(directory: Path, text: bytes) -> None:
    """Copy uv's catalogue into the mirror, so that with ``--python-mirror`` alone, builds that pbs-installer lacks are
    found too."""
    path = Path(document_place(str(directory)))
    try:
        write_atomically(path, text, mode=0o666)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def mirror_parser(parser: argparse.ArgumentParser) -> None:
    parser.usage = "pytest-pyinstall mirror pull|pack DIR PYTHON... [OPTION]"
    parser.description = (
        "pull: download archives and a catalogue for a site without a network. pack:\n"
        "make them from Pythons on this machine, by path or request. Use the result with\n"
        "--python-mirror DIR --python-catalogue DIR/catalogue.json. If attestations are\n"
        "required, pull verifies them and stores them next to the archives."
    )
    parser.epilog = examples_text("mirror pull DIR 3.9..3.13", "mirror pack DIR 3.9 /opt/python/bin/python3.12")
    parser.add_argument("action", choices=("pull", "pack"), metavar="pull|pack")
    parser.add_argument("directory", metavar="DIR", help="the directory of the mirror; created if missing")
    parser.add_argument("requests", nargs="+", metavar="PYTHON", help=REQUEST_HELP)
    add_require_attestation(parser, "pull: ")
    parser.add_argument("--tag", metavar="YYYYMMDD", help="pack: the release of the archives (default: today)")

    def run(session: CommandContext, args: argparse.Namespace) -> CommandResult:
        from pytest_pyinstall.settings import expand_user

        directory = session.provisioner.directory / expand_user(args.directory, origin="mirror")
        session = replace(session, command=f"mirror {args.action} {shlex.quote(args.directory)}")
        if args.action == "pack":
            if args.pyinstall_attestation == "require":
                raise UsageError(
                    "mirror pack: a packed archive has no attestation; use --require-attestation with mirror pull",
                    hint=f"pytest-pyinstall mirror pack {shlex.join([args.directory, *args.requests])}",
                )
            return mirror_pack(session, directory, args.requests, tag=args.tag)
        if args.tag:
            raise UsageError(
                "mirror pull: --tag is an option of mirror pack; a pulled archive keeps its own release",
                hint=f"pytest-pyinstall mirror pull {shlex.join([args.directory, *args.requests])}",
            )
        return mirror_pull(session, directory, args.requests)

    parser.set_defaults(run=run)
