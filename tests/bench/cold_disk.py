"""Cold load from a local disk against O_DIRECT reads of the same file into huge-page buffers.

.venv/bin/python tests/bench/cold_disk.py [--mib 2048] [--rounds 15] [--folder DIR]
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from admin import AdminCalls  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, binary  # noqa: E402

MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--folder", default=None, help="a folder on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch, measure.HugePages("advise"):
        folder = pathlib.Path(scratch)
        path = even_model(folder / "m.safetensors", options.mib * MIB, 300)
        os.sync()
        size = path.stat().st_size
        daemon = Daemon(folder, f"host:\n  budget: {options.mib + 512}MiB\n").start()
        admin = AdminCalls(daemon.socket_dir)

        def load() -> measure.Sample:
            cpu, begin = measure.cpu_of(daemon.pid), time.monotonic()
            admin.preload(str(path))
            sample = measure.Sample(time.monotonic() - begin, measure.cpu_of(daemon.pid) - cpu)
            admin.evict(str(path))
            return sample

        contenders: dict[str, measure.Contender] = {"weightd": load}
        for threads, mib in ((1, 4), (2, 1), (2, 4), (4, 1), (4, 4), (8, 1)):
            arguments = [binary("tests/bench/direct_read"), str(path), str(threads), str(mib * MIB)]
            contenders[f"O_DIRECT {threads} x {mib} MiB"] = lambda arguments=arguments: measure.timed_children(
                lambda: [measure.spawn(*arguments)]
            )

        def fresh() -> None:
            measure.touch_and_free(size + 256 * MIB)
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        samples = measure.rounds(contenders, options.rounds, fresh)
        daemon.end()
    measure.table(samples, size)
    ceiling = measure.best(samples, [name for name in samples if name != "weightd"])
    ours, theirs = samples["weightd"], samples[ceiling]
    reached = measure.verdict(f"speed against {ceiling}", 0.9, [s.wall for s in theirs], [s.wall for s in ours])
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
