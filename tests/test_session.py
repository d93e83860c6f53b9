"""A session chooses its Pythons, gives them ids, and reports missing ones in one message."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import pytest
from packaging.specifiers import SpecifierSet

from pytest_pyinstall.errors import (
    DigestMismatchError,
    FetchError,
    InvalidRequestError,
    NoMatchError,
    OfflineError,
    ProbeError,
    PyinstallError,
    SeveralFailedError,
    StoreError,
)
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.provisioner import Provisioner, ProvisionResult
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.request.request import Request
from pytest_pyinstall.session import (
    PythonProvider,
    SessionPython,
    admits,
    detailed_header,
    header,
    parse_specifier,
    reason,
    reasons_of_missing,
)
from pytest_pyinstall.settings import Settings

HERE = Path("/project")
Found = Mapping[str, Interpreter | PyinstallError]


def interpreter(
    short: str, *, at: str = "", libc: str = "gnu", executable: str = "bin/python3", source: str = "pyenv"
) -> Interpreter:
    key = Key.parse(f"{short}-linux-x86_64-{libc}")
    prefix = Path(at or f"/pythons/{key}")
    major, minor, micro = key.version.release
    return Interpreter(
        executable=prefix / executable,
        key=key,
        version_info=(major, minor, micro, "final", 0),
        prefix=prefix,
        base_prefix=prefix,
        base_executable=prefix / executable,
        source=source,
    )


@dataclass
class Machine:
    """A fake provisioner on a machine that has only these Pythons."""

    found: Found
    settings: Settings
    asked: list[str] = field(default_factory=list)
    how: Literal["found", "present", "repaired"] = "found"
    environ: Mapping[str, str] = field(default_factory=dict)
    installs: bool = False
    on_result: Callable[[Request, object, float], None] | None = None
    unreachable: str = ""
    builds: Mapping[str, str] = field(default_factory=dict)
    """The keys of what could be installed, by request."""

    def parse(self, requests: Iterable[Request]) -> tuple[Request, ...]:
        requests = list(requests)
        if self.unreachable in [request.text for request in requests]:
            raise FetchError("no catalogue")
        return tuple(dict.fromkeys(requests))

    def lease_or_reprovide(self, result: ProvisionResult) -> ProvisionResult:
        return result

    def find(self, request: Request) -> ProvisionResult:
        self.asked.append(request.text)
        result = self.found.get(request.text, NoMatchError(f"no build of Python {request.text}", hint="3.12"))
        if isinstance(result, PyinstallError):
            raise result
        return ProvisionResult(request=request, interpreter=result, how=self.how)

    def foresee(self, request: Request) -> Interpreter | Key:
        if build := self.builds.get(request.text):
            return Key.parse(build)
        return self.find(request).interpreter

    def provide(self, requests: Sequence[Request]) -> list[ProvisionResult | PyinstallError]:
        self.installs = True
        results: list[ProvisionResult | PyinstallError] = []
        for request in requests:
            try:
                results.append(self.find(request))
            except PyinstallError as error:
                results.append(error)
        return results


def pythons(found: Found, *, missing: Literal["fail", "skip"] = "fail", looks_only: bool = False) -> PythonProvider:
    machine = Machine(found=found, settings=Settings(store=Path("/store"), cache=Path("/cache"), missing=missing))
    return PythonProvider(cast("Provisioner", machine), looks_only=looks_only)


def choose(found: Found, *texts: str, looks_only: bool = False) -> tuple[SessionPython, ...]:
    return pythons(found, looks_only=looks_only).choose(texts or list(found), origin="test", directory=HERE)


def ids(found: Found, *texts: str) -> list[str]:
    return [choice.id for choice in choose(found, *texts)]


def test_an_id_is_the_minor_version_if_that_is_unique() -> None:
    found = {
        "3.9": interpreter("cpython-3.9.18"),
        "3.13": interpreter("cpython-3.13.1"),
        "3.13t": interpreter("cpython-3.13.1+freethreaded"),
        "3.13d": interpreter("cpython-3.13.1+debug"),
        "pypy3.9": interpreter("pypy-3.9.19"),
    }
    assert ids(found) == ["3.9", "3.13", "3.13t", "3.13d", "pypy3.9"]


def test_ids_of_two_patches_of_a_minor_version_contain_the_patch() -> None:
    found = {
        "3.12.1": interpreter("cpython-3.12.1"),
        "3.11": interpreter("cpython-3.11.7"),
        "3.12.4": interpreter("cpython-3.12.4"),
    }
    assert ids(found) == ["3.12.1", "3.11", "3.12.4"]


def test_ids_of_one_version_for_two_libcs_are_keys() -> None:
    gnu, musl = interpreter("cpython-3.12.1"), interpreter("cpython-3.12.1", libc="musl")
    found = {"3.12": gnu, "cpython-3.12-linux-x86_64-musl": musl}
    assert ids(found) == ["cpython-3.12.1-linux-x86_64-gnu", "cpython-3.12.1-linux-x86_64-musl"]


def test_ids_of_one_version_at_two_paths_contain_the_difference() -> None:
    found = {
        "/opt/a/py": interpreter("cpython-3.12.1", at="/opt/a/py"),
        "/opt/b/py": interpreter("cpython-3.12.1", at="/opt/b/py"),
    }
    assert ids(found) == ["3.12.1-a-py", "3.12.1-b-py"]
    found = {
        "/py/bin/python": interpreter("cpython-3.12.1", at="/py", executable="bin/python"),
        "/py/bin/python-g": interpreter("cpython-3.12.1", at="/py", executable="bin/python-g"),
    }
    assert ids(found) == ["3.12.1-py-python", "3.12.1-py-python-g"]


def test_ids_of_one_version_from_several_sources_contain_the_source() -> None:
    found = {
        "current": interpreter("cpython-3.13.0", at="/home/me/.venv", source="path"),
        "3.13": interpreter("cpython-3.13.0", source="store"),
        "/opt/a": interpreter("cpython-3.13.0", at="/opt/a", source="path"),
        "/opt/b": interpreter("cpython-3.13.0", at="/opt/b", source="path"),
    }
    assert ids(found, "current", "3.13") == ["3.13.0-current", "3.13.0-store"]
    assert ids(found, "3.13", "/opt/a", "/opt/b") == ["3.13.0-store", "3.13.0-a", "3.13.0-b"]


def test_the_id_of_a_missing_python_is_its_request() -> None:
    found = {"3.9": interpreter("cpython-3.9.18")}
    texts = ["py36", "3.9", "3.9.99", "pypy@3.6", "3.6t", ">=3.20,<4", "3", "/no/such/python", "3.15.0rc1"]
    assert ids(found, *texts) == [
        *("3.6", "3.9.18", "3.9.99", "pypy3.6", "3.6t", "3.20-4", "3", "python", "3.15"),
    ]


def test_requests_for_one_interpreter_are_one_python() -> None:
    python = interpreter("cpython-3.9.18")
    (choice,) = choose({"3.9": python, ">=3.9,<3.10": python})
    assert choice.requests == ("3.9", ">=3.9,<3.10")
    assert detailed_header(choice) == f"python 3.9, >=3.9,<3.10 -> CPython 3.9.18 (found: pyenv) {python.executable}"


def test_a_virtual_environment_and_its_base_are_two_pythons(tmp_path: Path) -> None:
    base, venv = tmp_path / "base", tmp_path / "venv"
    for directory in (base, venv):
        directory.joinpath("bin").mkdir(parents=True)
    base.joinpath("bin/python3").touch()
    venv.joinpath("bin/python3").symlink_to(base / "bin/python3")
    found = {
        "3.9": interpreter("cpython-3.9.18", at=str(base)),
        "./venv/bin/python3": interpreter("cpython-3.9.18", at=str(venv)),
    }
    assert ids(found) == ["3.9.18-base", "3.9.18-venv"]


def test_a_plan_has_the_ids_of_what_is_not_installed_yet() -> None:
    here, old = interpreter("cpython-3.13.1"), interpreter("cpython-3.12.1")
    new = "cpython-3.12.11-linux-x86_64-gnu"
    installed = interpreter("cpython-3.12.11")
    provider = pythons({"3.13": here, "3.12.1": old, "3.12.11": installed, ">=3.12,<3.13": installed})
    machine = cast("Machine", provider.provisioner)
    machine.builds = {"3.12.11": new, ">=3.12,<3.13": new}
    texts = ["3.13", "3.12.1", "3.12.11", ">=3.12,<3.13", "3.6"]
    plan = provider.plan(texts, origin="test", directory=HERE)
    assert [planned.id for planned in plan] == ["3.13", "3.12.1", "3.12.11", "3.6"]
    assert not machine.installs

    machine.asked.clear()
    (choice,) = provider.provide([plan[2]])
    assert choice.id == "3.12.11"  # and not 3.12, as if it were the only one
    assert choice.interpreter == installed
    assert choice.requests == ("3.12.11", ">=3.12,<3.13")
    assert machine.asked == ["3.12.11", ">=3.12,<3.13"]
    (missing,) = provider.provide([plan[3]])
    assert (missing.id, missing.is_missing) == ("3.6", True)


def test_a_request_is_looked_up_once() -> None:
    provider = pythons({"3.9": interpreter("cpython-3.9.18")})
    first = provider.choose(["3.9", "3.6"], origin="test", directory=HERE)
    assert provider.choose(["3.6", "3.9"], origin="test", directory=HERE) == first[::-1]
    assert cast("Machine", provider.provisioner).asked == ["3.9", "3.6"]


def test_looking_for_pythons_installs_nothing() -> None:
    provider = pythons({"3.9": interpreter("cpython-3.9.18")}, looks_only=True)
    found_python, missing = provider.choose_all(["3.9", "3.6"], origin="test", directory=HERE)
    assert found_python.interpreter is not None
    assert missing.error is None
    assert detailed_header(missing).startswith("python 3.6 -> missing: running the tests would install it")
    assert not cast("Machine", provider.provisioner).installs


def test_the_header_lists_the_versions_in_one_line() -> None:
    found = {text: interpreter(f"cpython-{text}.1") for text in ("3.9", "3.10", "3.13")}
    choices = choose(found)
    assert header(choices, width=80) == ["pythons: 3.9.1 3.10.1 3.13.1 (found: pyenv)"]
    installed = [replace(choices[0], how="installed", seconds=0.4), *choices[1:]]
    installed.append(replace(choices[0], id="3.9.1-b", how="installed", seconds=1.84))
    assert header(installed, width=80) == ["pythons: 3.9 3.9.1-b (installed now, 1.8 s) 3.10.1 3.13.1 (found: pyenv)"]
    assert header(installed, width=70) == ["pythons: 3.9 3.9.1-b (installed now) 3.10.1 3.13.1 (found: pyenv)"]
    assert header(installed, width=40) == ["pythons: 3.9 3.10.1 3.13.1 3.9.1-b"]
    assert header(installed, width=26) == ["pythons: 3.9 3.10 3.13 …"]


def test_the_header_lists_missing_pythons_and_remedies_in_one_line() -> None:
    offline = {text: OfflineError("no network") for text in ("3.9", "3.10", "3.11", "3.12", "3.13")}
    choices = choose(offline)
    (line,) = header(choices, width=80)
    assert line == "missing: 3.9..3.13 (offline); --python-missing skip or --python current"
    assert header(choices, width=80, skips=True) == ["missing: 3.9..3.13 (offline); their tests are skipped"]
    assert header(choices, width=80, has_errors=True) == ["missing: 3.9..3.13 (offline)"]
    various = choose({"3.9": DigestMismatchError("x"), "3.10": interpreter("cpython-3.10.1"), "3.14": FetchError("x")})
    assert header(various, width=100) == [
        "pythons: 3.10.1 (found: pyenv)",
        "missing: 3.9 (wrong archive) 3.14 (cannot be downloaded); --python-missing skip or --python current",
    ]
    assert header(various, width=80)[1] == "missing: 3.9 3.14; --python-missing skip or --python current"
    assert header(choose({}, "3.6", looks_only=True), width=80, looks_only=True) == ["missing: 3.6 (not installed)"]
    readonly = choose({"3.14": StoreError("cannot write to the store")})
    assert header(readonly, width=80) == ["missing: 3.14 (cannot be installed)"]


def test_a_configured_keyword_that_cannot_be_resolved_is_a_missing_python() -> None:
    provider = pythons({"3.9": interpreter("cpython-3.9.18")})
    machine = cast("Machine", provider.provisioner)
    machine.unreachable = "supported"
    with pytest.raises(FetchError):
        provider.choose(["3.9", "supported"], origin="test", directory=HERE)
    found_python, missing = provider.choose_configured(["3.9", "supported"], origin="test", directory=HERE)
    assert found_python.interpreter is not None
    assert (missing.id, missing.is_missing, str(missing.error)) == ("supported", True, "no catalogue")


def test_one_message_lists_every_failure() -> None:
    provider = pythons({"3.9": interpreter("cpython-3.9.18"), "3.10": OfflineError("no network", hint="wait")})
    with pytest.raises(SeveralFailedError) as caught:
        provider.choose_all(["3.9", "3.10", "3.6"], origin="test", directory=HERE)
    assert str(caught.value).splitlines() == [
        "test: 2 of 3 Pythons cannot be used:",
        *("3.10: no network", "hint: wait"),
        *("no build of Python 3.6", "hint: 3.12"),
    ]
    with pytest.raises(NoMatchError, match=r"3\.6"):
        provider.choose_all(["3.6"], origin="test", directory=HERE)


def _unreachable(name: str) -> FetchError:
    return FetchError(
        f"cannot download cpython-{name}-linux: HTTP 503 from https://host/{name}%2B1.tar.gz", hint="wait"
    )


def test_failures_that_differ_only_in_the_version_have_one_reason() -> None:
    same = FetchError("no catalogue", hint="wait")
    found = {"3.6": same, "3.7": same, "3.9": _unreachable("3.9.18"), "3.10": _unreachable("3.10.2"), "3.11": same}
    reasons = reasons_of_missing(choose(found))

    assert [name for name, why in reasons.items() if why == "no catalogue\nhint: wait"] == ["3.6", "3.7", "3.11"]
    both = f"{_unreachable('3.9.18').message}\nthe same for Python 3.10\nhint: wait"
    assert reasons["3.9"] == reasons["3.10"] == both
    with pytest.raises(SeveralFailedError, match=r"cannot be used:\n3\.6, 3\.7: no catalogue\nhint: wait$"):
        pythons(found).choose_all(["3.6", "3.7"], origin="test", directory=HERE)


def test_missing_pythons_are_skipped_but_broken_ones_fail() -> None:
    broken = {"3.9": DigestMismatchError("not what was promised"), "./here": ProbeError("no Python")}
    provider = pythons(broken, missing="skip")
    choices = provider.choose(["3.6", "3.9", "./here", "./gone"], origin="test", directory=HERE)
    assert [provider.skips(choice) for choice in choices] == [True, False, True, True]
    with pytest.raises(SeveralFailedError, match="promised"):
        provider.choose_all(["3.6", "3.9"], origin="test", directory=HERE)


def test_p18_a_python_with_another_version_than_its_key_is_an_error_even_when_skipping() -> None:
    running = Path(sys.executable)
    claimed = interpreter("cpython-3.6.1", at=str(running.parent), executable=running.name)
    provider = pythons({"3.6": claimed}, missing="skip")
    cast("Machine", provider.provisioner).how = "repaired"  # the provisioner has probed the Python that was present
    with pytest.raises(ProbeError, match=r"not cpython-3\.6\.1-"):
        provider.choose_all(["3.6"], origin="test", directory=HERE)


def test_one_accepts_a_single_request() -> None:
    provider = pythons({"3.9": interpreter("cpython-3.9.18")})
    assert provider.one("3.9", directory=HERE).interpreter is not None
    assert provider.one(Request.parse("3.9"), directory=HERE).interpreter is not None
    for wrong in ("3.9..3.11", "", 3.9, None):
        with pytest.raises(InvalidRequestError):
            provider.one(wrong, directory=HERE)


def test_a_session_python_survives_serialization() -> None:
    found_python, missing = choose({"3.9": interpreter("cpython-3.9.18")}, "3.9", "3.6")
    assert SessionPython.from_json(found_python.to_json()) == found_python
    arrived = SessionPython.from_json(missing.to_json())
    assert (arrived.id, arrived.requests, arrived.versions) == (missing.id, missing.requests, missing.versions)
    assert str(arrived.error) == str(missing.error)
    assert reason(arrived) == "no build of Python 3.6"


def test_a_specifier_is_compared_with_the_release() -> None:
    found_python, missing, patch, open_ended = choose(
        {"3.9": interpreter("cpython-3.9.18")}, "3.9", "3.6", "3.7.5", ">=4"
    )
    assert admits(SpecifierSet(">=3.9"), found_python)
    assert not admits(SpecifierSet(">=3.9.19"), found_python)
    assert not admits(SpecifierSet(">=3.9"), missing)
    assert admits(SpecifierSet(">=3.6.5"), missing)
    assert not admits(SpecifierSet(">=3.7.6"), patch)
    assert admits(SpecifierSet("<3"), open_ended)


def test_specifiers_of_several_marks_are_combined() -> None:
    assert parse_specifier([">=3.9,<3.12", "!=3.10.*"], origin="mark") == SpecifierSet(">=3.9,<3.12,!=3.10.*")
    for wrong in ([], ["3.9"], [3.9], [""], ["three"]):
        with pytest.raises(InvalidRequestError, match="mark"):
            parse_specifier(wrong, origin="mark")
    with pytest.raises(InvalidRequestError, match=r'hint: @pytest.mark.requires_python\(">=3.9"\)'):
        parse_specifier(["3.9+"], origin="mark")


@pytest.mark.parametrize(
    ("asked", "message", "expected"),
    [
        ("py399", "no build of py399 for linux (newest: 3.13.0)", "no build of py399 for linux (newest: 3.13.0)"),
        ("3.8", "cpython-3.8.20 is not in the cache\nmore", "Python 3.8: cpython-3.8.20 is not in the cache"),
        ("3.8", "Python 3.8 is not here", "Python 3.8 is not here"),
    ],
)
def test_the_reason_names_the_request_once(asked: str, message: str, expected: str) -> None:
    choice = SessionPython(id=asked, requests=(asked,), how="missing", error=NoMatchError(message))
    assert reason(choice) == expected


_TERMINATED = """
import io, os, sys
from contextlib import ExitStack
from types import SimpleNamespace
from pathlib import Path
from pytest_pyinstall.progress import Bars
from pytest_pyinstall.request.identity import Build, Key
from pytest_pyinstall.request.request import parse_requests
from pytest_pyinstall.session import PythonProvider

class Terminal(io.StringIO):
    def isatty(self):
        return True

terminal, said, bars = Terminal(), [], None
build = Build(key=Key.parse("cpython-3.12.4-linux-x86_64-gnu"), url="https://host/x", sha256="0" * 64, size=100)

def provide(requests):
    bars.started(build, 100)
    os.kill(os.getpid(), int(sys.argv[1]))

def warn(sentence):
    text = terminal.getvalue()
    print(sentence, text.rindex("\\x1b[?25h") > text.rindex("\\x1b[?25l"), flush=True)

bars = Bars(terminal)
stack = ExitStack()
stack.callback(print, "closed", flush=True)
provisioner = SimpleNamespace(
    parse=tuple, provide=provide, warn=warn, settings=None, __exit__=lambda *_: stack.close()
)
PythonProvider(provisioner, display=bars).choose(["3.12"], origin="test", directory=Path())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_p20_a_signal_during_a_download_ends_the_session_and_restores_the_cursor(name: str) -> None:
    number = getattr(signal, name)

    done = subprocess.run(
        [sys.executable, "-c", _TERMINATED, str(int(number))], stdout=subprocess.PIPE, text=True, check=False
    )

    assert done.returncode == -number
    assert done.stdout == f"closed\nended by {name} True\n"
