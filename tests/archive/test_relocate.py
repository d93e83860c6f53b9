"""Text files of a build name the installation directory after relocation."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_pyinstall.archive import relocate
from pytest_pyinstall.request.identity import Key
from pytest_pyinstall.store.manifest import may_change

DATA = "lib/python3.12/_sysconfigdata__linux_x86_64-linux-gnu.py"
HEAD = "# system configuration generated and used by the sysconfig module\nbuild_time_vars = {\n"


def variables(home: str = "/home/me/store/cpython", *, prefix: str = "/install", **values: object) -> dict[str, object]:
    """The variables of a sysconfig file with `values`, relocated to `home`."""
    content = f"build_time_vars = { ({'prefix': prefix} | values)!r}\n".encode()
    moved = relocate.relocate_text(DATA, content, prefixes={prefix, "/install"}, home=home, python="bin/python3.12")
    return relocate.read_variables(moved.decode())


def script(content: str, home: str = "/home/me/store/cpython") -> str:
    moved = relocate.relocate_text(
        "bin/pip", content.encode(), prefixes={"/install"}, home=home, python="bin/python3.12"
    )
    return moved.decode()


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ("/install", "/home/me"),
        ("/install/lib/python3.12", "/home/me/lib/python3.12"),
        ("-L/install/lib -Wl,-rpath,/install/lib", "-L/home/me/lib -Wl,-rpath,/home/me/lib"),
        ("gcc -shared -I/install/include", "gcc -shared -I/home/me/include"),
        ("'--prefix=/install' 'LDFLAGS=-L/install/lib'", "'--prefix=/home/me' 'LDFLAGS=-L/home/me/lib'"),
        ("LD_LIBRARY_PATH=/install/lib:/opt/lib", "LD_LIBRARY_PATH=/home/me/lib:/opt/lib"),
        ("-isystem/install/include", "-isystem/home/me/include"),
        ("/usr/bin/install -c -m 644", "/usr/bin/install -c -m 644"),
        ("/build/Python/install-sh -c", "/build/Python/install-sh -c"),
        ("/installation/lib", "/installation/lib"),
        ("./install", "./install"),
    ],
)
def test_a_prefix_is_replaced_only_if_it_is_a_whole_path(recorded: str, expected: str) -> None:
    assert variables("/home/me", X=recorded)["X"] == expected


def test_the_prefix_of_another_build_host_is_replaced() -> None:
    found = variables(
        "/home/me", prefix="/home/builder/.local", LDSHARED="gcc -L/home/builder/.local/lib -L/install/lib"
    )

    assert found["LDSHARED"] == "gcc -L/home/me/lib -L/home/me/lib"


def test_a_prefix_is_replaced_once_if_the_installation_is_below_it() -> None:
    home = "/install/store/cpython"
    content = f"build_time_vars = { {'prefix': '/install', 'X': '-L/install/lib'}!r}\n".encode()
    once = relocate.relocate_text(DATA, content, prefixes={"/install"}, home=home, python="bin/python3.12")

    assert relocate.read_variables(once.decode())["X"] == f"-L{home}/lib"
    assert relocate.relocate_text(DATA, once, prefixes={"/install", home}, home=home, python="bin/python3.12") == once


def test_a_space_in_the_path_is_escaped_in_command_lines_only() -> None:
    found = variables(
        "/my störe/it's",
        LIBDIR="/install/lib",
        LDSHARED="gcc -L/install/lib",
        CONFIG_ARGS="'--prefix=/install' X",
        FLAG="-I/install/include",
    )

    assert found["LIBDIR"] == "/my störe/it's/lib"
    assert found["LDSHARED"] == r"gcc -L/my\ störe/it\'s/lib"
    assert found["FLAG"] == r"-I/my\ störe/it\'s/include"
    assert found["CONFIG_ARGS"] == "'--prefix=/my störe/it's' X"


def test_an_escaped_prefix_is_replaced() -> None:
    found = variables("/home/me", prefix="/my store", LDSHARED=r"gcc -L/my\ store/lib")

    assert found["LDSHARED"] == "gcc -L/home/me/lib"


@pytest.mark.parametrize(
    ("name", "recorded", "expected"),
    [
        ("CC", "clang -pthread", "cc -pthread"),
        ("CC", "musl-clang", "cc"),
        ("CC", "/usr/bin/aarch64-linux-gnu-gcc -pthread", "cc -pthread"),
        ("CC", "x86_64-linux-gnu-gcc", "cc"),
        ("CXX", "clang++ -pthread", "c++ -pthread"),
        ("CXX", "/usr/bin/riscv64-linux-gnu-g++", "c++"),
        ("LDSHARED", "/tools/llvm/bin/clang -shared -Wl,--exclude-libs,ALL", "cc -shared -Wl,--exclude-libs,ALL"),
        ("LDCXXSHARED", "/usr/bin/arm-linux-gnueabihf-g++ -shared", "c++ -shared"),
        ("AR", "/tools/llvm/bin/llvm-ar", "ar"),
        ("CC", "gcc -pthread", "gcc -pthread"),
        ("PY_CFLAGS", "-fdebug-default-version=4 clang", "-fdebug-default-version=4 clang"),
        ("LDSHARED", "clang -bundle -arch arm64 -isysroot /Xcode/MacOSX14.sdk", "cc -bundle -arch arm64"),
        ("CFLAGS", "-isysroot /Xcode/MacOSX14.sdk -O3", "-O3"),
    ],
)
def test_compilers_and_options_of_the_build_host_are_replaced(name: str, recorded: str, expected: str) -> None:
    assert variables(**{name: recorded})[name] == expected


def test_a_build_of_python_build_standalone_is_marked() -> None:
    assert variables()[relocate.STANDALONE] == 1


@pytest.mark.parametrize("other", [{"prefix": "/home/builder"}, {relocate.PACKED: 1}])
def test_other_builds_are_not_marked_as_python_build_standalone(other: dict[str, object]) -> None:
    assert relocate.STANDALONE not in variables(**other)  # type: ignore[arg-type]  # one of them is the prefix


def test_the_wasm_directory_contains_the_new_prefix() -> None:
    assert variables("/home/me", WASM_ASSETS_DIR="./install")["WASM_ASSETS_DIR"] == "./home/me"


def test_sysconfig_data_has_the_format_that_uv_writes() -> None:
    text = relocate.variables_text({"b": 'a "b" \\ é\n', "Z": 1, "a": ""})

    assert text == HEAD + '    "Z": 1,\n    "a": "",\n    "b": "a \\"b\\" \\\\ é\\n"\n}\n'
    assert relocate.read_variables(text) == {"b": 'a "b" \\ é\n', "Z": 1, "a": ""}


@pytest.mark.parametrize(
    "text", ["", "import sys\n", "build_time_vars = {", "x = [1]\n", "build_time_vars = {f(): 1}\n"]
)
def test_an_unparsable_sysconfig_file_is_not_changed(text: str) -> None:
    assert relocate.read_variables(text) == {}
    assert (
        relocate.relocate_text(DATA, text.encode(), prefixes={"/install"}, home="/h", python="bin/python3.12")
        == text.encode()
    )


def test_pkgconfig_files_become_relocatable() -> None:
    content = b"prefix=/install\nlibdir=/install/lib\nincludedir=${prefix}/include\nLibs: -L/install/lib -ldl\n"
    name = "lib/pkgconfig/python-3.12.pc"

    once = relocate.relocate_text(name, content, prefixes={"/install"}, home="/my store", python="bin/python3.12")

    assert once == (
        b"prefix=${pcfiledir}/../..\nlibdir=${prefix}/lib\nincludedir=${prefix}/include\nLibs: -L${prefix}/lib -ldl\n"
    )
    assert relocate.relocate_text(name, once, prefixes={"/install"}, home="/my store", python="bin/python3.12") == once


def test_the_makefile_names_the_installation_directory_and_plain_compilers() -> None:
    content = b"CC=\t\tclang -pthread\nprefix=\t\t/install\nLIBS= -L/install/lib\nINSTALL=/usr/bin/install -c\n"

    moved = relocate.relocate_text(
        "lib/python3.12/config-3.12/Makefile", content, prefixes={"/install"}, home="/h", python="p"
    )

    assert moved == b"CC=\t\tcc -pthread\nprefix=\t\t/h\nLIBS= -L/h/lib\nINSTALL=/usr/bin/install -c\n"


def test_json_files_name_the_installation_directory() -> None:
    content = b'{"base_prefix": "/install", "libpython": {"dynamic": ["/install/lib/libpython3.14.so", 1]}}'

    moved = relocate.relocate_text(
        "lib/python3.14/build-details.json", content, prefixes={"/install"}, home="/h", python="p"
    )

    assert b'"/h"' in moved
    assert b'"/h/lib/libpython3.14.so"' in moved
    assert b"/install" not in moved


@pytest.mark.parametrize("content", [b"{", b'{"base_prefix": "../.."}'])
def test_json_files_without_the_prefix_are_not_changed(content: bytes) -> None:
    assert (
        relocate.relocate_text("lib/p/build-details.json", content, prefixes={"/install"}, home="/h", python="p")
        == content
    )


def test_a_shebang_names_the_installed_interpreter() -> None:
    assert script("#!/install/bin/python3.12\nimport sys\n") == "#!/home/me/store/cpython/bin/python3.12\nimport sys\n"


@pytest.mark.parametrize("home", ["/my store", f"/{'long' * 40}"])
def test_a_shebang_that_is_too_long_or_has_a_space_uses_a_shell(home: str) -> None:
    found = script("#!/install/bin/python3.12\nimport sys\n", home)

    assert found == relocate.polyglot("python3.12") + "import sys\n"
    assert script(found, home) == found


def test_shell_scripts_keep_their_shell() -> None:
    assert script('#!/bin/sh\nprefix="/install"\n', "/my store") == '#!/bin/sh\nprefix="/my store"\n'


@pytest.mark.parametrize("content", ["#!/usr/bin/env python3\nx = '/install'\n", "/install\n", "\0/install"])
def test_other_scripts_are_not_changed(content: str) -> None:
    assert script(content) == content


def test_bytes_that_are_not_utf_8_are_kept() -> None:
    content = b"#!/bin/sh\n# \xe9\nprefix=/install\n"

    assert (
        relocate.relocate_text("bin/x", content, prefixes={"/install"}, home="/h", python="p")
        == b"#!/bin/sh\n# \xe9\nprefix=/h\n"
    )


def test_files_that_uv_or_an_interpreter_rewrites_may_change() -> None:
    assert all(
        map(
            may_change,
            [
                "BUILD",
                "lib/python3.12/EXTERNALLY-MANAGED",
                DATA,
                "lib/pkgconfig/python3.pc",
                "lib/python3.12/__pycache__/os.cpython-312.pyc",
            ],
        )
    )
    assert not any(
        map(
            may_change,
            ["bin/python3.12", "lib/python3.12/os.py", "lib/python3.12/BUILD", "lib/python3.12/config-3.12/Makefile"],
        )
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("cpython-3.12.1-linux-x86_64-gnu", "lib/python3.12"),
        ("cpython-3.13.1+freethreaded-linux-x86_64-gnu", "lib/python3.13t"),
        ("cpython-3.12.1+debug-macos-aarch64-none", "lib/python3.12"),
        ("pypy-3.10.14-linux-x86_64-gnu", "lib/pypy3.10"),
        ("graalpy-3.11.0-linux-x86_64-gnu", "lib/python3.11"),
        ("cpython-3.12.1-windows-x86_64-none", "Lib"),
        ("pypy-3.10.14-windows-x86_64-none", "Lib"),
    ],
)
def test_the_standard_library_has_the_path_that_uv_expects(key: str, expected: str) -> None:
    assert relocate.standard_library(Key.parse(key))[0] == expected


def test_several_threads_read_variables_at_once() -> None:
    text = "build_time_vars = {" + ", ".join(f"'{number}': ('a' 'b')" for number in range(2000)) + "}"
    with ThreadPoolExecutor(8) as executor:
        assert [len(found) for found in executor.map(relocate.read_variables, [text] * 64)] == [2000] * 64
