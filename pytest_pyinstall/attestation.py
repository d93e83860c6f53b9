"""Who built an archive, as far as a signature tells it, and whom we believe."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pytest_pyinstall.errors import UsageError

__all__ = ["GITHUB_ISSUER", "PREDICATE", "RELEASE_WORKFLOW", "ROOT_HINT", "Attestation", "Signer"]

RELEASE_WORKFLOW = "astral-sh/python-build-standalone/.github/workflows/release.yml"
GITHUB_ISSUER = "https://token.actions.githubusercontent.com"
PREDICATE = "https://slsa.dev/provenance/v1"
"""The kind of statement that is believed."""
ROOT_HINT = "a trusted_root.json of Sigstore: PYTEST_PYINSTALL_ATTESTATION_ROOT=FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Whom we believe. `workflow` is ``OWNER/REPOSITORY/.github/workflows/FILE``, on github.com unless it begins with
    ``https://``, with ``@refs/heads/…`` where only that branch or tag will do. `issuer` is who vouched for the identity
    of its run. `root` is the file of a trusted root, empty for that of the public Sigstore."""

    workflow: str = RELEASE_WORKFLOW
    issuer: str = GITHUB_ISSUER
    root: str = ""

    @property
    def repository(self) -> str:
        """The URL of the repository."""
        return self._url.partition("/.github/workflows/")[0]

    def fits(self, identity: str) -> bool:
        """Whether `identity`, the URL of a workflow and the ref it ran on, is this one's."""
        url, _, ref = identity.partition("@")
        wanted, _, wanted_ref = self._url.partition("@")
        return url == wanted and bool(ref) and ref == (wanted_ref or ref)

    def read_root(self) -> bytes:
        """The content of the trusted root's file, as it is now. Raises `UsageError`."""
        try:
            return Path(self.root).read_bytes()
        except OSError as error:
            msg = f"{self.root} cannot be used as a trusted root: {error.strerror or error}"
            raise UsageError(msg, hint=ROOT_HINT) from error

    def root_digest(self) -> str:
        """The sha256 of that file's content, empty for the root of the public Sigstore. Raises `UsageError`."""
        return hashlib.sha256(self.read_root()).hexdigest() if self.root else ""

    @property
    def _url(self) -> str:
        return self.workflow if self.workflow.startswith("https://") else f"https://github.com/{self.workflow}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What was verified of an archive before it was unpacked.

    `identity` is the URL of the workflow with its ref, `repository` what it was run for, `predicate` the kind of
    statement, `root` the sha256 of the trusted root's file, `bundle` that of the document that holds the signature.
    Of the public Sigstore `root` is empty: its newer roots come from whom the older ones name, and two installations of
    `sigstore` that share a store may well bring two of them along.
    """

    identity: str
    issuer: str
    repository: str
    predicate: str
    root: str
    bundle: str

    def is_by(self, signer: Signer) -> bool:
        """Whether what was verified is what `signer` asks for now, by the root as its file is now. Raises `UsageError`
        for a root that cannot be read."""
        return (
            signer.fits(self.identity)
            and (self.issuer, self.repository, self.predicate) == (signer.issuer, signer.repository, PREDICATE)
            and self.root == signer.root_digest()
        )  # fmt: skip

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Raises `ValueError`, `TypeError` or `KeyError` for anything that `to_json` did not make."""
        facts = {name: document[name] for name in cls.__slots__}
        if not all(isinstance(fact, str) for fact in facts.values()):
            msg = "not an attestation"
            raise TypeError(msg)
        return cls(**facts)
