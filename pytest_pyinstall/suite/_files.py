"""Reads a project's configuration files into plain tables, and names the file in what is raised."""

import configparser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.system import files

__all__ = ["as_list", "as_table", "read_ini", "read_toml"]


def read_toml(path: Path) -> dict[str, Any]:
    """The document at `path`, empty if there is none. Raises `InvalidSettingError`."""
    return files.read_toml(path) if path.exists() else {}


def read_ini(path: Path) -> configparser.ConfigParser | None:
    """The sections of the file at `path`, None if there is none. Raises `InvalidSettingError`."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=None)
    try:
        return parser if parser.read(path, encoding="utf-8") else None
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise InvalidSettingError(f"{path} cannot be read: {error}") from error


def as_table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The table `name` of `document`, empty if it is missing or something else."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
