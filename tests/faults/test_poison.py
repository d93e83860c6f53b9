"""P13, P14: a poisoned environment does not break or mislead an installation, and no secret is printed or written."""

import subprocess
import sys
from pathlib import Path

import mirror
import pytest
from fault_report import Tally
from fault_workshop import VERSION, Workshop

POISON = {
    "PYTHONHOME": "/nowhere",
    "PYTHONPATH": "{here}/poison",
    "PYTHONSTARTUP": "{here}/poison/json.py",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONEXECUTABLE": "/bin/false",
    "__PYVENV_LAUNCHER__": "/bin/false",
    "PYTHONUSERBASE": "{here}/poison",
    "PYTHONINSPECT": "1",
    "PYTHONVERBOSE": "1",
    "PYTHONDONTWRITEBYTECODE": "",
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "utf-16",
    "PYTHONHASHSEED": "not a number",
    "PYTHONMALLOC": "nonsense",
    "PYTHONBREAKPOINT": "os.abort",
    "LD_LIBRARY_PATH": "{here}/poison",
    "LD_PRELOAD": "{here}/poison/no.so",
    "VIRTUAL_ENV": "/nowhere",
    "CONDA_PREFIX": "/nowhere",
    "TMPDIR": "/nowhere",
    "LC_ALL": "C",
    "LANG": "xx_XX.nonsense",
    "HOME": "/nowhere",
    "COLUMNS": "1",
    "TERM": "dumb",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "SSL_CERT_FILE": "/nowhere",
}

_INSTALL = """
import os, sys
for pair in sys.argv[2:]:
    name, _, value = pair.partition("=")
    os.environ[name] = value
from pytest_pyinstall.cli.main import main
sys.exit(main(["install", "--reinstall", sys.argv[1]]))
"""


@pytest.mark.parametrize("name", POISON)
def test_p14_an_installation_succeeds_with_a_poisoned_variable(workshop: Workshop, tally: Tally, name: str) -> None:
    """The variable is set after the outer Python has started, because it could prevent that start."""
    tally.attempt("a poisoned variable")
    poison = workshop.directory / "poison"
    poison.mkdir()
    for module in ("json", "site", "sitecustomize", "usercustomize", "platform", "sysconfig"):
        (poison / f"{module}.py").write_text("raise SystemExit('poisoned')\n")
    value = POISON[name].replace("{here}", str(workshop.directory))
    done = subprocess.run(
        [sys.executable, "-c", _INSTALL, VERSION, f"{name}={value}"], env=workshop.environ, cwd=poison.parent,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert workshop.is_whole()
    tally.survive()


SECRETS = ("s3cr3t-password", "s3cr3t-token", "s3cr3t-proxy", "s3cr3t-github")


@pytest.mark.parametrize("response", ["fine", "refused", "missing", "reset", "page", "redirect"])
def test_p13_no_secret_is_printed_or_written(workshop: Workshop, tally: Tally, response: str) -> None:
    tally.attempt("secrets in URLs")
    workshop.reset()
    behaviours = {
        "refused": mirror.status(403),
        "missing": mirror.status(404),
        "reset": mirror.reset(after=10),
        "page": mirror.html(),
        "redirect": mirror.redirect("ftp://bob:s3cr3t-password@127.0.0.1/"),
    }
    with mirror.serve(workshop.mirror) as server:
        path = f"/20261122/{workshop.archive.name.replace('+', '%2B')}"
        if response in behaviours:
            server.always(path, behaviours[response])
        place = server.url.replace("http://", "http://bob:s3cr3t-password@")
        environ = {
            "PYTEST_PYINSTALL_MIRROR": place,
            "PYTEST_PYINSTALL_CATALOGUE": f"{place}/catalogue.json?token=s3cr3t-token",
            "HTTPS_PROXY": "http://eve:s3cr3t-proxy@127.0.0.1:9",
            "GITHUB_TOKEN": "s3cr3t-github",
        }
        output = workshop.run("install", "-v", VERSION, environ=environ).output
        if response in {"fine", "reset"}:
            output += _output_of_session(workshop, environ)
        if response == "fine":
            output += workshop.run("list", "--json", "--all", environ=environ).output
            output += workshop.run("dir", "--json", environ=environ).output
    sent = [value for request in server.requests for value in request.headers.values()]
    written = b"".join(
        path.read_bytes()
        for directory in (workshop.store / ".pytest-pyinstall", workshop.cache)
        for path in directory.rglob("*")
        if path.is_file()
    )
    for secret in SECRETS:
        assert secret not in output, (secret, output)
        assert secret.encode() not in written, secret
    assert not any("s3cr3t-github" in value or "s3cr3t-proxy" in value for value in sent)
    tally.survive()


def _output_of_session(workshop: Workshop, environ: dict[str, str]) -> str:
    """The output, the log and the reports of a session that downloads a Python."""
    workshop.reset()
    place = workshop.directory / "project"
    place.mkdir()
    (place / "test_it.py").write_text("def test_it(python): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-o", "log_cli=true", "--log-level=1",
         "--log-file=log", "--junitxml=junit.xml", "--python", VERSION, place],
        env={**workshop.environ, **environ}, cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert VERSION in done.stdout + done.stderr
    files = [path.read_text("utf-8") for path in place.iterdir() if path.is_file()]
    assert any("setting mirror" in text for text in files), "the log was written"
    return "".join((done.stdout, done.stderr, *files))


def test_p14_modules_in_the_working_directory_are_not_imported(workshop: Workshop, tally: Tally) -> None:
    tally.attempt("modules planted in the working directory")
    for module in ("json", "ssl", "sitecustomize", "platform"):
        Path(workshop.directory, f"{module}.py").write_text("raise SystemExit('planted')\n")
    done = workshop.run("install", "--reinstall", VERSION, environ={"PYTHONSAFEPATH": "1"})
    assert done.code == 0, done.output
    tally.survive()
