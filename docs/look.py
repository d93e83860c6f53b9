"""Checks the built documentation: ``python docs/look.py DIRECTORY``.

Every link and anchor between its pages must exist. If there is a Chromium, it opens every page as wide as a desktop
and a phone: nothing may be wider than the window, and the console must have no errors. Ends with 1 if anything is
wrong, and prints what.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["CHROMIUM", "broken_links", "complaints"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_WIDTHS = (1280, 390)
_HARNESS = """<!doctype html><title>look</title><body><script>
const pages = PAGES, widths = WIDTHS, said = [];
async function open(page, width) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900;
  const loaded = new Promise(done => frame.onload = done);
  frame.src = page; document.body.append(frame); await loaded;
  const root = frame.contentDocument.documentElement;
  if (!frame.contentDocument.querySelector("h1, a")) said.push(`${page}: is empty`);
  if (root.scrollWidth > width) said.push(`${page}: is ${root.scrollWidth} wide in ${width}`);
  for (const image of frame.contentDocument.images)
    if (image.complete && !image.naturalWidth) said.push(`${page}: ${image.src} is no image`);
  frame.remove();
}
(async () => {
  for (const width of widths) for (const page of pages) await open(page, width);
  document.title = "RESULT" + JSON.stringify(said) + "END";
})();
</script>"""


def broken_links(directory: Path) -> list[str]:
    """The broken links and anchors of the pages below `directory`."""
    pages = {path: _Page.read(path) for path in sorted(directory.rglob("*.html"))}
    return [
        f"{path.relative_to(directory)}: {link}" for path, page in pages.items() for link in page.broken(path, pages)
    ]


def complaints(directory: Path) -> list[str]:
    """What a browser reports about the pages below `directory`."""
    names = [f"/{path.relative_to(directory).as_posix()}" for path in sorted(directory.rglob("*.html"))]
    harness = _HARNESS.replace("PAGES", json.dumps(names)).replace("WIDTHS", json.dumps(_WIDTHS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, harness, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for _ in range(3):  # on a busy machine the browser may print before it has opened all pages
            done = _browse(f"http://127.0.0.1:{server.server_port}/look")
            if match := re.search(r"RESULT(\[.*?\])END", done.stdout):
                break
        else:
            return [f"the browser did not finish: {done.stderr[-500:]}"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    said: list[str] = json.loads(html.unescape(match[1]))
    return [*said, *re.findall(r":CONSOLE.*", done.stderr)]


def _browse(url: str) -> "subprocess.CompletedProcess[str]":
    with tempfile.TemporaryDirectory(prefix="look-", ignore_cleanup_errors=True) as profile:
        command = [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=100000",
            "--dump-dom",
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=110, check=True)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, harness: str, *args: object, **kwargs: object) -> None:
        self.harness = harness
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # the server decides

    def do_GET(self) -> None:
        if self.path not in {"/look", "/favicon.ico"}:
            super().do_GET()
            return
        body = self.harness.encode() if self.path == "/look" else b""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


class _Page(HTMLParser):
    """The links of a page, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}

    @classmethod
    def read(cls, path: Path) -> "_Page":
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        link = values.get("href") if tag in {"a", "link"} else values.get("src")
        if link:
            self.links.append(link)

    def broken(self, path: Path, pages: "dict[Path, _Page]") -> Iterator[str]:
        for link in dict.fromkeys(self.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            page = next((page for other, page in pages.items() if other.resolve() == target), None)
            if not target.exists() or (page is not None and unquote(parts.fragment) not in page.anchors):
                yield link


def main(directory: Path) -> int:
    found = broken_links(directory)
    if CHROMIUM is None:
        print("no Chromium found: only the links were checked")
    else:
        found += complaints(directory)
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
