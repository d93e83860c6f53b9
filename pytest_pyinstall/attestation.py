"""Who built an archive, as far as a signature tells it, and whom we believe."""

from dataclasses import dataclass
from typing import Any, Self

__all__ = ["GITHUB_ISSUER", "RELEASE_WORKFLOW", "Attestation", "Signer"]

RELEASE_WORKFLOW = "astral-sh/python-build-standalone/.github/workflows/release.yml"
GITHUB_ISSUER = "https://token.actions.githubusercontent.com"


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

    @property
    def _url(self) -> str:
        return self.workflow if self.workflow.startswith("https://") else f"https://github.com/{self.workflow}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What was verified of an archive before it was unpacked.

    `identity` is the URL of the workflow with its ref, `repository` what it was run for, `predicate` the kind of
    statement, `root` as in `Signer`, `bundle` the sha256 of the document that holds the signature.
    """

    identity: str
    issuer: str
    repository: str
    predicate: str
    root: str
    bundle: str

    def is_by(self, signer: Signer) -> bool:
        return (
            signer.fits(self.identity)
            and (self.issuer, self.repository, self.root) == (signer.issuer, signer.repository, signer.root)
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
