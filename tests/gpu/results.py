"""What the GPU suite finds: claims that hold or don't, figures and what is wanted of them; as JSON and Markdown."""

import dataclasses
import json
import math
import pathlib
import typing

import measure


@dataclasses.dataclass(frozen=True)
class Figure:
    """Something measured. `wanted` is its bound, in its unit; without one it is only told."""

    title: str
    unit: str = ""
    wanted: float | None = None
    at_least: bool = True

    def target(self) -> str:
        """The bound as text."""
        if self.wanted is None:
            return "told"
        return f"{'>=' if self.at_least else '<='} {self.wanted:g} {self.unit}".rstrip()


FIGURES = {
    "ring": Figure("a host segment through the pinned ring / cuMemcpyHtoDAsync from cuMemAllocHost", "x", 0.95),
    "registered": Figure("the same, the whole segment registered for it / the ring", "x"),
    "registered_copy": Figure("the same without the time to register / the ring", "x"),
    "attach_cpp": Figure("attach to a resident model beyond the context, C++", "ms", 10, at_least=False),
    "attach_python": Figure("attach to a resident model beyond the context, Python", "ms", 20, at_least=False),
    "import_1": Figure("1 GiB of another process: import", "ms"),
    "map_1": Figure("1 GiB of another process: reserve and map", "ms"),
    "set_access_1": Figure("1 GiB of another process: set access", "ms"),
    "import_40": Figure("40 GiB of another process: import", "ms"),
    "map_40": Figure("40 GiB of another process: reserve and map", "ms"),
    "set_access_40": Figure("40 GiB of another process: set access", "ms"),
    "private_device": Figure("private copy from the GPU's copy / device-to-device copy", "x", 0.8),
    "private_host": Figure("private copy from host memory / the bus", "x", 0.9),
    "object": Figure("object to GPU, HTTP from memory / min(source, bus)", "x", 0.9),
    "object_gpu_only": Figure("the same, nothing of it in host memory (gpu_only)", "x", 0.9),
    "register_small": Figure("registering host memory, 4 KiB pages", "GB/s"),
    "register_huge": Figure("registering host memory, huge pages", "GB/s"),
    "safetensors": Figure("safetensors' load_file to CUDA / a private copy as torch tensors", "x", 2),
    "safetensors_shared": Figure("safetensors' load_file to CUDA / the shared copy as torch tensors", "x"),
}


class Report:
    """What one step found, kept in a file as it comes: a step that is killed leaves what it had."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self.claims: list[dict[str, typing.Any]] = []
        self.figures: dict[str, dict[str, typing.Any]] = {}
        self.left_out: list[str] = []
        self._save()

    def claim(self, what: str, held: bool, detail: object = "") -> None:
        """Something that must be so."""
        self.claims.append({"what": what, "held": held, "detail": str(detail)[:500]})
        print(f"{'ok' if held else 'FAILED'}: {what} {detail}".rstrip(), flush=True)
        self._save()

    def ratio(self, key: str, over: list[float], under: list[float], detail: str = "") -> None:
        """A figure: the median of over/under by round, and its interval."""
        median, low, high = measure.ratio_interval(over, under)
        self.figures[key] = {"median": median, "low": low, "high": high, "rounds": len(over), "detail": detail}
        print(f"{FIGURES[key].title}: {shown(self.figures[key])} {detail}".rstrip(), flush=True)
        self._save()

    def value(self, key: str, values: list[float], detail: str = "") -> None:
        """A figure that is no ratio."""
        self.ratio(key, values, [1.0] * len(values), detail)

    def leave_out(self, why: str) -> None:
        """Something that can't be shown here."""
        self.left_out.append(why)
        print(f"left out: {why}", flush=True)
        self._save()

    def _save(self) -> None:
        found = {"claims": self.claims, "figures": self.figures, "left_out": self.left_out}
        self._path.write_text(json.dumps(found, indent=1))


def shown(found: dict[str, typing.Any]) -> str:
    """Median and interval."""
    return "{median:.3g} [{low:.3g}, {high:.3g}]".format(**found)


def reached(key: str, found: dict[str, typing.Any]) -> bool:
    """Whether the interval reaches what is wanted, as in tests/bench."""
    figure = FIGURES[key]
    if figure.wanted is None:
        return bool(math.isfinite(found["median"]))
    return bool(found["high"] >= figure.wanted if figure.at_least else found["low"] <= figure.wanted)


class Results:
    """All steps' reports."""

    def __init__(self, machine: dict[str, str], judged: bool) -> None:
        self.machine = machine
        self._judged = judged  # whether figures mean something: not on a stand-in for the driver
        self._steps: dict[str, dict[str, typing.Any]] = {}

    def add(self, step: str, path: pathlib.Path, failure: str) -> None:
        """A step's report, and why it ended early if it did."""
        found = {"claims": [], "figures": {}, "left_out": []}
        if path.exists():
            found = json.loads(path.read_text())
        if failure:
            found["claims"].append({"what": f"step {step} ends well", "held": False, "detail": failure})
        self._steps[step] = found

    def counts(self) -> tuple[int, int]:
        """Claims and figures that hold, and that don't."""
        held = [bool(claim["held"]) for found in self._steps.values() for claim in found["claims"]]
        for found in self._steps.values():
            held += [not self._judged or reached(key, figure) for key, figure in found["figures"].items()]
        return held.count(True), held.count(False)

    def write(self, folder: pathlib.Path) -> None:
        """results.json and results.md."""
        folder.mkdir(parents=True, exist_ok=True)
        raw = {"machine": self.machine, "judged": self._judged, "steps": self._steps}
        (folder / "results.json").write_text(json.dumps(raw, indent=1))
        (folder / "results.md").write_text(self.markdown())

    def markdown(self) -> str:
        """For tests/gpu/RESULTS.md."""
        lines = ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in self.machine.items())]
        if not self._judged:
            lines += ["", "**On a stand-in for the driver: the figures mean nothing.**"]
        lines += ["", "| figure | wanted | found | |", "|---|---|---|---|"]
        measured = {key: found for step in self._steps.values() for key, found in step["figures"].items()}
        for key, figure in FIGURES.items():
            found = measured.get(key)
            if found is None:
                lines.append(f"| {figure.title} | {figure.target()} | **open** | |")
                continue
            missed = self._judged and not reached(key, found)
            cell = f"{shown(found)} {figure.unit}, {found['rounds']} rounds"
            lines.append(f"| {figure.title} | {figure.target()} | {cell} | {found['detail']}{' **MISSED**' * missed} |")
        lines += ["", "| claim | | |", "|---|---|---|"]
        for step, found in self._steps.items():
            for claim in found["claims"]:
                detail = " ".join(claim["detail"].replace("|", "/").split())
                lines.append(f"| {step}: {claim['what']} | {'holds' if claim['held'] else '**FAILED**'} | {detail} |")
        left_out = [why for found in self._steps.values() for why in found["left_out"]]
        if left_out:
            lines += ["", "Left out:", "", *(f"- {why}" for why in left_out)]
        return "\n".join(lines) + "\n"
