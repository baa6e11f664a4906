"""Cold loads over HTTP against parallel `curl -r` to /dev/null from the same server."""

import measure
from admin import AdminCalls, cold_load
from processes import Daemon

MIB = 1 << 20


def against_curls(
    daemon: Daemon, uri: str, url: str, size: int, counts: tuple[int, ...], rounds: int, speed: float
) -> bool:
    """Loads the model `uri`, in turns with so many curls of its one file of `size` bytes at `url`; prints the ratios to
    the best of them. Whether `speed` is reached, and the bounds of CPU seconds and memory."""
    admin = AdminCalls(daemon.socket_dir)
    contenders: dict[str, measure.Contender] = {"weightd": lambda: cold_load(daemon, admin, uri)}
    for count in counts:
        contenders[f"curl x{count}"] = lambda count=count: measure.timed_children(
            lambda: measure.curls(url, size, count)
        )
    samples = measure.rounds(contenders, rounds, lambda: measure.touch_and_free(size + 256 * MIB))
    peak = daemon.memory()["VmHWM"]
    measure.table(samples, size)
    ceiling = measure.best(samples, [name for name in samples if name != "weightd"])
    ours, theirs = samples["weightd"], samples[ceiling]
    reached = [
        measure.verdict(f"speed against {ceiling}", speed, [s.wall for s in theirs], [s.wall for s in ours]),
        measure.verdict(f"CPU against {ceiling}", 1.3, [s.cpu for s in ours], [s.cpu for s in theirs], at_least=False),
        measure.bound("peak RSS of the daemon beyond the model", [(peak - size) / MIB], 64, "MiB"),
    ]
    return all(reached)
