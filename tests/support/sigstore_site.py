"""A Sigstore for tests: a certificate authority, a certificate log, a signature log, and the bundles that they sign.

Bundles have the form of GitHub's build attestations: a bundle of version 0.3 with a DSSE envelope and an entry of
kind ``dsse`` 0.0.1. Sources: RFC 6962 (certificate log, tree),
https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md, https://github.com/transparency-dev/formats (checkpoint),
https://github.com/sigstore/protobuf-specs (the documents).
"""

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

__all__ = ["REPOSITORY", "WORKFLOW", "Site"]

REPOSITORY = "https://github.com/astral-sh/python-build-standalone"
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
DAY = timedelta(days=1)

_ISSUER, _REPOSITORY, _SCTS = "1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.12", "1.3.6.1.4.1.11129.2.4.2"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def _public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _utf8(oid: str, text: str) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(ObjectIdentifier(oid), b"\x0c" + _length(len(text)) + text.encode())


def _length(size: int) -> bytes:
    if size < 128:
        return bytes([size])
    return b"\x81" + bytes([size]) if size < 256 else b"\x82" + struct.pack("!H", size)


@dataclass
class Site:
    """A Sigstore whose authority is valid from `since`, for `days`."""

    since: datetime = field(default_factory=lambda: datetime.now(UTC) - 100 * DAY)
    days: int = 3650

    def __post_init__(self) -> None:
        self.authority_key, self.log_key, self.certificate_log_key = _key(), _key(), _key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root of our own")])
        self.authority = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.authority_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.since)
            .not_valid_after(self.since + self.days * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.authority_key.public_key()), critical=False)
            .sign(self.authority_key, hashes.SHA256())
        )

    def write_root(self, path: Path) -> Path:
        """Write the ``trusted_root.json`` of this site."""
        valid = {"start": (self.since - DAY).isoformat().replace("+00:00", "Z")}
        log = {
            "baseUrl": "https://log.invalid",
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": _b64(_public(self.log_key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": valid,
            },
            "logId": {"keyId": _b64(hashlib.sha256(_public(self.log_key)).digest())},
        }
        certificate_log = json.loads(json.dumps(log))
        certificate_log["publicKey"]["rawBytes"] = _b64(_public(self.certificate_log_key))
        certificate_log["logId"]["keyId"] = _b64(hashlib.sha256(_public(self.certificate_log_key)).digest())
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log],
            "ctlogs": [certificate_log],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "ours", "commonName": "ours"},
                    "uri": "https://authority.invalid",
                    "certChain": {"certificates": [{"rawBytes": _b64(_der(self.authority))}]},
                    "validFor": valid,
                }
            ],
            "timestampAuthorities": [],
        }
        path.write_text(json.dumps(document), "utf-8")
        return path

    def bundle(
        self,
        sha256: str,
        *,
        workflow: str = WORKFLOW,
        issuer: str = ISSUER,
        repository: str = REPOSITORY,
        predicate: str = "https://slsa.dev/provenance/v1",
        statement: str = "https://in-toto.io/Statement/v1",
        payload_type: str = "application/vnd.in-toto+json",
        when: datetime | None = None,
        late: timedelta = timedelta(minutes=1),
    ) -> dict[str, Any]:
        """An attestation that `workflow` built the file with that sha256, logged `late` after `when`."""
        when = when or datetime.now(UTC) - DAY
        key = _key()
        certificate = self._certificate(key, workflow, issuer, repository, when)
        payload = json.dumps(
            {
                "_type": statement,
                "subject": [{"name": name, "digest": {"sha256": name}} for name in ("0" * 64, sha256)],
                "predicateType": predicate,
                "predicate": {"buildDefinition": {"buildType": "https://actions.github.io/buildtypes/workflow/v1"}},
            }
        ).encode()  # fmt: skip
        signature = _sign(
            key, b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": _b64(signature), "verifier": _b64(pem)}],
            },
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": _b64(_der(certificate))},
                "tlogEntries": [self._entry(json.dumps(body, separators=(",", ":"), sort_keys=True), when + late)],
                "timestampVerificationData": {},
            },
            "dsseEnvelope": {
                "payload": _b64(payload),
                "payloadType": payload_type,
                "signatures": [{"sig": _b64(signature)}],
            },
        }

    def _certificate(
        self, key: ec.EllipticCurvePrivateKey, workflow: str, issuer: str, repository: str, when: datetime
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(when)
            .not_valid_after(when + timedelta(minutes=10))
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(workflow)]), critical=True)
            .add_extension(_utf8(_ISSUER, issuer), critical=False)
            .add_extension(_utf8(_REPOSITORY, repository), critical=False)
        )
        # The certificate log signs the certificate without the timestamp that it adds.
        part = builder.sign(self.authority_key, hashes.SHA256()).tbs_certificate_bytes
        stamp = struct.pack("!BBQH", 0, 0, int(when.timestamp() * 1000), 1)
        issuer_key = hashlib.sha256(_public(self.authority_key)).digest()
        signature = _sign(
            self.certificate_log_key,
            stamp + issuer_key + struct.pack("!I", len(part))[1:] + part + struct.pack("!H", 0),
        )
        log = hashlib.sha256(_public(self.certificate_log_key)).digest()
        answer = b"\0" + log + struct.pack("!QH", int(when.timestamp() * 1000), 0)
        answer += b"\x04\x03" + struct.pack("!H", len(signature)) + signature
        answers = struct.pack("!HH", len(answer) + 2, len(answer)) + answer
        extension = x509.UnrecognizedExtension(ObjectIdentifier(_SCTS), b"\x04" + _length(len(answers)) + answers)
        return builder.add_extension(extension, critical=False).sign(self.authority_key, hashes.SHA256())

    def _entry(self, text: str, when: datetime) -> dict[str, Any]:
        """An entry that is the only leaf of its tree."""
        body = text.encode()
        root = hashlib.sha256(b"\0" + body).digest()
        log = hashlib.sha256(_public(self.log_key)).digest()
        note = f"log.invalid - 1\n1\n{_b64(root)}\n"
        checkpoint = f"{note}\n\N{EM DASH} log.invalid {_b64(log[:4] + _sign(self.log_key, note.encode()))}\n"
        seconds = int(when.timestamp())
        promise = {"body": _b64(body), "integratedTime": seconds, "logID": log.hex(), "logIndex": 0}
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(log)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {
                "signedEntryTimestamp": _b64(
                    _sign(self.log_key, json.dumps(promise, separators=(",", ":"), sort_keys=True).encode())
                )
            },
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": _b64(body),
        }


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
