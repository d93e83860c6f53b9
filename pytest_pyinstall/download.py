"""Fills a partial download from a server or a mirror directory, and checks what came."""

import os

from pytest_pyinstall.answer import Answer, looks_like_a_page, page_hint
from pytest_pyinstall.build import Build
from pytest_pyinstall.client import Client
from pytest_pyinstall.errors import DigestMismatchError, FetchError, IntegrityError, SizeMismatchError
from pytest_pyinstall.fault import OTHERWISE, PassingError
from pytest_pyinstall.listener import Listener
from pytest_pyinstall.local_file import open_local
from pytest_pyinstall.partial import Part
from pytest_pyinstall.persist import persist
from pytest_pyinstall.url import is_local, redacted

__all__ = ["fill"]


def fill(part: Part, build: Build, url: str, client: Client, until: float, listener: Listener) -> None:
    """Make `part` the archive of `build`. One that is something else in the end is fetched anew, once."""

    def attempt() -> None:
        if is_local(url):
            _copy(part, build, url, client, listener)
            return
        persist(
            lambda: _receive(part, build, url, client, until, listener),
            client=client,
            until=until,
            attempts=client.limits.attempts,
            what=_what(build),
            waiting=listener.waiting,
            reached=lambda: part.size,
        )

    try:
        attempt()
    except IntegrityError as error:
        wrong = error
    else:
        return
    part.restart()
    listener.waiting(f"{wrong.message}; fetching it anew")
    client.pause(0 if is_local(url) else client.limits.backoff)
    attempt()


def _receive(part: Part, build: Build, url: str, client: Client, until: float, listener: Listener) -> None:
    if part.size and part.sha256 == build.sha256:
        return  # it broke, or its writer died, after the last byte
    headers = {}
    if part.is_continued_by(url) and (build.size is None or part.size < build.size):
        headers = {"Range": f"bytes={part.size}-", "If-Range": part.validator}
    elif part.size:
        part.restart()
    accept = {200, 206, 416} if headers else {200}
    with client.answer(url, headers, until=until, accept=accept, what=_what(build)) as answer:
        if answer.status == 206 and answer.range_start != part.size:
            part.restart()
            msg = f"another part of the file came than was asked for, from {redacted(url)}"
            raise PassingError(msg)
        if answer.status == 200:
            part.restart(url=url, validator=answer.validator)
        if answer.status != 416:
            most = build.size if build.size is not None else client.limits.archive_size
            if answer.total is not None and (answer.total > most or build.size not in {None, answer.total}):
                raise _wrong_size(build, url, str(answer.total), most, answer)
            total = answer.total if build.size is None else build.size
            listener.at(part.size, total)
            for chunk in answer.steady(client.limits, until):
                if part.size + len(chunk) > most:
                    raise _wrong_size(build, url, f"more than {most}", most, answer)
                part.append(chunk)
                listener.at(part.size, total)
            _check(part, build, url, answer)
            return
    part.restart()  # 416: there is no such part any more
    _receive(part, build, url, client, until, listener)


def _copy(part: Part, build: Build, url: str, client: Client, listener: Listener) -> None:
    if part.size:
        part.restart()
    with open_local(url) as source:
        most = build.size if build.size is not None else client.limits.archive_size
        size = os.fstat(source.fileno()).st_size
        if size > most or (build.size is not None and size != build.size):
            raise _wrong_size(build, url, str(size), most, None)
        listener.at(0, size)
        while True:
            try:
                chunk = source.read(1 << 20)
            except OSError as error:
                msg = f"cannot read {redacted(url)}: {error.strerror}"
                raise FetchError(msg, hint=OTHERWISE) from error
            if not chunk:
                break
            if part.size + len(chunk) > most:  # it grows under our hands
                raise _wrong_size(build, url, f"more than {most}", most, None)
            part.append(chunk)
            listener.at(part.size, size)
    _check(part, build, url, None)


def _check(part: Part, build: Build, url: str, answer: Answer | None) -> None:
    is_page = (answer is not None and answer.is_page) or looks_like_a_page(part.head)
    if build.size is not None and part.size != build.size:
        if answer is not None and answer.total is None and not is_page:
            # Nobody said how long it would be, so an early end looks like any other.
            msg = f"the connection ended after {part.size} of {build.size} bytes, {redacted(url)}"
            raise PassingError(msg)
        raise _wrong_size(build, url, str(part.size), build.size, answer)
    if part.sha256 != build.sha256:
        msg = f"{build.key}: what came from {redacted(url)} is not what the catalogue promises: "
        msg += "an HTML page, " if is_page else ""
        msg += f"sha256 {part.sha256}, expected {build.sha256}"
        raise DigestMismatchError(msg, hint=page_hint(url) if is_page else _wrong_hint())


def _wrong_size(build: Build, url: str, size: str, most: int, answer: Answer | None) -> IntegrityError:
    is_page = answer is not None and answer.is_page
    msg = f"{build.key}: what came from {redacted(url)} is not what the catalogue promises: "
    msg += "an HTML page, " if is_page else ""
    msg += f"{size} bytes, expected {'' if build.size is not None else 'at most '}{most}"
    return SizeMismatchError(msg, hint=page_hint(url) if is_page else _wrong_hint())


def _wrong_hint() -> str:
    return "the server has another file; ask another one: --python-mirror URL, or --python-catalogue URL"


def _what(build: Build) -> str:
    return f"cannot download {build.key}"
