"""Writes the results to docs/benchmarks.md, and draws the plots."""

import json
import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, Case
from benchmarks.growth import GROWTHS, Growth
from benchmarks.world import ROOT

__all__ = ["draw", "row", "table", "write"]

DIRECTORY = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"


def row(case: Case, pairs: dict[str, Any]) -> str:
    """A line of the table."""
    ours, peer, ratio = pairs["ours"], pairs["peer"], pairs["ratio"]
    factor, digits = (1000, 1) if case.unit == "ms" else (1, 0)
    measured = ours if case.most is not None else ratio
    aim = f"≤ {case.most:g} MB" if case.most is not None else f"≤ {case.target:g}"
    reached = "yes" if measured <= (case.most or case.target) else "**no**"
    if case.stretch is not None and ratio <= case.stretch:
        reached = f"yes, and ≤ {case.stretch:g}"
    shown = [f"{value * factor:.{digits}f} {case.unit}" for value in (ours, peer)]
    return f"| {case.title} | {case.peer} | {shown[0]} | {shown[1]} | {ratio:.3g} | {aim} | {reached} |"


def table(results: dict[str, Any]) -> str:
    head = "| case | peer | ours | theirs | ratio | target | reached |\n|---|---|---|---|---|---|---|"
    rows = [row(case, results[case.name]) for case in CASES if case.name in results]
    return "\n".join([head, *rows])


def growth_table(growth: Growth, results: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(results.values())))
    head = f"| {growth.axis} | {' | '.join(names)} |\n|---|{'---|' * len(names)}"
    rows = [
        f"| {size} | {' | '.join(f'{line[name] * 1000:.0f} ms' for name in names)} |" for size, line in results.items()
    ]
    return "\n".join([head, *rows])


def write(results: dict[str, Any]) -> None:
    """Add `results` to the earlier ones, and update the page and the plots."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    store = DIRECTORY / "results.json"
    known = json.loads(store.read_text("utf-8")) if store.exists() else {}
    names = {"machine", *(case.name for case in CASES), *(growth.name for growth in GROWTHS)}
    known = {name: found for name, found in known.items() if name in names} | results
    if results:
        known["machine"] = machine()
    store.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf-8")
    text = PAGE.read_text("utf-8")
    parts = {"table": table(known), "machine": known["machine"]}
    parts |= {growth.name: growth_table(growth, known[growth.name]) for growth in GROWTHS if growth.name in known}
    # Prevent a line break between a number and its unit.
    parts = {name: re.sub(r"(?<=\d) (?=ms|MB)", "\N{NO-BREAK SPACE}", content) for name, content in parts.items()}
    for name, content in parts.items():
        pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)"
        text = re.sub(
            pattern, lambda match, content=content: f"{match[1]}\n{content}\n{match[2]}", text, flags=re.DOTALL
        )
    PAGE.write_text(text, "utf-8")
    draw(known)


def machine() -> str:
    """The machine and the versions of the measurement."""
    names = ("pytest-pyinstall", "uv", "pytest", "httpcore2", "isal")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        processor = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), processor)
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {platform.system()} {platform.release()}, {processor}, "
        f"{os.cpu_count()} cores, {_filesystem()}, CPython {platform.python_version()}; {', '.join(versions)}."
    )


def _filesystem() -> str:
    best = ("", "a filesystem")
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            _, where, kind, *_ = line.split()
            if str(Path.cwd()).startswith(where) and len(where) >= len(best[0]):
                best = (where, kind)
    return best[1]


def draw(results: dict[str, Any]) -> None:
    """The ratios as bars, and each growth as lines."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {"svg.hashsalt": "benchmarks", "svg.fonttype": "path", "font.size": 9, "figure.autolayout": True}
    )
    cases = [case for case in CASES if case.name in results and case.most is None]
    if cases:
        figure, axes = plt.subplots(figsize=(8, 0.36 * len(cases) + 1))
        ratios = [results[case.name]["ratio"] for case in cases]
        colours = ["#2a7f62" if ratio <= case.target else "#c1583a" for case, ratio in zip(cases, ratios, strict=True)]
        axes.barh(range(len(cases)), ratios, color=colours, height=0.62)
        for at, case in enumerate(cases):
            axes.plot([case.target] * 2, [at - 0.4, at + 0.4], color="#222222", linewidth=2)
        axes.set_xscale("log")
        axes.axvline(1, color="#888888", linewidth=0.8, linestyle="--")
        axes.set_yticks(range(len(cases)), [case.title.replace("`", "") for case in cases])
        axes.invert_yaxis()
        axes.set_xlabel("time of ours / of the peer (black: target)")
        _save(figure, "ratios")
    for growth in GROWTHS:
        if growth.name not in results:
            continue
        figure, axes = plt.subplots(figsize=(6, 3.4))
        lines = results[growth.name]
        sizes = list(map(int, lines))
        for name in next(iter(lines.values())):
            axes.plot(sizes, [line[name] for line in lines.values()], marker="o", label=name)
        if max(sizes) / min(sizes) > 20:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xticks(sizes, list(map(str, sizes)))
        axes.set_xlabel(growth.axis)
        axes.set_ylabel("seconds")
        axes.set_title(growth.title)
        axes.legend(fontsize=8)
        _save(figure, growth.name)


def _save(figure: Any, name: str) -> None:
    from matplotlib import pyplot as plt

    figure.savefig(DIRECTORY / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
