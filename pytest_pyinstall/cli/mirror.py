"""Fills a directory with archives and their catalogue, for machines that cannot reach the release host.

    DIR/catalogue.json                in uv's schema: a catalogue setting of ours or of uv's takes it
    DIR/<tag>/<file>                  python-build-standalone, and what `pack` makes
    DIR/pypy/<file>                   PyPy
    DIR/…/<file>.sigstore.json        beside an archive of which attestations were required: its bundle
    DIR/.lock                         held for the moment in which the catalogue is replaced

Served over HTTP, or named as a directory or ``file://`` URL, it is a mirror for both tools.
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
from pytest_pyinstall.cli.install import add_require_attestation
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
from pytest_pyinstall.request.catalogue import document_place, key_name, mirrored, row_of, triple_of
from pytest_pyinstall.request.identity import Attestation, Build, Key, Signer
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An archive that `pull` put into a mirror, or `was_there` already. `attestation` is what the bundle beside it
    proves, where that was required."""

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
    packed: dict[tuple[Path, Key], Packed] = {}
    try:
        for executable in executables:
            packable = look_at(executable, environ=environ)
            place = (packable.prefix, packable.key)  # /usr is the prefix of several
            if place not in packed:
                packed[place] = _pack(directory, packable, tag=tag, environ=environ, say=say)
    except OSError as error:
        msg = f"cannot pack into {directory}: {error}"
        raise StoreError(msg) from error
    return list(packed.values())


def _pack(
    directory: Path, packable: Packable, *, tag: str, environ: Mapping[str, str], say: Callable[[str], None]
) -> Packed:
    key = packable.key
    suffix = f"-{key.variant}" if key.variant else ""
    name = f"{key.implementation}-{key.version}+{tag}-{triple_of(key.target)}{suffix}-install_only.tar.gz"
    say(f"packing {key} from {packable.prefix}")
    with temporary_directory() as scratch:
        archive = scratch / name
        contents = pack_one(packable, archive, scratch=scratch, environ=environ)
        build = Build(
            key=key,
            url=f"{RELEASES}/{tag}/{quote(name)}",
            sha256=_sha256(archive),
            size=archive.stat().st_size,
            tag=tag,
        )
        with archive.open("rb") as file:
            _publish(directory, file, directory / tag / name, build)
    say(f"packed {directory / tag / name}")
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

    `mirror` and `pypy_mirror` are where to fetch from, instead of the release host. Each archive comes to lie where a
    mirror setting that names `directory` looks for it. What is there and has the right digest is not fetched again,
    what has a wrong one is replaced. After an error the builds before it are in place, and the next call goes on from
    there. Any number of pullers and packers may work on one directory.

    With a `signer`, only what they built is pulled: its bundle is verified before the archive is fetched, and comes to
    are beside it, where anyone who requires attestations looks for it. One that is there and holds is not fetched
    again. Without, no one asks for bundles.

    Raises what `fetch` raises, with a `signer` what `attest` raises, `CatalogueError` for a build whose URL leads out
    of `directory`, and `StoreError` when the disk refuses.
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
            raise StoreError(msg) from error
        attestation = proof.attestation if proof else None
        pulled.append(Pulled(build=row, path=path, was_there=was_there, attestation=attestation))
    return pulled


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _proof_beside(path: Path, build: Build, signer: Signer) -> Proof | None:
    """What was pulled before, if it still proves that `signer` built it. Raises `OSError`."""
    try:
        text = _beside(path).read_bytes()
        return Proof(attestation=verify_bundle(text, build=build, signer=signer), text=text)
    except (FileNotFoundError, AttestationError):
        return None


def _destination(directory: Path, build: Build) -> tuple[Path, str]:
    """Where the archive belongs, and the URL by which the catalogue of `directory` is to name it."""
    root, url = Path(os.path.abspath(directory)), build.url  # noqa: PTH100  # a symlinked mirror keeps its name
    if url.startswith(("https://", "http://")):
        parts = urlsplit(url)
        # A user, a password or a token in it is for anyone who pulls, not for the readers of the mirror.
        url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        path = Path(mirrored(replace(build, url=url), mirror=str(root), pypy_mirror=None))
    else:  # a file of this machine, which the readers of the mirror do not have
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
    """Give the content of `archive` the name `path` (None: it is there already), and put its row in the catalogue.

    Both under one lock: of two packers of one key, the catalogue has to have the digest of the file that stays. A
    `bundle` comes first: no one finds the archive without it.
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
    """Put the row of `build` into the catalogue at `path`, which is replaced as a whole. The caller holds the lock."""
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("not an object")  # noqa: TRY004  # as with everything else that is not what we wrote
    except FileNotFoundError:
        document = {}
    except ValueError as error:
        msg = f"{path} is not a catalogue: {error}"
        raise StoreError(msg, hint=f"mv '{path}' '{path}.broken'") from error
    document[key_name(build.key)] = row_of(build)
    _replace(path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    with _new_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that replaces `path` when the block ends without error. Nothing that was planted is written through.

    The caller holds the mirror's lock, so that what has such a name was left by someone who was killed.
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
    """An archive in the mirror `directory` for each interpreter: a path, or what a request finds on this machine."""

    provisioner = session.provisioner
    tag = tag or datetime.now(UTC).strftime("%Y%m%d")

    def packed(request: Request) -> list[Packed]:
        executable = provisioner.find(request).interpreter.executable
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
    """The archive of each request, and a catalogue of them, in the mirror `directory`; where attestations are required,
    only what has one, with its bundle."""
    from pytest_pyinstall.download.client import open_client

    provisioner, settings = session.provisioner, session.provisioner.settings
    if settings.downloads == "never":
        message = f"mirror pull downloads, and downloads are switched off ({settings.origins.get('downloads')})"
        raise OfflineError(message, hint="--python-downloads auto")
    requests = session.requests(texts)
    with open_client(
        environ=provisioner.environ, insecure_hosts=settings.insecure_hosts, warn=session.display.say
    ) as client:

        def pulled(request: Request) -> list[Pulled]:
            return pull(
                directory,
                [provisioner.catalogues.resolve(request)],
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
    """For those who use the mirror with ``--python-mirror`` alone: what pbs-installer lacks is found there too."""
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
        "required, pull verifies them and stores them beside the archives."
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
        session = session._replace(command=f"mirror {args.action} {shlex.quote(args.directory)}")
        if args.action == "pack":
            if args.pyinstall_attestation == "require":
                raise UsageError(
                    "mirror pack: no one attests what is packed here; --require-attestation is for mirror pull",
                    hint=f"pytest-pyinstall mirror pack {shlex.join([args.directory, *args.requests])}",
                )
            return mirror_pack(session, directory, args.requests, tag=args.tag)
        if args.tag:
            raise UsageError(
                "mirror pull: --tag is for mirror pack; an archive keeps the release that it came with",
                hint=f"pytest-pyinstall mirror pull {shlex.join([args.directory, *args.requests])}",
            )
        return mirror_pull(session, directory, args.requests)

    parser.set_defaults(run=run)
