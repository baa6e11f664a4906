"""Cold load from a local disk against O_DIRECT reads of the same file into huge pages; or from tmpfs against plain
reads on as many threads as the daemon uses.

.venv/bin/python tests/bench/cold_disk.py [--mib 2048] [--rounds 15] [--folder DIR | --tmpfs]
"""

import argparse
import os
import pathlib
import sys
import tempfile

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from admin import AdminCalls, cold_load  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, binary  # noqa: E402

MIB = 1 << 20
# Threads and MiB a read of the ceilings. From tmpfs: as daemon/source reads what is in memory already.
DISK_READS = ((1, 4), (2, 1), (2, 4), (4, 1), (4, 4), (8, 1))
TMPFS_READS = ((8, 1),)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--folder", default=None, help="a folder on the disk to measure")
    parser.add_argument("--tmpfs", action="store_true", help="a file in /dev/shm")
    options = parser.parse_args()
    place = "/dev/shm" if options.tmpfs else options.folder
    with tempfile.TemporaryDirectory(dir=place) as scratch, measure.HugePages("advise"):
        folder = pathlib.Path(scratch)
        path = even_model(folder / "m.safetensors", options.mib * MIB, 300)
        os.sync()
        size = path.stat().st_size
        daemon = Daemon(folder, f"host:\n  budget: {options.mib + 512}MiB\n").start()
        admin = AdminCalls(daemon.socket_dir)
        ballast = measure.Ballast(size + 256 * MIB)
        contenders: dict[str, measure.Contender] = {
            "weightd": ballast.freed_for(lambda: cold_load(daemon, admin, str(path)))
        }
        how, shapes = ("cached", TMPFS_READS) if options.tmpfs else ("direct", DISK_READS)
        for threads, mib in shapes:
            arguments = [binary("tests/bench/direct_read"), str(path), str(threads), str(mib * MIB), how]
            contenders[f"{how} {threads} x {mib} MiB"] = ballast.freed_for(
                lambda arguments=arguments: measure.timed_children(lambda: [measure.spawn(*arguments)])
            )

        def fresh() -> None:
            ballast.hold()
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        samples = measure.rounds(contenders, options.rounds, fresh)
        daemon.end()
    measure.table(samples, size)
    ceiling = measure.best(samples, [name for name in samples if name != "weightd"])
    ours, theirs = samples["weightd"], samples[ceiling]
    figure = 0.9 if options.tmpfs else 0.95
    reached = measure.verdict(f"speed against {ceiling}", figure, [s.wall for s in theirs], [s.wall for s in ours])
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
