"""Finds the reason for a failure in the output of pip, of uv, or of a build that they started.

uv explains a failed resolution with a proof. Only its premises are facts, and they name the packages. pip writes what
it knows into several lines, and the output of a build into a block of its own.
"""

import contextlib
import email
import itertools
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

__all__ = ["NO_SPACE", "reason_of", "undecodable_file", "unusable_wheels"]

NO_SPACE = "No space left on device"
_MOST_FACTS = 6
_MOST_LINES = 3
"""Lines from the end of a build's output."""
_MOST_USERS = 2
_MOST_VERSIONS = 3


def reason_of(output: Sequence[str]) -> str:
    """The reason for the failure, in one line. Empty if there is no output."""
    lines, hints = _split_hints(output)
    if full := next((line for line in lines if NO_SPACE in line), ""):
        # Which file it was differs between the Pythons.
        place = re.findall(r"(?<![\w.])(?:[A-Z]:)?[/\\][^\s'`:]+", full)
        return f"{NO_SPACE}{f': {place[-1]}' if place else ''}"
    if found := _of_connection(lines) or _of_server(lines) or _of_git(lines):
        return found + hints
    if found := _of_proof(lines) or _of_build(lines) or _exception(lines):
        built = next(filter(None, map(_BUILT.search, lines)), None)
        what = "build dependencies: " if any(map(_OF_BUILD_SYSTEM.search, lines)) else ""
        return what + (f"{built[1]}: " if built else "") + found + hints
    errors = [index for index, line in enumerate(lines) if line.lower().startswith("error: ")]
    errors = [index for index in errors if "Ignored the following" not in lines[index]]
    # If a build fails, pip writes only the name of its own error class outside of the output of the build.
    errors = [index for index in errors if not re.fullmatch(r"error: \w+(-\w+)+", lines[index])] or errors
    if not errors:
        return (lines or [""])[-1] + hints
    if missing := _NO_VERSION.match(lines[errors[0]]):
        return _of_versions(missing, lines) + hints
    error = re.sub("^(ERROR|error): ", "", lines[errors[0]])
    more = lines[errors[0] + 1 :]
    details = _details_of_pip(more)
    if details and "these package versions have conflicting dependencies" in error:
        error = details.pop(0) if details[0].startswith(_NO_FILE) else _without_file(details[0]) or "conflict"
    return ": ".join(dict.fromkeys([error, *_causes(more), *details])) + hints


_OF_ANY_FAILURE = re.compile(
    r"hint: (This usually indicates|Build failures usually indicate) a problem|hint: See above for details"
)
"""What uv and pip print for each build that fails."""


def _split_hints(output: Sequence[str]) -> tuple[list[str], str]:
    """The lines of `output` without their decoration, and the first sentence of each of uv's hints, in parentheses."""
    lines: list[str] = []
    hints: list[str] = []
    is_hint = is_last = False
    for line in output:
        plain = re.sub(r"^[^\w.<\[('\"]*(?:[├╰]─▶|Caused by:|cause:)\s*", "cause: ", line)
        plain = re.sub(r"^[^\w.<]+", "", plain).strip()
        plain = re.sub(r"(?<=retries) in [\d.]+m?s\b", "", plain)  # it would differ between the Pythons
        if _OF_ANY_FAILURE.match(plain):
            is_hint = False
        elif re.match(r"hint\b", plain):
            is_hint = True
            is_last = line.startswith("hint")  # uv prints them at the end; they can have several paragraphs
            hints.append(plain.removeprefix("hint").lstrip(": "))
        elif is_hint and plain and (line[:1].isspace() or is_last):
            hints[-1] += f" {plain}"
        elif plain and not re.match(r"note: |\[notice\]", plain):
            is_hint = False
            lines.append(plain)
    sentences = dict.fromkeys(re.split(r"(?<=[\w`)])\. ", hint)[0].rstrip(".") for hint in map(_with_variable, hints))
    return lines, f" ({'; '.join(sentences)})" if sentences else ""


_GIT_FAILED = re.compile(r"(error: |cause: )?Git operation failed|git .* did not run successfully")
_OF_GIT = re.compile(r"fatal: (.*)|error: (pathspec .*)")


def _of_git(lines: Sequence[str]) -> str:
    """What git says, if pip or uv started it."""
    found = next(filter(None, map(_OF_GIT.match, lines)), None)
    return f"git: {found[1] or found[2]}" if found and any(map(_GIT_FAILED.match, lines)) else ""


def _with_variable(hint: str) -> str:
    """`hint` with uv's variable in place of an option: the user does not call uv."""
    return re.sub(
        r"the `--([a-z-]+)` command-line flag", lambda found: f"UV_{found[1].replace('-', '_').upper()}=1", hint
    )


# uv


_URL = re.compile(r"Failed to (?:fetch|download):? `?(https?://[^\s`]+)`?")


def _of_server(lines: Sequence[str]) -> str:
    """The reason if uv could not download a file.

    Of an address in an index, it has only the index: which package uv asks for first differs between the Pythons.
    """
    start = next((index for index, line in enumerate(lines) if _URL.search(line)), None)
    if start is None:
        return ""
    url = re.sub(r"(?<=/)[^/]+/$", "", _URL.search(lines[start])[1])  # type: ignore[index]  # it has matched
    causes = _causes(lines[start + 1 :])
    if not causes:
        return ""
    cause = re.sub(r" for url \(.*\)", "", causes[-1])
    proxy = " through the proxy" if any(each.startswith(("tunnel error", "proxy")) for each in causes) else ""
    if any(each.startswith("error sending request") for each in causes):
        return f"no connection to {url}{proxy}: {cause}"
    return f"cannot download from {url}: {cause}"


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
        return re.sub(r"^Because (.*), we can conclude that your requirements are unsatisfiable\.$", r"\1", text)
    steps = [
        [premise.strip(" ,") for premise in _PREMISE.split(re.split(r",? we can conclude ", step)[0])]
        for step in _STEP.split(text)
    ]
    subjects = {re.split(r"[^\w.-]", premise)[0] for step in steps for premise in step}
    facts = [[premise for premise in step if _is_fact(premise, subjects)] for step in steps]
    facts.sort(key=lambda step: not any(map(_MISSING.search, step)))
    if found := _of_python([fact for step in facts for fact in step]):
        return found
    shown: dict[str, str] = {}
    for step in facts:
        for fact in step:
            shown.setdefault(fact, " and ")
        if step:
            shown[[*shown][-1]] = "; "
    most = list(itertools.islice(shown.items(), _MOST_FACTS))
    text = re.sub(r"( and |; )$", "", "".join(itertools.chain.from_iterable(most)))
    return f"{text} …" if len(shown) > _MOST_FACTS else text


_YANKED = re.compile(r" w(as|ere) yanked ")
_NEEDS_PYTHON = re.compile(r"(?:all of: )?(.*) depends? on Python\D*([\d.]+).*")


def _of_python(facts: Sequence[str]) -> str:
    """The reason if the versions of a package need another Python: those that need the oldest, and what needs them."""
    current = [fact for fact in facts if fact.startswith("the current Python version ")]
    needs = [found for found in map(_NEEDS_PYTHON.fullmatch, facts) if found]
    if not current or not needs:
        return ""
    oldest = min(needs, key=lambda found: [int(part) for part in found[2].split(".") if part])
    name = re.split(r"[^\w.-]", oldest[1])[0]
    users = [fact for fact in facts if re.search(rf" depends? on {re.escape(name)}(?![\w.-])", fact)]
    if not {*facts}.issubset([*current, *users, *(found[0] for found in needs), *filter(_YANKED.search, facts)]):
        return ""  # of more than Pythons
    return "; ".join(dict.fromkeys([oldest[0].removeprefix("all of: "), *users[:_MOST_USERS]]))


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


_BROKEN = re.compile(r"after connection broken by (.*)")
"""What pip says before each attempt after a failed connection. In the end it only says that there is no version."""
_PHRASE = re.compile(r"[A-Za-z][\w-]*(?:[ :]+[A-Za-z][\w.-]*)+")
_NO_VERSION = re.compile(
    r"ERROR: Could not find a version that satisfies the requirement (.*?)( \(from (?!versions:).*\))?"
    r" \(from versions: (.*)\)"
)
_IGNORED = re.compile(r"([^\s;]+) Requires-Python ([^;]+)")


def _of_connection(lines: Sequence[str]) -> str:
    """The reason if pip, also the one that installs the requirements of a build, could not reach the index."""
    broken = next(filter(None, map(_BROKEN.search, lines)), None)
    missing = next(filter(None, map(_NO_VERSION.match, lines)), None)
    if not broken or not missing or missing[3] != "none":
        return ""
    # The exception in it ends with what went wrong, and perhaps with a number in parentheses.
    phrases = _PHRASE.findall(re.sub(r" \((?:[a-z]+ timeout=|_ssl)[^)]*\)", "", broken[1]))
    proxy = " through the proxy" if "ProxyError(" in broken[1] else ""
    cause = phrases[-1].rstrip(".") if phrases else broken[1]
    return f"no connection to the package index{proxy} for {missing[1]}: {cause}"


def _of_versions(missing: re.Match[str], lines: Sequence[str]) -> str:
    """The reason if pip found no version: the first one for another Python, or the last ones that do not fit."""
    text, origin, versions = missing.groups(default="")
    for line in lines:
        if "that require a different python version: " in line and (needed := _first_ignored(text, line)):
            return f"{needed}, so {text} was not found{origin}"
    shown = versions.split(", ")
    if len(shown) > _MOST_VERSIONS:
        versions = ", ".join(["…", *shown[-_MOST_VERSIONS:]])
    return f"{text} was not found{origin} (from versions: {versions})"


def _first_ignored(text: str, line: str) -> str:
    """The first version among those that pip ignored in `line` that fits the requirement `text`."""
    with contextlib.suppress(InvalidRequirement, InvalidVersion):
        required = Requirement(text)
        fitting = [each for each in _IGNORED.findall(line) if required.specifier.contains(each[0])]
        if fitting:
            version, python = min(fitting, key=lambda each: Version(each[0]))
            return f"{required.name} {version} requires Python {python}"
    return ""


_DEPENDS = re.compile(r"([^ ,]+) [^ ,]+ depends on ([\w.-]+)")


def _without_file(conflict: str) -> str:
    """What pip before 25.1 does not say: all parts of the `conflict` are about the same two packages, so a file lacks.

    Empty for other conflicts.
    """
    found = [_DEPENDS.match(part) for part in re.split(r", (?=\S+ \S+ depends on |The user )", conflict)]
    pairs = {each and each.groups() for each in found}
    pair = pairs.pop()
    return f"{_NO_FILE}{pair[1]}" if pair and not pairs else ""


_NO_FILE = "no file for "
_WITHOUT_VERSION = re.compile(r"The user requested [\w.-]+")


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
            # A requirement without a version is part of no conflict. pip repeats the others for each version it tried.
            facts = [*dict.fromkeys(each for each in section[1:] if not _WITHOUT_VERSION.fullmatch(each))]
            found[-1] = section[0] + ", ".join(facts[:_MOST_FACTS]) + (", …" if len(facts) > _MOST_FACTS else "")
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
    if errors := [line for line in block if line.startswith("ERROR: ") and "Ignored the following" not in line]:
        missing = _NO_VERSION.match(errors[0])
        return _of_versions(missing, block) if missing else errors[0].removeprefix("ERROR: ")
    return compiler or "; ".join(line.removeprefix("error: ") for line in block[-_MOST_LINES:])


_OF_BUILD_SYSTEM = re.compile("requirements from `build-system.requires`|build dependencies.* did not run successfully")
_BUILT = re.compile(r"Failed to (?:download and )?build:? [`']([\w.-]+==[^`']+)[`']")
"""Names a dependency, and not the project, which has a path."""
_BLOCK = re.compile(r"\d+ lines? of output\]|(stdout|stderr)\]")


def _exception(lines: Sequence[str]) -> str:
    """The last exception in `lines`, at most three lines of it, without what pip writes after the output of a build."""
    found = [index for index, line in enumerate(lines) if _EXCEPTION.fullmatch(line)]
    if not found:
        return ""
    message = itertools.takewhile(lambda line: line != "end of output]", lines[found[-1] : found[-1] + _MOST_LINES])
    return " ".join(message)
