"""Cold load from a store that is far away (a round trip of 20 ms, a rate of its own for every connection) against
parallel `curl -r` to /dev/null from the same server (shaped_server.cc), up to 16 at once.

.venv/bin/python tests/bench/shaped_http.py [--mib 2048] [--rounds 15] [--megabits 1000]

Where the machine can't carry 16 connections of a gigabit, give each fewer: what counts is that all of them are needed.
"""

import argparse
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import typing

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from admin import AdminCalls, cold_load  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, binary  # noqa: E402

MIB = 1 << 20


@contextlib.contextmanager
def shaped(path: pathlib.Path, milliseconds: int, megabits: int) -> typing.Iterator[str]:
    """Serves one file as if from far away; gives its URL."""
    server = subprocess.Popen(
        [binary("tests/bench/shaped_server"), str(path), str(milliseconds), str(megabits)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/{path.name}"
    finally:
        server.stdin.close()
        server.wait()
        server.stdout.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--milliseconds", type=int, default=20)
    parser.add_argument("--megabits", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, measure.HugePages("advise"), contextlib.ExitStack() as stack:
        folder = pathlib.Path(scratch)
        path = even_model(folder / "m.safetensors", options.mib * MIB, 300)
        size = path.stat().st_size
        url = stack.enter_context(shaped(path, options.milliseconds, options.megabits))
        daemon = Daemon(folder, f"host:\n  budget: {options.mib + 512}MiB\n").start()
        admin = AdminCalls(daemon.socket_dir)
        contenders: dict[str, measure.Contender] = {"weightd": lambda: cold_load(daemon, admin, url)}
        for count in (4, 8, 16):
            contenders[f"curl x{count}"] = lambda count=count: measure.timed_children(
                lambda: measure.curls(url, size, count)
            )
        samples = measure.rounds(contenders, options.rounds, lambda: measure.touch_and_free(size + 256 * MIB))
        peak = daemon.memory()["VmHWM"]
        daemon.end()
    measure.table(samples, size)
    ceiling = measure.best(samples, [name for name in samples if name != "weightd"])
    ours, theirs = samples["weightd"], samples[ceiling]
    reached = [
        measure.verdict(f"speed against {ceiling}", 0.9, [s.wall for s in theirs], [s.wall for s in ours]),
        measure.verdict(f"CPU against {ceiling}", 1.3, [s.cpu for s in ours], [s.cpu for s in theirs], at_least=False),
        measure.bound("peak RSS of the daemon beyond the model", [(peak - size) / MIB], 64, "MiB"),
    ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
