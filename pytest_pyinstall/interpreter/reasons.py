"""Finds the reason for a failure in the output of pip, of uv, or of a build that they started.

uv explains a failed resolution with a proof. Only its premises are facts, and they name the packages. pip writes what
it knows into several lines, and the output of a build into a block of its own.
"""

import email
import itertools
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

__all__ = ["reason_of", "undecodable_file", "unusable_wheels"]

_MOST_FACTS = 6
_MOST_LINES = 3
"""Lines from the end of a build's output."""


def reason_of(output: Sequence[str]) -> str:
    """The reason for the failure, in one line. Empty if there is no output."""
    lines, hints = _split_hints(output)
    if found := _of_connection(lines):
        return found + hints
    if found := _of_proof(lines) or _of_build(lines) or _exception(lines):
        return ("build dependencies: " if any(map(_OF_BUILD_SYSTEM.search, lines)) else "") + found + hints
    errors = [index for index, line in enumerate(lines) if line.lower().startswith("error: ")]
    errors = [index for index in errors if "Ignored the following" not in lines[index]]
    # If a build fails, pip writes only the name of its own error class outside of the output of the build.
    errors = [index for index in errors if not re.fullmatch(r"error: \w+(-\w+)+", lines[index])] or errors
    if not errors:
        return (lines or [""])[-1] + hints
    error = re.sub("^(ERROR|error): ", "", lines[errors[0]])
    more = lines[errors[0] + 1 :]
    details = _details_of_pip(more)
    if details and "these package versions have conflicting dependencies" in error:
        error = details.pop(0) if details[0].startswith(_NO_FILE) else "conflict"
    return ": ".join(dict.fromkeys([error, *_causes(more), *details])) + hints


_OF_ANY_BUILD = "hint: This usually indicates a problem"
"""Older versions of uv print it for each build that fails."""


def _split_hints(output: Sequence[str]) -> tuple[list[str], str]:
    """The lines of `output` without their decoration, and the first sentence of each of uv's hints, in parentheses."""
    lines: list[str] = []
    hints: list[str] = []
    is_hint = False
    for line in output:
        plain = re.sub(r"^[^\w.<\[('\"]*(?:[├╰]─▶|Caused by:|cause:)\s*", "cause: ", line)
        plain = re.sub(r"^[^\w.<]+", "", plain).strip()
        plain = re.sub(r"(?<=retries) in [\d.]+m?s\b", "", plain)  # it would differ between the Pythons
        if _OF_ANY_BUILD in plain:
            is_hint = False
        elif re.match(r"hint\b", plain):
            is_hint = True
            hints.append(plain.removeprefix("hint").lstrip(": "))
        elif is_hint and plain and line[:1].isspace():
            hints[-1] += f" {plain}"
        elif plain and not re.match(r"note: |\[notice\]", plain):
            is_hint = False
            lines.append(plain)
    sentences = dict.fromkeys(re.split(r"(?<=\w)\. ", hint)[0].rstrip(".") for hint in hints)
    return lines, f" ({'; '.join(sentences)})" if sentences else ""


# uv


_STEP = re.compile(r"(?:^|\s)(?:And b|B)ecause ")
_PREMISE = re.compile(
    r",? and (?=(?:only|there|the|you|we|all|any|no|your) "
    r"|\S+ (?:and \S+ )?(?:depend|was|were|has|have|require|need))"
)
_MISSING = re.compile(r"not found|\bno |\bonly |unavailable|could not")


def _of_proof(lines: Sequence[str]) -> str:
    """The facts of uv's proof: first those about a package that cannot be had. A proof of one step is a sentence."""
    start = next((index for index, line in enumerate(lines) if re.match(r"(cause: )?Because ", line)), None)
    if start is None:
        return ""
    text = " ".join(lines[start:]).removeprefix("cause: ")
    if len(_STEP.findall(text)) == 1:
        return text
    steps = [
        [premise.strip(" ,") for premise in _PREMISE.split(re.split(r",? we can conclude ", step)[0])]
        for step in _STEP.split(text)
    ]
    subjects = {re.split(r"[^\w.-]", premise)[0] for step in steps for premise in step}
    facts = [[premise for premise in step if _is_fact(premise, subjects)] for step in steps]
    facts.sort(key=lambda step: not any(map(_MISSING.search, step)))
    shown: dict[str, str] = {}
    for step in facts:
        for fact in step:
            shown.setdefault(fact, " and ")
        if step:
            shown[[*shown][-1]] = "; "
    most = list(itertools.islice(shown.items(), _MOST_FACTS))
    text = re.sub(r"( and |; )$", "", "".join(itertools.chain.from_iterable(most)))
    return f"{text} …" if len(shown) > _MOST_FACTS else text


def _is_fact(premise: str, subjects: set[str]) -> bool:
    """Whether `premise` is more than a reference to another step, or a list of versions that other steps are about."""
    if not premise or re.match(r"we know |you require |your requirements ", premise):
        return False
    if available := re.match(r"only (?:the following versions of )?([\w.-]+)", premise):
        return available[1] not in subjects
    return True


def _causes(lines: Sequence[str]) -> list[str]:
    """What follows uv's ``cause:`` in `lines`. Of an excerpt of a file, only the line without a number or a mark."""
    found: list[str] = []
    for line in lines:
        if line.startswith("cause: "):
            found.append(line.removeprefix("cause: "))
        elif found and line.lower().startswith(("error: ", "warning: ")):
            break
        elif found and re.match(r"\w", line) and not re.match(r"\d+ \|", line):
            found.append(line)
    return found


# pip


_BROKEN = re.compile(r"after connection broken by .*?([A-Z][a-z][\w ]+)'\)'")
"""What pip says before each attempt after a failed connection. In the end it only says that there is no version."""


def _of_connection(lines: Sequence[str]) -> str:
    """The reason if pip, also the one that installs the requirements of a build, could not reach the index."""
    broken = next(filter(None, map(_BROKEN.search, lines)), None)
    missing = next((line for line in lines if "(from versions: none)" in line), "")
    return (
        f"no connection to the package index: {broken[1]}; {missing.removeprefix('ERROR: ')}"
        if broken and missing
        else ""
    )


_NO_FILE = "no file for "


def _details_of_pip(lines: Sequence[str]) -> list[str]:
    """What pip writes below the first line of its error: the conflict, the packages without a file, a place, a hint."""
    found: list[str] = []
    headings = {"The conflict is caused by:": "", "Additionally, some packages in these conflicts": _NO_FILE}
    section: list[str] | None = None
    for line in lines:
        if heading := next((each for each in headings if line.startswith(each)), None):
            section = [headings[heading]]
            found.append("")
        elif line.startswith(("To fix this", "ERROR: ")):
            section = None
        elif section is not None:
            section.append(line)
            found[-1] = section[0] + ", ".join(section[1:])
        elif line.startswith("Hint: "):
            found.append(line.removeprefix("Hint: "))
        elif place := re.fullmatch(r"from line \d+ of (.*)\)", line):
            found.append(f"line {place[0][len('from line ') : -1]}")
    return found[::-1] if len(found) > 1 and found[1].startswith(_NO_FILE) else found


_OF_PYTHON = re.compile(r"requires? (a )?different Python")
_PROCESSING = re.compile(r"^\s*Processing (.*?([\w.]+)-([^-/\\]+)-[^/\\]*\.whl)", re.MULTILINE)


def unusable_wheels(output: str, directory: Path, version: str) -> dict[str, str]:
    """The wheels that do not support Python `version`, as ``name!=version``, each with its ``requires-python``.

    pip tries every wheel in a directory of ``--find-links``. If one does not support this Python, pip's only reason for
    a failure is that one, even if another version does, and a dependency of that is missing. Empty if `output`, which
    pip printed in `directory`, has another reason.
    """
    found: dict[str, str] = {}
    if not _OF_PYTHON.search(output):
        return found
    for path, name, release in _PROCESSING.findall(output):
        requires = _requires_python(directory / path)
        if requires is not None and version not in requires:
            found[f"{name}!={release}"] = str(requires)
    return found


def undecodable_file(output: str, words: Sequence[str], directory: Path) -> Path | None:
    """The requirement file in pip's arguments `words` that is no text, if that is the reason in `output`.

    pip does not name it.
    """
    if "UnicodeDecodeError" not in output:
        return None
    for option, name in itertools.pairwise(words):
        if option in {"-r", "-c", "--requirement", "--constraint"}:
            try:
                (directory / name).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return directory / name
            except OSError:
                continue
    return None


def _requires_python(wheel: Path) -> SpecifierSet | None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
            return SpecifierSet(email.message_from_bytes(archive.read(name))["Requires-Python"] or "")
    except (OSError, zipfile.BadZipFile, StopIteration, InvalidSpecifier):
        return None


# Builds


_EXCEPTION = re.compile(r"(?:[\w.]+\.)?\w*(?:Error|Exception)\b.*")
_OF_A_COMMAND = re.compile(r"\S*(CalledProcessError|CompileError|ExecError)\b")
_OF_A_COMPILER = re.compile(r"\S+:\d+(:\d+)?: (fatal )?error: ")


def _of_build(lines: Sequence[str]) -> str:
    """The reason in the output of a build: an exception, the first error of a compiler, or the last lines."""
    starts = [index for index, line in enumerate(lines) if _BLOCK.fullmatch(line)]
    if not starts:
        return ""
    block = lines[starts[-1] + 1 :]
    block = list(itertools.takewhile(lambda line: line != "end of output]", block))
    everything = lines[starts[0] + 1 :]
    compiler = next((line for line in everything if _OF_A_COMPILER.match(line)), "")
    exception = _exception(everything)
    if exception and not (compiler and _OF_A_COMMAND.match(exception)):
        return exception
    if errors := [line for line in block if line.startswith("ERROR: ")]:
        return errors[0].removeprefix("ERROR: ")
    return compiler or "; ".join(line.removeprefix("error: ") for line in block[-_MOST_LINES:])


_OF_BUILD_SYSTEM = re.compile("requirements from `build-system.requires`|build dependencies.* did not run successfully")
_BLOCK = re.compile(r"\d+ lines? of output\]|(stdout|stderr)\]")


def _exception(lines: Sequence[str]) -> str:
    """The last exception in `lines`, at most three lines of it, without what pip writes after the output of a build."""
    found = [index for index, line in enumerate(lines) if _EXCEPTION.fullmatch(line)]
    if not found:
        return ""
    message = itertools.takewhile(lambda line: line != "end of output]", lines[found[-1] : found[-1] + _MOST_LINES])
    return " ".join(message)
