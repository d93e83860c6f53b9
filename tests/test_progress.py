"""Progress is shown as bars on a terminal, as lines elsewhere, and not at all if the command is quiet."""

import functools
import io
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from waiting import wait_until

from pytest_pyinstall.errors import NoMatchError
from pytest_pyinstall.installing import How
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.progress import Bars, Lines, Notices, Silence, display_on, result_line, size_text
from pytest_pyinstall.provisioner import ProvisionResult
from pytest_pyinstall.request.identity import Build, Key
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.system.log import said_if_slow

REQUEST = Request.parse("3.12")


def _build(text: str = "cpython-3.12.4-linux-x86_64-gnu") -> Build:
    return Build(key=Key.parse(text), url="https://host/x.tar.gz", sha256="0" * 64, size=11_110_000)


def _provided(how: How) -> ProvisionResult:
    interpreter = Interpreter(
        executable=Path("/s/bin/python3.12"),
        key=_build().key,
        version_info=(3, 12, 4, "final", 0),
        prefix=Path("/s"),
        base_prefix=Path("/s"),
        base_executable=Path("/s/bin/python3.12"),
        source="pyenv" if how == "found" else "store",
    )
    return ProvisionResult(request=REQUEST, interpreter=interpreter, how=how)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _refresh(bars: Bars) -> None:
    assert bars._progress is not None
    bars._progress.refresh()


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("installed", "+ cpython-3.12.4-linux-x86_64-gnu installed in 0.4 s  {}"),
        ("repaired", "~ cpython-3.12.4-linux-x86_64-gnu repaired in 0.4 s  {}"),
        ("present", "= cpython-3.12.4-linux-x86_64-gnu already installed  {}"),
        ("found", "= cpython-3.12.4-linux-x86_64-gnu found (pyenv)  {}"),
    ],
)
def test_a_result_is_one_line(how: How, line: str) -> None:
    path = str(Path("/s/bin/python3.12"))

    assert result_line(REQUEST, _provided(how), 0.42) == line.format(path)
    assert result_line(REQUEST, _provided(how), 0.42, with_path=False) == line.format("").rstrip()


def test_a_failure_is_one_line_without_its_hint() -> None:
    error = NoMatchError("no build of Python 3.6\nand more", hint="do this")

    assert result_line(Request.parse("3.6"), error) == "- 3.6: no build of Python 3.6"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KiB"), (11_110_000, "10.6 MiB"), (2**40, "1.0 TiB")],
)
def test_sizes_are_shown_with_units(size: int, text: str) -> None:
    assert size_text(size) == text


def test_lines_report_each_event_once() -> None:
    lines: list[str] = []
    build = _build()

    with Lines(lines.append) as display:
        display.started(build, 11_110_000)
        for _ in range(100):
            display.advanced(build, 111_100)
        display.waiting(build, "retrying in 2 s")
        display.finished(build)
        display.started(_build("cpython-3.13.1-linux-x86_64-gnu"), None)
        display.result(REQUEST, _provided("present"))

    assert lines == [
        "Downloading cpython-3.12.4-linux-x86_64-gnu (10.6 MiB)",
        "3.12.4: retrying in 2 s",
        "Downloading cpython-3.13.1-linux-x86_64-gnu",
        result_line(REQUEST, _provided("present")),
    ]


def test_patient_lines_omit_short_downloads() -> None:
    written: list[str] = []
    is_written = threading.Event()

    def write(line: str) -> None:
        written.append(line)
        is_written.set()

    with Lines(write, patience=3600) as display:
        display.started(_build(), None)
        display.finished(_build())
        display.started(_build(), None)
    with Lines(write, patience=0.001) as display:
        display.started(_build("cpython-3.13.1-linux-x86_64-gnu"), None)
        assert is_written.wait(60)

    assert written == ["Downloading cpython-3.13.1-linux-x86_64-gnu"]


def test_notices_are_shown_between_other_output() -> None:
    written: list[str] = []
    patient, hasty = Notices(written.append, patience=3600), Notices(written.append, patience=0)

    for notices in (patient, hasty):
        with notices.during() as write:
            write("over by then")
        notices.add("still going on", is_over=lambda: False)
        notices.show(happened=False)

    assert written == ["still going on"]
    patient.show(happened=True, at_once=True)
    assert written[1:] == ["over by then", "still going on"]


def test_a_quiet_display_writes_nothing() -> None:
    stream = _Terminal()

    with display_on(stream, environ={}, is_quiet=True) as display:
        display.started(_build(), 100)
        display.advanced(_build(), 100)
        display.waiting(_build(), "x")
        display.finished(_build())
        display.say("x")
        display.result(REQUEST, _provided("installed"), 0.1)

    assert isinstance(display, Silence)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"TERM": "xterm"}, Bars),
        ({"TERM": "xterm", "NO_COLOR": "1"}, Bars),
        ({"TERM": "xterm", "CI": "false"}, Bars),
        ({"TERM": "dumb"}, Lines),
        ({"TERM": "xterm", "CI": "true"}, Lines),
    ],
)
def test_bars_need_a_terminal_with_a_movable_cursor(environ: dict[str, str], kind: type) -> None:
    assert isinstance(display_on(_Terminal(), environ=environ), kind)


def test_lines_are_written_without_a_terminal() -> None:
    stream = io.StringIO()

    display_on(stream, environ={"TERM": "xterm"}).say("x")

    assert stream.getvalue() == "x\n"


def test_bars_show_each_download_and_the_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = _Terminal()
    first, second = _build(), _build("cpython-3.13.1+freethreaded-linux-x86_64-gnu")

    with Bars(stream) as display:
        display.started(first, 11_110_000)
        display.started(second, 11_110_000)
        display.advanced(first, 5_000_000)
        display.waiting(second, "retrying in 2 s")
        _refresh(display)
        display.finished(first)
        display.finished(second)
        display.result(REQUEST, _provided("installed"), 0.4)

    lines = [line.rstrip() for line in re.split(r"[\r\n]+", _plain(stream.getvalue()))]
    assert any(line.startswith("3.12.4 ") and "4.8 MiB of 10.6 MiB" in line for line in lines)
    assert any(line.startswith("3.13.1t ") for line in lines)
    assert any(line.startswith("total ") and "4.8 MiB of 21.2 MiB" in line for line in lines)
    assert f"{second.key.display_name}: retrying in 2 s" in lines
    assert result_line(REQUEST, _provided("installed"), 0.4, with_path=True) in lines
    assert max(len(line) for line in lines if "MiB" in line) <= 80


def test_a_single_download_has_no_total(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()

    with Bars(stream) as display:
        display.started(_build(), None)
        display.advanced(_build(), 5_000_000)
        _refresh(display)

    assert "total" not in stream.getvalue()


def test_bars_can_be_shown_without_colors() -> None:
    stream = _Terminal()

    with Bars(stream, has_color=False) as display:
        display.started(_build(), 100)
        display.result(REQUEST, _provided("installed"), 0.4)

    assert "+ cpython-3.12.4" in _plain(stream.getvalue())
    assert not re.search(r"\x1b\[(?:[0-9]+;)*3[0-9]", stream.getvalue())


def test_brackets_are_not_interpreted_as_markup() -> None:
    stream = _Terminal()

    with Bars(stream) as display:
        display.say("[bold]x[/nothing]")

    assert "[bold]x[/nothing]" in stream.getvalue()


def test_rich_is_imported_only_for_a_terminal() -> None:
    script = (
        "import io, sys\n"
        "from pytest_pyinstall.progress import display_on\n"
        "display_on(io.StringIO(), environ={}).say('x')\n"
        "sys.exit('rich' in sys.modules)\n"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(("columns", "longest"), [(40, 38), (80, 78), (200, 120)])
def test_bars_fit_the_terminal(columns: int, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = _Terminal()
    with Bars(stream, has_color=False) as bars:
        for text in ("cpython-3.12.4-linux-x86_64-gnu", "cpython-3.13.1+freethreaded-linux-x86_64-gnu"):
            bars.started(_build(text), 11_110_000)
            bars.advanced(_build(text), 4_000_000)
        _refresh(bars)
        shown = _plain(stream.getvalue()).replace("\r", "\n").splitlines()

    assert max(map(len, (line.rstrip() for line in shown))) <= longest
    assert any(line.startswith("3.13.1t") and "3.8 MiB of 10.6 MiB" in line for line in shown)


def test_bars_end_with_the_last_download_and_use_separate_lines() -> None:
    stream = _Terminal()
    bars = Bars(stream, begin_line=lambda: stream.write("<new line>"))

    with bars:
        bars.say("one")
        bars.started(_build(), 100)
        bars.say("two")
        bars.finished(_build())
        ended = stream.getvalue()
        bars.say("three")

    assert ended.rindex("\x1b[?25h") > ended.rindex("\x1b[?25l")
    assert _plain(stream.getvalue()).count("<new line>") == 3
    assert "<new line>three\n" in stream.getvalue()


def test_speeds_have_the_units_of_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    stream = _Terminal()

    with Bars(stream) as bars:
        bars.started(_build(), 11_110_000)
        for _ in range(3):
            bars.advanced(_build(), 1_000_000)
        _refresh(bars)

    assert re.search(r"\d+\.\d [KMGT]iB/s", _plain(stream.getvalue()))
    assert not re.search(r"\d [kMG]?B\b", _plain(stream.getvalue()))


def test_a_terminal_shows_slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    at_once = functools.partial(said_if_slow, patience=0)
    monkeypatch.setattr("pytest_pyinstall.progress.said_if_slow", at_once)

    with Bars(stream).busy("verifying"), Lines(stream.write).busy("nothing"):
        wait_until(lambda: "verifying\n" in stream.getvalue())

    assert "nothing" not in stream.getvalue()
