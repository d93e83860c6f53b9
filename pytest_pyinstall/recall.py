"""Remembers that an `install` had nothing to do, and by what to tell that it still has nothing to do.

Most calls of `install` find everything there. To know it, the whole command line has to be imported, which takes many
times as long as looking. So whoever finds everything there leaves a note, in the user's cache: the call, and everything
that its answer came from. The next call of the same words in the same place looks at exactly that, every entry of the
installations included, as `install` does. Where anything differs, the command line is imported after all.

Nothing but `os` and `sys` is imported here.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["note", "recall"]

_FORM = "pytest-pyinstall 1"
_CONFIGURATIONS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
_DECIDING = ("PYTEST", "UV_", "XDG_", "PYTHON")
_LETTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz.-_+")
_RECENT = 50_000_000
"""Nanoseconds in which a filesystem's clock may stand still."""


def recall(words: "Sequence[str]", environ: "Mapping[str, str]") -> "tuple[str, str] | None":
    """What `install` wrote to standard output and error, if it would do nothing but write that again; else None.

    Never raises, never writes.
    """
    try:
        path = _place(words, environ)
        if path is None:
            return None
        with open(path, encoding="utf-8") as file:
            form, call, *lines = file.read().split("\n")
        if form != _FORM or call != _call(words, environ) or not _is_ours(path):
            return None
        return _answer(lines)
    except (OSError, ValueError, KeyError):
        return None


def note(  # noqa: C901, PLR0911  # one for each obstacle
    words: "Sequence[str]",
    environ: "Mapping[str, str]",
    *,
    said: str,
    told: str,
    since: float,
    boot: str,
    looked_at: "Iterable[str]",
    owned: "Iterable[str]",
    trees: "Mapping[str, Iterable[tuple[str, str, int, int, str]]]",
) -> bool:
    """Leave a note; False where that cannot be.

    `said` and `told` are what it wrote to standard output and error. `since` is when the call began: what has changed
    later, or just before, is no ground for an answer. `looked_at` are the files and directories whose every change may
    change the answer, `owned` those of which only owners and rights matter. Of each tree the rows are kind, name, mode,
    size and target; kind is ``file``, ``directory``, ``link``, or ``loose`` for a file that may change.
    """
    try:
        path = _place(words, environ)
        if path is None:
            return False
        lines = [_FORM, _call(words, environ), f"b\t{boot}"]
        for name in (*_configurations(), *looked_at):
            signature, changed = _signature(name)
            if changed > since * 1e9 - _RECENT:
                return False
            lines.append(f"=\t{signature}\t{name}")
        for name in owned:
            owner = _owner(name)
            if owner != "-" and int(owner.partition(":")[0]) & 0o022 and not _is_sticky(owner):
                return False  # whom a group consists of is not for us to remember
            lines.append(f"o\t{owner}\t{name}")
        for home, rows in trees.items():
            lines.append(f"h\t{home}{os.sep}")
            for kind, name, mode, size, target in rows:
                word = {"file": f"f\t{mode}:{size}", "directory": f"d\t{mode}", "link": f"l\t{target}"}.get(kind, "c\t")
                lines.append(f"{word}\t{name}")
        lines += [f">\t{line}" for line in said.split("\n")]
        lines += [f"!\t{line}" for line in told.split("\n")]
        if any("\n" in line or line.count("\t") > 2 for line in lines[1:]):
            return False
        _make_directory(os.path.dirname(path))  # noqa: PTH120  # no pathlib here
        if not _is_ours(os.path.dirname(path)):  # noqa: PTH120  # as above
            return False
        new = f"{path}.{os.getpid()}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        os.replace(new, path)  # noqa: PTH105  # as above
    except (OSError, ValueError, KeyError):
        return False
    return True


def _place(words: "Sequence[str]", environ: "Mapping[str, str]") -> "str | None":
    """The note's file, for words that mean the same whatever the day: plain versions and keys, and no option."""
    if not sys.platform.startswith("linux") or len(words) < 2 or words[0] != "install":
        return None
    for word in words[1:]:
        if not (set(word) <= _LETTERS and any(map(str.isdigit, word)) and word[0] not in "-." and ".." not in word):
            return None
    directory = environ.get("PYTEST_PYINSTALL_CACHE", "")
    if not directory and environ.get("PYTEST_PYINSTALL_HOME"):
        directory = f"{environ['PYTEST_PYINSTALL_HOME']}/cache"
    if not directory:
        directory = f"{environ.get('XDG_CACHE_HOME') or environ['HOME'] + '/.cache'}/pytest-pyinstall"
    if not directory.startswith("/"):
        return None
    import zlib  # in every Python that can unpack an archive, and far cheaper than hashlib

    text = _call(words, environ).encode("utf-8", "surrogateescape")
    return f"{directory}/answers/{zlib.crc32(text):08x}{zlib.adler32(text):08x}"


def _call(words: "Sequence[str]", environ: "Mapping[str, str]") -> str:
    """Everything that the answer comes from and that is no file. Compared whole: the note's name decides nothing."""
    status = os.stat(__file__)  # noqa: PTH116  # another version of us
    deciding = sorted((name, value) for name, value in environ.items() if name.startswith(_DECIDING) or name == "HOME")
    ours = (__file__, status.st_mtime_ns, sys.version, sys.prefix, os.geteuid())
    return repr((list(words), os.getcwd(), deciding, ours))  # noqa: PTH109  # no pathlib here


def _answer(lines: "list[str]") -> "tuple[str, str] | None":  # noqa: C901, PLR0911, PLR0912  # hot: one loop, a way out each
    said, told = [], []
    home = ""
    lstat = os.lstat
    for line in lines:
        kind, _, rest = line.partition("\t")
        if kind == ">":
            said.append(rest)
            continue
        if kind == "!":
            told.append(rest)
            continue
        value, _, name = rest.partition("\t")
        if kind == "f":
            status = lstat(home + name)
            mode = status.st_mode
            if value != f"{mode & 0o7777}:{status.st_size}" or mode & 0o170000 != 0o100000:
                return None
        elif kind == "d":
            mode = lstat(home + name).st_mode
            if value != str(mode & 0o7777) or mode & 0o170000 != 0o040000:
                return None
        elif kind == "l":
            if os.readlink(home + name) != value:  # hot
                return None
        elif kind == "c":
            status = lstat(home + name)
            if not status.st_size or status.st_mode & 0o170000 != 0o100000:
                return None
        elif kind == "h":
            home = rest
        elif kind == "=":
            if _signature(name)[0] != value:
                return None
        elif kind == "o":
            if _owner(name) != value:
                return None
        elif kind == "b":
            if rest and rest != _boot():
                return None
        else:
            return None
    return "\n".join(said), "\n".join(told)


def _configurations() -> "list[str]":
    """The files in which pytest, and so we, look for settings, whether they are there or not."""
    directory = os.getcwd()  # noqa: PTH109  # no pathlib here
    found = []
    while True:
        found += [f"{directory.rstrip('/')}/{name}" for name in _CONFIGURATIONS]
        parent = os.path.dirname(directory)  # noqa: PTH120  # as above
        if parent == directory:
            return found
        directory = parent


def _signature(name: str) -> "tuple[str, int]":
    """By what to tell that it is another one now, and when it changed."""
    try:
        status = os.stat(name)  # noqa: PTH116  # hot
    except (FileNotFoundError, NotADirectoryError):
        return "-", 0
    parts = (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns)
    return ":".join(map(str, parts)), status.st_mtime_ns


def _owner(name: str) -> str:
    try:
        status = os.stat(name)  # noqa: PTH116  # hot
    except OSError:
        return "-"
    return f"{status.st_mode}:{status.st_uid}:{status.st_gid}"


def _make_directory(path: str) -> None:
    """With its parents, and no more rights than 0755, whatever the umask."""
    if not os.path.isdir(path):  # noqa: PTH112  # no pathlib here
        _make_directory(os.path.dirname(path))  # noqa: PTH120  # as above
        try:  # noqa: SIM105  # no contextlib here
            os.mkdir(path, 0o755)  # noqa: PTH102  # as above
        except FileExistsError:
            pass


def _is_sticky(owner: str) -> bool:
    return bool(int(owner.partition(":")[0]) & 0o1000)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _is_ours(path: str) -> bool:
    """Whether nobody but us and root can write to it, or put another one there."""
    status = os.lstat(path)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return False
    directory = os.path.dirname(os.path.realpath(path))  # noqa: PTH120  # no pathlib here
    while True:
        status = os.stat(directory)  # noqa: PTH116  # as above
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not status.st_mode & 0o1000):
            return False
        parent = os.path.dirname(directory)  # noqa: PTH120  # as above
        if parent == directory:
            return True
        directory = parent
