"""The options of the fault suite, and the table that it prints: fault, times tried, survived, leftovers."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from campaign import Driver, Workshop, driven, make_mirror

__all__ = ["Tally", "pytest_addoption", "pytest_report_header", "pytest_terminal_summary"]

_PROPERTY = "fault"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "the fault suite")
    group.addoption(
        "--faults-seed",
        type=int,
        default=None,
        help="the random delays of an earlier run",
    )
    group.addoption("--faults-at", default="", metavar="CASE: CALL N", help="kill at this system call alone, once more")
    group.addoption("--faults-long", action="store_true", help="ten times as many faults")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.faults_seed is None:
        worker = getattr(config, "workerinput", {})
        config.option.faults_seed = worker.get("faults_seed", random.SystemRandom().randrange(10**6))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    node.workerinput["faults_seed"] = node.config.option.faults_seed  # type: ignore[attr-defined]  # xdist's


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: --faults-seed={config.option.faults_seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
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
    """Counts what a test tried. A test that fails has survived one time less than it tried."""

    record: Callable[[str, object], None]
    fault: str = ""
    tried: int = 0
    survived: int = 0
    leftovers: int = 0

    def attempt(self, fault: str, leftovers: int = 0) -> None:
        self.fault = fault
        self.tried += 1
        self.leftovers = max(self.leftovers, leftovers)

    def survive(self) -> None:
        self.survived += 1


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    return Tally(record_property)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        tally = getattr(item, "funcargs", {}).get("tally")
        if tally is not None and tally.tried:
            tally.record(_PROPERTY, (tally.fault, tally.tried, tally.survived, tally.leftovers))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    value: int = request.config.option.faults_seed
    return value


@pytest.fixture
def times(request: pytest.FixtureRequest) -> int:
    """How often a fault is tried, relative to the short run."""
    return 10 if request.config.option.faults_long else 1


@pytest.fixture(scope="session")
def small_mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mirror(tmp_path_factory.mktemp("small") / "mirror")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with driven(tmp_path_factory.mktemp("driver")) as driver:
        yield driver


@pytest.fixture
def workshop(tmp_path: Path, small_mirror: Path) -> Workshop:
    workshop = Workshop(tmp_path / "workshop", small_mirror)
    workshop.learn()
    return workshop
