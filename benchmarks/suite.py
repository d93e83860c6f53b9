"""The suites of real libraries under several Pythons: the same counts as their own tool gives, and how long each takes.

    python benchmarks/suite.py counts DIR     # DIR holds checkouts; missing ones are cloned at the tags below
    python benchmarks/suite.py race DIR --repeat 5 --library pluggy

Both print a table in Markdown. The Pythons come from a mirror on loopback that is packed out of this machine's, so that
nothing but packages is downloaded. Pairs run one after the other, so that a busy machine is busy for both.
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import archives  # noqa: E402
import mirror  # noqa: E402

LIBRARIES = {
    "pluggy": ("https://github.com/pytest-dev/pluggy", "1.5.0", "tox"),
    "humanize": ("https://github.com/python-humanize/humanize", "4.10.0", "tox"),
    "packaging": ("https://github.com/pypa/packaging", "24.2", "nox"),
    "attrs": ("https://github.com/python-attrs/attrs", "24.2.0", "tox"),
    "markupsafe": ("https://github.com/pallets/markupsafe", "2.1.5", "tox"),
}
VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
BIN = Path(sys.executable).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("counts", "race"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("--library", action="append", choices=LIBRARIES)
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    libraries = arguments.library or list(LIBRARIES)
    versions = [version for version in VERSIONS if version in archives.interpreters()]
    with world(directory, versions) as environ:
        for library in libraries:
            checkout(directory, library)
        if arguments.what == "counts":
            counts(directory, libraries, versions, environ)
        else:
            race(directory, libraries, versions, environ, arguments.repeat)


@contextlib.contextmanager
def world(directory: Path, versions: list[str]) -> Iterator[dict[str, str]]:
    executables = [archives.interpreters()[version] for version in versions]
    packed = archives.packed(directory / ".mirror", executables)
    with mirror.serve(packed) as server:
        variables = {
            "PYTEST_PYINSTALL_HOME": str(directory / ".home"),
            "PYTEST_PYINSTALL_MIRROR": server.url,
            "PYTEST_PYINSTALL_CATALOGUE": f"{server.url}/catalogue.json",
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": "--color=no",
            "UV_PYTHON_DOWNLOADS": "never",
            # tox and nox look there for theirs.
            "PATH": os.pathsep.join([str(BIN), *(str(path.parent) for path in executables), os.environ["PATH"]]),
        }
        yield {**os.environ, **variables}


def checkout(directory: Path, library: str) -> None:
    url, tag, _ = LIBRARIES[library]
    place = directory / library
    if not place.exists():
        subprocess.run(["git", "clone", "-q", url, str(place)], check=True)
    subprocess.run(["git", "-C", str(place), "checkout", "-q", tag], check=True)


def run(command: list[str], place: Path, environ: dict[str, str]) -> tuple[float, str]:
    start = time.monotonic()
    done = subprocess.run(
        command, cwd=place, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return time.monotonic() - start, done.stdout


def suite(versions: list[str]) -> list[str]:
    return [str(BIN / "pytest"), f"--python={versions[0]}..{versions[-1]}", "--python-suite", "-q"]


def tox(versions: list[str], runner: str) -> list[str]:
    names = ",".join(f"py{version.replace('.', '')}" for version in versions)
    return [str(BIN / "tox"), "run-parallel", "--parallel-no-spinner", "--runner", runner, "-e", names]


def counts(directory: Path, libraries: list[str], versions: list[str], environ: dict[str, str]) -> None:
    print(f"| library | tag | tool | {' | '.join(versions)} |\n|---|---|---|{'---|' * len(versions)}")
    for library in libraries:
        _, tag, tool = LIBRARIES[library]
        place = directory / library
        _, said = run(suite(versions), place, environ)
        rows = dict(re.findall(r"^(3\.\d+)\.\d+ +\S+ +((?:\d+ +){4,6})", said, re.MULTILINE))
        ours = [plain(rows.get(version, "")) for version in versions]
        print(f"| {library} | {tag} | `--python-suite` | {' | '.join(ours)} |", flush=True)
        theirs = []
        for version in versions:
            short = version.replace(".", "")
            command = [str(BIN / "tox"), "run", "-e", f"py{short}"]
            if tool == "nox":
                command = [str(BIN / "nox"), "-s", f"tests-{version}", "--no-error-on-missing-interpreters"]
            _, text = run(command, place, environ)
            lines = re.findall(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+).* in [\d.:s]+", text, re.MULTILINE)
            theirs.append(last_line(lines[-1]) if lines else "none")
        print(f"| | | {tool} | {' | '.join(theirs)} |", flush=True)


def plain(row: str) -> str:
    numbers = row.split()
    words = ("passed", "failed", "skipped", "error", "xfailed", "xpassed")
    return (
        ", ".join(f"{number} {word}" for number, word in zip(numbers, words, strict=False) if number != "0") or "none"
    )


def last_line(text: str) -> str:
    found = {
        word.removesuffix("s") if word == "errors" else word: number
        for number, word in re.findall(r"(\d+) (\w+)", text)
    }
    words = ("passed", "failed", "skipped", "error", "xfailed", "xpassed")
    return ", ".join(f"{found[word]} {word}" for word in words if word in found)


def race(directory: Path, libraries: list[str], versions: list[str], environ: dict[str, str], repeat: int) -> None:
    print("| library | against | ours, s | theirs, s | ratio, median of pairs | |\n|---|---|---|---|---|---|")
    for library in libraries:
        place = directory / library
        rivals = {"tox -p": tox(versions, "virtualenv"), "tox-uv -p": tox(versions, "uv-venv-runner")}
        rivals["nox -R (uv)"] = nox(directory, library, versions)
        for name, command in rivals.items():
            for is_cold in (True, False):
                pairs = []
                for number in range(1 if is_cold else repeat):
                    if is_cold:
                        forget(directory, library)
                    words = [word for word in command if not (is_cold and word == "-R")]
                    mine, said = run(suite(versions), place, environ)
                    theirs, _ = run(words, place, environ)
                    assert re.search(r"\d+ passed", said), said[-2000:]
                    assert "failed" not in said.splitlines()[-1], said[-2000:]
                    pairs.append((mine, theirs))
                    del number
                ratio = statistics.median(mine / theirs for mine, theirs in pairs)
                mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
                kind = "cold" if is_cold else f"warm, {repeat} pairs"
                print(f"| {library} | {name} | {mine:.2f} | {theirs:.2f} | {ratio:.2f} | {kind} |", flush=True)


def forget(directory: Path, library: str) -> None:
    """The environments of both sides; the caches of uv and pip stay, for both."""
    for path in (directory / library / ".tox", directory / ".nox", directory / ".home" / "cache" / "environments"):
        shutil.rmtree(path, ignore_errors=True)


def nox(directory: Path, library: str, versions: list[str]) -> list[str]:
    """Most libraries have no noxfile; this one does what a short one would."""
    extras = {"pluggy": "[testing]", "humanize": "[tests]", "attrs": "[tests]"}.get(library, "")
    path = directory / f".noxfile_{library}.py"
    path.write_text(
        f"import nox\n\n@nox.session(python={versions!r}, venv_backend='uv')\ndef tests(session):\n"
        f"    session.install('pytest', '-e', {str(directory / library) + extras!r})\n"
        f"    session.chdir({str(directory / library)!r})\n    session.run('pytest', '-q')\n",
        encoding="utf-8",
    )
    return [str(BIN / "nox"), "-f", str(path), "-R", "-s", "tests"]


if __name__ == "__main__":
    main()
