"""Finds the two adjacent Pythons of a range between which the outcome of one test changes."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_pyinstall.errors import PyinstallError, UsageError
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.session import PythonProvider, SessionPython, reason
from pytest_pyinstall.suite.controller import Suite
from pytest_pyinstall.suite.replay import first_error
from pytest_pyinstall.suite.run import InterpreterRun
from pytest_pyinstall.suite.summary import write_table
from pytest_pyinstall.system.values import replace

__all__ = ["Bisection", "Neighbours", "neighbours"]

_NOT_FOUND = "is not found"
_SUITE_ID = re.compile(r"(.+)\[(?:py|pypy|graalpy)3\.\d[^\[\]]*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The indices of two adjacent Pythons and their outcomes, or of both ends if the outcomes there are equal.

    `tried` is the number of Pythons that had an outcome.
    """

    before: int
    after: int
    outcomes: tuple[str, str]
    tried: int


def neighbours(count: int, outcome: Callable[[int], str | None]) -> Neighbours | None:
    """Find the neighbours in ``range(count)`` between which `outcome` changes: tries both ends, then bisects.

    Calls `outcome` once for an index. Skips an index whose outcome is None (there is no such build). Returns None if
    fewer than two indices have an outcome.
    """
    left = list(range(count))
    known: dict[int, str] = {}

    def outcome_at(place: int) -> str | None:
        found = outcome(left[place])
        if found is None:
            del left[place]
        else:
            known[left[place]] = found
        return found

    for place in (0, -1):
        while left and left[place] not in known and outcome_at(place) is None:
            pass
    if len(known) < 2:
        return None
    low, high = 0, len(left) - 1
    first = known[left[low]]
    if known[left[high]] == first:
        return Neighbours(before=left[low], after=left[high], outcomes=(first, first), tried=len(known))
    while high - low > 1:
        middle = (low + high) // 2
        found = outcome_at(middle)
        if found is None:
            high -= 1
        elif found == first:
            low = middle
        else:
            high = middle
    before, after = left[low], left[high]
    return Neighbours(before=before, after=after, outcomes=(known[before], known[after]), tried=len(known))


class Bisection(Suite):
    """The plugin of a session with ``--python-bisect``: runs one test under one Python after another."""

    def __init__(
        self,
        config: pytest.Config,
        requests: Sequence[Request],
        pythons: PythonProvider,
        *,
        say: Callable[[str], None] | None,
    ) -> None:
        """Raises `PyinstallError` if there is only one Python, or if other options contradict."""
        if len(requests) < 2:
            message = f"--python-bisect needs a range of Pythons (requested: {len(requests)})"
            raise UsageError(message, hint="--python 3.12.0..3.12.9")
        if shard := config.getoption("pyinstall_shard"):
            message = f"--python-bisect runs one test, which --python-shard {shard} could leave out"
            raise UsageError(message, hint="--python-bisect NODEID without --python-shard")
        super().__init__(config, (), pythons, say=say)
        if len(self.cells.variants) > 1:
            first, *_ = texts = [variant.text for variant in self.cells.variants if variant]
            message = f"--python-bisect runs one test with one set of dependencies, not with {', '.join(texts)}"
            raise UsageError(message, hint=f"--python-with {shlex.quote(first)}")
        self.requests = requests
        self.test: str = config.getoption("pyinstall_bisect")
        self._choices: dict[int, SessionPython] = {}
        self._tallies: dict[int, Any] = {}
        self._result: list[str] = []

    def pytest_report_header(self) -> list[str]:
        first, last = self.requests[0].text, self.requests[-1].text
        return [f"bisect: {self.test} from {first} to {last}", f"suite: {self.recipe.description}"]

    def _run(self, session: pytest.Session) -> None:
        found = neighbours(len(self.requests), lambda index: self._outcome(session, index))
        self.matrix.tallies = [self._tallies[index] for index in sorted(self._tallies)]
        session.testsfailed = 1
        if found is None:
            self._result = ["bisect: fewer than two of these Pythons are available"]
        elif found.outcomes[0] == found.outcomes[1]:
            first, last = self._name(found.before), self._name(found.after)
            if found.outcomes[0] == _NOT_FOUND:
                self._result = [f"bisect: {self.test} is found neither on {first} nor on {last}"]
            else:
                outcome = f"{found.outcomes[0]} on both {first} and {last}"
                self._result = [f"bisect: {self.test} {outcome}: no change to look for"]
        else:
            session.testsfailed = 0
            self._result = [
                f"bisect: {self.test}",
                f"  {found.outcomes[0]:<8} on {self._name(found.before)}",
                f"  {found.outcomes[1]:<8} on {self._name(found.after)}",
                f"  found with {found.tried} of {len(self.requests)} Pythons",
            ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Keep the exit code: 0 if a change was found. The exit code of the last worker does not matter."""

    def _name(self, index: int) -> str:
        interpreter = self._choices[index].interpreter
        return str(interpreter.key) if interpreter else self.requests[index].text

    def _outcome(self, session: pytest.Session, index: int) -> str | None:
        request = self.requests[index]
        self.say(f"bisect: trying {request.text}")
        try:
            (choice,) = self.pythons.choose([request.text], origin="--python", directory=self.config.rootpath)
        except PyinstallError as error:
            self.say(f"bisect: {error.message}")
            return None
        if choice.interpreter is None:
            self.say(f"bisect: skipping {request.text}: {reason(choice)}")
            return None
        self._choices[index] = choice
        self.config.hook.pytest_pyinstall_provided(interpreter=choice.interpreter, config=self.config)
        # With the patch version, because the Pythons of a bisection may differ only in that.
        (variant,) = self.cells.variants
        label = f"py{choice.interpreter.key.display_name}" + (f"-{variant.name}" if variant else "")
        words = self.words.for_python(label, [label])
        test, places = self.test, words.places
        if match := _SUITE_ID.fullmatch(test):
            # An id from the report of a suite. If there is a test with that parameter, the worker runs that one.
            test, places = match[1], {**places, test: match[1]}
        row = InterpreterRun(
            label=label,
            choice=choice,
            variant=variant,
            words=replace(words, after_dashes=[*(words.after_dashes or ["--"]), test], places=places),
        )
        self.rows = [row]
        self._tallies[index] = row.tally
        super()._run(session)
        if row.error and row.environment is None:
            self.say(first_error(row))  # at once, because it can hold for each of the Pythons
        session.shouldfail = session.shouldstop = False
        counts = row.tally.counts
        if row.environment is None:
            return None
        if row.exit_code == pytest.ExitCode.USAGE_ERROR:
            # A mistyped id, or a test that this Python's suite does not have.
            return _NOT_FOUND if "not found: " in row.tally.note else "cannot start"
        for outcome, word in (("error", "fails"), ("failed", "fails"), ("xpassed", "passes"), ("passed", "passes")):
            if counts.get(outcome):
                return word
        return "is skipped" if counts else "is missing"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Any:
        with self.grouping(terminalreporter, [self._tallies[index].label for index in sorted(self._tallies)]):
            result = yield
        if self.matrix.tallies:
            write_table(terminalreporter, self.matrix.tallies)
        for line in self._result:
            terminalreporter.write_line(line, bold=True)
        return result
