"""What an attach costs: in C++, in a fresh Python process, as torch tensors, and with every page read once.

.venv/bin/python tests/bench/attach.py [--rounds 15]
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, binary  # noqa: E402

MIB = 1 << 20

BARE = "pass"
FRESH = """
import sys, weightd
model = weightd.attach(sys.argv[1], socket_dir=sys.argv[2], framework="np")
bytes(model.raw("layer.0.weight")[:4])
"""
FRESH_NUMPY = FRESH.replace('bytes(model.raw("layer.0.weight")[:4])', 'model["layer.0.weight"].sum()')
STATE_DICT = """
import sys, time, torch, weightd
model = weightd.attach(sys.argv[1], socket_dir=sys.argv[2], framework="pt")
model["layer.0.weight"]
begin = time.perf_counter()
state = model.state_dict()
print((time.perf_counter() - begin) * 1e3)
assert len(state) == int(sys.argv[3])
"""
# Both sides are timed from after their imports, on tensors of the same kind, reading one byte of every page.
READ_OURS = """
import sys, time, numpy, weightd
from weightd import attach
warm = attach(sys.argv[3], socket_dir=sys.argv[2], framework="np"); warm.close()
begin = time.perf_counter()
model = attach(sys.argv[1], socket_dir=sys.argv[2], framework="np")
total = sum(int(numpy.frombuffer(model.raw(name), numpy.uint8)[::4096].sum()) for name in model.tensors)
print(time.perf_counter() - begin)
begin = time.perf_counter()
total = sum(int(numpy.frombuffer(model.raw(name), numpy.uint8)[::4096].sum()) for name in model.tensors)
print(time.perf_counter() - begin)
"""
READ_THEIRS = """
import sys, time, numpy
from safetensors.numpy import load_file
load_file(sys.argv[3])
begin = time.perf_counter()
state = load_file(sys.argv[1])
total = sum(int(tensor.view(numpy.uint8)[::4096].sum()) for tensor in state.values())
print(time.perf_counter() - begin)
"""
READ_THEIRS_TORCH = (
    READ_THEIRS.replace("import sys, time, numpy", "import sys, time, torch")
    .replace("safetensors.numpy", "safetensors.torch")
    .replace("tensor.view(numpy.uint8)", "tensor.view(torch.uint8)")
)


def python(script: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout


def latencies(daemon: Daemon, model: pathlib.Path) -> float:
    """Median microseconds of 300 attaches on one connection."""
    lines = subprocess.run(
        [binary("tests/bench/attach_latency"), str(daemon.socket_dir), str(model), "300"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return statistics.median(float(line) for line in lines)


def cpp(daemon: Daemon, small: pathlib.Path, large: pathlib.Path, rounds: int) -> list[bool]:
    """Attach of a resident model in C++, small against large."""
    pairs = [(latencies(daemon, large), latencies(daemon, small)) for _ in range(rounds)]
    return [
        measure.bound("C++ attach p50, 2 MiB", [pair[1] / 1e3 for pair in pairs], 1, "ms"),
        measure.bound("C++ attach p50, 2 GiB", [pair[0] / 1e3 for pair in pairs], 1, "ms"),
        measure.verdict("2 GiB against 2 MiB", 1.3, [p[0] for p in pairs], [p[1] for p in pairs], at_least=False),
    ]


def fresh_process(daemon: Daemon, model: pathlib.Path, rounds: int) -> list[bool]:
    """Import, attach, read one tensor in a new interpreter without torch, above a bare one."""
    extra: dict[str, list[float]] = {"raw bytes": [], "a numpy tensor": []}
    for _ in range(rounds):
        for name, script in (("raw bytes", FRESH), ("a numpy tensor", FRESH_NUMPY)):
            begin = time.monotonic()
            python(BARE)
            middle = time.monotonic()
            python(script, str(model), str(daemon.socket_dir))
            extra[name].append((time.monotonic() - middle - (middle - begin)) * 1e3)
    return [
        measure.bound(f"fresh Python process above bare Python, {name}", times, 250, "ms")
        for name, times in extra.items()
    ]


def state_dict(daemon: Daemon, folder: pathlib.Path, rounds: int) -> list[bool]:
    """1,000 and 4,000 torch tensors."""
    reached = []
    for count, most in ((1000, 10), (4000, 25)):
        model = even_model(folder / f"{count}.safetensors", 64 * MIB, count)
        times = [float(python(STATE_DICT, str(model), str(daemon.socket_dir), str(count))) for _ in range(rounds)]
        reached.append(measure.bound(f"state_dict of {count:,} torch tensors", times, most, "ms"))
    return reached


def read_all(
    folder: pathlib.Path, small: pathlib.Path, large: pathlib.Path, small_pages: pathlib.Path, rounds: int, huge: str
) -> list[bool]:
    """Attach and every page once, against load_file and the same reading, from page cache.

    numpy's load_file copies; torch's maps the page cache, whose pages are 4 KiB (as in tmpfs, and where a file system
    has no large folios) or larger. The floor is the same reading of memory that is mapped already.
    """
    with measure.HugePages(huge):
        home = folder / huge
        home.mkdir()
        daemon = Daemon(home, "host:\n  budget: 3GiB\n").start()
        for path in (small, large):
            daemon.ctl("preload", str(path))
        contenders = {
            "weightd": (READ_OURS, large),
            "load_file np": (READ_THEIRS, large),
            "load_file pt": (READ_THEIRS_TORCH, large),
            "load_file pt, 4 KiB pages": (READ_THEIRS_TORCH, small_pages),
        }
        times: dict[str, list[float]] = {name: [] for name in ("floor", *contenders)}
        for _ in range(rounds):
            for name, (script, path) in contenders.items():
                printed = python(script, str(path), str(daemon.socket_dir), str(small)).split()
                times[name].append(float(printed[0]))
                times["floor"] += [float(figure) for figure in printed[1:]]
        daemon.end()
    print(f"attach and read 2 GiB, shmem_enabled={huge}: "
          + ", ".join(f"{name} {statistics.median(runs):.3f} s" for name, runs in times.items()))  # fmt: skip
    return [
        measure.verdict(f"against {theirs}", 0.15, times["weightd"], times[theirs], at_least=False)
        for theirs in ("load_file np", "load_file pt", "load_file pt, 4 KiB pages")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        small = even_model(folder / "small.safetensors", 2 * MIB, 300)
        large = even_model(folder / "large.safetensors", 2048 * MIB, 300)
        with measure.HugePages("advise"):
            daemon = Daemon(folder, "host:\n  budget: 3GiB\n").start()
            for path in (small, large):
                daemon.ctl("preload", str(path))
            reached = cpp(daemon, small, large, options.rounds)
            reached += fresh_process(daemon, large, options.rounds)
            reached += state_dict(daemon, folder, options.rounds)
            daemon.end()
        with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".safetensors") as in_tmpfs:
            small_pages = pathlib.Path(in_tmpfs.name)
            shutil.copyfile(large, small_pages)
            reached += read_all(folder, small, large, small_pages, options.rounds, "advise")
            read_all(folder, small, large, small_pages, options.rounds, "never")  # beside it, with no figure to reach
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
