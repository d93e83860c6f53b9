"""Parses JSON documents that others may have written. No I/O."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_json"]


def parse_json(text: bytes | str) -> Any:
    """As `json.loads`. Raises `ValueError` for a document that is nested too deeply, too."""
    try:
        return json.loads(text)
    except RecursionError as error:
        message = "nested too deeply"
        raise ValueError(message) from error
