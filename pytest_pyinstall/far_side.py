"""The side of a call that runs in the other Python: any from 3.6 on, so in old syntax."""

import inspect
from functools import cache

__all__ = ["driver", "unfit"]


@cache
def driver() -> str:
    """The program that reads a parcel from its standard input and writes its reply to the file named last."""
    return f"{inspect.getsource(unfit)}\n\n{inspect.getsource(_answer)}\n\n_answer()\n"


# The two functions below run over there, in any Python from 3.6 on: old syntax, and no other name of this module.


def unfit(value: object, where: str) -> str:  # noqa: PLR0911  # one for each kind
    """Why JSON would not bring `value` back as it is, or nothing. A tuple is the one thing that may change."""
    if value is None or type(value) in (bool, float, str):
        return ""
    if type(value) is int:
        # Pythons refuse to read or write more than 4300 digits.
        return "" if value.bit_length() < 14000 else f"{where} is an int of more than 4200 digits"
    if type(value) is list or isinstance(value, tuple):
        reasons = (unfit(item, f"{where}[{index}]") for index, item in enumerate(value))
        return next((reason for reason in reasons if reason), "")
    if type(value) is dict:
        for name, item in value.items():
            if type(name) is not str:
                return f"{where} has the key {name!r:.80}, which is no str"
            reason = unfit(item, f"{where}[{name!r}]")
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
                reason = unfit(value, "the value")
                reply = {"unfit": reason} if reason else {"value": value}
                json.dumps(reply)
            except (RecursionError, ValueError):
                reply = {"unfit": "the value contains itself, or is nested too deeply"}
        sys.modules["__main__"] = driver
    with open(answer, "w", encoding="ascii") as file:
        json.dump(reply, file)
