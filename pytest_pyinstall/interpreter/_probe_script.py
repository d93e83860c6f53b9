"""Describes the interpreter that runs it: prints one JSON document between two markers.

`probe.py` runs this text in other interpreters with ``-c``. So it uses only the standard library, syntax that Python
2.7 can read, and modules that every start has already loaded: `json`, `platform` and `sysconfig` would double the time.
"""

# Annotations, pathlib and f-strings are newer than the oldest Python that must read this:
# ruff: noqa: ANN001, ANN202, PTH113, PTH118, PTH119, PTH208, UP031

import os
import sys


def describe():  # type: () -> dict[str, object]
    base_prefix = getattr(sys, "real_prefix", None) or getattr(sys, "base_prefix", sys.prefix)
    return {
        "implementation": implementation(),
        "version_info": list(sys.version_info),
        "prefix": sys.prefix,
        "base_prefix": base_prefix,
        "executable": sys.executable,
        "base_executable": base_executable(str(base_prefix)),
        # Both are documented. Py_GIL_DISABLED would need sysconfig.
        "free_threaded": "free-threading build" in sys.version or "t" in getattr(sys, "abiflags", ""),
        "debug": hasattr(sys, "gettotalrefcount"),
        "system": sys.platform,
        "machine": machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "musl": is_musl(),
        "pypy_version_info": list(getattr(sys, "pypy_version_info", ()))[:3],
    }


def implementation():  # type: () -> str
    if hasattr(sys, "implementation"):
        return sys.implementation.name
    return "pypy" if "PyPy" in sys.version else "cpython"


def base_executable(base_prefix):  # type: (str) -> str
    """The executable that this virtual environment was created from, or outside of an environment, this executable."""
    found = getattr(sys, "_base_executable", None) or sys.executable
    if sys.prefix == base_prefix or not within(found, sys.prefix):
        return found
    # 3.6 has no _base_executable, and up to 3.10 it is the environment's own link.
    home = configured_home()
    minor = "%d.%d" % sys.version_info[:2]
    for name in ("python" + minor, "pypy" + minor, os.path.basename(sys.executable), "python3", "python.exe", "python"):
        if home and os.path.isfile(os.path.join(home, name)):
            return os.path.join(home, name)
    return os.path.realpath(sys.executable)


def within(path, directory):  # type: (str, str) -> bool
    return os.path.normcase(path).startswith(os.path.normcase(os.path.join(directory, "")))


def configured_home():  # type: () -> str | None
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg"), "rb") as lines:
            for line in lines:
                name, _, value = line.decode("utf-8").partition("=")
                if name.strip() == "home":
                    return value.strip()
    except (OSError, ValueError):
        pass
    return None


def machine():  # type: () -> str
    if sys.platform != "win32":
        return os.uname()[4]
    # Windows: the machine that the executable was built for. Under emulation, the variables name another one.
    for mark, name in (("ARM64", "arm64"), ("AMD64", "amd64"), ("ARM", "arm")):
        if mark in sys.version:
            return name
    return "x86"


def is_musl():  # type: () -> bool
    if not sys.platform.startswith("linux"):
        return False
    try:
        return not os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        pass
    multiarch = getattr(getattr(sys, "implementation", None), "_multiarch", "")
    if multiarch:
        return "musl" in multiarch
    return any(name.startswith("ld-musl-") for name in os.listdir("/lib"))


def encode(value):  # type: (object) -> str
    """`value` as JSON in ASCII. Undecodable bytes of a path stay the lone surrogates that `os.fsdecode` returns."""
    if isinstance(value, dict):
        return "{%s}" % ", ".join("%s: %s" % (encode(name), encode(value[name])) for name in sorted(value))
    if isinstance(value, list):
        return "[%s]" % ", ".join(encode(item) for item in value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return '"%s"' % "".join(encode_character(character) for character in str(value))


def encode_character(character):  # type: (str) -> str
    number = ord(character)
    if number > 0xFFFF:
        number -= 0x10000
        return "\\u%04x\\u%04x" % (0xD800 + (number >> 10), 0xDC00 + (number & 0x3FF))
    if number < 32 or number > 126 or character in '"\\':
        return "\\u%04x" % number
    return character


if __name__ == "__main__":
    sys.stdout.flush()
    document = "\n%s%s%s\n" % (sys.argv[1], encode(describe()), sys.argv[2])
    # Not to sys.stdout, whose encoding and line ends can be configured, and in one write.
    os.write(1, document.encode("ascii"))
