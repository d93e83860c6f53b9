"""P1, P2, P23: a Python that is provided starts, has the version of its name, and does not mix packages."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import archives
import pytest
from fault_report import Tally
from fault_workshop import VERSION, Workshop, digest, distribution

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

MINOR = VERSION.rpartition(".")[0]
SITE = f"lib/python{MINOR}/site-packages"
VERSIONS = [version for version in ("3.6", "3.7", "3.10", "3.13") if version in archives.interpreters()]


@pytest.fixture
def real(tmp_path: Path, mirror_directory: Path, request: pytest.FixtureRequest) -> Workshop:
    """A workshop with an installed real Python."""
    executable = archives.interpreters()[request.param]
    version = subprocess.run(
        [executable, "-c", "import platform; print(platform.python_version())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    workshop = Workshop(tmp_path / "workshop", mirror_directory, version=version)
    done = workshop.run("install", version)
    assert done.code == 0, done.output
    return workshop


def starts(workshop: Workshop) -> bool:
    command = [str(workshop.home / workshop.key.executable), "-I", "-c", "import os, json; print(os)"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def imports(workshop: Workshop, module: str) -> bool:
    command = [str(workshop.home / workshop.key.executable), "-I", "-B", "-c", f"import {module}"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def compile_all(workshop: Workshop) -> Path:
    """Compile the standard library, and return its directory."""
    library = workshop.home / f"lib/python{workshop.version.rpartition('.')[0]}"
    command = [str(workshop.home / workshop.key.executable), "-m", "compileall", "-q", "-l", str(library)]
    subprocess.run([*command, str(library / "encodings")], check=False, capture_output=True)
    return library


def assert_not_provided_broken(workshop: Workshop) -> None:
    """Assert that `find` reports a Python that does not start, and that `exec` repairs it."""
    assert not starts(workshop)
    found = workshop.run("find", workshop.version)
    assert found.code != 0, found.output
    assert "is not installed" not in found.output
    assert "verify --repair" in found.output or f"install {workshop.version}" in found.output, found.output
    name = f"python{workshop.version.rpartition('.')[0]}"
    ended = workshop.run("exec", "--python", workshop.version, "--", name, "-c", "print('alive')")
    assert ended.code == 0, ended.output
    assert "alive" in ended.output


def _cut(name: str) -> Callable[[Path], None]:
    def damage(library: Path) -> None:
        path = next((library / name).parent.glob(f"__pycache__/{Path(name).stem}.cpython-*[0-9].pyc"))
        os.truncate(path, path.stat().st_size // 2)

    return damage


def _with(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(library: Path) -> None:
        for path in (library / name).parent.glob(f"__pycache__/{Path(name).stem}.cpython-*[0-9].pyc"):
            path.write_bytes(path.read_bytes()[:16] + content)

    return damage


BYTE_CODE = {
    "os cut off": _cut("os.py"),
    "site cut off": _cut("site.py"),
    "codecs full of zeros": _with("codecs.py", bytes(4000)),
    "a code object that is none": _with("encodings/__init__.py", b"N"),
}


@pytest.mark.parametrize("real", VERSIONS, indirect=True)
@pytest.mark.parametrize("damage", BYTE_CODE)
def test_p2_damaged_byte_code_is_found_and_repaired(real: Workshop, damage: str, tally: Tally) -> None:
    library = compile_all(real)
    BYTE_CODE[damage](library)
    if starts(real):
        pytest.skip("this version starts without that module")  # it is frozen in 3.11 and newer
    tally.attempt("damaged byte code")
    assert_not_provided_broken(real)
    assert starts(real)

    compile_all(real)
    BYTE_CODE[damage](library)
    ended = real.run("verify")
    assert ended.code != 0, ended.output
    ended = real.run("verify", "--repair")
    assert ended.code == 0, ended.output
    assert "repaired" in ended.output
    assert starts(real)
    assert real.run("verify").code == 0
    tally.survive()


@pytest.mark.parametrize("real", VERSIONS[-1:], indirect=True)
def test_p2_byte_code_that_the_start_does_not_need_is_found_and_dropped(real: Workshop, tally: Tally) -> None:
    tally.attempt("damaged byte code")
    library = compile_all(real)
    cut = next(library.glob("__pycache__/mailbox.cpython-*[0-9].pyc"))
    os.truncate(cut, cut.stat().st_size // 2)
    name = cut.relative_to(real.home)
    assert starts(real)
    assert not imports(real, "mailbox")
    found = real.run("verify")
    assert found.code == 5, found.output
    assert f"is broken: {name}: byte code that cannot be read" in found.output
    assert f"verify --repair {real.version}" in found.output
    repaired = real.run("verify", "--repair")
    assert repaired.code == 0, repaired.output
    assert "repaired" in repaired.output
    assert not cut.exists()
    assert imports(real, "mailbox")
    assert real.run("verify").code == 0
    tally.survive()


@pytest.mark.parametrize("real", VERSIONS, indirect=True)
@pytest.mark.parametrize("module", ["linecache.py", "_bootlocale.py", "sysconfig.py", "encodings/utf_8.py", "site.py"])
def test_p2_an_emptied_module_of_the_start_is_found_and_repaired(real: Workshop, module: str, tally: Tally) -> None:
    path = real.home / f"lib/python{real.version.rpartition('.')[0]}" / module
    if not path.exists():
        return
    tally.attempt("an emptied module")
    content = path.read_bytes()
    times = path.stat()
    path.write_bytes(b"")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert real.run("find", real.version).code != 0
    name = f"python{real.version.rpartition('.')[0]}"
    ended = real.run("exec", "--python", real.version, "--", name, "-c", "print('alive')")
    assert ended.code == 0, ended.output
    assert path.read_bytes() == content
    tally.survive()


@pytest.mark.parametrize("real", VERSIONS[-1:], indirect=True)
def test_p2_a_changed_module_of_the_same_size_that_prevents_the_start_is_repaired(real: Workshop, tally: Tally) -> None:
    tally.attempt("a Python that no longer starts")
    path = next(real.home.glob("lib/python3*/encodings/__init__.py"))
    size, content = path.stat().st_size, path.read_bytes()
    path.write_bytes(b"(" * size)
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
    assert_not_provided_broken(real)
    assert path.read_bytes() == content
    tally.survive()


@pytest.mark.parametrize("real", VERSIONS[-1:], indirect=True)
def test_p2_the_error_names_an_added_file_that_prevents_the_start(real: Workshop, tally: Tally) -> None:
    """A repair keeps added files, so the hint names the command that removes them."""
    tally.attempt("an added file that prevents the start")
    site = next(real.home.glob("lib/python3*/site-packages"))
    (site / "end.pth").write_text("import os; os._exit(3)\n")
    ended = real.run("install", real.version)
    assert ended.code == 7, ended.output
    assert "end.pth" in ended.output
    assert "--reinstall" in ended.output
    assert real.run("install", "--reinstall", real.version).code == 0
    assert starts(real)
    tally.survive()


# Records


def _record(workshop: Workshop) -> Path:
    return workshop.store / ".pytest-pyinstall/records" / f"{workshop.key}.json"


@pytest.mark.skipif(len(VERSIONS) < 3, reason="needs two interpreters")
def test_p2_a_record_of_another_key_is_not_trusted(tmp_path: Path, mirror_directory: Path, tally: Tally) -> None:
    tally.attempt("a record of another key or tree")
    old, new = (Workshop(tmp_path / "workshop", mirror_directory, version=_full(each)) for each in VERSIONS[-2:])
    for workshop in (old, new):
        assert workshop.run("install", workshop.version).code == 0
    shutil.copy(_record(old), _record(new))
    assert new.run("find", new.version).code == 0  # it runs and has the right version
    shutil.rmtree(new.home)
    shutil.copytree(old.home, new.home, symlinks=True)
    found = new.run("find", new.version)
    assert found.code != 0, found.output
    ended = new.run("verify", "--repair", new.version)
    assert "repaired" not in ended.output or _version_of(new) == new.version
    ended = new.run("install", new.version)
    assert ended.code == 0, ended.output
    assert _version_of(new) == new.version
    tally.survive()


def _full(minor: str) -> str:
    return _output(archives.interpreters()[minor], "-c", "import platform; print(platform.python_version())")


def _version_of(workshop: Workshop) -> str:
    script = "import platform; print(platform.python_version())"
    return _output(workshop.home / workshop.key.executable, "-c", script)


def _output(executable: Path, *words: str) -> str:
    done = subprocess.run([str(executable), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.mark.parametrize("fact", ["inode", "boot", "home", "key"])
def test_p2_a_record_of_another_tree_is_checked_again(workshop: Workshop, fact: str, tally: Tally) -> None:
    tally.attempt("a record of another key or tree")
    assert workshop.run("verify").code == 0
    document = json.loads(_record(workshop).read_text("utf-8"))
    document[fact] = {"inode": 1, "boot": "x", "home": "/nowhere", "key": "cpython-3.1.1-linux-x86_64-gnu"}[fact]
    document["durable"] = True
    _record(workshop).write_text(json.dumps(document), "utf-8")
    module = next(workshop.home.glob("lib/*/package1/module1.py"))
    content = module.read_bytes()
    module.write_bytes(bytes(len(content)))
    ended = workshop.run("install", workshop.version)
    assert ended.code == 0, ended.output
    if fact != "key":  # of this one only the start is checked
        assert module.read_bytes() == content
    assert workshop.run("install", "--reinstall", workshop.version).code == 0
    assert module.read_bytes() == content
    tally.survive()


# Packages


def _put(home: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).unlink(missing_ok=True)
        (home / name).write_bytes(content)


def _delete(home: Path, files: dict[str, bytes]) -> None:
    for name in files:
        (home / name).unlink(missing_ok=True)
    for folder in sorted({(home / name).parent for name in files}, key=lambda path: -len(path.parts)):
        if not list(folder.iterdir()):
            folder.rmdir()


OLD = distribution("demo", "1.0", minor=MINOR, modules=3)
NEW = distribution("demo", "2.0", minor=MINOR, modules=5)


def upgrade(home: Path) -> None:
    _delete(home, OLD)
    _put(home, NEW)


def both(*steps: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        for step in steps:
            step(home)

    return change


def versions(home: Path) -> set[str]:
    """The versions of the distribution of which there are files."""
    found = set()
    for path in (*(home / SITE).glob("demo/*.py"), home / "bin/demo"):
        if path.exists():
            found.add("2.0" if b"2.0" in path.read_bytes() else "1.0")
    found |= {path.name.removeprefix("demo-").removesuffix(".dist-info") for path in (home / SITE).glob("demo-*")}
    return found


def test_p23_an_upgraded_package_is_not_damage(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("an upgraded package")
    upgrade(workshop.home)
    before = digest(workshop.home)
    for words in (("find", VERSION), ("install", VERSION), ("verify",), ("list",), ("verify", "--repair")):
        ended = workshop.run(*words)
        assert ended.code == 0, ended.output
        assert "repairing" not in ended.output, ended.output
    assert digest(workshop.home) == before
    tally.survive()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a module of the standard library": lambda home: next(home.glob("lib/*/package1/module1.py")).unlink(),
    "the executable": lambda home: next(home.glob("bin/python3.*")).write_bytes(b""),
    "a mode": lambda home: next(home.glob("bin/python3.*")).chmod(0o600),
    "a whole directory": lambda home: shutil.rmtree(next(home.glob("lib/*/package2"))),
}
CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "nothing": (lambda _: None, {"1.0"}),
    "upgraded": (upgrade, {"2.0"}),
    "uninstalled": (lambda home: _delete(home, OLD), set()),
    "new files beside": (lambda home: _put(home, {f"{SITE}/demo/mine.py": b"1.0"}), {"1.0"}),
    "half uninstalled": (lambda home: _delete(home, dict(list(OLD.items())[:2])), {"1.0"}),
    "dist-info deleted": (lambda home: shutil.rmtree(home / SITE / "demo-1.0.dist-info"), {"1.0"}),
    "half upgraded": (both(upgrade, lambda home: (home / SITE / "demo/part1.py").unlink()), {"1.0"}),
    "upgraded without RECORD": (
        both(upgrade, lambda home: (home / SITE / "demo-2.0.dist-info/RECORD").unlink()),
        {"1.0"},
    ),
    "some old files back over a new one": (
        both(upgrade, lambda home: _put(home, dict(list(OLD.items())[:3]))),
        {"1.0"},
    ),
    "site-packages deleted": (lambda home: shutil.rmtree(home / SITE), {"1.0"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("change", CHANGES)
def test_p23_a_repair_never_mixes_versions_of_a_package(
    workshop: Workshop, change: str, damage: str, tally: Tally
) -> None:
    tally.attempt("repair or reinstall with added packages")
    _put(workshop.home, {f"{SITE}/other/__init__.py": b"mine"})
    make, expected = CHANGES[change]
    make(workshop.home)
    DAMAGE[damage](workshop.home)
    ended = workshop.run("install", VERSION)
    assert ended.code == 0, ended.output
    assert versions(workshop.home) == expected
    if "2.0" in expected:
        assert {name for name in NEW if not (workshop.home / name).exists()} == set()
    if change != "site-packages deleted":
        assert (workshop.home / SITE / "other/__init__.py").read_bytes() == b"mine"
    assert workshop.run("verify").code == 0
    assert "repairing" not in workshop.run("install", VERSION).output
    assert workshop.leftovers() == []
    tally.survive()


def test_p23_a_reinstall_restores_the_published_packages(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("repair or reinstall with added packages")
    upgrade(workshop.home)
    assert workshop.run("install", "--reinstall", VERSION).code == 0
    assert workshop.is_whole()
    tally.survive()


@pytest.mark.parametrize("version", [each for each in ("3.7", "3.12") if each in archives.interpreters()])
def test_p23_an_upgraded_pip_survives_a_repair(
    tmp_path: Path, mirror_directory: Path, version: str, tally: Tally
) -> None:
    """The archives of python-build-standalone contain pip, and old ones also setuptools."""
    tally.attempt("an upgraded package")
    packed = Workshop(tmp_path / "with-pip", mirror_directory, version=_full(version))
    mirror = _mirror_with_pip(packed, tmp_path / "mirror")
    workshop = Workshop(tmp_path / "workshop", mirror, version=packed.version)
    assert workshop.run("install", workshop.version).code == 0
    python = workshop.home / workshop.key.executable
    before = _pip(python, "--version").split()[1]
    bundled = {path for each in archives.interpreters().values() for path in _wheels(each)}
    newest = max(
        (path for path in bundled if "pip-2" in path.name and _fits(path, version)), key=lambda path: path.name
    )
    _pip(python, "install", "--no-index", "--break-system-packages", "-U", str(newest))
    after = _pip(python, "--version").split()[1]
    assert before != after
    for words in (("install", workshop.version), ("find", workshop.version), ("verify", "--repair")):
        ended = workshop.run(*words)
        assert ended.code == 0, ended.output
        assert "repairing" not in ended.output, ended.output
    next(workshop.home.glob("lib/python3*/this.py")).unlink()
    ended = workshop.run("install", workshop.version)
    assert "repairing it" in ended.output
    assert _pip(python, "--version").split()[1] == after
    assert _pip(python, "check") is not None
    assert len(list(workshop.home.glob("lib/python3*/site-packages/pip-*"))) == 1
    tally.survive()


def _fits(wheel: Path, version: str) -> bool:
    return version != "3.7" or wheel.name.startswith("pip-23.0")


def _wheels(executable: Path) -> list[Path]:
    return list(executable.parent.parent.glob("lib/python3*/ensurepip/_bundled/*.whl"))


def _pip(python: Path, *words: str) -> str:
    if words[0] == "install" and "--break-system-packages" in words and b"break-system" not in _help(python):
        words = tuple(word for word in words if word != "--break-system-packages")
    command = [str(python), "-I", "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or words == ("check",), done.stderr
    return done.stdout


def _help(python: Path) -> bytes:
    command = [str(python), "-I", "-m", "pip", "install", "--help"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def _mirror_with_pip(packed: Workshop, mirror: Path) -> Path:
    """A mirror like that of `packed`, whose archive contains the pip that its ensurepip installs."""
    import hashlib
    import tarfile

    source = next((packed.mirror / archives.TAG).glob(f"cpython-{packed.version}+*"))
    tree = packed.directory / "unpacked"
    tree.mkdir()
    subprocess.run(["tar", "xf", source, "-C", tree], check=True)
    python = tree / "python" / packed.key.executable
    subprocess.run([python, "-I", "-m", "ensurepip"], check=True, capture_output=True)
    archive = mirror / archives.TAG / source.name
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as opened:
        opened.add(tree / "python", "python", filter=lambda member: None if "__pycache__" in member.name else member)
    rows = json.loads((packed.mirror / "catalogue.json").read_text("utf-8"))
    row = next(row for row in rows.values() if packed.version in row["url"])
    row |= {"sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "size": archive.stat().st_size}
    (mirror / "catalogue.json").write_text(json.dumps({str(packed.key): row}), "utf-8")
    return mirror
