"""`Interpreter.call`: runs a function of this Python in another one.

The function's source and its arguments are serialized as JSON and sent to a small program, `bootstrap_source`, that
runs in the other Python. That program uses only syntax that Python 3.6 can read.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import json
import os
import symtable
import sys
from functools import cache
from tokenize import TokenError
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from pytest_pyinstall.errors import CallError, UsageError
from pytest_pyinstall.system.documents import parse_python
from pytest_pyinstall.system.processes import ending_of, run_into, tail
from pytest_pyinstall.system.temporary import temporary_directory

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_pyinstall.request.identity import Key

__all__ = ["bootstrap_source", "call", "not_json_safe", "serialize_call"]

__tracebackhide__ = True  # a failed test shows its own line, and the message; all with --full-trace


@cache
def bootstrap_source() -> str:
    """The program for the other Python. It reads a call from standard input, and writes the reply to a file."""
    return f"{inspect.getsource(not_json_safe)}\n\n{inspect.getsource(_serve)}\n\n_serve()\n"


# The two functions below run in the other Python, 3.6 or newer: they use old syntax, and no other name of this module.


def not_json_safe(value: object, where: str) -> str:  # noqa: PLR0911  # one for each kind
    """Why `value` would not be equal after a round trip through JSON; empty if it would. Tuples may become lists."""
    if value is None or type(value) in (bool, float, str):
        return ""
    if type(value) is int:
        # Pythons refuse to read or write more than 4300 digits.
        return "" if value.bit_length() < 14000 else f"{where} is an int of more than 4200 digits"
    if type(value) is list or isinstance(value, tuple):
        reasons = (not_json_safe(item, f"{where}[{index}]") for index, item in enumerate(value))
        return next((reason for reason in reasons if reason), "")
    if type(value) is dict:
        for name, item in value.items():
            if type(name) is not str:
                return f"{where} has the key {name!r:.80}, which is not a str"
            reason = not_json_safe(item, f"{where}[{name!r}]")
            if reason:
                return reason
        return ""
    return f"{where} is of type {type(value).__name__}"


def _serve() -> None:  # pragma: no cover  # noqa: C901, PLR0912  # runs in another process, and must be self-contained
    import sys

    path = sys.path[:]
    # Do not import a json.py from the working directory. The function may.
    sys.path[:] = [entry for entry in path if entry]
    import ast
    import json
    import traceback
    import types

    sys.path[:] = path
    answer = sys.argv.pop()
    request = json.loads(sys.stdin.buffer.read().decode("ascii"))
    reply = {}
    try:
        tree = ast.parse("\n" * (request["line"] - 1) + request["source"], request["file"])
        first = True
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                node.returns = None
                arguments = node.args
                positional = getattr(arguments, "posonlyargs", []) + arguments.args
                for argument in positional + arguments.kwonlyargs + [arguments.vararg, arguments.kwarg]:
                    if argument is not None:
                        argument.annotation = None
                if first:
                    # Defaults that need a name of the caller's module were evaluated there, and are arguments now.
                    count = len(positional) - len(arguments.defaults)
                    for index, argument in enumerate(positional[count:]):
                        if argument.arg in request["defaults"]:
                            arguments.defaults[index] = ast.parse("None", mode="eval").body
                    for index, argument in enumerate(arguments.kwonlyargs):
                        if argument.arg in request["defaults"]:
                            arguments.kw_defaults[index] = ast.parse("None", mode="eval").body
                    first = False
        code = compile(tree, request["file"], "exec", dont_inherit=True)
    except SyntaxError as error:
        reply = {"syntax": "{} ({}, line {})".format(error.msg, request["file"], error.lineno)}
    else:
        main = types.ModuleType("__main__")
        main.__file__ = request["file"]
        driver, sys.modules["__main__"] = sys.modules["__main__"], main
        try:
            exec(code, main.__dict__)  # noqa: S102  # the tester's own function
            value = main.__dict__[request["name"]](*request["args"], **request["kwargs"])
        except BaseException as error:  # noqa: BLE001  # SystemExit is reported too
            frames = error.__traceback__ and error.__traceback__.tb_next
            reply = {
                "exception": type(error).__name__,
                "text": "".join(traceback.format_exception_only(type(error), error)).strip(),
                "traceback": "".join(traceback.format_exception(type(error), error, frames)),
            }
        else:
            try:
                reason = not_json_safe(value, "the value")
                reply = {"unfit": reason} if reason else {"value": value}
                json.dumps(reply)
            except (RecursionError, ValueError):
                reply = {"unfit": "the value contains itself, or is nested too deeply"}
        sys.modules["__main__"] = driver
    with open(answer, "w", encoding="ascii") as file:
        json.dump(reply, file)


def serialize_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What the other Python needs: source, name, arguments. Raises `UsageError` if something cannot be sent."""
    written = _written(function)
    name, node = written.__qualname__, _definition(written)
    foreign_defaults = {parameter for parameter, default in _defaults(node) if _foreign(default)}
    _refuse_foreign(written, node, foreign_defaults)
    try:
        bound = _signature(written).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None  # as a call of the function here: without the frames of `inspect`
    for parameter in foreign_defaults:
        bound.arguments.setdefault(parameter, bound.signature.parameters[parameter].default)
    request = {
        "name": written.__name__,
        "source": _source(written)[0],
        "line": _source(written)[1],
        "file": written.__code__.co_filename,
        "defaults": sorted(foreign_defaults),
        "args": list(bound.args),
        "kwargs": bound.kwargs,
    }
    for word in ("args", "kwargs"):
        try:
            reason = not_json_safe(request[word], word)
        except RecursionError:
            reason = f"{word} contains itself, or is nested too deeply"
        if reason:
            msg = f"{name}: an argument cannot be sent as JSON: {reason}"
            raise UsageError(msg, hint="pass None, bool, int, float, str, list or dict")
    return request


def _written(function: Callable[..., Any]) -> FunctionType:
    """`function`, if it is a plain function. Raises `UsageError` for a method, lambda, closure, generator, …"""
    name = getattr(function, "__qualname__", None) or repr(function)
    outer = name.rpartition(".")[0]
    reason = ""
    is_in_class = isinstance(function, FunctionType) and outer and not outer.endswith("<locals>")
    if isinstance(function, MethodType) or is_in_class:
        reason = "it is a method"
    elif not isinstance(function, FunctionType):
        reason = f"it is a {type(function).__name__}"
    elif function.__name__ == "<lambda>":
        reason = "it is a lambda"
    elif hasattr(function, "__wrapped__"):
        reason = "it is decorated"
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        reason = "it is async"
    elif inspect.isgeneratorfunction(function):
        reason = "it is a generator"
    elif function.__code__.co_freevars:
        names = ", ".join(function.__code__.co_freevars)
        reason = f"it uses {names} of the enclosing function, which is not sent"
        raise _uncallable(name, reason, _hint_on_names(function))
    if reason or not isinstance(function, FunctionType):
        raise _uncallable(name, reason)
    return function


def _hint_on_names(function: FunctionType) -> str:
    return f"pass them as arguments, or define them inside {function.__name__}"


def _uncallable(name: str, reason: str, hint: str = "") -> UsageError:
    msg = f"{name} cannot run in another Python: {reason}"
    return UsageError(msg, hint=hint or "write a plain function at the top of the module: def name(...): ...")


def _source(function: FunctionType) -> tuple[str, int]:
    """The text, and the line where it begins. It is not dedented, because that would change multi-line strings."""
    try:
        if function.__code__.co_filename == "<string>":  # the file name of `python -c`
            raise OSError
        lines, line = inspect.getsourcelines(function)
    except (OSError, TypeError, SyntaxError, TokenError) as error:
        reason = "its source is not available (it was typed at a prompt, or made by exec)"
        raise _uncallable(function.__qualname__, reason, "write it to a file") from error
    text = "".join(lines)
    return (f"if True:\n{text}", line - 1) if text[:1].isspace() else (text, line)


def _definition(function: FunctionType) -> ast.FunctionDef:
    name = function.__qualname__
    try:
        tree = parse_python(_source(function)[0])
    except SyntaxError as error:
        raise _uncallable(name, f"its source cannot be read: {error}") from error
    node = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    if node is None or node.name != function.__name__:
        reason = f"{function.__code__.co_filename} has changed since it was imported"
        raise _uncallable(name, reason, "start again")
    if node.decorator_list:
        decorators = ", ".join(f"@{ast.unparse(decorator)}" for decorator in node.decorator_list)
        raise _uncallable(name, f"it is decorated with {decorators}")
    return _WithoutAnnotations().visit(node)  # type: ignore[no-any-return]  # typeshed: a visitor may return anything


class _WithoutAnnotations(ast.NodeTransformer):
    """Drops annotations: they are not evaluated in the other Python, so the names in them do not count."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        if hasattr(node, "type_params"):
            node.type_params = []
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # In a class body, unlike in a function, annotations are evaluated: dataclasses need them.
        for child in node.body:
            if not isinstance(child, ast.AnnAssign):
                self.visit(child)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _defaults(node: ast.FunctionDef) -> Iterator[tuple[str, ast.expr]]:
    positional = [*node.args.posonlyargs, *node.args.args]
    for argument, default in zip(reversed(positional), reversed(node.args.defaults), strict=False):
        yield argument.arg, default
    for argument, keyword_default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if keyword_default is not None:
            yield argument.arg, keyword_default


def _refuse_foreign(function: FunctionType, node: ast.FunctionDef, defaults: Iterable[str]) -> None:
    """Raise if `node` uses names of its module, except in the `defaults`, whose values are sent."""
    for parameter, default in _defaults(node):
        if parameter in defaults:
            _replace(node.args, default, ast.Constant(None))
    names = sorted(_foreign(node))
    if not names:
        return
    imports = [_import(name, function.__globals__[name]) for name in names if name in function.__globals__]
    hint = _hint_on_names(function)
    if imports and all(imports):
        hint = f"inside {function.__name__}: {'; '.join(filter(None, imports))}"
    reason = f"it uses {', '.join(names)} of its module, which is not sent"
    raise _uncallable(function.__qualname__, reason, hint)


def _replace(arguments: ast.arguments, old: ast.expr, new: ast.expr) -> None:
    arguments.defaults = [new if default is old else default for default in arguments.defaults]
    arguments.kw_defaults = [new if default is old else default for default in arguments.kw_defaults]


def _import(name: str, value: object) -> str:
    """The statement that imports `value`; empty if it is not obvious."""
    if isinstance(value, ModuleType):
        return f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}"
    module, original = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if module in sys.stdlib_module_names and original == name:
        return f"from {module} import {name}"
    return ""


def _foreign(node: ast.AST) -> set[str]:
    """The global names that `node` uses without defining them, except builtins."""
    used, defined = set(), set()
    for scope in _scopes(symtable.symtable(ast.unparse(node), "<call>", "exec")):
        for symbol in scope.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                used.add(symbol.get_name())
            if symbol.is_global() and (symbol.is_assigned() or symbol.is_imported()):
                defined.add(symbol.get_name())
    return {name for name in used - defined if not hasattr(builtins, name) and not name.startswith((".", "__"))}


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


def _signature(function: FunctionType) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Annotations may use names that only a type checker imports; their values are not needed.
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    executable: Path,
    key: Key,
    environ: Mapping[str, str],
) -> Any:
    """Run `function` in the Python at `executable`, and return its value. See `Interpreter.call`."""
    request = serialize_call(function, args, kwargs)
    with temporary_directory() as directory:
        # The value is written to a file of its own, so no print can corrupt it, not even in C code or a child process.
        answer = directory / "answer.json"
        done = run_into(
            directory,
            [os.fspath(executable), "-c", bootstrap_source(), os.fspath(answer)],
            input=json.dumps(request),
            env=environ,
        )
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        reply = _read(answer)
    return _unpacked(reply, name=request["name"], executable=executable, key=key, done=done)


def _read(answer: Path) -> dict[str, Any]:
    try:
        reply = json.loads(answer.read_text("ascii"))
    except (FileNotFoundError, ValueError):  # it died before or while it wrote
        return {}
    return reply if isinstance(reply, dict) else {}


def _unpacked(
    reply: Mapping[str, Any], *, name: str, executable: Path, key: Key, done: subprocess.CompletedProcess[str]
) -> Any:
    match reply:
        case {"value": value}:
            return value
        case {"unfit": reason}:
            msg = f"{name} under {key.display_name}: its value cannot be sent as JSON: {reason}"
            raise UsageError(msg, hint=f"return None, bool, int, float, str, list or dict from {name}")
        case {"syntax": reason}:
            msg = f"{name} is not valid syntax in {key.display_name}: {reason}"
            raise UsageError(msg, hint=f"write {name} in the syntax of Python {key.minor_version}")
        case {"exception": exception, "text": text, "traceback": traceback}:
            msg = f"{name} under {key.display_name} raised {text}\n--- traceback of {key.display_name} ---\n{traceback}"
            raise CallError(msg.rstrip(), exception=exception, traceback=traceback)
    output = f"\n{tail(done.stderr)}" if done.stderr.strip() else ""
    msg = f"{executable} {ending_of(done.returncode)} before {name} returned{output}"
    raise CallError(msg)
