"""Verifies the build attestation of an archive before the archive is fetched.

The proof is a bundle, the format of GitHub's build attestations: a DSSE envelope around an in-toto statement with the
archive's sha256, the certificate of the workflow that signed it, and the proof that it is in a public log. `sigstore`
verifies it offline, against a trusted root.

Sources: https://github.com/sigstore/protobuf-specs (bundle), https://slsa.dev/spec/v1.0/provenance, and for the
certificate's extensions https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from pytest_pyinstall.download._response import UnreachableError
from pytest_pyinstall.download.client import Client
from pytest_pyinstall.download.documents import fetch_text
from pytest_pyinstall.errors import AttestationError, CatalogueError, FetchError, OfflineError, UsageError
from pytest_pyinstall.request.catalogue import mirrored
from pytest_pyinstall.request.identity import PREDICATE, ROOT_HINT, Attestation, Build, Signer
from pytest_pyinstall.system.urls import redacted
from pytest_pyinstall.system.values import Value, replace

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.verify import Verifier

__all__ = ["SUFFIX", "Proof", "attest", "verify_bundle"]


SUFFIX = ".sigstore.json"
"""The suffix that is added to the name of an archive for the name of its bundle."""


_SUFFIXES = (SUFFIX, ".sigstore")


_STATEMENT = "https://in-toto.io/Statement/v1"


_PAYLOAD = "application/vnd.in-toto+json"


_LONGEST = 4 * 1024**2


_MOST = 30  # bundles in one document


_MORE = "what is verified, and against what: docs/security.md, Attestations"


class Proof(Value):
    """A document with a valid bundle, and what the bundle says."""

    attestation: Attestation
    text: bytes


def attest(
    build: Build,
    *,
    mirror: str | None,
    pypy_mirror: str | None,
    signer: Signer,
    client: Client,
    cache: Path,
    offline: bool,
) -> Proof:
    """Prove that `signer` built the archive of `build`, which comes from `mirror` or `pypy_mirror` if they are set.

    The bundle is at the URL in the catalogue, which a mirror can replace, or otherwise beside the archive, with the
    suffix ``.sigstore.json`` or ``.sigstore``. It is kept below `cache`; nothing else is written. Raises
    `AttestationError` if there is none or none is valid, `FetchError` if the network fails, and `UsageError` if
    `sigstore` is not installed.
    """
    _trust(signer)  # if something is missing, say so before anything is fetched
    if build.attestation:
        bundle = replace(build, url=build.attestation)
        places = [mirrored(bundle, mirror=mirror, pypy_mirror=pypy_mirror)]
    else:
        url = mirrored(build, mirror=mirror, pypy_mirror=pypy_mirror)
        places = [_behind(url, suffix) for suffix in _SUFFIXES]
    why: FetchError | None = None
    for place in places:
        try:
            text = fetch_text(
                place, client=client, cache=cache, offline=offline, what="cannot download the attestation"
            )
        except UnreachableError:
            raise
        except (CatalogueError, FetchError) as error:  # also offline: the other one may be in the cache
            why = error
            continue
        attestation = verify_bundle(text, build=build, signer=signer, origin=redacted(place))
        return Proof(attestation=attestation, text=text)
    urls = " or ".join(map(redacted, places))
    if isinstance(why, OfflineError):
        msg = f"{build.key}: an attestation is required, is not in the cache, and downloads are switched off: {urls}"
        raise OfflineError(msg, hint="UV_OFFLINE=0 allows them; or a mirror that is a directory: --python-mirror DIR")
    msg = f"{build.key}: an attestation is required, and there is none at {urls}"
    hint = "put the bundle there (see docs/security.md), or do not require one: --python-attestation ignore"
    raise AttestationError(msg, hint=hint) from why


def verify_bundle(text: bytes, *, build: Build, signer: Signer, origin: str = "the bundle") -> Attestation:
    """Verify `text`: one bundle or several, as JSON Lines or in the format of GitHub's API.

    One valid bundle is enough. Raises `AttestationError` with the reason why the first is not valid, and `UsageError`
    if `sigstore` is not installed.
    """
    trust = _trust(signer)
    reason = "it contains no bundle"
    try:
        for number, bundle in enumerate(_bundles(text)):
            if number == _MOST:
                break
            try:
                return _verified(bundle, build.sha256, signer, trust, hashlib.sha256(text).hexdigest())
            except Exception as error:  # noqa: BLE001  # any failure to read a bundle means that it proves nothing
                reason = " ".join(str(error).split()) if number == 0 else reason
    except (ValueError, RecursionError) as error:
        reason = f"it is not a bundle: {error}"
    raise AttestationError(f"{build.key}: the attestation {origin} is not valid: {reason:.600}", hint=_MORE)


class _Trust(Value):
    """`verifier` uses the root whose file has the sha256 `root`; `root` is empty for the public Sigstore."""

    verifier: "Verifier"
    root: str


class _NotProvenError(Exception):
    """The signature is valid, but for something else."""


def _verified(bundle: Any, sha256: str, signer: Signer, trust: _Trust, digest: str) -> Attestation:
    from sigstore.models import Bundle
    from sigstore.verify import policy

    identity = _Identity(signer)
    kind, payload = trust.verifier.verify_dsse(
        Bundle.from_json(json.dumps(bundle)),
        policy.AllOf([identity, policy.OIDCIssuerV2(signer.issuer), policy.OIDCSourceRepositoryURI(signer.repository)]),
    )
    if kind != _PAYLOAD:
        raise _NotProvenError(f"the signed payload is {kind!r:.80}, not an in-toto statement")
    statement = json.loads(payload)
    if (kind := statement.get("_type")) != _STATEMENT:
        raise _NotProvenError(f"the signed payload is {kind!r:.80}, not {_STATEMENT}")
    if (predicate := statement.get("predicateType")) != PREDICATE:
        raise _NotProvenError(f"its predicate type is {predicate!r:.80}, not {PREDICATE}")
    digests = {subject["digest"].get("sha256") for subject in statement["subject"]}
    if sha256 not in digests:
        raise _NotProvenError(f"it covers other files: none of its {len(digests)} has the archive's sha256 {sha256}")
    return Attestation(
        identity=identity.found,
        issuer=signer.issuer,
        repository=signer.repository,
        predicate=PREDICATE,
        root=trust.root,
        bundle=digest,
    )


class _Identity:
    """The policy: the certificate belongs to the signer's workflow, on any ref if the signer names none."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.found = ""

    def verify(self, cert: "Certificate") -> None:
        from cryptography.x509 import SubjectAlternativeName, UniformResourceIdentifier
        from sigstore.errors import VerificationError

        names = cert.extensions.get_extension_for_class(SubjectAlternativeName).value
        identities = names.get_values_for_type(UniformResourceIdentifier)
        if len(names) != 1 or len(identities) != 1 or not self._signer.fits(identities[0]):
            msg = f"it was signed by {', '.join(identities) or 'an unknown signer'}, not by {self._signer.workflow}"
            raise VerificationError(msg)
        self.found = identities[0]


def _bundles(text: bytes) -> Iterator[Any]:
    """Raises `ValueError`."""
    if len(text) > _LONGEST:
        raise ValueError(f"it is too long ({len(text)} bytes)")
    try:
        documents = [json.loads(text)]
    except ValueError:
        documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    for document in documents:
        if isinstance(document, dict) and isinstance(several := document.get("attestations"), list):
            yield from (each.get("bundle") for each in several if isinstance(each, dict))
        else:
            yield document


def _behind(url: str, suffix: str) -> str:
    """`url` with `suffix` added to its path; a query, such as a token, stays at the end."""
    if "://" not in url:
        return url + suffix
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + suffix))


def _trust(signer: Signer) -> _Trust:
    return _trust_in(signer, signer.root_digest())


@cache
def _trust_in(signer: Signer, root: str) -> _Trust:
    try:
        from sigstore.models import TrustedRoot
        from sigstore.verify import Verifier
    except ImportError as error:
        msg = f"attestations are required, but sigstore, which verifies them, is not installed ({error})"
        raise UsageError(msg, hint="python -m pip install 'pytest-pyinstall[attest]'") from error
    path = signer.root or _public_root()
    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(path))
    except Exception as error:  # a file of the user's, of any content
        msg = f"{path} cannot be used as a trusted root: {' '.join(str(error).split()):.300}"
        raise UsageError(msg, hint=ROOT_HINT if signer.root else "python -m pip install --upgrade sigstore") from error
    if signer.root_digest() != root:
        raise UsageError(f"{path}, the trusted root, changed while it was read", hint=ROOT_HINT)
    return _Trust(verifier=verifier, root=root)


def _public_root() -> str:
    """The trusted root inside `sigstore`. `Verifier.production` would copy it into the home directory."""
    from importlib.resources import files

    place = quote("https://tuf-repo-cdn.sigstore.dev", safe="")
    return str(files("sigstore").joinpath("_store", place, "trusted_root.json"))
