"""A Python that answered, and the virtual environments made from it."""

import ast
import builtins
import inspect
import json
import os
import shutil
import signal
import subprocess
import symtable
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tokenize import TokenError
from types import FunctionType, MethodType, ModuleType
from typing import Any, Self

from packaging.version import Version

from pytest_pyinstall import environment as venv
from pytest_pyinstall.errors import CallError, EnvironmentCreationError, UsageError
from pytest_pyinstall.key import Key

__all__ = ["Environment", "Interpreter", "RunError"]


class RunError(subprocess.CalledProcessError):
    """A `CalledProcessError` whose text ends with what the process said last, so that a test's traceback shows it."""

    def __str__(self) -> str:
        command = [str(part) for part in self.cmd]
        shown = subprocess.list2cmdline(command[:1]) + "".join(f" {_shortened(part)}" for part in command[1:])
        ending = f"ended with exit code {self.returncode}"
        if self.returncode < 0:
            ending = f"was ended by {_signal(-self.returncode)}"
        streams = (("standard output", self.stdout), ("standard error", self.stderr))
        said = "".join(f"\n--- {name} ---\n{_tail(text)}" for name, text in streams if text and text.strip())
        return f"{shown}\n{ending}{said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that answered: what it said about itself, and ways to use it.

    `executable` is what is run, `base_executable` the same except in a virtual environment, where it is the
    interpreter that the environment was made from. `source` says where it was found: ``store``, ``uv``, ``pyenv``,
    ``path``, ``environment``, … It can be pickled, and `to_json` makes something that JSON can carry.
    """

    executable: Path
    key: Key
    version_info: tuple[int, int, int, str, int]
    prefix: Path
    base_prefix: Path
    base_executable: Path
    source: str

    def __str__(self) -> str:
        return f"{self.key.short} ({self.executable})"

    def __fspath__(self) -> str:
        return os.fspath(self.executable)

    @property
    def version(self) -> Version:
        """With its pre-release part, so that ``python.version >= Version("3.13")`` is exact."""
        return self.key.version

    @property
    def implementation(self) -> str:
        """``cpython``, ``pypy`` or ``graalpy``."""
        return self.key.implementation

    @property
    def free_threaded(self) -> bool:
        return self.key.is_free_threaded

    @property
    def debug(self) -> bool:
        return self.key.is_debug

    def run(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,  # noqa: A002  # as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run it with `args`, and get back the exit code and what it wrote, decoded as UTF-8.

        Bytes that are not UTF-8 become ``\\xNN``. Without `input`, standard input is empty. Without `env`, it gets
        the variables of this process, except those that would send it to the files of another Python
        (``PYTHONHOME``, ``VIRTUAL_ENV``, ``LD_LIBRARY_PATH``, …). With `check`, an exit code other than 0 raises
        `RunError`, a `subprocess.CalledProcessError` that shows what it wrote. After `timeout` seconds it is killed and
        `subprocess.TimeoutExpired` raised.
        """
        __tracebackhide__ = True  # a test's failure shows the test's line, and what the process said
        command = [os.fspath(self.executable), *(os.fspath(word) for word in args)]
        variables = _variables(self.key) if env is None else env
        return _run(command, input=input, env=variables, cwd=cwd, check=check, timeout=timeout)

    def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run the source of `function` over there, and get back its value.

        The function must be whole in itself: written with `def` and not decorated, using only its parameters, builtins
        and what it imports in its own body. Its annotations are not evaluated, so they may be newer than the other
        Python; the rest of its syntax may not. Arguments are bound here; a default is evaluated over there, or, where
        it needs a name of its module, here.

        Arguments and the value travel as JSON: None, bool, int, float, str, list, and dict with str keys, nested as you
        like, arrive equal. A tuple arrives as a list. Anything else (bytes, set, a dict with other keys, subclasses of
        these types) is refused, never changed on the way. What the function prints comes out of this process's standard
        output and error when it has ended, and standard input is empty over there.

        Raises `UsageError` for what cannot be carried or run over there, `TypeError` for arguments that do not fit the
        function, and `CallError` with the other side's traceback where the function raised or its process died.
        """
        __tracebackhide__ = True
        request = _request(function, args, kwargs)
        with tempfile.TemporaryDirectory(prefix="pytest-pyinstall-") as directory:
            # The value comes in a file of its own: no print can touch it, not even one of C code or a child process.
            answer = Path(directory, "answer.json")
            done = _run(
                [os.fspath(self.executable), "-c", _driver(), os.fspath(answer)],
                input=json.dumps(request),
                env=_variables(self.key),
                check=False,
            )
            sys.stdout.write(done.stdout)
            sys.stderr.write(done.stderr)
            reply = _read(answer)
        return self._unpacked(reply, request["name"], done)

    def environment(self, path: str | os.PathLike[str]) -> "Environment":
        """A new virtual environment of this Python at `path`, without pip until something is installed.

        `path` must be missing or empty; on failure it is so again. Raises `EnvironmentCreationError`.
        """
        where = Path(path).absolute()
        executable = venv.create(where, key=self.key, base_executable=self.base_executable, environ=os.environ)
        python = Interpreter(
            executable=executable,
            key=self.key,
            version_info=self.version_info,
            prefix=where,
            base_prefix=self.base_prefix,
            base_executable=self.base_executable,
            source="environment",
        )
        return Environment(path=where, python=python)

    def to_json(self) -> dict[str, str]:
        """All of it in strings, for `json`, execnet and xdist's ``workerinput``. `from_json` is the way back."""
        return {
            "executable": str(self.executable),
            "key": str(self.key),
            "version_info": json.dumps(self.version_info),
            "prefix": str(self.prefix),
            "base_prefix": str(self.base_prefix),
            "base_executable": str(self.base_executable),
            "source": self.source,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, str]) -> Self:
        """What `to_json` made. Raises `ValueError` or `KeyError` for anything else."""
        major, minor, micro, stage, serial = json.loads(document["version_info"])
        return cls(
            executable=Path(document["executable"]),
            key=Key.parse(document["key"]),
            version_info=(major, minor, micro, stage, serial),
            prefix=Path(document["prefix"]),
            base_prefix=Path(document["base_prefix"]),
            base_executable=Path(document["base_executable"]),
            source=document["source"],
        )

    def _unpacked(self, reply: Mapping[str, Any], name: str, done: subprocess.CompletedProcess[str]) -> Any:
        __tracebackhide__ = True
        match reply:
            case {"value": value}:
                return value
            case {"unfit": reason}:
                msg = f"{name} under {self.key.short}: its value cannot be carried: {reason}"
                raise UsageError(msg, hint=f"return None, bool, int, float, str, list or dict from {name}")
            case {"syntax": reason}:
                msg = f"{name} cannot be read by {self.key.short}: {reason}"
                raise UsageError(msg, hint=f"write {name} in the syntax of Python {self._minor}")
            case {"exception": exception, "text": text, "traceback": traceback}:
                msg = f"{name} under {self.key.short} raised {text}\n--- traceback of {self.key.short} ---\n{traceback}"
                raise CallError(msg.rstrip(), exception=exception, traceback=traceback)
        ending = f"was ended by {_signal(-done.returncode)}" if done.returncode < 0 else f"exit code {done.returncode}"
        said = f"\n{_tail(done.stderr)}" if done.stderr.strip() else ""
        msg = f"{self.executable} ended without an answer to {name} ({ending}){said}"
        raise CallError(msg)

    @property
    def _minor(self) -> str:
        return f"{self.version.major}.{self.version.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment: `python` is its own `Interpreter`."""

    path: Path
    python: Interpreter

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    @property
    def bin(self) -> Path:
        """Where its programs are: ``bin``, on Windows ``Scripts``."""
        return venv.scripts(self.path, self.python.key)

    def install(self, *requirements: str | os.PathLike[str]) -> None:
        """Install `requirements`, which are what ``pip install`` takes, paths included.

        Done by `uv` where there is one, else by the environment's own pip, put there first if it is missing. Index
        settings of the environment hold; variables that name another place to install to do not. Raises
        `EnvironmentCreationError` with the end of the installer's output.
        """
        venv.install(
            self.path,
            *(os.fspath(requirement) for requirement in requirements),
            key=self.python.key,
            base_executable=self.python.base_executable,
            environ=os.environ,
            uv=venv.find_uv(os.environ),
        )

    def run(
        self,
        *args: str | os.PathLike[str],
        input: str | None = None,  # noqa: A002  # as subprocess.run calls it
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment: ``env.run("pip", "list")``, ``env.run("python", "-m", "demo")``.

        The first word is looked up in `bin`, then on ``PATH``; where it is an option (``-m``, ``-c``) all words go to
        the environment's Python. Without `env`, the program gets this process's variables as for `Interpreter.run`,
        with the environment activated. The rest is as for `Interpreter.run`. Raises `EnvironmentCreationError` for a
        program that is not there.
        """
        __tracebackhide__ = True
        variables = self._variables() if env is None else dict(env)
        words = [os.fspath(word) for word in args]
        if not words or words[0].startswith("-"):
            words.insert(0, "python")
        return _run(
            [self._program(words[0], variables), *words[1:]],
            input=input,
            env=variables,
            cwd=cwd,
            check=check,
            timeout=timeout,
        )

    def _variables(self) -> dict[str, str]:
        variables = _variables(self.python.key)
        variables["VIRTUAL_ENV"] = str(self.path)
        variables["PATH"] = os.pathsep.join(filter(None, (str(self.bin), variables.get("PATH"))))
        return variables

    def _program(self, name: str, variables: Mapping[str, str]) -> str:
        path = os.pathsep.join(filter(None, (str(self.bin), variables.get("PATH"))))
        found = shutil.which(name, path=path)
        if found is None:
            msg = f"there is no program {name!r} in {self.bin}, nor on PATH"
            raise EnvironmentCreationError(msg, hint=f'python_env.install("{name}")')
        return found


def _variables(key: Key) -> dict[str, str]:
    # Tests call run and call directly, so the world comes in here and not through a door.
    variables = venv.clean(os.environ, key)
    if sys.platform == "win32":
        variables.setdefault("PYTHONIOENCODING", "utf-8")  # else a pipe gets the ANSI code page
    return variables


def _run(
    command: Sequence[str],
    *,
    input: str | None,  # noqa: A002  # as subprocess.run calls it
    env: Mapping[str, str],
    cwd: str | os.PathLike[str] | None = None,
    check: bool,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    __tracebackhide__ = True
    done = subprocess.run(
        command,
        input="" if input is None else input,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        env=dict(env),
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise RunError(done.returncode, command, done.stdout, done.stderr)
    return done


def _shortened(part: str, most: int = 200) -> str:
    text = subprocess.list2cmdline([part])
    return text if len(text) <= most else f"{text[:most]}…"


def _tail(text: str, most: int = 4000) -> str:
    text = text.rstrip()
    return text if len(text) <= most else f"…{text[-most:]}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _read(answer: Path) -> dict[str, Any]:
    try:
        reply = json.loads(answer.read_text("ascii"))
    except (FileNotFoundError, ValueError):  # it died before it wrote, or while it did
        return {}
    return reply if isinstance(reply, dict) else {}


def _request(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Everything that the other side needs: source, name, arguments. Raises `UsageError` for what cannot travel."""
    written = _written(function)
    name, node = written.__qualname__, _definition(written)
    foreign_defaults = {parameter for parameter, default in _defaults(node) if _foreign(default)}
    _refuse_foreign(written, node, foreign_defaults)
    bound = _signature(written).bind(*args, **kwargs)
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
            reason = _unfit(request[word], word)
        except RecursionError:
            reason = f"{word} contains itself, or is nested too deeply"
        if reason:
            msg = f"{name}: an argument cannot be carried: {reason}"
            raise UsageError(msg, hint="pass None, bool, int, float, str, list or dict")
    return request


def _written(function: Callable[..., Any]) -> FunctionType:
    """`function`, if it is one that can be whole in itself."""
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
        reason = f"it uses {names} of the function around it, which does not travel"
    if reason or not isinstance(function, FunctionType):
        raise _uncallable(name, reason)
    return function


def _uncallable(name: str, reason: str, hint: str = "") -> UsageError:
    msg = f"{name} cannot run in another Python: {reason}"
    return UsageError(msg, hint=hint or "write a plain function at the top of the module: def name(...): ...")


def _source(function: FunctionType) -> tuple[str, int]:
    """The text, and the line where it begins. It is not dedented: that would change strings of several lines."""
    try:
        if function.__code__.co_filename == "<string>":  # as which Python knows the text of its own -c
            raise OSError
        lines, line = inspect.getsourcelines(function)
    except (OSError, TypeError, SyntaxError, TokenError) as error:
        reason = "its source is not there (typed at a prompt, or made by exec)"
        raise _uncallable(function.__qualname__, reason, "write it into a file") from error
    text = "".join(lines)
    return (f"if True:\n{text}", line - 1) if text[:1].isspace() else (text, line)


def _definition(function: FunctionType) -> ast.FunctionDef:
    name = function.__qualname__
    try:
        tree = ast.parse(_source(function)[0])
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
    """Annotations are not evaluated over there, so the names in them do not count."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        if hasattr(node, "type_params"):
            node.type_params = []
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # In its body, unlike in a function's, annotations are evaluated: dataclasses live on them.
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
    """Raise for names that only this side knows, those in `defaults` excepted: their values are sent."""
    for parameter, default in _defaults(node):
        if parameter in defaults:
            _replace(node.args, default, ast.Constant(None))
    names = sorted(_foreign(node))
    if not names:
        return
    imports = [_import(name, function.__globals__[name]) for name in names if name in function.__globals__]
    hint = f"pass them as arguments, or define them inside {function.__name__}"
    if imports and all(imports):
        hint = f"inside {function.__name__}: {'; '.join(filter(None, imports))}"
    reason = f"it uses {', '.join(names)} of its module, which does not travel"
    raise _uncallable(function.__qualname__, reason, hint)


def _replace(arguments: ast.arguments, old: ast.expr, new: ast.expr) -> None:
    arguments.defaults = [new if default is old else default for default in arguments.defaults]
    arguments.kw_defaults = [new if default is old else default for default in arguments.kw_defaults]


def _import(name: str, value: object) -> str:
    """The statement that brings `value` in, where it is plain to see."""
    if isinstance(value, ModuleType):
        return f"import {name}" if value.__name__ == name else f"import {value.__name__} as {name}"
    module, original = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if module in sys.stdlib_module_names and original == name:
        return f"from {module} import {name}"
    return ""


def _foreign(node: ast.AST) -> set[str]:
    """The global names that `node` uses without defining them, builtins excepted."""
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
        # Annotations may name what only a type checker imports; nobody asks for their values.
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


@cache
def _driver() -> str:
    return f"{inspect.getsource(_unfit)}\n\n{inspect.getsource(_answer)}\n\n_answer()\n"


# The two functions below run over there, in any Python from 3.6 on: old syntax, no name of this module.


def _unfit(value: object, where: str) -> str:  # noqa: PLR0911  # one for each kind
    """Why JSON would not bring `value` back as it is, or nothing. A tuple is the one thing that may change."""
    if value is None or type(value) in (bool, float, str):
        return ""
    if type(value) is int:
        # Pythons refuse to read or write more than 4300 digits.
        return "" if value.bit_length() < 14000 else f"{where} is an int of more than 4200 digits"
    if type(value) is list or isinstance(value, tuple):
        reasons = (_unfit(item, f"{where}[{index}]") for index, item in enumerate(value))
        return next((reason for reason in reasons if reason), "")
    if type(value) is dict:
        for name, item in value.items():
            if type(name) is not str:
                return f"{where} has the key {name!r:.80}, which is no str"
            reason = _unfit(item, f"{where}[{name!r}]")
            if reason:
                return reason
        return ""
    return f"{where} is of type {type(value).__name__}"


def _answer() -> None:  # pragma: no cover  # noqa: C901, PLR0912  # in another process, and whole in itself
    import sys

    path = sys.path[:]
    # A json.py in the working directory is the function's to import, not ours.
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
                    # Defaults that need a name of the module over here were evaluated there, and are arguments now.
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
        except BaseException as error:  # noqa: BLE001  # SystemExit is an answer too
            frames = error.__traceback__ and error.__traceback__.tb_next
            reply = {
                "exception": type(error).__name__,
                "text": "".join(traceback.format_exception_only(type(error), error)).strip(),
                "traceback": "".join(traceback.format_exception(type(error), error, frames)),
            }
        else:
            try:
                reason = _unfit(value, "the value")
                reply = {"unfit": reason} if reason else {"value": value}
                json.dumps(reply)
            except (RecursionError, ValueError):
                reply = {"unfit": "the value contains itself, or is nested too deeply"}
        sys.modules["__main__"] = driver
    with open(answer, "w", encoding="ascii") as file:
        json.dump(reply, file)
