"""Cold loads over HTTP against parallel `curl -r` to /dev/null from the same server."""

import measure
from admin import AdminCalls, cold_load
from processes import Daemon

MIB = 1 << 20


def against_curls(
    daemons: dict[str, Daemon], uri: str, url: str, size: int, counts: tuple[int, ...], rounds: int, speed: float
) -> bool:
    """Loads the model `uri` with each daemon, in turns with so many curls of its one file of `size` bytes at `url`;
    prints the ratios to the best of them. Whether the last daemon reaches `speed`, and the bounds of CPU seconds and
    memory. Its memory that is to be ready is ready before each turn of anybody."""
    ballast = measure.Ballast(size + 256 * MIB)
    admins = {name: AdminCalls(daemon.socket_dir) for name, daemon in daemons.items()}
    contenders: dict[str, measure.Contender] = {
        name: ballast.freed_for(lambda name=name: cold_load(daemons[name], admins[name], uri)) for name in daemons
    }
    for count in counts:
        contenders[f"curl x{count}"] = lambda count=count: measure.timed_children(
            lambda: measure.curls(url, size, count)
        )

    def settle() -> None:
        ballast.hold()
        for admin in admins.values():
            admin.await_ready()

    settle()
    samples = measure.rounds(contenders, rounds, settle)
    ballast.free()
    measure.table(samples, size)
    ceiling = measure.best(samples, [name for name in samples if name not in daemons])
    theirs = samples[ceiling]
    walls = [s.wall for s in theirs]
    reached = False
    for name, daemon in daemons.items():
        ours, peak = samples[name], daemon.memory()["VmHWM"]
        verdicts = [
            measure.verdict(f"{name}: speed against {ceiling}", speed, walls, [s.wall for s in ours]),
            measure.verdict(
                f"{name}: CPU against {ceiling}", 1.3, [s.cpu for s in ours], [s.cpu for s in theirs], at_least=False
            ),
            measure.bound(f"{name}: peak RSS of the daemon beyond the model", [(peak - size) / MIB], 64, "MiB"),
        ]
        reached = all(verdicts)
    return reached
