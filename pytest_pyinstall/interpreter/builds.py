"""Lets setuptools build a project in an empty directory, and not from what earlier builds left."""

import configparser
import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pytest_pyinstall.system.files import children, discard, is_abandoned, scratch_name
from pytest_pyinstall.system.temporary import temporary_directory

__all__ = ["fresh_builds"]


@contextlib.contextmanager
def fresh_builds(
    projects: Collection[Path], environ: Mapping[str, str], *, directory: Path, more: str = ""
) -> Iterator[dict[str, str]]:
    """The variables for an installer that makes copies of `projects`: `environ`, with a configuration of setuptools.

    A copy contains all of the directory in which it was built. By default that is ``build``, which also contains
    modules that are gone, and extension modules that are older than a header. The new directory is relative to each
    project, so that no build sees the files of another. It is deleted at the end. setuptools before 66 ignores this.

    ``DIST_EXTRA_CONFIG`` in `environ` names a file of the user, relative to `directory`, that is included. Otherwise
    the text `more` is.
    """
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names with their case
    theirs = environ.get("DIST_EXTRA_CONFIG")
    try:
        if theirs:
            parser.read(directory / theirs, encoding="utf-8")
        else:
            parser.read_string(more)
    except (configparser.Error, OSError, ValueError):
        yield dict(environ)  # setuptools reports what is wrong with it
        return
    build = Path("build", scratch_name())
    if projects:
        for left in (left for project in projects for left in children(project / "build")):
            if is_abandoned(left):
                discard(left)
        parser.read_dict({"build": {"build_base": str(build)}})
    if not parser.sections():
        yield dict(environ)
        return
    with temporary_directory() as scratch:
        with (scratch / "extra.cfg").open("w", encoding="utf-8") as file:
            parser.write(file)
        try:
            yield {**environ, "DIST_EXTRA_CONFIG": file.name}
        finally:
            for project in projects:
                discard(project / build)
                with contextlib.suppress(OSError):
                    (project / "build").rmdir()
