"""A probe describes a Python correctly, and gives a clear error for broken and hostile executables."""

import errno
import os
import pickle
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from archives import interpreters
from packaging.version import Version

from pytest_pyinstall.errors import ProbeError, StoreError
from pytest_pyinstall.interpreter.interpreter import Interpreter
from pytest_pyinstall.interpreter.probe import probe
from pytest_pyinstall.request.identity import Target

CURRENT = Path(sys.executable).resolve()
OTHERS = interpreters()
needs_scripts = pytest.mark.skipif(os.name == "nt", reason="needs executable text files")
Write = Callable[[str], Path]


def probe_here(executable: Path, **more: object) -> Interpreter:
    return probe(executable, environ=os.environ, **more)  # type: ignore[arg-type]  # what a test varies


@pytest.fixture
def script(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "python"
        path.write_text(text)
        path.chmod(0o755)
        return path

    return write


@pytest.mark.parametrize("minor", OTHERS)
def test_each_python_is_described_correctly(minor: str) -> None:
    found = probe_here(OTHERS[minor])

    assert f"{found.version.major}.{found.version.minor}" == minor
    assert found.key.target == Target.current()
    assert found.executable == OTHERS[minor]
    assert (found.prefix, found.source) == (found.base_prefix, "path")
    assert found.base_executable.samefile(OTHERS[minor])


def test_the_running_python_is_described_correctly() -> None:
    found = probe_here(Path(sys.executable))

    assert found.version_info == tuple(sys.version_info)
    assert found.implementation == sys.implementation.name
    assert found.prefix == Path(sys.prefix)
    assert found.base_prefix == Path(sys.base_prefix)
    assert found.debug == hasattr(sys, "gettotalrefcount")
    assert pickle.loads(pickle.dumps(found)) == found  # pickled by us


@pytest.mark.parametrize("minor", OTHERS)
def test_an_environment_is_described_with_its_base(minor: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    subprocess.run([OTHERS[minor], "-m", "venv", "--without-pip", made], check=True)

    found = probe_here(made / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    assert found.prefix == made
    assert found.base_prefix == probe_here(OTHERS[minor]).base_prefix
    assert found.base_executable.samefile(OTHERS[minor])


POISON = {
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "{evil}",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONEXECUTABLE": "/nowhere/bin/python",
    "__PYVENV_LAUNCHER__": "/nowhere/bin/python",
    "PYTHONHASHSEED": "rubbish",
    "PYTHONUTF8": "rubbish",
    "PYTHONIOENCODING": "rubbish",
    "PYTHONMALLOC": "rubbish",
    "PYTHON_GIL": "rubbish",
    "PYTHONUSERBASE": "{evil}",
    "PYTHONSTARTUP": "{evil}/os.py",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONBREAKPOINT": "nowhere.nothing",
    "PYTHONCASEOK": "1",
    "VIRTUAL_ENV": "/nowhere",
    "CONDA_PREFIX": "/nowhere",
    "LD_LIBRARY_PATH": "{evil}",
    "LD_PRELOAD": "{evil}/libpython.so",
    "DYLD_LIBRARY_PATH": "{evil}",
    "DYLD_INSERT_LIBRARIES": "{evil}/libpython.so",
    "GCONV_PATH": "{evil}",
    "LC_ALL": "rubbish",
}


@pytest.mark.parametrize("minor", OTHERS)
def test_p14_poisoned_variables_do_not_change_the_result(
    minor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules of the working directory do not change it either."""
    expected = probe_here(OTHERS[minor])
    evil = tmp_path / "evil"
    evil.mkdir()
    for module in ("os", "site", "sitecustomize", "usercustomize", "json", "encodings", "codecs"):
        (evil / f"{module}.py").write_text("raise SystemExit('poisoned')")
    for library in OTHERS[minor].resolve().parent.parent.glob("lib/libpython*.so*"):
        (evil / library.name).write_text("no library")
    monkeypatch.chdir(evil)

    answers = [
        probe(OTHERS[minor], environ={**os.environ, name: value.format(evil=evil)}) for name, value in POISON.items()
    ]
    poison = {name: value.format(evil=evil) for name, value in POISON.items()}
    answers.append(probe(OTHERS[minor], environ={**os.environ, **poison}))

    assert answers == [expected] * len(answers)


@needs_scripts
def test_p17_a_path_with_spaces_and_umlauts_is_kept(tmp_path: Path) -> None:
    link = tmp_path / "mit Leerzeichen ü \N{SNAKE}" / "python"
    link.parent.mkdir()
    link.symlink_to(CURRENT)

    assert probe_here(link).executable == link


def test_the_error_for_a_missing_executable_names_it(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"there is no .*python3\.99"):
        probe_here(tmp_path / "python3.99")


def test_the_hint_for_a_missing_executable_lists_a_directory_that_exists(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    with pytest.raises(ProbeError) as caught:
        probe_here(tmp_path / "a b" / "gone" / "bin" / "python")
    assert caught.value.hint == f"ls -l {shlex.quote(str(tmp_path / 'a b'))}"


@needs_scripts
def test_the_error_for_a_dangling_link_names_its_target(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to("gone")

    with pytest.raises(ProbeError, match="a link to gone, which is missing"):
        probe_here(tmp_path / "python")


@needs_scripts
def test_a_directory_without_a_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="is a directory without bin/python3") as caught:
        probe_here(tmp_path)

    assert str(tmp_path) in caught.value.hint


@needs_scripts
def test_the_hint_for_a_file_that_is_not_executable_is_a_chmod_command(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\n")

    with pytest.raises(ProbeError, match="is not executable") as caught:
        probe_here(tmp_path / "python")

    assert caught.value.hint == f"chmod +x {tmp_path / 'python'}"
    (tmp_path / "passwords").write_text("secret\n")
    with pytest.raises(ProbeError, match="is not executable") as other:
        probe_here(tmp_path / "passwords")
    assert "chmod" not in other.value.hint


@needs_scripts
def test_an_empty_file_is_an_error(script: Write) -> None:
    with pytest.raises(ProbeError, match="is empty"):
        probe_here(script(""))


@needs_scripts
def test_a_program_for_another_machine_is_an_error(tmp_path: Path) -> None:
    foreign = tmp_path / "python"
    shutil.copy(CURRENT, foreign)
    with foreign.open("r+b") as file:
        file.seek(18)  # e_machine of an ELF header, cputype of none
        file.write(b"\xff\xfe")

    with pytest.raises(ProbeError, match=r"cannot (run|start)|is broken"):
        probe_here(foreign)


@needs_scripts
@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", os.devnull), "mount --rbind /dev"),
    ],
)
def test_p16_what_the_machine_lacks_is_not_the_fault_of_the_executable(
    error: OSError, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(StoreError, match=f"cannot start {sys.executable}: .*{error.strerror}") as caught:
        probe(Path(sys.executable), environ={})
    assert hint in caught.value.hint


def test_the_error_for_a_missing_loader_says_so(script: Write) -> None:
    with pytest.raises(ProbeError, match="loader or interpreter that it needs is not on this machine"):
        probe_here(script("#!/lib/ld-of-another-libc.so.1\n"))


@needs_scripts
def test_the_error_for_another_program_contains_its_output(script: Write) -> None:
    with pytest.raises(ProbeError, match="does not behave like a Python; its output: hello"):
        probe_here(script("#!/bin/sh\necho hello\n"))


@needs_scripts
@pytest.mark.parametrize(
    "answer", ["", "{}", "[]", "null", "not json", '{"version_info": 3}', '{"version_info": [3, 12, 1, "odd", 0]}']
)
def test_invalid_output_between_the_markers_is_rejected(script: Write, answer: str) -> None:
    # $0 -I -B -c TEXT START END
    with pytest.raises(ProbeError, match="does not behave like a Python"):
        probe_here(script(f"#!/bin/sh\nprintf '%s%s%s' \"$5\" '{answer}' \"$6\"\n"))


@needs_scripts
def test_echo_is_not_a_python() -> None:
    echo = shutil.which("echo")
    assert echo is not None

    with pytest.raises(ProbeError, match="does not behave like a Python"):
        probe_here(Path(echo))


@needs_scripts
@pytest.mark.parametrize("name", ["ls", "echo", "cat", "grep", "true", "bash"])
def test_the_error_does_not_repeat_the_probe_script(name: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name}")

    with pytest.raises(ProbeError) as caught:
        probe_here(Path(program))

    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    assert "import" not in caught.value.message


@needs_scripts
def test_a_long_line_of_output_is_shortened(script: Write) -> None:
    with pytest.raises(ProbeError, match=r"its output: x{100,}…") as caught:
        probe_here(script(f"#!/bin/sh\necho {'x' * 5000}\n"))

    assert len(caught.value.message.partition(", saying")[2]) <= 200


@needs_scripts
def test_binary_output_is_not_repeated(script: Write) -> None:
    with pytest.raises(ProbeError, match=r"its output: 64 bytes that are not text") as caught:
        probe_here(script("#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do printf 'ab\\000\\377\\376\\001\\n\\200'; done\n"))

    assert "\\x" not in caught.value.message


@needs_scripts
def test_the_error_for_a_failing_executable_has_its_exit_code_and_output(script: Write) -> None:
    with pytest.raises(ProbeError, match="exit code 9; its output: libpython is missing") as caught:
        probe_here(script("#!/bin/sh\necho libpython is missing >&2\nexit 9\n"))

    assert str(caught.value).endswith("-I -B -c 'import sys; print(sys.version)'")


@needs_scripts
def test_the_error_for_a_crash_names_the_signal(script: Write) -> None:
    with pytest.raises(ProbeError, match="SIGSEGV"):
        probe_here(script("#!/bin/sh\nkill -SEGV $$\n"))


@needs_scripts
def test_control_characters_in_output_are_removed(script: Write) -> None:
    with pytest.raises(ProbeError) as caught:
        probe_here(script("#!/bin/sh\nprintf '\\033[31mred'\n"))

    assert "\x1b" not in str(caught.value)


@needs_scripts
def test_endless_output_is_an_error(script: Write) -> None:
    with pytest.raises(ProbeError, match="prints without end"):
        probe_here(script("#!/bin/sh\nyes\n"))


@needs_scripts
def test_an_executable_that_hangs_is_killed_with_its_children(script: Write, tmp_path: Path) -> None:
    executable = script(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")

    begun = time.monotonic()
    with pytest.raises(ProbeError, match=r"did not answer within 0\.5 seconds"):
        probe_here(executable, timeout=0.5)

    assert time.monotonic() - begun < 100
    child = int((tmp_path / "child").read_text())
    with pytest.raises(ProcessLookupError):
        wait_for_end_of(child)


def wait_for_end_of(process: int) -> None:
    """Wait for the end of `process`. A killed orphan is a zombie until another process reaps it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError
        threading.Event().wait(0.01)


@needs_scripts
def test_standard_input_of_a_probe_is_empty(script: Write) -> None:
    with pytest.raises(ProbeError, match="its output: read all"):
        probe_here(script("#!/bin/sh\ncat\necho read all\n"), timeout=60)


@needs_scripts
def test_a_background_process_does_not_delay_the_result(script: Write, tmp_path: Path) -> None:
    executable = script(f'#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nexec {CURRENT} "$@"\n')

    begun = time.monotonic()
    found = probe_here(executable)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)

    assert found.version == Version(sys.version.split()[0])
    assert time.monotonic() - begun < 100


@needs_scripts
def test_output_before_the_result_is_ignored(script: Write) -> None:
    assert probe_here(script(f'#!/bin/sh\necho noise\nexec {CURRENT} "$@"\n')).version == Version(
        sys.version.split()[0]
    )


@needs_scripts
def test_the_error_for_python_2_names_its_version(script: Write) -> None:
    refusal = "echo 'Unknown option: -I' >&2; exit 2"
    with pytest.raises(ProbeError, match=r"is Python 2\.7\.18; Python 3\.6 or newer is needed"):
        probe_here(
            script(
                "#!/bin/sh\n"
                f'[ "$1" = -I ] && {{ {refusal}; }}\n'
                'printf \'%s{"version_info": [2, 7, 18, "final", 0]}%s\' "$6" "$7"\n'
            )
        )


def test_the_result_has_the_expected_key() -> None:
    found = probe_here(CURRENT)
    level = replace(found.key, target=replace(found.key.target, arch=found.key.target.arch + "_v3"))

    assert probe_here(CURRENT, expected=found.key) == found
    assert probe_here(CURRENT, expected=level).key == level


@pytest.mark.parametrize(
    "change",
    [
        {"number": "3.6.0"},
        {"implementation": "pypy"},
        {"variant": "debug"},
        {"target": Target(os="linux", arch="s390x", libc="gnu")},
        {"target": Target(os="linux", arch="x86_64", libc="musl")},
    ],
)
def test_p18_a_python_with_another_key_than_expected_is_rejected(change: dict[str, object]) -> None:
    expected = replace(probe_here(CURRENT).key, **change)  # type: ignore[arg-type]  # each is a field of Key

    with pytest.raises(ProbeError, match=f"not {str(expected).replace('+', '.')}"):
        probe_here(CURRENT, expected=expected)


def test_many_threads_can_probe_at_once() -> None:
    executables = list(OTHERS.values()) * 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(probe_here, executables))

    assert [answer.executable for answer in answers] == executables


@needs_scripts
def test_a_probe_waits_for_a_file_that_is_still_being_written(tmp_path: Path) -> None:
    executable = tmp_path / "python"
    shutil.copy(CURRENT, executable)
    executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    writer = executable.open("r+b")
    threading.Timer(0.2, writer.close).start()

    # A copied executable may not find its library, but it must have been started.
    try:
        probe_here(executable)
    except ProbeError as error:
        assert "busy" not in str(error)  # noqa: PT017  # either outcome is correct
