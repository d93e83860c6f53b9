"""Fixtures of the download tests: a server with one archive, and a client that fetches it."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import httpx2
import pytest
import trustme
from downloads import CONTENT, NAME, Fetcher
from mirror import (
    Mirror,
    serve,
)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    (tmp_path / "mirror" / "20261122").mkdir(parents=True)
    (tmp_path / "mirror" / "20261122" / NAME).write_bytes(CONTENT)
    with serve(tmp_path / "mirror") as mirror:
        yield mirror


@pytest.fixture
def fetcher(mirror: Mirror, tmp_path: Path) -> Fetcher:
    return Fetcher(mirror, tmp_path / "cache")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificates(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module
