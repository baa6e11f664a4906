"""Cold load from a store that is far away (a round trip of 20 ms, a rate of its own for every connection) against
parallel `curl -r` to /dev/null from the same server (shaped_server.cc), up to 16 at once.

.venv/bin/python tests/bench/shaped_http.py [--mib 2048] [--rounds 15] [--megabits 1000]

Where the machine can't carry 16 connections of a gigabit, give each fewer: what counts is that all of them are needed.
"""

import argparse
import pathlib
import sys
import tempfile

sys.path += [str(pathlib.Path(__file__).parents[1] / "e2e"), str(pathlib.Path(__file__).parent)]

import measure  # noqa: E402
from against_curls import against_curls  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon, shaped_server  # noqa: E402

MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--milliseconds", type=int, default=20)
    parser.add_argument("--megabits", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, measure.HugePages("advise"):
        folder = pathlib.Path(scratch)
        path = even_model(folder / "m.safetensors", options.mib * MIB, 300)
        with shaped_server(path, options.milliseconds, options.megabits) as port:
            url = f"http://127.0.0.1:{port}/{path.name}"
            daemon = Daemon(folder, f"host:\n  budget: {options.mib + 512}MiB\n").start()
            reached = against_curls({"weightd": daemon}, url, url, path.stat().st_size, (4, 8, 16), options.rounds, 0.9)
            daemon.end()
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
