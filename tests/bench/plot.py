"""Draws the results of compare.py: a panel of bars a part, and memory by number of processes.

.bench-venv/bin/python tests/bench/plot.py DIR
"""

import pathlib
import sys

import matplotlib
import report

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

OURS, THEIRS, CEILING = "#1f6f5c", "#b8bcc4", "#e3c567"


def plain(name: str) -> str:
    """A contender's name without Markdown."""
    return report.label(name).replace("*", "")


def bars(axes: Axes, name: str, part: report.Part) -> None:
    """Wall seconds as bars, with CPU seconds per GiB and peak memory beside them."""
    ceiling = part.ceiling()
    rows = ([ceiling] if ceiling else []) + [row for row in part.contenders() if part.good(row)]
    colors = [CEILING if row == ceiling else OURS if row.startswith("weightd") else THEIRS for row in rows]
    walls = [part.wall(row) for row in rows]
    axes.barh([plain(row) for row in rows], walls, color=colors)
    for i, row in enumerate(rows):
        memory = "" if row == ceiling else f", {part.peak(row):.2f} x the model"
        axes.text(walls[i], i, f" {walls[i]:.2f} s, {part.cpu_per_gib(row):.2f} CPU s/GiB{memory}", va="center", size=7)
    axes.invert_yaxis()
    axes.set_xlim(0, max(walls) * 1.7)
    finish(axes, name, part.size, "seconds")


def lines(axes: Axes, part: report.Processes) -> None:
    """Memory by number of processes."""
    for name, totals in part.held.items():
        color = {"color": OURS, "linewidth": 2.5} if name == "weightd" else {}
        counts = sorted(totals)
        axes.plot(counts, [totals[count] / report.GIB for count in counts], marker="o", label=plain(name), **color)
    axes.set_xlabel("processes", size=8)
    axes.legend(fontsize=7)
    axes.set_ylim(bottom=0)
    finish(axes, "processes", part.size, "")
    axes.set_ylabel("GiB", size=8)


def finish(axes: Axes, name: str, size: int, unit: str) -> None:
    """What all panels share."""
    heading = report.TITLES[name].split(":")[0]
    axes.set_title(f"{heading} ({size / report.GIB:g} GiB)", size=9, loc="left")
    axes.set_xlabel(unit or axes.get_xlabel(), size=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    results = report.Results(folder)
    panels = len(results.parts) + bool(results.processes)
    rows = -(-panels // 2)
    figure, grid = pyplot.subplots(rows, 2, figsize=(13, 3.2 * rows), squeeze=False, layout="constrained")
    cells = list(grid.flat)
    for axes, (name, part) in zip(cells, results.parts.items(), strict=False):
        bars(axes, name, part)
    if results.processes:
        lines(cells[len(results.parts)], results.processes)
    for axes in cells[panels:]:
        axes.set_visible(False)
    figure.suptitle(results.machine, size=9)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"plot.{ending}", dpi=130)


if __name__ == "__main__":
    main()
