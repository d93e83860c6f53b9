"""Tests for pytest_pyinstall/interpreter/reasons.py: the reason in the output of an installer or a build."""

import zipfile
from pathlib import Path

import pytest

from pytest_pyinstall.interpreter.reasons import reason_of, undecodable_file, unusable_wheels


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            (
                "error: No solution found when resolving dependencies\n"
                "  cause: Because x was not found in the registry and you\n"
                "         require x==1, we can conclude that your requirements are unsatisfiable.\nhint: An index\n"
            ),
            "x was not found in the registry and you require x==1 (An index)",
        ),
        (
            "  \u00d7 No solution found\n  ╰─▶ Because x is missing,\n      nothing works.\n",
            "Because x is missing, nothing works.",
        ),
        (
            (
                "Collecting x\nERROR: Could not find a version that satisfies the requirement x (from versions: none)\n"
                "ERROR: No matching distribution found for x\n"
            ),
            "x was not found (from versions: none)",
        ),
        (
            (
                "error: Failed to build `x`\n  cause: exit code 1\n  [stderr]\n  Traceback (most recent call last):\n"
                '    File "a.py", line 1, in <module>\n  pkg.errors.BuildError: no compiler\n'
            ),
            "pkg.errors.BuildError: no compiler",
        ),
        (
            (
                "error: subprocess-exited-with-error\n  | b.ConfigError: no description\n  [end of output]\n\n"
                "error: subprocess-exited-with-error\n"
            ),
            "b.ConfigError: no description",
        ),
        (
            (
                "  error: subprocess-exited-with-error\n\n"
                "  \u00d7 pip subprocess to install build dependencies did not run successfully.\n"
                "  \u2502 exit code: 1\n  \u2570\u2500> [3 lines of output]\n      Looking in links: /packages\n"
                "      ERROR: Could not find a version that satisfies the requirement setuptools>=80 (from versions:"
                " none)\n      ERROR: No matching distribution found for setuptools>=80\n      [end of output]\n\n"
                "  note: This error originates from a subprocess, and is likely not a problem with pip.\n"
                "error: subprocess-exited-with-error\n"
            ),
            "build dependencies: setuptools>=80 was not found (from versions: none)",
        ),
        (
            (
                "error: Failed to resolve requirements from `build-system.requires`\n"
                "  cause: No solution found when resolving: `hatchling`\n"
                "  cause: Because hatchling was not found in the cache and you require hatchling, nothing works.\n"
            ),
            (
                "build dependencies: Because hatchling was not found in the cache and you require hatchling, nothing"
                " works."
            ),
        ),
        (
            (
                "ERROR: Ignored the following versions that require a different python version: 9 Requires-Python >=3\n"
                "ERROR: Could not find a version that satisfies the requirement x==99 (from versions: 1, 2)\n"
            ),
            "x==99 was not found (from versions: 1, 2)",
        ),
        (
            (
                "ERROR: Ignored the following versions that require a different python version: 1.9 Requires-Python"
                " <3.4; 2.10.0 Requires-Python >=3.10; 2.2 Requires-Python >=3.9,!=3.9.0; 3 Requires-Python >=3.11\n"
                "ERROR: Could not find a version that satisfies the requirement x[y]>=2.1 (from p) (from versions: 1)\n"
            ),
            "x 2.2 requires Python >=3.9,!=3.9.0, so x[y]>=2.1 was not found (from p)",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1, 2, 3, 4, 5)\n",
            "x==9 was not found (from versions: …, 3, 4, 5)",
        ),
        (
            # uv, for a dependency whose versions need newer Pythons.
            (
                "error: No solution found\n  cause: Because the current Python version (3.9.18) does not satisfy"
                " Python>=3.11 and all of:\n             x>=3.1\n             x>=3.3\n         depend on Python>=3.11,"
                " we can conclude that x>=3 cannot be used.\n"
                "         And because the current Python version (3.9.18) does not satisfy Python>=3.10 and"
                " x>=2.1,<=2.2.6 depends on Python>=3.10, we can conclude that x>=2.1 cannot be used.\n"
                "         And because x==2.4 was yanked (reason: a bug) and p==1 depends on x>=2.1, we can conclude"
                " that p==1 cannot be used.\n         And because you require p, we can conclude"
                " that your requirements are unsatisfiable.\n"
            ),
            "x>=2.1,<=2.2.6 depends on Python>=3.10; p==1 depends on x>=2.1",
        ),
        (
            (
                "error: No solution found\n  cause: Because the current Python version (3.9.18) does not satisfy"
                " Python>=3.10 and x>=2 depends on Python>=3.10, we can conclude that x>=2 cannot be used.\n"
                "         And because x<2 depends on y<1 and you require y>=1, we can conclude that x cannot be used.\n"
            ),
            (
                "the current Python version (3.9.18) does not satisfy Python>=3.10 and x>=2 depends on Python>=3.10;"
                " x<2 depends on y<1"
            ),
        ),
        (
            (
                "error: Request failed after 3 retries in 8.1s\n  cause: Failed to fetch: https://pypi.org/simple/x/\n"
                "  cause: error sending request for url (https://pypi.org/simple/x/)\n  cause: client error (Connect)\n"
                "  cause: dns error\n  cause: failed to lookup address information: Name or service not known\n"
            ),
            (
                "no connection to https://pypi.org/simple/: failed to lookup address information: Name or service not"
                " known"
            ),
        ),
        (
            (
                "error: Failed to fetch: `https://pypi.org/x.whl`\n  Caused by: error sending request for url (x)\n"
                "  Caused by: client error (Connect)\n  Caused by: tunnel error: failed\n"
                "  Caused by: Connection refused (os error 111)\n"
            ),
            "no connection to https://pypi.org/x.whl through the proxy: Connection refused (os error 111)",
        ),
        (
            (
                "error: Failed to fetch: http://localhost/simple/x/\n  cause: HTTP status server error (500 Internal"
                " Server Error) for url (http://localhost/simple/x/)\n"
            ),
            "cannot download from http://localhost/simple/: HTTP status server error (500 Internal Server Error)",
        ),
        ("error: metadata-generation-failed\n  the end\n", "metadata-generation-failed"),
        (
            (
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<HTTPSConnection"
                " at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')':\n"
                "ERROR: Could not find a version that satisfies the requirement pytest (from versions: none)\n"
                "ERROR: No matching distribution found for pytest\n"
            ),
            "no connection to the package index for pytest: Temporary failure in name resolution",
        ),
        (
            # pip, for the requirements of a build.
            (
                "  error: subprocess-exited-with-error\n  pip subprocess to install build dependencies did not run"
                " successfully.\n  │ exit code: 1\n  ╰─> [3 lines of output]\n      WARNING: Retrying (Retry(total=0))"
                " after connection broken by 'NewConnectionError('<HTTPConnection at 0x7f>: Failed to establish a new"
                " connection: [Errno 111] Connection refused')': /simple/flit-core/\n      ERROR: Could not find a"
                " version that satisfies the requirement flit_core>=3.4 (from versions: none)\n      ERROR: No matching"
                " distribution found for flit_core>=3.4\n      [end of output]\n"
            ),
            "no connection to the package index for flit_core>=3.4: Connection refused",
        ),
        (
            # A proof of several steps: the facts, first of the package that cannot be had, and uv's own hint.
            (
                "error: No solution found when resolving dependencies\n"
                "  cause: Because pytest==9.2.0 requires Python >=3.10 and only the following versions of pytest are"
                " available:\n"
                "             pytest<=8.4.2\n             pytest==9.2.0\n"
                "         we can conclude that pytest>8.4.2 cannot be used. (1)\n\n"
                "         Because iniconfig was not found in the cache and pytest<=8.4.2 depends on iniconfig>=1, we"
                " can conclude that pytest<=8.4.2 cannot be used.\n"
                "         And because we know from (1) that pytest>8.4.2 cannot be used and you require pytest, we can"
                " conclude that your requirements are unsatisfiable.\n\n"
                "hint: Packages were unavailable because the network was disabled. When the network is disabled,"
                " registry packages may only be read from the cache.\n"
            ),
            (
                "iniconfig was not found in the cache and pytest<=8.4.2 depends on iniconfig>=1; pytest==9.2.0 requires"
                " Python >=3.10 (Packages were unavailable because the network was disabled)"
            ),
        ),
        (
            # uv 0.5, which repeats a fact and breaks lines.
            (
                "  \u00d7 No solution found when resolving dependencies:\n"
                "  \u2570\u2500\u25b6 Because iniconfig was not found in the cache and iniconfig was not found\n"
                "      in the cache, we can conclude that iniconfig>=1 cannot be used.\n"
                "      And because pytest==8.4.2 depends on iniconfig>=1 and only the following\n"
                "      versions of pytest are available:\n          pytest==8.4.2\n          pytest==9.2.0\n"
                "      we can conclude that pytest<9.2.0 cannot be used. (1)\n\n"
                "      Because iniconfig was not found in the cache and pytest==9.2.0 depends\n"
                "      on iniconfig>=2, we can conclude that pytest==9.2.0 cannot be used.\n"
                "      And because we know from (1) that pytest<9.2.0 cannot be used, we can\n"
                "      conclude that all versions of pytest cannot be used.\n"
                "      And because you require pytest, we can conclude that your requirements\n"
                "      are unsatisfiable.\n\n"
                "      hint: Packages were unavailable because the network was disabled. When\n"
                "      the network is disabled, registry packages may only be read from the\n      cache.\n"
            ),
            (
                "iniconfig was not found in the cache; pytest==9.2.0 depends on iniconfig>=2; pytest==8.4.2 depends on"
                " iniconfig>=1 (Packages were unavailable because the network was disabled)"
            ),
        ),
        (
            # "only the following versions" is a fact if no other step is about that package.
            (
                "error: No solution found\n  cause: Because only pluggy<=1.4 is available and x==2 depends on"
                " pluggy>=1.5, we can conclude that x==2 cannot be used.\n"
                "         And because only x==2 is available and you require x, we can conclude that your requirements"
                " are unsatisfiable.\n"
            ),
            "only pluggy<=1.4 is available and x==2 depends on pluggy>=1.5",
        ),
        (
            (
                "error: Error parsing included file in `r.txt` at position 0\n"
                "  cause: failed to read from file `/p/foo.txt`: No such file or directory (os error 2)\n"
            ),
            (
                "Error parsing included file in `r.txt` at position 0: failed to read from file `/p/foo.txt`: No such"
                " file or directory (os error 2)"
            ),
        ),
        (
            (
                "error: Couldn't parse requirement in `r.txt` at position 0\n  Caused by: no such comparison operator"
                ' "==>"\n         humanize==>1\n                 ^^^^\n'
            ),
            'Couldn\'t parse requirement in `r.txt` at position 0: no such comparison operator "==>": humanize==>1',
        ),
        (
            (
                "error: Failed to parse metadata from built wheel\n  cause: Invalid `pyproject.toml`\n"
                "  cause: TOML parse error at line 1, column 9\n           |\n         1 | [project\n"
                "           |         ^\n         unclosed table, expected `]`\n"
            ),
            (
                "Failed to parse metadata from built wheel: Invalid `pyproject.toml`: TOML parse error at line 1,"
                " column 9: unclosed table, expected `]`"
            ),
        ),
        (
            (
                "error: Failed to determine installation plan\n  cause: A path (x.whl) dependency is incompatible with"
                " the current platform\n\nhint: The wheel is compatible with Windows (`win_amd64`), but you're on"
                " Linux\n"
            ),
            (
                "Failed to determine installation plan: A path (x.whl) dependency is incompatible with the current"
                " platform (The wheel is compatible with Windows (`win_amd64`), but you're on Linux)"
            ),
        ),
        (
            (
                "error: The build backend returned an error\n"
                "  cause: Call to `setuptools.build_meta.build_wheel` failed (exit status: 1)\n\n"
                "         [stdout]\n         running build\n\n         [stderr]\n"
                "         fatal: libfoo.h not found, install libfoo-dev\n"
                "\nhint: Build failures usually indicate a problem with the package or the build environment.\n"
            ),
            "fatal: libfoo.h not found, install libfoo-dev",
        ),
        (
            (
                "error: Failed to build `x`\n  cause: The build backend returned an error\n         [stderr]\n"
                "         m.c:1:10: fatal error: no_such.h: No such file or directory\n"
                "             1 | #include <no_such.h>\n         compilation terminated.\n"
                "         error: Command '['gcc', '-c']' returned non-zero exit status 1.\n"
            ),
            "m.c:1:10: fatal error: no_such.h: No such file or directory",
        ),
        (
            (
                "  error: subprocess-exited-with-error\n  \u2502 exit code: 1\n  \u2570\u2500> [2 lines of output]\n"
                "      building\n      fatal: install libfoo-dev\n      [end of output]\n  \n  note: of a subprocess.\n"
                "ERROR: Failed to build 'file:///p/x' when getting requirements to build wheel\n"
            ),
            "building; fatal: install libfoo-dev",
        ),
        (
            (
                "Processing /p/pytest-9-py3-none-any.whl\nERROR: Cannot install pytest==8 and pytest==9 because these"
                " package versions have conflicting dependencies.\n\nThe conflict is caused by:\n"
                "    pytest 9 depends on iniconfig>=2\n    pytest 8 depends on iniconfig>=1\n\n"
                "Additionally, some packages in these conflicts have no matching distributions available for your"
                " environment:\n    iniconfig\n\nTo fix this you could try to:\n1. loosen the range\n\n"
                "ERROR: ResolutionImpossible: for help visit https://pip/\n"
            ),
            ("no file for iniconfig: pytest 9 depends on iniconfig>=2, pytest 8 depends on iniconfig>=1"),
        ),
        (
            # pip before 25.1 does not say that a file is missing.
            (
                "ERROR: Cannot install pytest==8 and pytest==9 because these package versions have conflicting"
                " dependencies.\n\nThe conflict is caused by:\n    pytest 9 depends on iniconfig>=2\n"
                "    pytest 8 depends on iniconfig>=1,<3\n\nTo fix this you could try to:\nERROR: Resolution\n"
            ),
            "no file for iniconfig: pytest 9 depends on iniconfig>=2, pytest 8 depends on iniconfig>=1,<3",
        ),
        (
            (
                "ERROR: Cannot install x==1 because these package versions have conflicting dependencies.\n\n"
                "The conflict is caused by:\n    x 1 depends on y>=1\n    The user requested (constraint) y!=2\n\n"
                "To fix this you could try to:\nERROR: ResolutionImpossible\n"
            ),
            "conflict: x 1 depends on y>=1, The user requested (constraint) y!=2",
        ),
        (
            # pip repeats the project's requirement for each version that it tried.
            (
                "ERROR: Cannot install p and y because these package versions have conflicting dependencies.\n\n"
                "The conflict is caused by:\n"
                + "".join(
                    f"    The user requested x\n    p 1 depends on x<8\n    y {number} depends on x>={number}\n"
                    for number in range(16, 8, -1)
                )
                + "\nTo fix this you could try to:\nERROR: ResolutionImpossible\n"
            ),
            (
                "conflict: p 1 depends on x<8, y 16 depends on x>=16, y 15 depends on x>=15, y 14 depends on x>=14,"
                " y 13 depends on x>=13, y 12 depends on x>=12, …"
            ),
        ),
        (
            (
                "  Running command git clone --quiet https://h/x.git /tmp/x\n"
                "  fatal: unable to access 'https://h/x.git/': Could not resolve host\n"
                "  error: subprocess-exited-with-error\n\n  \u00d7 git clone --quiet https://h/x.git /tmp/x did not run"
                " successfully.\n  │ exit code: 128\n  ╰─> See above for output.\n"
            ),
            "git: unable to access 'https://h/x.git/': Could not resolve host",
        ),
        (
            (
                "error: Git operation failed\n  cause: failed to fetch into: /cache/uv/git-v2/db/8def\n"
                "  cause: process didn't exit successfully: `/usr/bin/git fetch` (exit status: 128)\n"
                "         --- stderr\n         fatal: couldn't find remote ref nosuch\n"
            ),
            "git: couldn't find remote ref nosuch",
        ),
        (
            (
                "ERROR: Invalid requirement: 'humanize==>1': Expected end\n    humanize==>1\n            ^ (from line 1"
                " of r.txt)\n"
            ),
            "Invalid requirement: 'humanize==>1': Expected end: line 1 of r.txt",
        ),
        (
            "ERROR: Invalid requirement: './no'\nHint: It looks like a path. File './no' does not exist.\n",
            "Invalid requirement: './no': It looks like a path. File './no' does not exist.",
        ),
        (
            (
                "error: Failed to install\n  cause: failed to write to file `/c/uv/a.py`: No space left on device (os"
                " error 28)\n"
            ),
            "No space left on device: /c/uv/a.py",
        ),
        (
            (
                "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n\nTraceback:"
                "\nsubprocess.CalledProcessError: Command '['python']' returned\n"
            ),
            "No space left on device",
        ),
        (
            (
                "error: Failed to fetch: https://pypi.org/simple/x/\n  cause: error sending request for url (x)\n"
                "  cause: invalid peer certificate: UnknownIssuer\n\nhint: Consider enabling use of system TLS"
                " certificates with the `--system-certs` command-line flag\n"
            ),
            (
                "no connection to https://pypi.org/simple/: invalid peer certificate: UnknownIssuer (Consider enabling"
                " use of system TLS certificates with UV_SYSTEM_CERTS=1)"
            ),
        ),
        (
            # The name of a dependency that cannot be built.
            "error: Failed to download and build `numpy==1.19.0`\n         [stderr]\n         KeyError: 'y'\n",
            "numpy==1.19.0: KeyError: 'y'",
        ),
        (
            # A hint of several paragraphs.
            (
                "error: Failed to build `x`\n         [stderr]\n         ModuleNotFoundError: No module named 'y'\n\n"
                "hint: It lacks `y`. Consider adding it to:\n\n[tool.uv.extra]\nx = ['y']\n\nor installing it.\n"
            ),
            "ModuleNotFoundError: No module named 'y' (It lacks `y`)",
        ),
        ("something else\nthe end\n", "the end"),
        ("", ""),
    ],
)
def test_the_reason_of_a_failed_installation_is_found_in_the_output(output: str, line: str) -> None:
    assert reason_of(output.splitlines()) == line


@pytest.mark.parametrize(
    ("broken", "phrase"),
    [
        (
            (
                "'NameResolutionError(\"HTTPSConnection(host='x.org', port=443): Failed to resolve 'x.org' ([Errno -3]"
                " Temporary failure in name resolution)\")': /simple/pytest/"
            ),
            "",
        ),
        (
            (
                "'ProxyError('Cannot connect to proxy.', NewConnectionError('<HTTPSConnection at 0x7f>: Failed to"
                " establish a new connection: [Errno 111] Connection refused'))': /simple/pytest/"
            ),
            " through the proxy",
        ),
        (
            (
                "'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed:"
                " self-signed certificate (_ssl.c:1129)'))': /simple/pytest/"
            ),
            "",
        ),
        ("'ReadTimeoutError(\"Pool(host='x', port=443): Read timed out. (read timeout=15)\")': /simple/pytest/", ""),
    ],
)
def test_the_reason_for_a_broken_connection_is_found_in_the_exception_that_pip_prints(broken: str, phrase: str) -> None:
    output = (
        f"WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by {broken}\n"
        "ERROR: Could not find a version that satisfies the requirement pytest (from versions: none)\n"
    )
    reasons = "Temporary failure in name resolution", "Connection refused", "self-signed certificate", "Read timed out"
    shown = next(each for each in reasons if each in broken)
    expected = "certificate verify failed: self-signed certificate" if "self-signed" in shown else shown
    assert reason_of(output.splitlines()) == f"no connection to the package index{phrase} for pytest: {expected}"


def test_wheels_that_do_not_support_the_python_are_found_in_the_output_of_pip(tmp_path: Path) -> None:
    for name, requires in (("new-2", ">=3.10"), ("old-1", ">=3.8"), ("other-1", "")):
        with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
            line = f"Requires-Python: {requires}\n" if requires else ""
            wheel.writestr(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\n{line}")
    output = f"Processing {tmp_path}/new-2-py3-none-any.whl (from x)\nProcessing ./old-1-py3-none-any.whl\n"
    output += "Processing ./other-1-py3-none-any.whl\nProcessing ./gone-1-py3-none-any.whl\n"
    error = "ERROR: Package 'new' requires a different Python: 3.9.18 not in '>=3.10'\n"

    assert unusable_wheels(output + error, tmp_path, "3.9.18") == {"new!=2": ">=3.10"}
    assert unusable_wheels(output + error, tmp_path, "3.10.1") == {}
    assert unusable_wheels(output, tmp_path, "3.9.18") == {}


def test_a_requirement_file_that_is_no_text_is_found_because_pip_does_not_name_it(tmp_path: Path) -> None:
    (tmp_path / "fine.txt").write_text("pytest\n", "utf-8")
    (tmp_path / "image.txt").write_bytes(b"\x89PNG")
    words = ["pytest", "-r", "fine.txt", "-c", "gone.txt", "-r", "image.txt"]
    error = "Traceback (most recent call last):\nUnicodeDecodeError: 'utf-8' codec can't decode byte 0x89\n"

    assert undecodable_file(error, words, tmp_path) == tmp_path / "image.txt"
    assert undecodable_file(error, words[:-2], tmp_path) is None
    assert undecodable_file("ERROR: other\n", words, tmp_path) is None
    assert (
        reason_of(f"{error}in x.txt".splitlines())
        == "UnicodeDecodeError: 'utf-8' codec can't decode byte 0x89 in x.txt"
    )
