"""A real bash completes commands, options and requests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

argcomplete = pytest.importorskip("argcomplete")

BASH = shutil.which("bash")

REGISTER = """
import sys
from argcomplete.shell_integration import shellcode
print(shellcode(["pytest-pyinstall"], shell="bash"))
"""


@pytest.fixture(name="program")
def _program(tmp_path: Path) -> Path:
    program = tmp_path / "programs" / "pytest-pyinstall"
    program.parent.mkdir()
    code = "import sys; from pytest_pyinstall.cli.main import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
    program.chmod(0o755)
    return program


def completed(line: str, program: Path, cwd: Path) -> list[str]:
    """What bash offers if you press the tab key after `line`."""
    assert BASH
    script = "\n".join(
        [
            subprocess.run([sys.executable, "-c", REGISTER], check=True, capture_output=True, text=True).stdout,
            "COMP_TYPE=63",
            f"COMP_LINE={line!r}",
            f"COMP_POINT={len(line)}",
            f"COMP_WORDS=({line}{' ' + chr(39) * 2 if line.endswith(' ') else ''})",
            "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))",
            "_python_argcomplete pytest-pyinstall",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        ]
    )
    environ = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [BASH, "--norc", "-c", script], cwd=cwd, env=environ, capture_output=True, text=True, timeout=100, check=True
    )
    return [word.strip() for word in done.stdout.splitlines() if word.strip()]


@pytest.mark.skipif(BASH is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("pytest-pyinstall ins", {"install"}),
        ("pytest-pyinstall ver", {"verify"}),
        ("pytest-pyinstall install --rein", {"--reinstall"}),
        ("pytest-pyinstall find sup", {"supported"}),
        ("pytest-pyinstall install 3.1", {"3.12", "3.13", "3.13t"}),
        ("pytest-pyinstall cache ", {"list", "prune", "clear"}),
        ("pytest-pyinstall matrix --format ", {"github", "json", "lines"}),
        ("pytest-pyinstall list --python-downloads ", {"auto", "never"}),
        ("pytest-pyinstall exec --python pypy3.1", {"pypy3.10", "pypy3.11"}),
        ("pytest-pyinstall mirror pull sub", {"subdirectory/"}),
    ],
)
def test_bash_completes_words(line: str, words: set[str], program: Path, tmp_path: Path) -> None:
    (tmp_path / "subdirectory").mkdir()

    assert words <= set(completed(line, program, tmp_path))


@pytest.mark.skipif(BASH is None, reason="needs bash")
def test_completion_ignores_a_broken_configuration(program: Path, tmp_path: Path) -> None:
    (tmp_path / "pytest.toml").write_text("broken [")

    assert completed("pytest-pyinstall find sup", program, tmp_path) == ["supported"]
