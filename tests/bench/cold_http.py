"""Cold load from nginx or Ceph RGW on loopback against parallel `curl -r` to /dev/null from the same server.

.venv/bin/python tests/bench/cold_http.py [--server nginx|rgw] [--mib 2048] [--rounds 15]
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "servers", "bench")]

import measure  # noqa: E402
from admin import AdminCalls, cold_load  # noqa: E402
from models import even_model  # noqa: E402
from processes import Daemon  # noqa: E402
from stage import STAGES  # noqa: E402

MIB = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="nginx", choices=STAGES)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=measure.ROUNDS)
    parser.add_argument("--huge-pages", default="advise", choices=["advise", "never"])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        measure.HugePages(options.huge_pages),
        contextlib.ExitStack() as running,
    ):
        folder = pathlib.Path(scratch)
        path = even_model(folder / "files" / "m.safetensors", options.mib * MIB, 300)
        size = path.stat().st_size
        stage = running.enter_context(STAGES[options.server](folder, path.parent))
        daemon = Daemon(folder, f"host:\n  budget: {options.mib + 512}MiB\n{stage.config}").start()
        admin = AdminCalls(daemon.socket_dir)
        uri, url = stage.uri(path.name), stage.url(path.name)
        contenders: dict[str, measure.Contender] = {"weightd": lambda: cold_load(daemon, admin, uri)}
        for count in (1, 2, 4, 8, 16):
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
        measure.verdict(f"speed against {ceiling}", 0.95, [s.wall for s in theirs], [s.wall for s in ours]),
        measure.verdict(f"CPU against {ceiling}", 1.3, [s.cpu for s in ours], [s.cpu for s in theirs], at_least=False),
        measure.bound("peak RSS of the daemon beyond the model", [(peak - size) / MIB], 64, "MiB"),
    ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
