"""Results of compare.py: kept as JSON, told as Markdown."""

import dataclasses
import json
import os
import pathlib
import statistics

import measure

GIB = 1 << 30

TITLES = {
    "nginx": "From nginx",
    "rgw": "From Ceph RGW",
    "disk": "From a local disk, page cache dropped",
    "again": "A second process on the node: weightd has the model, the others have its file in the page cache",
    "processes": "Memory of several processes with the same local file",
}
LABELS = {
    "nothing": "imports alone",
    "weightd, second process": "**weightd, second process**",
    "weightd": "**weightd**",
    "safetensors_torch": "safetensors (torch)",
    "safetensors_numpy": "safetensors (numpy)",
    "runai": "Run:ai model streamer",
}
FIRST, SECOND = "weightd", "weightd, second process"
CEILINGS = ("curl x", "O_DIRECT")
KEEP_A_FILE = ("boto3", "s5cmd")  # a second process maps the file they made, as safetensors (torch) does

LEGEND = (
    "Peak memory is what the load added, in models. The last columns are medians of ratios within a round, with a 95 % "
    "interval: speed against the best of what only moves the bytes, time against weightd's first load of the model, "
    "time against weightd's second process."
)

Interval = tuple[float, float, float]


@dataclasses.dataclass
class Part:
    """Samples of each contender by round, each of a model of `size` bytes."""

    size: int
    samples: dict[str, list[measure.Sample]]

    def contenders(self) -> list[str]:
        """All but the ceilings, weightd first, then the fastest."""
        names = [name for name in self.samples if not name.startswith(CEILINGS) and self.good(name)]
        failed = [name for name in self.samples if not self.good(name)]
        ours = [name for name in (FIRST, SECOND) if name in names]
        return ours + sorted(set(names) - set(ours), key=self.wall) + failed

    def ceiling(self) -> str | None:
        """The best of what only moves the bytes."""
        names = [name for name in self.samples if name.startswith(CEILINGS) and self.good(name)]
        return min(names, key=self.wall, default=None)

    def good(self, name: str) -> list[measure.Sample]:
        """The samples that count."""
        return [sample for sample in self.samples[name] if not sample.error]

    def wall(self, name: str) -> float:
        """Median wall seconds."""
        return statistics.median(sample.wall for sample in self.good(name))

    def cpu_per_gib(self, name: str) -> float:
        """Median CPU seconds for a GiB of the model."""
        return statistics.median(sample.cpu for sample in self.good(name)) / (self.size / GIB)

    def peak(self, name: str) -> float:
        """Median of the peak memory, in models."""
        return statistics.median(sample.peak for sample in self.good(name)) / self.size

    def ratio(self, over: str | None, under: str | None) -> Interval | None:
        """Median and 95 % interval of the ratio of two contenders' times in the same round."""
        if over == under or not {over, under} <= self.samples.keys():
            return None
        assert over and under
        pairs = paired(self, over, under)
        return measure.ratio_interval(*pairs) if pairs[0] else None


@dataclasses.dataclass
class Processes:
    """Bytes that 1, 2, 4, … processes take together, by contender."""

    size: int
    held: dict[str, dict[int, int]]


def paired(part: Part, over: str, under: str) -> tuple[list[float], list[float]]:
    """Both contenders' times in the rounds where neither failed."""
    both = [
        (a.wall, b.wall)
        for a, b in zip(part.samples[over], part.samples[under], strict=True)
        if not a.error and not b.error
    ]
    return [a for a, _ in both], [b for _, b in both]


def label(name: str) -> str:
    """How tables and plots call a contender."""
    return LABELS.get(name, name)


def shown(interval: Interval | None) -> str:
    """Median and interval."""
    return "{:.2f} [{:.2f}, {:.2f}]".format(*interval) if interval else ""


def table(part: Part) -> list[str]:
    """One row for the best ceiling and one for each contender."""
    ceiling = part.ceiling()
    lines = [["", "wall s", "GB/s", "CPU s/GiB", "peak memory", f"speed / {ceiling}", "time / first", "time / second"]]
    for name in ([ceiling] if ceiling else []) + part.contenders():
        if not part.good(name):
            lines.append([label(name), "failed"] + [""] * 6)
            continue
        only_moves = name == ceiling
        lines.append(
            [
                label(name),
                f"{part.wall(name):.3f}",
                "" if name == SECOND else f"{part.size / part.wall(name) / 1e9:.2f}",
                f"{part.cpu_per_gib(name):.2f}",
                "" if only_moves else f"{part.peak(name):.2f} x",
                "" if name == SECOND else shown(part.ratio(ceiling, name)),
                "" if only_moves or name == SECOND else shown(part.ratio(name, FIRST)),
                "" if only_moves or name in KEEP_A_FILE else shown(part.ratio(name, SECOND)),
            ]
        )
    used = [i for i in range(len(lines[0])) if i == 0 or any(line[i] for line in lines[1:])]
    rows = ["| " + " | ".join(line[i] for i in used) + " |" for line in lines]
    return [rows[0], "|" + "---|" * len(used), *rows[1:], *failures(part)]


def failures(part: Part) -> list[str]:
    """What failed and why, one line a contender."""
    lines = []
    for name, samples in part.samples.items():
        errors = [sample.error for sample in samples if sample.error]
        if errors:
            lines.append(f"\n{label(name)} failed in {len(errors)} of {len(samples)} rounds: `{errors[-1][:300]}`")
    return lines


def memory_table(part: Processes) -> list[str]:
    """GiB by contender and number of processes."""
    counts = sorted({count for totals in part.held.values() for count in totals})
    lines = ["| GiB for | " + " | ".join(f"{count} process{'es' * (count > 1)}" for count in counts) + " |"]
    lines.append("|" + "---|" * (len(counts) + 1))
    for name, totals in part.held.items():
        lines.append(f"| {label(name)} | " + " | ".join(f"{totals[count] / GIB:.2f}" for count in counts) + " |")
    return lines


def machine() -> str:
    """What this runs on."""
    models = [line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    chip = models[0].split(":")[1].strip() if models else "?"
    return f"{os.cpu_count()} virtual cores ({chip}), {memory:.0f} GiB, Linux {os.uname().release}"


class Results:
    """The parts measured so far, in a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.machine = machine()
        self.parts: dict[str, Part] = {}
        self.processes: Processes | None = None
        if (folder / "results.json").exists():
            self._read(json.loads((folder / "results.json").read_text()))

    def _read(self, raw: dict) -> None:
        self.machine = raw["machine"]
        for name, part in raw["parts"].items():
            samples = {key: [measure.Sample(**sample) for sample in runs] for key, runs in part["samples"].items()}
            self.parts[name] = Part(part["size"], samples)
        if raw["processes"]:
            held = {
                way: {int(count): nbytes for count, nbytes in totals.items()}
                for way, totals in raw["processes"]["held"].items()
            }
            self.processes = Processes(raw["processes"]["size"], held)

    def add(self, name: str, part: Part | Processes) -> None:
        """Takes a part in, in place of an earlier one, and writes all."""
        if isinstance(part, Part):
            self.parts[name] = part
        else:
            self.processes = part
        raw = {
            "machine": self.machine,
            "parts": {name: dataclasses.asdict(part) for name, part in self.parts.items()},
            "processes": dataclasses.asdict(self.processes) if self.processes else None,
        }
        (self._folder / "results.json").write_text(json.dumps(raw, indent=1))
        names = [*self.parts, *(["processes"] if self.processes else [])]
        (self._folder / "results.md").write_text(
            f"{self.machine}. {LEGEND}\n\n" + "\n\n".join(map(self.markdown, names)) + "\n"
        )

    def markdown(self, name: str) -> str:
        """One part as a title and a table."""
        if name == "processes":
            assert self.processes
            return "\n".join([title(name, self.processes.size), "", *memory_table(self.processes)])
        part = self.parts[name]
        rounds = max(len(samples) for samples in part.samples.values())
        return "\n".join(
            [title(name, part.size), "", f"Medians of {rounds} round{'s' * (rounds > 1)}.", "", *table(part)]
        )


def title(name: str, size: int) -> str:
    """A part's heading."""
    return f"### {TITLES[name]} ({size / GIB:g} GiB)"
