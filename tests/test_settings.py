"""Each kind of value is parsed, and invalid ones are errors; ``test_options.py`` tests each row of the table."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_pyinstall.errors import InvalidSettingError
from pytest_pyinstall.request.identity import RELEASE_WORKFLOW
from pytest_pyinstall.settings import Settings, expand_user, home_directory

HERE = Path("/work") if os.name != "nt" else Path("C:/work")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX paths")


def settings(**environ: str) -> Settings:
    return Settings.from_environ({f"PYTEST_PYINSTALL_{name}": text for name, text in environ.items()}, directory=HERE)


def test_precedence_is_option_then_variable_then_ini_value_then_variable_of_uv() -> None:
    environ = {"PYTEST_PYINSTALL_MIRROR": "https://b.test", "UV_PYTHON_INSTALL_MIRROR": "https://d.test"}
    options: dict[str, str | None] = {"mirror": "https://a.test"}
    ini: dict[str, str | None] = {"mirror": "https://c.test"}
    found = []
    for given in (options, environ, ini, {}):
        each = Settings.from_environ(environ, directory=HERE, options=options, ini=ini)
        found.append((each.mirror, each.origins["mirror"]))
        if given:
            given.pop(next(iter(given)))

    assert found == [
        ("https://a.test", "--python-mirror"),
        ("https://b.test", "PYTEST_PYINSTALL_MIRROR"),
        ("https://c.test", "pyinstall_mirror"),
        ("https://d.test", "UV_PYTHON_INSTALL_MIRROR"),
    ]


def test_an_empty_value_is_unset() -> None:
    each = Settings.from_environ(
        {"PYTEST_PYINSTALL_MIRROR": "", "PYTEST_PYINSTALL_LOCK_TIMEOUT": ""},
        directory=HERE,
        options={"missing": None, "catalogue": ""},
        ini={"missing": ""},
    )
    assert (each.mirror, each.missing, each.catalogue, each.lock_timeout) == (None, "fail", None, 300.0)
    assert "missing" not in each.origins


def test_the_home_variable_sets_both_directories_unless_they_are_set(tmp_path: Path) -> None:
    each = settings(HOME=str(tmp_path), CACHE=str(tmp_path / "elsewhere"))
    assert (each.store, each.cache) == (tmp_path / "store", tmp_path / "elsewhere")
    assert each.origins["store"] == "PYTEST_PYINSTALL_HOME"


def test_relative_paths_are_relative_to_where_they_are_written() -> None:
    each = Settings.from_environ(
        {"PYTEST_PYINSTALL_CACHE": "../c", "PYTEST_PYINSTALL_TRUSTED_STORE": os.pathsep.join(["a", "", "b"])},
        directory=HERE,
        options={"store": "s"},
        ini={"mirror": "m"},
        ini_directory=HERE / "ini",
    )
    assert each.store == HERE / "s"
    assert each.cache == HERE.parent / "c"
    assert each.mirror == str(HERE / "ini" / "m")
    assert each.trusted_stores == {HERE / "a", HERE / "b"}


@posix
def test_a_symlink_is_not_resolved(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert settings(STORE=str(tmp_path / "link")).store == tmp_path / "link"


@posix
def test_a_tilde_is_expanded_and_an_unknown_user_is_an_error(isolated_home: Path) -> None:
    assert settings(STORE="~/pythons").store == isolated_home / "pythons"
    assert expand_user("./~", origin="x") == Path("./~")
    with pytest.raises(InvalidSettingError, match="_STORE: ~nosuchuser/x: there is no user 'nosuchuser'"):
        settings(STORE="~nosuchuser/x")


@posix
def test_p24_without_a_home_directories_of_the_user_id_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)
    monkeypatch.setattr(Path, "expanduser", lambda path: path)

    each = settings()

    for path in (each.store, each.cache):
        assert path.is_absolute()
        assert f"pytest-pyinstall-home-{os.geteuid()}" in path.parts
    assert each.origins["store"] == "default without a home directory"
    assert not os.path.lexists(home_directory() / "anything")
    with pytest.raises(InvalidSettingError, match="there is no home directory for ~"):
        expand_user("~/x", origin="x")


@pytest.mark.parametrize("text", ["1", "true", "YES", "on", "y", "T"])
def test_these_words_are_true(text: str) -> None:
    assert Settings.from_environ({"UV_OFFLINE": text}, directory=HERE).offline is True


@pytest.mark.parametrize("text", ["0", "false", "No", "off", "n", "f"])
def test_these_words_are_false(text: str) -> None:
    assert Settings.from_environ({"UV_OFFLINE": text}, directory=HERE).offline is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("automatic", "auto"),
        ("AUTO", "auto"),
        ("true", "auto"),
        ("manual", "manual"),
        ("Never", "never"),
        ("0", "never"),
    ],
)
def test_words_of_uv_for_downloads_are_translated(text: str, value: str) -> None:
    assert Settings.from_environ({"UV_PYTHON_DOWNLOADS": text}, directory=HERE).downloads == value


def test_manual_is_accepted_only_in_the_variable_of_uv() -> None:
    with pytest.raises(InvalidSettingError, match="'manual' is not one of auto, never") as caught:
        settings(DOWNLOADS="manual")
    assert caught.value.hint == "PYTEST_PYINSTALL_DOWNLOADS=never"


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("2.5", 2.5), ("1e3", 1000.0)])
def test_seconds_are_a_number(text: str, value: float) -> None:
    assert settings(LOCK_TIMEOUT=text).lock_timeout == value


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "soon", "1s", "1,5"])
def test_an_invalid_number_of_seconds_is_an_error(text: str) -> None:
    with pytest.raises(InvalidSettingError, match="is not a number of seconds") as caught:
        settings(LOCK_TIMEOUT=text)
    assert caught.value.hint == "PYTEST_PYINSTALL_LOCK_TIMEOUT=300"


def test_hosts_are_separated_by_commas_or_blanks() -> None:
    each = settings(INSECURE_HOST="a.test, b.test:8000 c.test")
    assert each.insecure_hosts == {"a.test", "b.test:8000", "c.test"}


@pytest.mark.parametrize("text", ["https://host/x", "http://u:p@host:8/x", "file:///x", "pbs", "uv"])
def test_a_url_or_a_keyword_is_not_changed(text: str) -> None:
    assert settings(CATALOGUE=text).catalogue == text


def test_a_keyword_is_valid_for_its_option_only() -> None:
    assert settings(MIRROR="uv").mirror == str(HERE / "uv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://", "no host in https://"),
        ("https:host/x", "no host in"),
        ("ftp://host/x", "ftp:// is not supported"),
        ("https://host:port/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        ("https://u:p/w@host/x", "is not a URL: in a password, write / as %2F"),
        ("a\0b", "a path cannot contain a NUL character"),
    ],
)
def test_the_error_for_an_invalid_location_names_the_variable(text: str, words: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        settings(MIRROR=text)
    assert words in caught.value.message
    assert caught.value.message.startswith("PYTEST_PYINSTALL_MIRROR: ")


@pytest.mark.parametrize("text", ["127.0.0.1:8800", "mirror.test:80/pythons"])
def test_a_host_without_a_scheme_is_no_directory(text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingError, match="is neither a directory nor a URL") as caught:
        settings(MIRROR=text)
    assert caught.value.hint == f"PYTEST_PYINSTALL_MIRROR=http://{text}"
    (tmp_path / text).mkdir(parents=True)
    environ = {"PYTEST_PYINSTALL_MIRROR": text}
    assert Settings.from_environ(environ, directory=tmp_path).mirror == str(tmp_path / text)


@pytest.mark.parametrize(("text", "meant"), [("upv", "uv"), ("psb", "pbs")])
def test_the_error_for_a_misspelled_keyword_names_it(text: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingError, match=f"there is no file .*; did you mean {meant}?") as caught:
        settings(CATALOGUE=text)
    assert caught.value.hint == f"PYTEST_PYINSTALL_CATALOGUE={meant}"
    (tmp_path / text).touch()
    environ = {"PYTEST_PYINSTALL_CATALOGUE": text}
    assert Settings.from_environ(environ, directory=tmp_path).catalogue == str(tmp_path / text)


@pytest.mark.parametrize(
    "text", ["https://user:hunter2@host:port/", "https://user:hunt/er2@host/x", "ftp://u:hunter2@h/"]
)
def test_p13_the_error_for_an_invalid_url_hides_its_password(text: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        settings(MIRROR=text)
    assert "hunter2" not in str(caught.value)
    assert "er2" not in str(caught.value)


def test_the_error_for_a_word_in_the_variable_of_uv_has_the_words_of_uv() -> None:
    with pytest.raises(InvalidSettingError, match="'manul' is not one of automatic, manual, never") as caught:
        Settings.from_environ({"UV_PYTHON_DOWNLOADS": "manul"}, directory=HERE)
    assert caught.value.hint == "UV_PYTHON_DOWNLOADS=manual"


@pytest.mark.parametrize("text", ["no", "OFF", "false", "0", "none", "manual"])
def test_a_word_that_forbids_downloads_is_not_corrected_to_one_that_allows_them(text: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        settings(DOWNLOADS=text)
    assert caught.value.hint == "PYTEST_PYINSTALL_DOWNLOADS=never"


def test_a_hint_uses_the_option_that_was_typed() -> None:
    with pytest.raises(InvalidSettingError) as caught:
        Settings.from_environ({}, directory=HERE, options={"missing": "ignore"})
    assert str(caught.value) == "--python-missing: 'ignore' is not one of fail, skip\nhint: --python-missing fail"
    with pytest.raises(InvalidSettingError) as misspelled:
        settings(PREFERENCE="only-manged")
    assert misspelled.value.hint == "PYTEST_PYINSTALL_PREFERENCE=only-managed"
    for file, hint in (("pyproject.toml", 'pyinstall_missing = "skip"'), ("setup.cfg", "pyinstall_missing = skip")):
        with pytest.raises(InvalidSettingError) as configured:
            Settings.from_environ({}, directory=HERE, ini={"missing": "skipp"}, ini_file=HERE / file)
        assert configured.value.hint == hint
        assert configured.value.message.startswith(f"pyinstall_missing in {HERE / file}: ")
    ini = {"missing": "skp", "cache": "here"}
    with pytest.raises(InvalidSettingError) as typed:
        Settings.from_environ({}, directory=HERE, ini=ini, ini_file=HERE / "tox.ini", ini_options=["pyinstall_missing"])
    assert typed.value.message.startswith("-o pyinstall_missing: 'skp' is not one of ")
    assert typed.value.hint == "-o pyinstall_missing=skip"


@pytest.mark.parametrize(
    ("given", "decided", "hint"),
    [
        ({"options": {"preference": "only-system"}}, "--python-preference", "--python-preference system"),
        ({"environ": {"PYTEST_PYINSTALL_PREFERENCE": "only-system"}}, "", "PYTEST_PYINSTALL_PREFERENCE=system"),
        ({"ini": {"preference": "only-system"}}, "pyinstall_preference", "--python-preference system"),
        (
            {"ini": {"preference": "only-system"}, "ini_options": ["pyinstall_preference"]},
            "-o pyinstall_preference",
            "-o pyinstall_preference=system",
        ),
    ],
)
def test_messages_about_a_setting_name_what_decided_it(given: dict[str, Any], decided: str, hint: str) -> None:
    made = Settings.from_environ(given.pop("environ", {}), directory=HERE, **given)
    assert made.decided("preference") == f"{decided or 'PYTEST_PYINSTALL_PREFERENCE'}: only-system"
    assert made.example("preference", "system") == hint
    assert made.decided("downloads") == "--python-downloads: auto"
    assert made.example("downloads", "never") == "--python-downloads never"


@pytest.mark.parametrize(
    ("text", "meant"), [("yess", "1"), ("ture", "1"), ("enabeld", "1"), ("flase", "0"), ("none", "0"), ("maybe", "1")]
)
def test_the_hint_for_a_flag_is_the_closest_word_or_the_opposite_of_the_default(text: str, meant: str) -> None:
    with pytest.raises(InvalidSettingError) as caught:
        Settings.from_environ({"UV_OFFLINE": text}, directory=HERE)
    assert caught.value.hint == f"UV_OFFLINE={meant}"


@pytest.mark.parametrize(
    "text", [RELEASE_WORKFLOW, f"{RELEASE_WORKFLOW}@refs/heads/main", f"https://git.test/{RELEASE_WORKFLOW}"]
)
def test_a_workflow_is_not_changed(text: str) -> None:
    each = settings(ATTESTATION_WORKFLOW=text, ATTESTATION_ROOT="root.json")
    assert (each.signer.workflow, each.signer.root) == (text, str(HERE / "root.json"))


@pytest.mark.parametrize(
    "text", ["release.yml", "owner/repository", f"x/{RELEASE_WORKFLOW}", f"{RELEASE_WORKFLOW}@main"]
)
def test_an_invalid_workflow_is_rejected(text: str) -> None:
    with pytest.raises(InvalidSettingError, match="is not OWNER/REPOSITORY"):
        settings(ATTESTATION_WORKFLOW=text)


def test_directories_are_the_store_the_cache_and_mirror_directories() -> None:
    each = settings(STORE="s", CACHE="c", MIRROR="m", PYPY_MIRROR="https://host/x")
    assert each.directories == (HERE / "s", HERE / "c", HERE / "m")
    assert settings(STORE="s", CACHE="c", MIRROR="file:///m").directories[2:] == (Path("/m"),)
