"""Splits pytest's command line into options and arguments, and adapts it for the worker of each Python.

pytest's own parser knows the options and how many values each takes. An unknown option belongs to a conftest or to a
plugin that only the environments have, and is passed on unchanged.
"""

import argparse
import os
import re
import shlex
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_pyinstall.options import closest_options
from pytest_pyinstall.suite.variants import keyword_expression
from pytest_pyinstall.system.documents import parse_python
from pytest_pyinstall.system.values import Value

if TYPE_CHECKING:
    import ast

__all__ = [
    "MistypedIds",
    "NodeId",
    "Piece",
    "Words",
    "WorkerWords",
    "closest_parameters",
    "insert_label",
    "labelled",
    "mistyped_place",
    "plugins_of",
    "read_words",
    "with_hint",
    "wrong_expression",
]

_ONE_FILE = {"--benchmark-json"}
"""Options whose file is opened while pytest parses the command line. So the label must be in the command line."""
_LABELLED_ID = re.compile(r"(.+)\[([^\[\]]+)\]")
_PLACEHOLDER = "{python}"


class Piece(NamedTuple):
    """An option with its values, a positional argument (`option` is empty), or ``--``."""

    words: tuple[str, ...]
    option: str = ""
    action: argparse.Action | None = None
    may_be_value: bool = False
    """A positional argument after an unknown option may be the value of that option."""

    @property
    def is_positional(self) -> bool:
        return not self.option

    @property
    def is_unknown(self) -> bool:
        return bool(self.option) and self.option != "--" and self.action is None

    @property
    def is_ours(self) -> bool:
        return self.action is not None and self.action.dest.startswith("pyinstall_")

    @property
    def value(self) -> str | None:
        """The value of an option that has exactly one, or a positional argument; else None."""
        if self.is_positional:
            return self.words[0]
        name, equals, value = self.words[0].partition("=")
        if equals and name == self.option:
            return value
        if self.option[:2] != "--" and len(self.words) == 1:
            return self.words[0][2:] or None
        return self.words[1] if len(self.words) == 2 else None

    def with_value(self, value: str) -> "Piece":
        """A copy with another value, as one word, so that no parser takes the value for a positional argument."""
        if self.is_positional:
            return self._replace(words=(value,))
        glue = "=" if self.option.startswith("--") else ""
        return self._replace(words=(f"{self.option}{glue}{value}",))

    def as_few_words(self) -> "Piece":
        """A copy in which an option and its value are one word, for parsers that do not know the option."""
        has_one = self.action is not None and self.action.nargs is None and len(self.words) == 2
        is_alone = self.words[0] == self.option
        return self.with_value(self.words[1]) if has_one and is_alone else self


def _parser_of(parser: pytest.Parser) -> argparse.ArgumentParser:
    """The argparse parser in pytest's parser. Before pytest 9, pytest makes a new one for each command line."""
    made: argparse.ArgumentParser = getattr(parser, "optparser", None) or parser._getparser()  # type: ignore[attr-defined]  # noqa: SLF001
    return made


def read_words(words: Iterable[str], parser: pytest.Parser) -> list[Piece]:
    """Split `words` into options and arguments as `parser` does, without parsing their values."""
    actions = _parser_of(parser)._option_string_actions  # noqa: SLF001  # no other way to ask
    rest = list(_expanded(words, parser))
    pieces: list[Piece] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*pieces, Piece((word,), "--"), *(Piece((each,)) for each in rest)]
        if not _is_option(word, actions):
            pieces.append(Piece((word,), may_be_value=bool(pieces) and _is_open(pieces[-1])))
            continue
        name, equals, _ = word.partition("=")
        if word in actions or (equals and name in actions):
            option = word if word in actions else name
            action = actions[option]
            count = 0 if equals and option != word else _values(action, rest, actions)
        elif word[:2] in actions and not word.startswith("--"):
            option, action, count = _cluster(word, rest, actions)
        else:
            pieces.append(Piece((word,), name))
            continue
        pieces.append(Piece((word, *rest[:count]), option, action))
        del rest[:count]
    return pieces


def _expanded(words: Iterable[str], parser: pytest.Parser) -> Iterator[str]:
    """Replace each ``@file`` by the words in that file, as pytest does."""
    prefix = _parser_of(parser).fromfile_prefix_chars or ""
    for word in words:
        if word[:1] and word[0] in prefix:
            try:
                lines = Path(word[1:]).read_text(encoding="utf-8").splitlines()
            except OSError:
                lines = []  # pytest reports the error
            yield from _expanded(lines, parser)
        else:
            yield word


def _is_option(word: str, actions: dict[str, argparse.Action]) -> bool:
    if word[:1] != "-" or word == "-" or re.fullmatch(r"-\d+|-\d*\.\d+", word):
        return False
    return word in actions or word.partition("=")[0] in actions or " " not in word or word[:2] in actions


def _is_open(piece: Piece) -> bool:
    return piece.is_unknown and "=" not in piece.words[0]


def _values(action: argparse.Action, rest: Sequence[str], actions: dict[str, argparse.Action]) -> int:
    """The number of words at the start of `rest` that are values of `action`."""
    if action.nargs is None:
        return min(1, len(rest))
    if isinstance(action.nargs, int):
        return min(action.nargs, len(rest))
    if action.nargs == argparse.REMAINDER:
        return len(rest)
    following = 0
    while following < len(rest) and rest[following] != "--" and not _is_option(rest[following], actions):
        following += 1
    return min(following, 1) if action.nargs == argparse.OPTIONAL else following


def _cluster(word: str, rest: Sequence[str], actions: dict[str, argparse.Action]) -> tuple[str, argparse.Action, int]:
    """The option for a cluster of short options such as ``-xvk``, its action, and the number of its values in `rest`.

    It is the last option if that one takes values from `rest`, else the first one.
    """
    for index in range(1, len(word)):
        action = actions.get(f"-{word[index]}")
        if action is None:
            break
        if action.nargs != 0:
            is_last = index == len(word) - 1
            count = _values(action, rest, actions) if is_last else 0
            option = word[:2] if index > 1 else f"-{word[index]}"
            return option, actions[option], count
    return word[:2], actions[word[:2]], 0


def labelled(word: str, labels: Iterable[str]) -> tuple[str, list[str]] | None:
    """Split a node id such as ``t.py::test_it[py3.9,py3.12]`` into the id of the test and the labels at its end.

    None if it does not end in labels, or if one of them is not in `labels`.
    """
    match = _LABELLED_ID.fullmatch(word)
    named = match[2].split(",") if match else []
    return (match[1], named) if match and set(named) <= set(labels) else None


def insert_label(path: str, label: str) -> str:
    """Insert `label` before the extension of `path`, unless `path` contains it already."""
    if label in path:
        return path
    root, extension = os.path.splitext(path)  # noqa: PTH122  # text that may not be a path of this system
    return f"{root}-{label}{extension}"


class WorkerWords(Value):
    """The words for one worker: `arguments`, `environment` for ``PYTEST_ADDOPTS``, and `ini` for ``addopts``.

    The worker sets the last two only if they differ from the controller's.
    """

    arguments: list[str]
    after_dashes: list[str]
    """``--`` and the words after it."""
    environment: list[str]
    ini: list[str]
    is_environment_changed: bool
    is_ini_changed: bool
    places: dict[str, str]
    """Arguments that end in this worker's label, each with the id without it. The label may be a test's parameter."""
    ambiguous: dict[str, tuple[str, bool]]
    """Words that end in labels, but may be values of options that only the worker knows, and those of ``--deselect``.

    Each with the id without the labels, and whether this worker's label is one of them.
    """


class Words(NamedTuple):
    """All words of a session: the command line, ``PYTEST_ADDOPTS`` and ``addopts``."""

    arguments: Sequence[Piece]
    environment: Sequence[Piece] = ()
    ini: Sequence[Piece] = ()

    @classmethod
    def of(cls, config: pytest.Config, parser: pytest.Parser, *, environ: Any) -> "Words":
        return cls(
            read_words(map(str, config.invocation_params.args), parser),
            read_words(shlex.split(environ.get("PYTEST_ADDOPTS", "")), parser),
            read_words(map(str, config.getini("addopts")), parser),
        )

    @property
    def all(self) -> list[Piece]:
        """All pieces in the order in which pytest reads them. A later one takes precedence."""
        return [*self.ini, *self.environment, *self.arguments]

    def has_option(self, *options: str) -> bool:
        """Whether the session uses one of these spellings of an option."""
        return any(piece.option in options for piece in self.all)

    def known(self) -> set[str]:
        """The used options that the controller's parser knows, except for our own."""
        return {piece.option for piece in self.all if piece.action is not None and not piece.is_ours}

    def plugins(self) -> set[str]:
        """The modules that ``-p`` names."""
        return {piece.value for piece in self.all if piece.option == "-p" and piece.value}

    def selected_labels(self, labels: Sequence[str]) -> list[str]:
        """The labels that the arguments name, if each argument names at least one; else all."""
        places = [piece.words[0] for piece in self.all if piece.is_positional and not piece.may_be_value]
        named = [labelled(word, labels) for word in places]
        found = {label for match in named if match for label in match[1]}
        return [label for label in labels if label in found or not all(named)] if named else list(labels)

    def for_python(self, label: str, labels: Sequence[str], parameters: Collection[str] = ()) -> WorkerWords:
        """The words for worker `label`. Arguments in `parameters` end in a test's parameter, not a label."""
        dashes = next((index for index, piece in enumerate(self.arguments) if piece.option == "--"), None)
        before, after = self.arguments[:dashes], self.arguments[dashes:] if dashes is not None else []
        reader = _Reader(label, labels, parameters)
        environment, ini = (list(reader.adapted(pieces)) for pieces in (self.environment, self.ini))
        return WorkerWords(
            arguments=list(reader.adapted(before)),
            after_dashes=list(reader.adapted(after)),
            environment=environment,
            ini=ini,
            is_environment_changed=environment != _joined(self.environment),
            is_ini_changed=ini != _joined(self.ini),
            places=reader.places,
            ambiguous=reader.ambiguous,
        )

    def raw(self) -> list[str]:
        """The words of ``sys.argv`` without our own options."""
        return [word for piece in self.arguments if not piece.is_ours for word in piece.words]


def _joined(pieces: Iterable[Piece]) -> list[str]:
    return [word for piece in pieces for word in piece.as_few_words().words]


class _Reader:
    """Adapts words for one worker, and collects those that have two possible meanings."""

    def __init__(self, label: str, labels: Sequence[str], parameters: Collection[str]) -> None:
        self._label = label
        self._labels = labels
        self._parameters = parameters
        self.places: dict[str, str] = {}
        self.ambiguous: dict[str, tuple[str, bool]] = {}

    def adapted(self, pieces: Iterable[Piece]) -> Iterator[str]:
        for piece in pieces:
            if piece.is_ours or (found := self._adapted(piece)) is None:
                continue
            for word in found.as_few_words().words:
                yield word.replace(_PLACEHOLDER, self._label)

    def _adapted(self, piece: Piece) -> Piece | None:
        value = piece.value
        if not value:
            return piece
        if piece.option == "-k" or (piece.option in _ONE_FILE and _PLACEHOLDER not in value):
            change = keyword_expression if piece.option == "-k" else insert_label
            return piece.with_value(change(value, self._label))
        is_id = piece.is_positional or piece.option == "--deselect"
        match = labelled(value, self._labels) if is_id and value not in self._parameters else None
        if match is None:
            return piece
        base, named = match
        if piece.option or piece.may_be_value:
            self.ambiguous[value] = base, self._label in named
            return piece
        if self._label not in named:
            return None
        self.places[value] = base
        return piece.with_value(base)


_NOT_FOUND = re.compile(r"^ERROR: not found: (.+?\.py)::(.+)(?:\n\(no .*\)$)?", re.MULTILINE)
_NO_FILE = re.compile(r"^ERROR: file or directory not found: (.+)$", re.MULTILINE)
_NO_PARAMETERS = re.compile(r"^ERROR: path cannot contain \[\] parametrization: (.+)$", re.MULTILINE)
_LABELLED = re.compile(r"(.+)\[((?:py(?:py)?)?\d[^\[\],]*)\]")
_VERSION = re.compile(r"(?:cpython-?|python-?|cp|py)?(\d+(?:\.\d+)*t?)")
_UNKNOWN = re.compile(r"error: unrecognized arguments: (.+)$", re.MULTILINE)
_PLUGINS = {
    "--asyncio": "pytest-asyncio", "--benchmark": "pytest-benchmark", "--cov": "pytest-cov", "--dist": "pytest-xdist",
    "--django": "pytest-django", "--doctest-plus": "pytest-doctestplus", "--ds": "pytest-django",
    "--flake8": "pytest-flake8", "--force-sugar": "pytest-sugar", "--forked": "pytest-forked", "--html": "pytest-html",
    "--hypothesis": "hypothesis", "--json-report": "pytest-json-report", "--mpl": "pytest-mpl",
    "--mypy": "pytest-mypy", "--no-cov": "pytest-cov", "--numprocesses": "pytest-xdist",
    "--random-order": "pytest-random-order", "--randomly": "pytest-randomly", "--remote-data": "pytest-remotedata",
    "--reruns": "pytest-rerunfailures", "--ruff": "pytest-ruff", "--snapshot": "syrupy", "--timeout": "pytest-timeout",
}  # fmt: skip
"""Options, or the first words of options, that are often in a project's ``addopts``, each with its plugin."""


def with_hint(
    text: str,
    words: Iterable[str],
    labels: Collection[str],
    directory: Path,
    *,
    known: Iterable[str] = (),
    root: Path | None = None,
) -> str:
    """`text`, the usage error of a worker with the arguments `words`, with a hint if there is one.

    `words` are as the user wrote them, relative to `directory`. `labels` are the Pythons of the session. `known` are
    the node ids of the tests that the worker has found, relative to `root`, by default `directory`.
    """
    finder = _Finder(list(words), labels, directory, [NodeId.parse(each) for each in known], root or directory)
    text = _NOT_FOUND.sub(finder.explained, text)
    if near_options := closest_options(_unknown_options(text)):
        return f"{text}\n  did you mean: {', '.join(near_options)}"
    if match := _NO_PARAMETERS.search(text):
        base, label, why = finder.split(match[1])
        return f"{text}\n({why})\nhint: {shlex.quote(base + label)}" if why else text
    if (match := _NO_FILE.search(text)) and (near_path := _closest(directory / match[1].partition("::")[0])):
        return f"{text}\nhint: {_relative(near_path, directory)}"
    return text


class _Finder(NamedTuple):
    """Finds what was probably meant. The fields are the arguments of `with_hint`."""

    words: list[str]
    labels: Collection[str]
    directory: Path
    known: "Sequence[NodeId]"
    root: Path

    def explained(self, match: re.Match[str]) -> str:
        """The error of one id, a `match` of `_NOT_FOUND`, with a hint if there is one."""
        path, name = Path(match[1]), match[2].partition("[")[0]
        there, names = self._parameters(path, name), _tests_in(path)
        # pytest 9 does not repeat what is in the brackets.
        for word in self.words:
            base, label, why = self.split(word)
            typed = NodeId.parse(base)
            if typed.test != name or not typed.is_in(path, self.directory):
                continue
            parameters = typed.parameters
            if there and parameters and parameters not in there:
                why = why or why_not(parameters, there)
                parameters = closest_parameters(parameters, there)
            elif not there and name not in names and (near := _near(name, names)):
                typed = typed._replace(test=near)
                parameters = parameters if parameters in self._parameters(path, near) else ""
                return f"{match[0]}\nhint: {shlex.quote(f'{typed.place}::{near}{parameters}{label}')}"
            if why:
                self.words.remove(word)  # the next error of the same test is that of another word
                hint = shlex.quote(f"{typed.place}::{name}{parameters}{label}")
                return f"ERROR: not found: {word}\n({why})\nhint: {hint}"
        if there or name in names or not (near := _near(name, names)):
            return match[0]
        return f"{match[0]}\nhint: {shlex.quote(f'{_relative(path, self.directory)}::{near}')}"

    def _parameters(self, path: Path, test: str) -> list[str]:
        return [each.parameters for each in self.known if each.test == test and each.is_in(path, self.root)]

    def split(self, word: str) -> tuple[str, str, str]:
        """An id without its label, the corrected label in brackets, and what was wrong with it. All may be empty."""
        if named := labelled(word, self.labels):
            return named[0], word[len(named[0]) :], ""
        match = _LABELLED.fullmatch(word)
        if match and f"py{match[2]}" in self.labels:
            return match[1], f"[py{match[2]}]", f"it is py{match[2]}"
        if match and match[2].startswith("py"):
            all_labels = f"[{','.join(self.labels)}]"
            return match[1], all_labels, f"{match[2]} is not a Python of this session: {', '.join(self.labels)}"
        return word, "", ""


def _near(name: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, [each for each in names if each != name], n=1)), "")


_LABELS_OF_SUITE = re.compile(r"(.+)\[((?:py(?:py)?3[\w.]*,?)+)\]")
_NO_ID = re.compile(r"not found: (.+?\.py)::([^\n\[]+)")
_NO_PLACE = re.compile(r"(?:file or directory not found|path cannot contain \[\] parametrization): (.+)")


class MistypedIds:
    """The plugin of a session without a suite whose arguments have brackets: adds hints to pytest's errors for them.

    Only for ids of tests that use our `python`, which `is_ours` recognises, and for ids of a suite. `pythons` are the
    Pythons of the session, as in ids. `requests` are those of the command line.
    """

    def __init__(
        self,
        config: pytest.Config,
        *,
        pythons: Sequence[str],
        requests: Sequence[str],
        is_ours: Callable[[pytest.Item], bool],
    ) -> None:
        self._config = config
        self._pythons = pythons
        self._requests = requests
        self._is_ours = is_ours
        self._words = [str(word) for word in config.args]
        self._found: list[tuple[NodeId, bool]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Remember all tests of the files in the arguments, also those that the arguments do not select."""
        report = yield
        items = (node for node in report.result or () if isinstance(node, pytest.Item))
        self._found += [(NodeId.parse(item.nodeid), self._is_ours(item)) for item in items]
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        try:
            return (yield)
        except pytest.UsageError as error:
            explained = [self._explained(str(each)) for each in error.args]
        raise pytest.UsageError(*explained)

    def _explained(self, text: str) -> str:
        """The error of one argument, with a hint if there is one."""
        directory = self._config.invocation_params.dir
        if place := _NO_PLACE.fullmatch(text):
            match = _LABELS_OF_SUITE.fullmatch(place[1])
            exists = match is not None and os.path.lexists(directory / match[1])
            return self._of_suite(text, place[1], match[2]) if match and exists else text
        if not (error := _NO_ID.match(text)):
            return text
        path, name = Path(error[1]), error[2]
        there = {
            each.parameters: is_ours
            for each, is_ours in self._found
            if each.test == name and each.is_in(path, self._config.rootpath)
        }
        for word in self._words:
            typed = NodeId.parse(word)
            if not there or typed.test != name or typed.parameters in there or not typed.is_in(path, directory):
                continue
            self._words.remove(word)  # the next error of the same test is that of another word
            text = f"not found: {word}\n({why_not(typed.parameters, there)})"
            if match := _LABELS_OF_SUITE.fullmatch(word):
                parameters = NodeId.parse(match[1]).parameters
                if parameters in there or not (parameters or any(there.values())):
                    return self._of_suite(f"not found: {word}", word, match[2])
            if not any(there.values()):
                break
            rest, _, last = typed.parameters[1:-1].rpartition("-")
            ids = {_with_value(rest, python) for python in self._pythons or [""]}
            is_another = not any(_is_same(last, python) for python in self._pythons)
            # A test with a mark runs with the Pythons of the mark, whatever `--python` says.
            version = _VERSION.fullmatch(last)
            wanted = _dotted(version[1]) if version else last
            if is_another and re.fullmatch(r"(?:pypy|graalpy)?3\.[\d.]+t?", wanted) and ids <= there.keys():
                parameters = _with_value(rest, wanted)
                if self._pythons:
                    text = f"not found: {word}\n(the Pythons of this session are {', '.join(self._pythons)})"
                hint = f"--python {wanted} {shlex.quote(f'{typed.place}::{name}{parameters}')}"
                return f"{text}\nhint: {hint}"
            parameters = closest_parameters(typed.parameters, there)
            return f"{text}\nhint: {shlex.quote(f'{typed.place}::{name}{parameters}')}"
        return error.string

    def _of_suite(self, text: str, word: str, labels: str) -> str:
        """The error `text` for `word`, which is an id of a suite that ends in `labels`."""
        versions = [label if label.startswith("pypy") else label[2:] for label in labels.split(",") if label]
        given = self._requests if set(versions) <= set(self._pythons) else versions
        option = f"--python {shlex.quote(','.join(given))} " if given else ""
        return f"{text}\n([{labels}] is for --python-suite)\nhint: {option}--python-suite {shlex.quote(word)}"


def mistyped_place(words: "Words", directory: Path) -> str:
    """The usage error for the first argument whose file does not exist, with a hint if there is one; else empty.

    pytest reports it as well, but only in an environment, which takes long to make.
    """
    for piece in words.all:
        if not piece.is_positional or piece.may_be_value or not piece.words[0]:
            continue
        place = piece.words[0].partition("::")[0]
        if os.path.lexists(directory / place):
            continue
        if (match := _LABELLED_ID.fullmatch(place)) and os.path.lexists(directory / match[1]):
            continue  # a directory or a file with the Pythons that should run it
        text = f"file or directory not found: {piece.words[0]}"
        near = _closest(directory / place)
        return f"{text}\nhint: {_relative(near, directory)}" if near else text
    return ""


def wrong_expression(config: pytest.Config) -> str:
    """pytest's error for the expression of ``-k`` or ``-m``; empty if both are right.

    pytest reports it as well, but only when an environment has collected the tests.
    """
    from _pytest.mark import _parse_expression

    for option, name in (("-k", "keyword"), ("-m", "markexpr")):
        expression = str(config.getoption(name, "") or "").strip()
        if not expression:
            continue
        try:
            _parse_expression(expression.replace(_PLACEHOLDER, "label"), f"Wrong expression passed to '{option}'")
        except pytest.UsageError as error:
            return str(error)
    return ""


def _closest(path: Path) -> Path | None:
    """The existing path that is most similar to `path`, name by name; None if there is none."""
    from difflib import SequenceMatcher, get_close_matches

    found = Path(path.anchor)
    for name in path.parts[len(found.parts) :]:
        if not os.path.lexists(found / name):
            try:
                near = get_close_matches(name, os.listdir(found), n=1)  # noqa: PTH208  # only names
            except OSError:
                return None
            # Without the suffixes: a common ``.py`` does not make two names similar.
            if not near or SequenceMatcher(None, Path(name).stem, Path(near[0]).stem).ratio() < 0.6:
                return None
            name = near[0]  # noqa: PLW2901
        found /= name
    return found


def plugins_of(text: str) -> dict[str, str]:
    """The plugins of the options that are not known in `text`, the usage error of a worker, each with its option."""
    found: dict[str, str] = {}
    for word in _unknown_options(text):
        first = next((name for name in _PLUGINS if word == name or word.startswith(f"{name}-")), "")
        plugin = "pytest-xdist" if re.fullmatch(r"-n\d*|-nauto", word) else _PLUGINS.get(first)
        if plugin:
            found.setdefault(plugin, word)
    return found


def _unknown_options(text: str) -> list[str]:
    """The options, without their values, in the usage error `text` of pytest about unknown options; else empty."""
    match = _UNKNOWN.search(text)
    return [word.partition("=")[0] for word in match[1].split()] if match else []


class NodeId(NamedTuple):
    """A node id, split as pytest splits it. `parameters` are in brackets: ``[a b]``; empty if there are none."""

    place: str
    test: str
    parameters: str = ""

    @classmethod
    def parse(cls, word: str) -> "NodeId":
        base, bracket, rest = word.partition("[")
        place, _, test = base.partition("::")
        return cls(place, test, bracket + rest)

    def is_in(self, path: Path, directory: Path) -> bool:
        """Whether this is an id in the file `path`, if its own path is relative to `directory`."""
        return os.path.normpath(directory / self.place) == os.path.normpath(path)


def _with_value(rest: str, value: str) -> str:
    """Parameters in brackets: the values in `rest`, with dashes between them, and `value`. Each can be empty."""
    values = "-".join(filter(None, (rest, value)))
    return f"[{values}]" if values else ""


def why_not(parameters: str, known: Iterable[str]) -> str:
    """Why there is no test with `parameters`, if there are tests of that name with the parameters in `known`."""
    return f"the test exists, but not with {parameters}" if any(known) else "the test has no parameters"


def closest_parameters(typed: str, known: Iterable[str]) -> str:
    """The parameters in `known`, which is not empty, that are most similar to `typed`; both are in brackets.

    First counts how many of the values between the dashes are the same, in any order. For this, ``py3.9`` and
    ``3.9.18`` are 3.9. Then compares the texts. pytest escapes what is not ASCII in its ids.
    """
    from difflib import SequenceMatcher

    typed = "".join(each if each.isascii() else each.encode("unicode_escape").decode("ascii") for each in typed)
    wanted = typed[1:-1].split("-")

    def likeness(candidate: str) -> tuple[bool, int, float]:
        left = candidate[1:-1].split("-")
        common = 0
        for value in wanted:
            same = next((other for other in left if _is_same(value, other)), None)
            if same is not None:
                left.remove(same)
                common += 1
        return candidate == typed, common, SequenceMatcher(None, typed, candidate).ratio()

    return max(known, key=likeness)


def _is_same(one: str, other: str) -> bool:
    if one == other:
        return True
    first, second = _VERSION.fullmatch(one), _VERSION.fullmatch(other)
    if first is None or second is None:
        return False
    shorter, longer = sorted((_dotted(first[1]), _dotted(second[1])), key=len)
    return shorter == longer or (longer.startswith(f"{shorter}.") and "." in shorter)


def _dotted(version: str) -> str:
    return f"3.{version[1:]}" if re.fullmatch(r"3\d{1,2}t?", version) else version


def _relative(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)


def _tests_in(path: Path) -> list[str]:
    """The names of the classes and tests in a file, ``TestIt::test_it``; empty if it cannot be read."""

    try:
        return list(_names(parse_python(path.read_bytes()).body, ""))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _names(body: "Iterable[ast.stmt]", prefix: str) -> Iterator[str]:
    import ast

    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef):
            yield prefix + node.name
            yield from _names(node.body, f"{prefix}{node.name}::")
