"""What the outer session of a suite knows of one Python."""

import re
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from pytest_pyinstall.session import Choice
from pytest_pyinstall.suite_environment import Made
from pytest_pyinstall.suite_process import Inner
from pytest_pyinstall.suite_report import Tally

__all__ = ["Row", "label_of", "named"]


def label_of(choice: Choice) -> str:
    """What node ids end in: ``py3.9``, ``py3.13t``, ``pypy3.11``."""
    return choice.id if choice.id.startswith(("py", "graalpy")) else f"py{choice.id}"


def named(nodeid: str, label: str) -> str:
    """The id of a test in the outer session."""
    return f"{nodeid}[{label}]"


class _Gateway:
    def __init__(self, label: str) -> None:
        self.id = label


class _Node:
    """What pytest's reporters ask of a report that comes from elsewhere; they know it from xdist."""

    def __init__(self, label: str) -> None:
        self.gateway = _Gateway(label)
        # The line above each failure's text; ours say where they are from in their heading.
        self._workerinfocache = ""


@dataclass(slots=True, kw_only=True, eq=False)
class Row:
    """One Python of the session."""

    label: str
    choice: Choice
    arguments: list[str] = field(default_factory=list)
    tally: Tally = field(init=False)
    node: _Node = field(init=False)
    preparing: Future[Made] | None = None
    made: Made | None = None
    inner: Inner | None = None
    is_over: bool = False
    items: list[tuple[str, tuple[str, int | None, str]]] = field(default_factory=list)
    collected: int | None = None
    running: dict[str, float] = field(default_factory=dict)
    failures: int = 0
    has_collect_error: bool = False
    internal_error: str = ""
    stopping: str = ""
    exit_code: int | None = None
    coverage: list[Any] | None = None
    failed_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        interpreter = self.choice.interpreter
        asked = self.choice.asked[0]
        name = str(interpreter.key.short) if interpreter else asked if asked[:1].isdigit() else ""
        self.tally = Tally(label=self.label, python=name)
        self.node = _Node(self.label)

    @property
    def version(self) -> str:
        """What it will say that it is; empty where there is no interpreter."""
        interpreter = self.choice.interpreter
        return ".".join(map(str, interpreter.version_info[:3])) if interpreter else ""

    @property
    def file_name(self) -> str:
        """The label as the name of a file."""
        return re.sub(r"[^\w.+-]", "_", self.label)
