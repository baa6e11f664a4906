"""What the benchmarks share: interleaved rounds, paired ratios with a bootstrap interval, CPU seconds, warm memory."""

import dataclasses
import math
import mmap
import os
import pathlib
import random
import statistics
import time
import typing

ROUNDS = 15
SHMEM_HUGE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")


@dataclasses.dataclass
class Sample:
    """One run: wall seconds, CPU seconds of whoever did the work, and bytes of memory it took at its worst."""

    wall: float
    cpu: float
    peak: int = 0
    error: str = ""  # why there is nothing to count


Contender = typing.Callable[[], Sample]


def touched(nbytes: int) -> mmap.mmap:
    """So much memory, every page of it touched."""
    block = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_HUGEPAGE)
    for offset in range(0, nbytes, 4096):
        block[offset] = 1
    return block


class Ballast:
    """Memory for whoever is measured. Virtual machines hand free memory back to their host within seconds, and the
    first touch after that measures the host, for as long as ten loads take: so it is kept between the runs and freed
    right before each run that needs it."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._block: mmap.mmap | None = None

    def hold(self) -> None:
        """Before a run: takes what the last one freed."""
        if self._block is None:
            self._block = touched(self._nbytes)

    def free(self) -> None:
        """Now is when it is needed."""
        if self._block is not None:
            self._block.close()
            self._block = None

    def freed_for(self, contender: Contender) -> Contender:
        """The contender, run with that memory."""

        def run() -> Sample:
            self.free()
            return contender()

        return run


def cpu_of(pid: int) -> float:
    """CPU seconds a process has used (proc(5), stat: utime and stime)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spawn(*arguments: str) -> int:
    """Starts a program and returns its process number, for timed_children alone to wait for: subprocess.Popen reaps
    the children of objects that nobody keeps, and their exit status is lost."""
    return os.posix_spawnp(arguments[0], arguments, os.environ)


def curls(url: str, size: int, count: int) -> list[int]:
    """Starts `count` curls that fetch an object's parts of equal size to /dev/null."""
    step = -(-size // count)
    return [
        spawn("curl", "-s", "-f", "-o", "/dev/null", "-r", f"{begin}-{min(size, begin + step) - 1}", url)
        for begin in range(0, size, step)
    ]


def timed_children(start: typing.Callable[[], list[int]]) -> Sample:
    """Wall seconds until all processes that `start` made have ended, and their CPU seconds."""
    begin = time.monotonic()
    cpu = 0.0
    for pid in start():
        _, status, usage = os.wait4(pid, 0)
        assert status == 0, f"a contender failed with status {status}"
        cpu += usage.ru_utime + usage.ru_stime
    return Sample(time.monotonic() - begin, cpu)


def rounds(
    contenders: dict[str, Contender], count: int, before_each: typing.Callable[[], None]
) -> dict[str, list[Sample]]:
    """Runs every contender once a round, in an order drawn anew, and gives each one's samples by round."""
    order = random.Random(1)
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for _ in range(count):
        for name in order.sample(sorted(contenders), len(contenders)):
            before_each()
            samples[name].append(contenders[name]())
    return samples


def ratio_interval(over: list[float], under: list[float]) -> tuple[float, float, float]:
    """Median of the paired ratios over/under, and its bootstrap 95 % interval; NaN, which reaches no figure, if there
    are none or one can't be told."""
    if not over or not all(map(math.isfinite, [*over, *under])) or 0 in under:
        return math.nan, math.nan, math.nan
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    draw = random.Random(2)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(5000))
    return statistics.median(ratios), medians[124], medians[4874]


def best(samples: dict[str, list[Sample]], names: typing.Iterable[str]) -> str:
    """The contender with the shortest median."""
    return min(names, key=lambda name: statistics.median(sample.wall for sample in samples[name]))


def table(samples: dict[str, list[Sample]], nbytes: int) -> None:
    """Prints median wall, speed and CPU of each contender."""
    print(f"{'contender':28} {'wall s':>8} {'GB/s':>7} {'CPU s/GB':>9}")
    for name, runs in samples.items():
        wall = statistics.median(run.wall for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        print(f"{name:28} {wall:8.3f} {nbytes / wall / 1e9:7.2f} {cpu / (nbytes / 1e9):9.3f}")


def verdict(what: str, figure: float, over: list[float], under: list[float], at_least: bool = True) -> bool:
    """Prints the ratio, its interval, and whether the interval reaches the figure; says so."""
    median, low, high = ratio_interval(over, under)
    reached = high >= figure if at_least else low <= figure
    sign = ">=" if at_least else "<="
    outcome = "reached" if reached else "NOT REACHED"
    print(f"{what}: {median:.3f} [{low:.3f}, {high:.3f}], wanted {sign} {figure}: {outcome}")
    return reached


def bound(what: str, values: list[float], most: float, unit: str) -> bool:
    """Prints the median, its bootstrap interval, and whether the interval reaches `most`; says so."""
    median, low, high = ratio_interval(values, [1.0] * len(values))
    outcome = "reached" if low <= most else "NOT REACHED"
    print(f"{what}: {median:.2f} {unit} [{low:.2f}, {high:.2f}], wanted <= {most:g}: {outcome}")
    return low <= most


class HugePages:
    """Sets shmem_enabled for the block (root), and puts it back."""

    def __init__(self, value: str) -> None:
        self._value = value
        self._before = SHMEM_HUGE.read_text().split("[")[1].split("]")[0]

    def __enter__(self) -> None:
        SHMEM_HUGE.write_text(self._value)

    def __exit__(self, *_: object) -> None:
        SHMEM_HUGE.write_text(self._before)
