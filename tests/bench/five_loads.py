"""Five loads of 1 GiB at once against one alone, from the same nginx: their speed together, how fairly they share, and
what they receive together under a limit of bandwidth.

.venv/bin/python tests/bench/five_loads.py [--mib 1024] [--rounds 15] [--bandwidth 4] [--limited-rounds 3]
"""

import argparse
import concurrent.futures
import pathlib
import statistics
import sys
import tempfile
import time

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from admin import AdminCalls, cold_load  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, Nginx  # noqa: E402

MIB = 1 << 20
LOADS = 5


class FiveLoads:
    """Loads all models at once, each over a connection of its own; keeps the ratios of the slowest to the fastest."""

    def __init__(self, daemon: Daemon, urls: list[str]) -> None:
        self._daemon = daemon
        self._urls = urls
        self._admins = [AdminCalls(daemon.socket_dir) for _ in urls]
        self.spreads: list[float] = []

    def __call__(self) -> measure.Sample:
        cpu, begin = measure.cpu_of(self._daemon.pid), time.monotonic()

        def load(admin: AdminCalls, url: str) -> float:
            admin.preload(url)
            return time.monotonic() - begin

        with concurrent.futures.ThreadPoolExecutor(len(self._urls)) as pool:
            walls = list(pool.map(load, self._admins, self._urls))
        sample = measure.Sample(max(walls), measure.cpu_of(self._daemon.pid) - cpu)
        self.spreads.append(max(walls) / min(walls))
        for url in self._urls:
            self._admins[0].evict(url)
        return sample


def config(mib: int, sources: str = "") -> str:
    """Room and turns for all of them."""
    return f"host:\n  budget: {LOADS * mib + 512}MiB\ncache:\n  max_loads: {LOADS}\n{sources}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--bandwidth", type=int, default=4, help="gigabits a second")
    parser.add_argument("--limited-rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, measure.HugePages("advise"):
        folder = pathlib.Path(scratch)
        names = [f"m{i}.safetensors" for i in range(LOADS)]
        size = 0
        for seed, name in enumerate(names):
            size = even_model(folder / "files" / name, options.mib * MIB, 150, seed).stat().st_size
        web = Nginx(folder / "nginx", folder / "files", "")
        urls = [web.url(name) for name in names]

        (folder / "free").mkdir()
        daemon = Daemon(folder / "free", config(options.mib)).start()
        admin = AdminCalls(daemon.socket_dir)
        five = FiveLoads(daemon, urls)
        ballast = measure.Ballast(LOADS * size + 256 * MIB)
        contenders: dict[str, measure.Contender] = {
            "one load": lambda: cold_load(daemon, admin, urls[0]),
            "five loads": five,
        }
        samples = measure.rounds(
            {name: ballast.freed_for(contender) for name, contender in contenders.items()},
            options.rounds,
            ballast.hold,
        )
        peak = daemon.memory()["VmHWM"]
        daemon.end()

        (folder / "limited").mkdir()
        limited = Daemon(
            folder / "limited", config(options.mib, f"sources:\n  bandwidth: {options.bandwidth}Gb/s\n")
        ).start()
        paced = FiveLoads(limited, urls)
        limit = options.bandwidth * 1e9 / 8
        rates = [LOADS * size / paced().wall / limit for _ in range(options.limited_rounds)]
        limited.end()
        web.end()

    one, all_five = samples["one load"], samples["five loads"]
    for name, runs, nbytes in (("one load", one, size), ("five loads", all_five, LOADS * size)):
        wall = statistics.median(run.wall for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        print(f"{name:12} {wall:8.3f} s {nbytes / wall / 1e9:7.2f} GB/s {cpu / (nbytes / 1e9):9.3f} CPU s/GB")
    rate = statistics.median(rates)
    within = abs(rate - 1) <= 0.05
    print(f"rate under a limit of {options.bandwidth} Gb/s: {rate:.3f} of it, wanted within 5 %: {within}")
    reached = [
        measure.verdict("speed of five against one", 0.9, [LOADS * s.wall for s in one], [s.wall for s in all_five]),
        measure.verdict("slowest against fastest", 1.5, five.spreads, [1.0] * len(five.spreads), at_least=False),
        measure.verdict("the same under the limit", 1.5, paced.spreads, [1.0] * len(paced.spreads), at_least=False),
        measure.bound("peak RSS of the daemon beyond the models", [(peak - LOADS * size) / MIB], 64, "MiB"),
        within,
    ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
