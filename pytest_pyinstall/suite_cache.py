"""The cache directories of pytest, one for each Python: what ``--lf`` and its like know from the last time."""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

__all__ = ["last_failed", "remember_failures"]


def last_failed(directory: Path) -> dict[str, bool]:
    """What pytest has written below `directory` about tests that failed; empty where there is nothing."""
    try:
        found = json.loads((directory / "v" / "cache" / "lastfailed").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remember_failures(directory: Path, nodeids: Iterable[str]) -> None:
    """For a session that died, and did not write down itself what had failed."""
    path = directory / "v" / "cache" / "lastfailed"
    failed = {**last_failed(directory), **dict.fromkeys(nodeids, True)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(failed, indent=2), encoding="utf-8")
