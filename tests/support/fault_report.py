"""The options of the fault tests, and the table that they print: fault, times tried, survived, leftovers."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fault_workshop import Driver, Workshop, make_mirror, started_driver

__all__ = ["Again", "Tally", "pytest_addoption", "pytest_report_header", "pytest_terminal_summary"]

_PROPERTY = "fault"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault suite")
    group.addoption(
        "--faults-seed",
        type=int,
        default=None,
        help="repeat the random delays of an earlier run; the machine decides which moments they hit",
    )
    group.addoption(
        "--faults-at",
        default="",
        metavar="CASE: CALL N",
        help="repeat only the fault at this counted system call, exactly as in an earlier run",
    )
    group.addoption("--faults-long", action="store_true", help="try ten times as many faults")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.faults_seed is None:
        worker = getattr(config, "workerinput", {})
        config.option.faults_seed = worker.get("faults_seed", random.SystemRandom().randrange(10**6))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    node.workerinput["faults_seed"] = node.config.option.faults_seed  # type: ignore[attr-defined]  # xdist's


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: --faults-seed={config.option.faults_seed}"


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    rows: dict[str, list[int]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _PROPERTY and report.when == "call":
                    fault, tried, survived, leftovers = value
                    row = rows.setdefault(fault, [0, 0, 0])
                    row[0] += tried
                    row[1] += survived
                    row[2] = max(row[2], leftovers)
    if not rows:
        return
    terminalreporter.section("faults")
    width = max(map(len, rows))
    terminalreporter.write_line(f"{'fault':<{width}}  tried  survived  most leftovers")
    for fault, (tried, survived, leftovers) in sorted(rows.items()):
        terminalreporter.write_line(f"{fault:<{width}}  {tried:>5}  {survived:>8}  {leftovers:>14}")


@dataclass
class Tally:
    """Counts the faults that a test tries. A test that fails has survived one fault less than it tried."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    fault: str = ""

    def attempt(self, fault: str, leftovers: int = 0) -> None:
        self.fault = fault
        row = self.rows.setdefault(fault, [0, 0, 0])
        row[0] += 1
        row[2] = max(row[2], leftovers)

    def survive(self) -> None:
        """Count the last attempt as survived."""
        self.rows[self.fault][1] += 1


@dataclass
class Again:
    """Chooses among faults at counted system calls, and says how to repeat one that fails."""

    nodeid: str
    wanted: str

    def only(self, case: str, moments: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """`moments`, or only the one that ``--faults-at`` names; skip if it belongs to another case."""
        if not self.wanted:
            return moments
        wanted, _, rest = self.wanted.rpartition(": ")
        if wanted != case:
            pytest.skip(f"--faults-at {self.wanted!r}")
        call, number = rest.split()
        return [(call, int(number))]

    @contextlib.contextmanager
    def at(self, case: str, call: str, number: int) -> Iterator[None]:
        """Add the command that repeats the fault to an exception."""
        try:
            yield
        except BaseException as error:
            error.add_note(
                f'to repeat exactly this fault: python -m pytest "{self.nodeid}" --faults-at "{case}: {call} {number}"'
            )
            raise


@pytest.fixture
def again(request: pytest.FixtureRequest) -> Again:
    return Again(request.node.nodeid, request.config.option.faults_at)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        tally = getattr(item, "funcargs", {}).get("tally")
        if tally is not None:
            item.user_properties += [(_PROPERTY, (fault, *row)) for fault, row in tally.rows.items()]


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    value: int = request.config.option.faults_seed
    return value


@pytest.fixture
def times(request: pytest.FixtureRequest) -> int:
    """The number of times that a fault is tried, relative to the short run."""
    return 10 if request.config.option.faults_long else 1


@pytest.fixture(scope="session")
def small_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mirror(tmp_path_factory.mktemp("small") / "mirror")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with started_driver(tmp_path_factory.mktemp("driver")) as driver:
        yield driver


@pytest.fixture
def workshop(tmp_path: Path, small_mirror: Path) -> Workshop:
    workshop = Workshop(tmp_path / "workshop", small_mirror)
    workshop.install_reference()
    return workshop
