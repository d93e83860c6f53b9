"""What is in the wheel, which names are public, and what importing us costs."""

import ast
import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import pytest_pyinstall

ROOT = Path(__file__).parent.parent
PACKAGE = Path(pytest_pyinstall.__file__).parent
NO_MODULES = {"_inner_plugin", "_probe_script", "__main__"}
"""Run, and never imported."""

# Widening one of these is a decision: what stands here is what the rest of the package, or the world, relies on.
PUBLIC = """
__init__: Environment Interpreter PyinstallError Request provision provision_all
answer: Answer looks_like_a_page page_hint refused
archive_cache: CachedFile cached_archives clear prune
archive_file: budget_of read_error read_some
archive_lock: LOCK lock_archive lock_now
arguments: arguments_of command_of completed_parser
bounds: BOUNDS CHUNK TOO_MUCH Bounds
build: Archive Build
cache_file: OPEN_FLAGS make_directory open_regular remove storage_error
cached_archive: archive_path open_cached
attest: SUFFIX Proof attest verify_bundle
attestation: GITHUB_ISSUER PREDICATE RELEASE_WORKFLOW ROOT_HINT Attestation Signer
call: call
candidate: EXECUTABLE_FORM Candidate executable_in guess_directory guess_executable is_shim real
catalogue: Catalogue default_catalogue mirrored parse_catalogue
cli: main
client: Client open_client
commands: PLACES Outcome Session cache_clear cache_key cache_list cache_prune error_json find install list_pythons
    matrix mirror_pack mirror_pull places remove report run_command verify
completion: complete
configuration: Configuration read_configuration
connection: Connection
decompress: ahead decompressed
directory: children delete make_directory
discover: discover
discovery_spec: request_of why_not
download: fill
elf: Dynamic has_debug_sections is_elf read_dynamic
environment: clean create executable scripts
environment_cache: directory_of environments lease throw_away touch unwanted
errors: AttestationError CallError CatalogueError DigestMismatchError EnvironmentCreationError FetchError IntegrityError
    InvalidRequestError InvalidSettingError LockTimeoutError NoMatchError OfflineError PackError ProbeError
    PyinstallError SeveralFailedError SizeMismatchError StoreError UnreadableStoreError UnsafeArchiveError UsageError
exchange: put
execute: execute on_path
expand: END_OF_LIFE expand
far_side: driver unfit
fault: ELSEWHERE OTHERWISE STOPPED PassingError UnreachableError proxy_refused
fetch: fetch fetch_text
finish: EXTERNALLY_MANAGED finish run_tool
grammar: IMPLEMENTATIONS LONGEST_TEXT NAME OPERATOR TAGS VARIANT VARIANTS WORDS WrittenVersion written_version
installed: installed
installer: find_uv install
interpreter: Environment Interpreter RunError
kept: CATALOGUE Kept revalidated too_long
kept_tree: keep_tree kept_trees lay_tree left_over_trees trees_directory
key: Key
layout: BUILT_PREFIX NAMING_A_PLACE PACKED STANDALONE may_change polyglot read_variables relocated standard_library
    variables_text
limits: Limits
listener: Listener Progress
local_file: open_local
lock: hold holder is_free lock_descriptor seize share
matrix: FORMATS Format Row free_threaded matrix_rows matrix_text
member: Kind Member
member_name: check_characters check_for_windows check_length decoded parts_of windows_objection
minor_link: link_minor
mirror: RELEASES Packed Pulled pack pull
new_tree: NewTree
pack: Packable look_at pack_one
parcel: parcel
partial: Part
path_directory: links names temporary
persist: persist
probe: probe
process: run run_into signal_name tail
progress: Bars Display Lines Silence display_on result_line size_text steps_told
project: Project read_project
provisioner: Provided Provisioner provision provision_all
pytest_plugin: pytest_addoption pytest_cmdline_main pytest_collection pytest_collection_finish
    pytest_collection_modifyitems pytest_configure pytest_configure_node pytest_fixture_setup pytest_generate_tests
    pytest_load_initial_conftests pytest_report_header pytest_runtest_setup pytest_sessionfinish pytest_sessionstart
    pytest_terminal_summary pytest_testnodedown pytest_unconfigure
proxy: proxy_for
recall: note recall
record: Record
refusal: BrokenError RefusedError give_up refuse shown
repeated_wheels: Wheels recognise remember write_again
request: WORDS Request parse_requests
resolve: candidates released resolve
retype: blamed retyped
scratch: left_over own_directory sweep
seal: VersionInfo read_seal write_seal
search_path: on_path
session: Choice Pythons admits header parse_specifier reason
settings: OPTIONS UV_VARIABLES VARIABLES Attestations Downloads Missing Preference Settings
slips: suggestions
start: main
store: Broken Claim Installation Store current_boot
suite: Suite
suite_arguments: adapt_arguments adapt_options chosen inner_arguments is_interactive jobs_of project_directory
    translated_ini without_ours
suite_background: Background holding_interrupts
suite_bisect: Bisection Found neighbours
suite_cache: last_failed remember_failures
suite_coverage: Coverage combine
suite_digest: metadata_digest tree_digest
suite_environment: Made make_environment
suite_filling: fill packages_of warm
suite_garbage: search_again spare_the_search
suite_groups: grouped headed
suite_junit: add_attribute add_property correct_names
suite_process: Inner prepare_plugin
suite_recipe: Recipe read_recipe
suite_report: Cell Matrix Tally page read_junit table
suite_retelling: Retelling has_curious_reporters
suite_row: Row label_of named
suite_summary: grouping list_collected write_coverage write_page write_table
suite_wheel: is_alike pack_editable
symlinks: Led check_as_written follow
tar_stream: BLOCK Stream
tarball: tar_members
target: ARCHITECTURE_WORDS LIBC_WORDS SYSTEM_WORDS Target
tool: run_tool
tox_plugin: tox_add_env_config
transport: Transports quietly
tree: Difference Entry Known added compare listed
trust: Other is_ours_alone who_else_can_write
unpack: unpack unpack_file
unpack_apart: answer unpack_apart
url: basic_authorization is_local is_loopback joined origin redacted secrets_in
version_range: range_members
virtualenv_plugin: Pyinstall
volume: Place Volume place
zipball: zip_members
"""


def public() -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    for word in PUBLIC.split():
        if word.endswith(":"):
            names = modules[word[:-1]] = []
        else:
            names.append(word)
    return modules


def declared(path: Path) -> list[str]:
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(statement.value)
            return names
    return []


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, timeout=200
    ).stdout


def test_the_public_names_of_each_module_are_those_that_were_decided() -> None:
    modules = {path.stem: declared(path) for path in PACKAGE.glob("*.py") if path.stem not in NO_MODULES}
    assert modules == public()


@pytest.mark.parametrize("module", sorted(public()))
def test_every_public_name_is_there(module: str) -> None:
    if module in {"tox_plugin", "virtualenv_plugin"}:
        pytest.importorskip(module.partition("_")[0])
    imported = importlib.import_module("pytest_pyinstall" if module == "__init__" else f"pytest_pyinstall.{module}")
    missing = [name for name in public()[module] if not hasattr(imported, name)]
    assert not missing


def test_importing_the_package_imports_nothing_beyond_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
import pytest_pyinstall
print(*(name for name in sorted(set(sys.modules) - before) if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    assert run(code).split() == ["pytest_pyinstall"]


def test_the_plugin_imports_nothing_beyond_pytest_and_the_standard_library() -> None:
    code = """
import sys
import pytest
before = set(sys.modules)
import pytest_pyinstall.pytest_plugin
print(*(name for name in sorted(set(sys.modules) - before) if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    assert run(code).split() == ["pytest_pyinstall", "pytest_pyinstall.pytest_plugin"]


def test_a_session_without_a_request_imports_nothing_of_ours(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys
        def test_it():
            ours = [name for name in sys.modules if name.startswith("pytest_pyinstall")]
            assert sorted(ours) == ["pytest_pyinstall", "pytest_pyinstall.pytest_plugin"]
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    pytest.importorskip("hatchling")
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=200)
    (path,) = directory.glob("*.whl")
    return zipfile.Path(path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.Path) -> None:
    names = {name for name in wheel.root.namelist() if not name.endswith("/")}
    package = {name for name in names if name.startswith("pytest_pyinstall/")}
    sources = {f"pytest_pyinstall/{path.name}" for path in (ROOT / "pytest_pyinstall").iterdir() if path.is_file()}
    assert package == sources
    assert "pytest_pyinstall/py.typed" in package
    assert "pytest_pyinstall/_probe_script.py" in package
    others = {name.partition("/")[2] for name in names - package}
    assert others == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_every_entry_point_of_the_wheel_is_there(wheel: zipfile.Path) -> None:
    (text,) = (
        wheel.joinpath(name).read_text(encoding="utf-8")
        for name in wheel.root.namelist()
        if name.endswith("entry_points.txt")
    )
    assert text.split("\n") == [
        "[console_scripts]",
        "pytest-pyinstall = pytest_pyinstall.start:main",
        "",
        "[pytest11]",
        "pyinstall = pytest_pyinstall.pytest_plugin",
        "",
        "[tox]",
        "pyinstall = pytest_pyinstall.tox_plugin",
        "",
        "[virtualenv.discovery]",
        "pyinstall = pytest_pyinstall.virtualenv_plugin:Pyinstall",
        "",
    ]
    for line in text.splitlines():
        if " = " in line:
            module, _, name = line.rpartition(" = ")[2].partition(":")
            path = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
            assert path.is_file()
            assert not name or name in declared(path)


def test_what_is_installed_says_the_version_of_this_checkout() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.metadata.version("pytest-pyinstall") == project["version"]
    assert "pytest>=9.1" in project["dependencies"]
    assert project["requires-python"] == ">=3.11"
