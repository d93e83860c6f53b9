"""Packs a function and its arguments for the journey into another Python."""

import ast
import builtins
import inspect
import symtable
import sys
from collections.abc import Callable, Iterable, Iterator
from tokenize import TokenError
from types import FunctionType, MethodType, ModuleType
from typing import Any

from pytest_pyinstall.errors import UsageError
from pytest_pyinstall.far_side import unfit

__all__ = ["parcel"]


def parcel(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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
            reason = unfit(request[word], word)
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
