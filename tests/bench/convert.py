"""`weightctl convert` of a local file against copying it, and against the checksums that have to be made of it.

.venv/bin/python tests/bench/convert.py [--mib 2048] [--rounds 15]

`convert` has its result on the disk when it ends: so cp is followed by a sync of its copy. The page cache has the file.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "servers", "bench")]

import measure  # noqa: E402
from models import even_model  # noqa: E402
from processes import binary  # noqa: E402

MIB = 1 << 20
MOST = 512  # MiB of memory


def run(command: list[str]) -> measure.Sample:
    """A program's wall and CPU seconds, and the most memory it had."""
    begin = time.monotonic()
    _, status, usage = os.wait4(measure.spawn(*command), 0)
    assert status == 0, f"{command[0]} failed with status {status}"
    return measure.Sample(time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def checksums(mib: int) -> measure.Sample:
    """SHA-256 and CRC32 of so many bytes in memory, on all cores: what tensorizer files need."""
    sample = measure.Sample(0, 0)
    for what in ("sha256", "crc32"):
        command = [binary("tests/bench/check_speed"), what, str(mib), str(os.cpu_count())]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as checking:
            assert checking.stdin is not None and checking.stdout is not None
            checking.stdout.readline()  # its memory is there
            begin = time.monotonic()
            checking.stdin.close()
            assert checking.wait() == 0
            sample.wall += time.monotonic() - begin
    return sample


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    options = parser.parse_args()
    weightctl = binary("client/cli/weightctl")
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        plain = even_model(folder / "m.safetensors", options.mib * MIB, 300)
        packed = folder / "m.tensors"
        out = folder / "out"
        subprocess.run([weightctl, "convert", str(plain), str(packed)], check=True)

        def fresh() -> None:
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            for path in (plain, packed):
                subprocess.run(["cat", str(path)], stdout=subprocess.DEVNULL, check=True)
            os.sync()

        copy = f"cp {plain} {out}/copy && sync {out}/copy"
        samples = measure.rounds(
            {
                "cp and sync": lambda: run(["sh", "-c", copy]),
                "checksums": lambda: checksums(options.mib),
                "to tensorizer": lambda: run([weightctl, "convert", str(plain), f"{out}/c.tensors"]),
                "to safetensors": lambda: run([weightctl, "convert", str(packed), f"{out}/c.safetensors"]),
            },
            options.rounds,
            fresh,
        )
    measure.table(samples, options.mib * MIB)
    wall = {name: [sample.wall for sample in taken] for name, taken in samples.items()}
    slower = [max(pair) for pair in zip(wall["cp and sync"], wall["checksums"], strict=True)]
    reached = []
    for name in ("to tensorizer", "to safetensors"):
        reached += [
            measure.verdict(f"{name}: speed against the slower of copy and checksums", 0.8, slower, wall[name]),
            measure.bound(f"{name}: peak RSS", [sample.peak / MIB for sample in samples[name]], MOST, "MiB"),
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
