"""Functions run in other Pythons, arguments and results are equal there and here, and errors are clear."""

# The functions look like those of a user, so mypy does not check them:
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-globals

import functools
import math
import os
import pickle
import signal
import sys
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from archives import NEWEST, OLDEST
from packaging.version import Version
from probed_pythons import OTHERS, probed

from pytest_pyinstall.errors import CallError, UsageError
from pytest_pyinstall.interpreter.interpreter import Interpreter

if TYPE_CHECKING:
    from decimal import Decimal

LIMIT = 7


total = 0


SENTINEL = object()


# Functions that tests call in another Python.
def version():
    import sys

    return sys.version_info[:2]


def echo(value):
    return value


def annotated(number: "Decimal | None", *rest: "Decimal", name: list[str] | None = None) -> Any | int:
    values: "dict[str, Decimal | None]" = {"number": number}  # noqa: UP037  # a quoted annotation

    def inner(text: list[str] | None) -> Any:
        return text

    return [values["number"], list(rest), inner(name)]


def with_defaults(first, second=[1, {"a": None}], *rest, third=LIMIT, fourth=max(2, 3), **more):  # noqa: B006, B008
    return [first, second, list(rest), third, fourth, more]


def factorial(number):
    return 1 if number < 2 else number * factorial(number - 1)


def text_of_several_lines():
    return """one
    two
three"""


def noisy():
    import os
    import sys

    print("printed")  # noqa: T201  # what the test is about
    sys.stderr.write("complained\n")
    sys.stdout.flush()
    os.write(1, b"written past sys.stdout\n")
    os.system("echo echoed")
    return {"value": 1}


def raising():
    raise LookupError("not\there ü")


def leaving():
    raise SystemExit(3)


def dying():
    import os

    os._exit(4)


def killed():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def walrus():
    return (value := 3) + value


def reading():
    import sys

    return sys.stdin.read()


def counting():
    global total  # noqa: PLW0603  # what the test is about
    total = 1
    total += 1
    return total


def declaring():
    class Thing:
        size = 3

        def double(self):
            return self.size * 2

    return [Thing().double(), [number * 2 for number in range(3)], __name__]


def remote_arguments():
    import sys

    return [sys.argv, __file__]


def set_inside():
    return {"a": [1, {2}]}


def cyclic():
    value: "list[object]" = []  # noqa: UP037  # Python 3.6 reads it
    value.append(value)
    return value


def huge():
    return 10**5000


def uses_module():
    return sys.version


def uses_alias():
    return types_.ModuleType


def uses_from_import():
    return OrderedDict()


def uses_constant():
    return LIMIT


def uses_nothing_known():
    return no_such_name  # type: ignore[name-defined]  # noqa: F821  # what the test is about


def sentinel_default(value=SENTINEL):
    return value


types_ = types


@functools.wraps(version)
def wrapping():
    return version()


@staticmethod  # type: ignore[misc]  # what the test is about
def static():
    return 1


@pytest.mark.skip
def decorated():
    return 1


def generating():
    yield 1


async def waiting():
    return 1


async def streaming():
    yield 1


class Class:
    def method(self):
        return 1

    def __call__(self):
        return 1


# Tests.
@pytest.mark.parametrize("minor", OTHERS)
def test_a_function_runs_in_each_python(minor: str) -> None:
    major_minor = [int(part) for part in minor.split(".")]

    assert probed(minor).call(version) == major_minor
    assert probed(minor).call(annotated, 1, name=["x"]) == [1, [], ["x"]]
    assert probed(minor).call(factorial, 30) == math.factorial(30)


VALUES = [
    None,
    True,
    0,
    -(2**70),
    0.1,
    float("inf"),
    1e-300,
    "",
    "ü \N{SNAKE} \x00 \udc80 \u2028",
    [],
    {},
    [[], {}, [None, {"": [False]}]],
    {"a": {"b": [1.5, "c"]}},
]


@pytest.mark.parametrize("minor", dict.fromkeys((OLDEST, NEWEST)))
def test_json_values_arrive_equal(minor: str) -> None:
    found = probed(minor).call(echo, VALUES)

    assert found == VALUES
    assert [type(value) for value in found] == [type(value) for value in VALUES]
    assert math.isnan(probed(minor).call(echo, math.nan))
    assert math.copysign(1, probed(minor).call(echo, -0.0)) == -1


def test_a_tuple_arrives_as_a_list(oldest: Interpreter) -> None:
    assert oldest.call(echo, (1, (2, sys.version_info[:2]))) == [1, [2, list(sys.version_info[:2])]]
    assert oldest.call(echo, [sys.version_info]) == [list(sys.version_info)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"x", r"args\[0\] is of type bytes"),
        ({1}, r"args\[0\] is of type set"),
        ({"a": [0, {1: 2}]}, r"args\[0\]\['a'\]\[1\] has the key 1, which is not a str"),
        (OrderedDict(), "of type OrderedDict"),
        (signal.SIGINT, "of type Signals"),
        (Path("x"), r"of type (Posix|Windows)Path"),
        pytest.param(10**5000, "int of more than 4200 digits", id="huge"),
        (SENTINEL, "of type object"),
    ],
)
def test_an_argument_that_json_would_change_is_rejected(value: object, said: str, python: Interpreter) -> None:
    with pytest.raises(UsageError, match=f"echo: an argument cannot be sent as JSON: .*{said}"):
        python.call(echo, value)


def test_a_cycle_is_rejected_in_arguments_and_results(oldest: Interpreter, python: Interpreter) -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(UsageError, match="contains itself"):
        python.call(echo, cycle)
    for interpreter in (oldest, python):
        with pytest.raises(UsageError, match="contains itself"):
            interpreter.call(cyclic)


@pytest.mark.parametrize(
    ("function", "said"),
    [(set_inside, r"the value\['a'\]\[1\] is of type set"), (huge, "int of more than 4200 digits")],
)
def test_a_result_that_json_would_change_is_rejected(
    function: Callable[[], object], said: str, oldest: Interpreter
) -> None:
    with pytest.raises(UsageError, match=said):
        oldest.call(function)


def test_defaults_and_keywords_work_as_in_a_local_call(oldest: Interpreter) -> None:
    assert oldest.call(with_defaults, 1) == with_defaults(1)
    assert oldest.call(with_defaults, 1, 2, 3, third=4, x=5) == with_defaults(1, 2, 3, third=4, x=5)
    assert oldest.call(with_defaults, second=2, first=1, fourth=None) == with_defaults(second=2, first=1, fourth=None)


def test_wrong_arguments_raise_a_type_error_before_the_call(python: Interpreter) -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'value'"):
        python.call(echo)


def test_a_default_that_cannot_be_sent_is_rejected_only_if_it_is_used(python: Interpreter) -> None:
    assert python.call(sentinel_default, 1) == 1
    with pytest.raises(UsageError, match="of type object"):
        python.call(sentinel_default)


def test_a_string_of_several_lines_is_not_dedented(python: Interpreter) -> None:
    def nested():
        return """one
        two"""

    assert python.call(text_of_several_lines) == text_of_several_lines()
    assert python.call(nested) == nested()


def test_output_of_a_function_is_forwarded_and_does_not_change_its_result(
    python: Interpreter, capfd: pytest.CaptureFixture[str]
) -> None:
    assert python.call(noisy) == {"value": 1}

    captured = capfd.readouterr()
    assert sorted(captured.out.split("\n")) == ["", "echoed", "printed", "written past sys.stdout"]
    assert captured.err == "complained\n"


def test_pytest_captures_what_a_function_prints(python: Interpreter, capsys: pytest.CaptureFixture[str]) -> None:
    python.call(noisy)

    assert "printed" in capsys.readouterr().out


def test_standard_input_of_a_function_is_empty(python: Interpreter) -> None:
    assert python.call(reading) == ""


def test_a_function_sees_a_clean_argv_and_its_own_file(python: Interpreter) -> None:
    assert python.call(remote_arguments) == [["-c"], __file__]


def test_globals_and_classes_of_a_function_work(oldest: Interpreter) -> None:
    assert oldest.call(counting) == 2
    assert oldest.call(declaring) == [6, [0, 2, 4], "__main__"]


def test_p14_a_call_does_not_import_modules_of_the_working_directory(
    oldest: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("json", "ast", "traceback", "types"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('poisoned')")
    (tmp_path / "demo.py").write_text("answer = 42")
    monkeypatch.chdir(tmp_path)

    def importing():
        import demo  # type: ignore[import-not-found]  # written above

        return demo.answer

    assert oldest.call(importing) == 42


@pytest.mark.parametrize("minor", OTHERS)
def test_an_exception_contains_its_traceback(minor: str) -> None:
    with pytest.raises(CallError, match=r"raising under .* raised LookupError: not\there ü") as caught:
        probed(minor).call(raising)

    line = raising.__code__.co_firstlineno + 1
    assert caught.value.exception == "LookupError"
    assert f'test_call.py", line {line}, in raising\n    raise LookupError' in caught.value.traceback
    assert "_serve" not in caught.value.traceback
    assert pickle.loads(pickle.dumps(caught.value)).traceback == caught.value.traceback  # pickled above


def test_an_exit_or_a_signal_is_a_call_error(python: Interpreter) -> None:
    with pytest.raises(CallError, match="raised SystemExit: 3"):
        python.call(leaving)
    with pytest.raises(CallError, match="ended with exit code 4 before dying returned"):
        python.call(dying)
    if os.name != "nt":
        with pytest.raises(CallError, match=r"was ended by SIGKILL"):
            python.call(killed)


def test_the_error_for_syntax_that_is_too_new_names_the_function(oldest: Interpreter) -> None:
    if oldest.version >= Version("3.8"):
        pytest.skip("needs a Python older than 3.8 on this machine")
    with pytest.raises(
        UsageError, match=r"walrus is not valid syntax in 3\..*: invalid syntax \(.*, line \d+\)"
    ) as caught:
        oldest.call(walrus)

    assert caught.value.hint == f"write walrus in the syntax of Python {OLDEST}"


@pytest.mark.parametrize(
    ("function", "said", "hint"),
    [
        (uses_module, "uses sys of its module", "inside uses_module: import sys"),
        (uses_alias, "uses types_ of its module", "inside uses_alias: import types as types_"),
        (uses_from_import, "uses OrderedDict", "inside uses_from_import: from collections import OrderedDict"),
        (uses_constant, "uses LIMIT", "pass them as arguments, or define them inside uses_constant"),
        (uses_nothing_known, "uses no_such_name", "pass them as arguments"),
        (lambda: 1, "it is a lambda", "write a plain function"),
        (wrapping, "it is decorated", "write a plain function"),
        (decorated, r"it is decorated with @pytest\.mark\.skip", ""),
        (static, "it is a staticmethod", ""),
        (generating, "it is a generator", ""),
        (waiting, "it is async", ""),
        (streaming, "it is async", ""),
        (Class.method, "it is a method", ""),
        (Class().method, "it is a method", ""),
        (Class(), "it is a Class", ""),
        (Class, "it is a type", ""),
        (len, "it is a builtin_function_or_method", ""),
        (functools.partial(echo, 1), "it is a partial", ""),
    ],
)
def test_a_function_that_is_not_self_contained_is_rejected_with_the_reason(
    function: Any, said: str, hint: str, python: Interpreter
) -> None:
    with pytest.raises(UsageError, match=rf"cannot run in another Python: .*{said}") as caught:
        python.call(function)

    assert hint in caught.value.hint


def test_the_error_for_a_closure_names_the_variable(python: Interpreter) -> None:
    number = 1

    def closure():
        return number

    with pytest.raises(UsageError, match="it uses number of the enclosing function") as caught:
        python.call(closure)
    assert caught.value.hint == "pass them as arguments, or define them inside closure"


def test_a_function_without_source_is_rejected(python: Interpreter) -> None:
    namespace: dict[str, Any] = {}
    exec("def made(): return 1", namespace)  # what the test is about

    with pytest.raises(UsageError, match="its source is not available"):
        python.call(namespace["made"])


def test_a_file_that_changed_since_its_import_is_not_run(
    python: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "changing_module.py"
    module.write_text("def first():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changing_module  # type: ignore[import-not-found]  # written above

    module.write_text("def second():\n    return 22222\n")

    with pytest.raises(UsageError, match="has changed since it was imported"):
        python.call(changing_module.first)
    module.write_text("def first(:\n    return 22222\n")
    with pytest.raises(UsageError, match=r"its source (cannot be read|is not available)"):
        python.call(changing_module.first)


def leave_something_running():
    import subprocess
    import sys

    sys.stdout.write("began\n")
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid


def test_a_call_does_not_wait_for_processes_that_it_leaves_running(
    python: Interpreter, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    child = python.call(leave_something_running)
    took = time.monotonic() - begun
    os.kill(child, signal.SIGTERM)

    assert took < 30
    assert capfd.readouterr().out == "began\n"
