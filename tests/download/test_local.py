"""Archives and catalogues are read from files, by all the names that a mirror directory gives to a file."""

from pathlib import Path
from urllib.parse import quote

import pytest
from downloads import CONTENT, NAME, Fetcher

from pytest_pyinstall.errors import FetchError


@pytest.mark.parametrize(
    ("form", "stored"),
    [
        *((form, "decoded") for form in ("path", "quoted path", "url", "quoted url", "localhost url")),
        *((form, "encoded") for form in ("quoted path", "quoted url", "localhost url")),
    ],
)
def test_a_mirror_can_be_a_directory(fetcher: Fetcher, tmp_path: Path, form: str, stored: str) -> None:
    directory = tmp_path / "a mirror ü"
    directory.mkdir()
    (directory / (NAME if stored == "decoded" else quote(NAME))).write_bytes(CONTENT)
    url = {
        "path": str(directory / NAME),
        "quoted path": str(directory / quote(NAME)),
        "url": f"file://{quote(str(directory))}/{NAME}",
        "quoted url": f"file://{quote(str(directory))}/{quote(NAME)}",
        "localhost url": f"file://localhost{quote(str(directory))}/{quote(NAME)}",
    }[form]
    assert fetcher(url=url, offline=True) == CONTENT
    assert fetcher.files == [NAME]


@pytest.mark.parametrize("url", ["/no/such/file.tar.gz", "file:///no/such/file.tar.gz", "file:/no/such/file.tar.gz"])
def test_the_error_for_a_missing_file_names_it(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(
        FetchError, match=r"cannot read /no/such/file\.tar\.gz: no such file; there is no directory /no\n"
    ) as caught:
        fetcher(url=url)
    assert "mirror pull" in caught.value.hint


def test_a_directory_or_a_file_url_of_another_host_is_rejected(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not a file"):
        fetcher(url=str(tmp_path))
    with pytest.raises(FetchError, match="another host"):
        fetcher(url="file://server/share/x")


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_catalogue_can_be_a_local_file(fetcher: Fetcher, tmp_path: Path, form: str) -> None:
    (tmp_path / "c.json").write_bytes(b"{}")

    assert fetcher.text(form.format(tmp_path / "c.json"), offline=True) == b"{}"
    with pytest.raises(FetchError, match="no such file"):
        fetcher.text(form.format(tmp_path / "d.json"))
