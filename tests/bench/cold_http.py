"""Cold load from nginx or Ceph RGW on loopback against parallel `curl -r` to /dev/null from the same server.

.venv/bin/python tests/bench/cold_http.py [--server nginx|rgw] [--mib 2048] [--rounds 15]
Two daemons load in turns: one into fresh memory, and one into memory that it made ready while it had nothing to do
(host.ready), which counts.
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "servers", "bench")]

import measure  # noqa: E402
from against_curls import against_curls  # noqa: E402
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
        daemons = {}
        for name, ready in (("weightd", ""), ("weightd-ready", f"  ready: {options.mib}MiB\n")):
            config = f"host:\n  budget: {options.mib + 512}MiB\n{ready}{stage.config}"
            (folder / name).mkdir()
            daemons[name] = Daemon(folder / name, config).start()
        reached = against_curls(
            daemons, stage.uri(path.name), stage.url(path.name), size, (1, 2, 4, 8, 16), options.rounds, 0.95
        )
        for daemon in daemons.values():
            daemon.end()
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
