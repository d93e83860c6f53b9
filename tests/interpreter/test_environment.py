"""Environments equal those of the standard library's venv, and uv or pip installs into them."""

import json
import os
import shutil
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from archives import NEWEST, interpreters
from packaging.version import Version
from wheels import wheel

from pytest_pyinstall.errors import EnvironmentCreationError
from pytest_pyinstall.interpreter import environment
from pytest_pyinstall.interpreter import packages as installing
from pytest_pyinstall.request.identity import Key, Target

OTHERS = interpreters()
needs_posix = pytest.mark.skipif(os.name == "nt", reason="needs the layout of POSIX")

FACTS = """
import json, os, site, sys, sysconfig
paths = sysconfig.get_paths()
json.dump({
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "exec_prefix": sys.exec_prefix,
    "path": sys.path,
    "site": site.getsitepackages(),
    "user": site.ENABLE_USER_SITE,
    "paths": paths,
    "include": sysconfig.get_config_var("INCLUDEPY"),
    "library": sysconfig.get_config_var("LIBDIR"),
}, sys.stdout)
"""


def key_of(executable: Path) -> Key:
    script = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    version = subprocess.run([executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    return Key(implementation="cpython", number=version, target=Target.current())


def create(path: Path, executable: Path) -> Path:
    return environment.create(path, key=key_of(executable), base_executable=executable, environ=os.environ)


def facts(python: Path, root: Path) -> dict[str, object]:
    output = subprocess.run([python, "-I", "-c", FACTS], capture_output=True, text=True, check=True).stdout
    found: dict[str, object] = json.loads(output.replace(str(root), "ROOT"))
    return found


def install(path: Path, requirement: str | Path, *, uv: str | None, environ: dict[str, str]) -> None:
    base = OTHERS[NEWEST]
    variables = {**os.environ, **environ}
    installing.install(path, str(requirement), key=key_of(base), base_executable=base, environ=variables, uv=uv)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shared environment with pip, because installing pip takes seconds."""
    path = tmp_path_factory.mktemp("seeded") / "env"
    python = create(path, OTHERS[NEWEST])
    subprocess.run([python, "-I", "-m", "ensurepip", "--default-pip"], check=True, capture_output=True)
    return path


@pytest.fixture(params=["uv", "pip"])
def installer(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str | None]:
    """An environment, and the uv that installs into it, or None to install with its pip."""
    if request.param == "pip":
        path: Path = request.getfixturevalue("seeded")
        return path, None
    uv = installing.find_uv(os.environ)
    if uv is None:
        pytest.skip("needs uv")
    create(tmp_path / "env", OTHERS[NEWEST])
    return tmp_path / "env", uv


@pytest.mark.parametrize("minor", OTHERS)
def test_an_environment_equals_one_of_venv(minor: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    subprocess.run([OTHERS[minor], "-m", "venv", "--without-pip", theirs], check=True)
    python = create(ours, OTHERS[minor])

    assert facts(python, ours) == facts(environment.scripts(theirs, key_of(OTHERS[minor])) / python.name, theirs)
    names = {path.relative_to(theirs) for path in theirs.rglob("*") if "ctivate" not in path.name}
    made = {path.relative_to(ours) for path in ours.rglob("*")}
    assert names - made <= {Path("include", f"python{minor}")}


@pytest.mark.parametrize("minor", OTHERS)
def test_an_environment_is_made_within_half_a_second(minor: str, tmp_path: Path) -> None:
    key = key_of(OTHERS[minor])

    begun = time.perf_counter()
    environment.create(tmp_path / "env", key=key, base_executable=OTHERS[minor], environ=os.environ)

    assert time.perf_counter() - begun < 0.5


@needs_posix
@pytest.mark.parametrize("name", ["python", "python3", f"python{NEWEST}"])
def test_each_usual_command_name_runs(name: str, tmp_path: Path) -> None:
    create(tmp_path / "env", OTHERS[NEWEST])

    done = subprocess.run(
        [tmp_path / "env" / "bin" / name, "-c", "import sys; print(sys.prefix)"], capture_output=True, check=True
    )

    assert done.stdout.decode().strip() == str(tmp_path / "env")


@needs_posix
def test_an_environment_of_a_linked_base_finds_its_library(tmp_path: Path) -> None:
    link = tmp_path / "links" / f"python{NEWEST}"
    link.parent.mkdir()
    link.symlink_to(OTHERS[NEWEST])

    python = create(tmp_path / "env", link)

    assert subprocess.run([python, "-c", "import ssl"], check=False).returncode == 0


@needs_posix
def test_venv_makes_the_environment_of_a_base_with_an_unusual_layout(tmp_path: Path) -> None:
    wrapper = tmp_path / "bin" / "python"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {OTHERS[NEWEST]} "$@"\n')
    wrapper.chmod(0o755)

    python = create(tmp_path / "env", wrapper)

    assert subprocess.run([python, "-c", "import ssl"], check=False).returncode == 0


@needs_posix
def test_a_base_without_venv_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    wrapper = tmp_path / "bin" / "python"
    wrapper.parent.mkdir()
    wrapper.write_text("#!/bin/sh\necho no venv here\nexit 1\n")
    wrapper.chmod(0o755)
    key = key_of(OTHERS[NEWEST])

    with pytest.raises(EnvironmentCreationError, match="exit code 1\nno venv here"):
        environment.create(tmp_path / "env", key=key, base_executable=wrapper, environ=os.environ)
    wrapper.unlink()
    with pytest.raises(EnvironmentCreationError, match="cannot be started"):
        environment.create(tmp_path / "env", key=key, base_executable=wrapper, environ=os.environ)

    assert not (tmp_path / "env").exists()


def test_a_directory_that_is_not_empty_is_an_error_and_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()

    with pytest.raises(EnvironmentCreationError, match="is not empty"):
        create(tmp_path, OTHERS[NEWEST])

    assert (tmp_path / "mine").exists()
    assert not (tmp_path / "pyvenv.cfg").exists()


def test_a_file_in_place_of_a_parent_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EnvironmentCreationError, match="cannot create an environment at"):
        create(tmp_path / "file" / "env", OTHERS[NEWEST])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user to whom file modes apply")
def test_a_directory_without_write_permission_is_an_error(tmp_path: Path) -> None:  # pragma: needs restrained user
    tmp_path.chmod(0o555)

    with pytest.raises(EnvironmentCreationError, match="Permission denied"):
        create(tmp_path / "env", OTHERS[NEWEST])


def test_an_empty_directory_is_used_and_missing_parents_are_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert create(tmp_path / "empty", OTHERS[NEWEST]).exists()
    assert create(tmp_path / "a" / "b" / "mit ü", OTHERS[NEWEST]).exists()


@needs_posix
def test_deactivate_undoes_activate(tmp_path: Path) -> None:
    create(tmp_path / "an env", OTHERS[NEWEST])
    script = f". '{tmp_path}/an env/bin/activate'; command -v python; deactivate; echo \"$PATH|$VIRTUAL_ENV\""

    done = subprocess.run(["/bin/sh", "-ec", script], capture_output=True, text=True, check=True, env={"PATH": "/p"})

    assert done.stdout.splitlines() == [f"{tmp_path}/an env/bin/python", "/p|"]


def test_a_free_threaded_environment_has_its_own_library(tmp_path: Path) -> None:
    base = tmp_path / "base" / "bin" / "python3.13t"
    for file in (base, tmp_path / "base" / "lib" / "python3.13t" / "os.py"):
        file.parent.mkdir(parents=True)
        file.touch()
    target = Target(os="linux", arch="x86_64", libc="gnu")
    key = Key(implementation="cpython", number="3.13.1", variant="freethreaded", target=target)

    environment.create(tmp_path / "env", key=key, base_executable=base, environ={})

    assert (tmp_path / "env" / "lib" / "python3.13t" / "site-packages").is_dir()
    assert (tmp_path / "env" / "bin" / "python3.13t").is_symlink()


@pytest.mark.parametrize(
    ("launchers", "variant", "made"),
    [
        (["python.exe", "pythonw.exe"], "", ["activate.bat", "python.exe", "pythonw.exe"]),
        (["venvlauncher.exe", "venvwlauncher.exe"], "", ["activate.bat", "python.exe", "pythonw.exe"]),
        (["venvlaunchert.exe"], "freethreaded", ["activate.bat", "python.exe", "python3.13t.exe"]),
        (["venvlauncher_d.exe"], "debug", ["activate.bat", "python.exe", "python_d.exe"]),
    ],
)
def test_windows_gets_copies_of_the_launchers(
    launchers: list[str], variant: str, made: list[str], tmp_path: Path
) -> None:
    templates = tmp_path / "base" / "Lib" / "venv" / "scripts" / "nt"
    templates.mkdir(parents=True)
    for name in launchers:
        (templates / name).write_text(name)
    target = Target(os="windows", arch="x86_64", libc="none")
    key = Key(implementation="cpython", number="3.13.1", variant=variant, target=target)
    base = tmp_path / "base" / "python.exe"

    python = environment.create(tmp_path / "env", key=key, base_executable=base, environ={})

    assert python.read_text() == launchers[0]
    assert sorted(path.name for path in (tmp_path / "env" / "Scripts").iterdir()) == made
    assert f"home = {base.parent}\n" in (tmp_path / "env" / "pyvenv.cfg").read_text()


@pytest.mark.parametrize("minor", OTHERS)
def test_uv_installs_a_wheel_with_its_script(minor: str, tmp_path: Path) -> None:
    key, path, uv = key_of(OTHERS[minor]), tmp_path / "env", installing.find_uv(os.environ)
    if uv is None:
        pytest.skip("needs uv")
    create(path, OTHERS[minor])

    variables = {**os.environ, "UV_OFFLINE": "1"}
    installing.install(path, str(wheel(tmp_path)), key=key, base_executable=OTHERS[minor], environ=variables, uv=uv)

    script = environment.scripts(path, key) / "demo_thing"
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == "it runs\n"
    assert not any(path.glob("**/site-packages/pip"))


@needs_posix
@pytest.mark.skipif("3.6" not in OTHERS, reason="needs Python 3.6")
def test_pip_does_not_replace_uv_for_a_resolution_on_an_old_python(tmp_path: Path) -> None:
    python, path, uv = OTHERS["3.6"], tmp_path / "env", tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no 3.6 here' >&2\nexit 1\n")
    uv.chmod(0o755)
    create(path, python)
    environ = {**os.environ, "PIP_FIND_LINKS": str(wheel(tmp_path / "links", "linked_thing").parent)}

    with pytest.raises(EnvironmentCreationError, match=r"no 3\.6 here"):
        installing.install(
            path,
            "linked_thing",
            key=key_of(python),
            base_executable=python,
            environ=environ,
            uv=str(uv),
            resolution="lowest",
        )

    assert not any(path.glob("**/linked_thing.py"))


def test_p14_variables_do_not_redirect_an_installation(installer: tuple[Path, str | None], tmp_path: Path) -> None:
    path, uv = installer
    elsewhere = tmp_path / "elsewhere"
    names = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")
    poison = {name: str(elsewhere) for name in (*names, "UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_PROJECT")}
    poison |= {"PIP_USER": "1", "UV_SYSTEM_PYTHON": "1", "PIP_REQUIRE_VIRTUALENV": "1", "PIP_DRY_RUN": "1"}

    install(path, wheel(tmp_path, "poisoned_thing"), uv=uv, environ=poison)

    assert any(path.glob("**/site-packages/poisoned_thing.py"))
    assert not elsewhere.exists()


def test_index_settings_apply_to_an_installation(installer: tuple[Path, str | None], tmp_path: Path) -> None:
    path, uv = installer
    links = str(wheel(tmp_path / "links", "linked_thing").parent)
    environ = {"PIP_FIND_LINKS": links, "UV_FIND_LINKS": links, "PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"}

    install(path, "linked-thing==1.0", uv=uv, environ=environ)

    assert any(path.glob("**/site-packages/linked_thing.py"))


def test_the_error_contains_the_output_of_the_installer(installer: tuple[Path, str | None]) -> None:
    path, uv = installer

    with pytest.raises(
        EnvironmentCreationError, match=r"cannot install no-such-thing into(.|\n)*no-such-thing"
    ) as caught:
        install(path, "no-such-thing", uv=uv, environ={"PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"})

    assert caught.value.hint.endswith("no-such-thing")


def test_an_index_that_asks_for_a_password_is_an_error_and_no_question(installer: tuple[Path, str | None]) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    path, uv = installer
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever).start()
        index = f"http://127.0.0.1:{server.server_port}/simple"
        environ = dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), index)
        environ |= {"NO_PROXY": "127.0.0.1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "UV_NO_CONFIG": "1"}
        try:
            with pytest.raises(EnvironmentCreationError, match="no-such-thing") as caught:
                install(path, "no-such-thing", uv=uv, environ=environ)
        finally:
            server.shutdown()
    assert "EOFError" not in str(caught.value)


def test_p13_passwords_in_urls_are_hidden(installer: tuple[Path, str | None]) -> None:
    path, uv = installer
    environ = dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), "http://me:secret-1@127.0.0.1:9/simple")
    environ |= {"PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}

    with pytest.raises(EnvironmentCreationError) as caught:
        install(path, "thing @ http://token:secret-2@127.0.0.1:9/thing-1.0.zip", uv=uv, environ=environ)

    assert "secret" not in str(caught.value)
    assert ":***@127.0.0.1" in str(caught.value)


def test_pip_is_added_to_the_environment_if_there_is_no_uv(tmp_path: Path) -> None:
    path = tmp_path / "env"
    create(path, OTHERS[NEWEST])

    install(path, wheel(tmp_path), uv=None, environ={"PIP_NO_INDEX": "1"})

    done = subprocess.run([path / "bin" / "python", "-m", "pip", "list"], capture_output=True, text=True, check=True)
    assert "demo" in done.stdout


def test_an_old_python_uses_its_pip_if_uv_fails(tmp_path: Path) -> None:
    oldest = next(iter(OTHERS))
    if Version(oldest) >= Version("3.8"):
        pytest.skip("needs a Python older than 3.8 on this machine")
    key, path = key_of(OTHERS[oldest]), tmp_path / "env"
    create(path, OTHERS[oldest])
    false = shutil.which("false")

    installing.install(
        path, str(wheel(tmp_path)), key=key, base_executable=OTHERS[oldest], environ=os.environ, uv=false
    )

    assert any(path.glob("**/site-packages/demo_thing.py"))


@needs_posix
def test_a_base_without_ensurepip_is_a_clear_error(tmp_path: Path) -> None:
    key, path = key_of(OTHERS[NEWEST]), tmp_path / "env"
    python = create(path, OTHERS[NEWEST])
    python.unlink()
    python.write_text(f"#!/bin/sh\necho '{OTHERS[NEWEST]}: No module named ensurepip' >&2\nexit 1\n")
    python.chmod(0o755)

    with pytest.raises(EnvironmentCreationError, match="has no ensurepip") as caught:
        installing.install(path, "anything", key=key, base_executable=OTHERS[NEWEST], environ=os.environ)

    assert caught.value.hint == "python -m pip install uv"


def test_an_installation_without_requirements_does_nothing(tmp_path: Path) -> None:
    installing.install(tmp_path / "env", key=key_of(OTHERS[NEWEST]), base_executable=tmp_path, environ={})

    assert not (tmp_path / "env").exists()


@needs_posix
def test_a_shim_is_not_used_as_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    for name in ("shims", "bin"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "uv").touch(0o755)

    assert installing.find_uv({"PATH": f"{tmp_path}/shims"}) is None
    assert installing.find_uv({"PATH": f"{tmp_path}/shims:{tmp_path}/bin"}) == f"{tmp_path}/bin/uv"


def test_python_gil_is_removed_unless_the_build_is_free_threaded() -> None:
    target = Target(os="linux", arch="x86_64", libc="gnu")
    usual = Key(implementation="cpython", number="3.13.1", target=target)
    threaded = Key(implementation="cpython", number="3.13.1", variant="freethreaded", target=target)

    assert environment.clean({"PYTHON_GIL": "0", "A": "b"}, usual) == {"A": "b"}
    assert environment.clean({"PYTHON_GIL": "0"}, threaded) == {"PYTHON_GIL": "0"}
