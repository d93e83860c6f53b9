"""What goes into the outer session's junit file beside reports."""

import re
from typing import Any

import pytest
from _pytest.junitxml import xml_key

from pytest_pyinstall.suite_row import Row, named

__all__ = ["add_attribute", "add_property", "correct_names"]


def add_property(config: pytest.Config, name: str, value: str) -> None:
    """Of ``record_testsuite_property``; what several Pythons say alike is there once."""
    xml: Any = config.stash.get(xml_key, None)
    if xml is not None and (name, value) not in [tuple(pair) for pair in xml.global_properties]:
        xml.add_global_property(name, value)


def add_attribute(config: pytest.Config, row: Row, nodeid: str, name: str, value: str) -> None:
    """Of ``record_xml_attribute``."""
    xml: Any = config.stash.get(xml_key, None)
    if xml is not None:
        # As much of a report as says whose attribute it is.
        report = pytest.TestReport(named(nodeid, row.label), ("", None, ""), {}, "passed", None, "call")
        report.__dict__["node"] = row.node
        xml.node_reporter(report).add_attribute(name, value)


def correct_names(config: pytest.Config) -> None:
    """Name a module that was skipped, or could not be imported, as pytest does: without its ending."""
    xml: Any = config.stash.get(xml_key, None)
    for reporter in getattr(xml, "node_reporters_ordered", ()):
        attributes = getattr(reporter, "attrs", {})
        if attributes.get("classname") == "":
            attributes["name"] = re.sub(r"\.py(\[[^\[\]]+\])$", r"\1", attributes["name"])
