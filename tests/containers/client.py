"""A client in a container: does what it is told, one JSON line a command; on a line of its own each progress of a load.

{"do": "attach", "model": URI}  -> {"revision", "nbytes"}; before it {"progress": [phase, bytes done, bytes in all]}
{"do": "digest"}                -> {"digest"}: SHA-256 over all tensors in the order of their names
{"do": "about"}                 -> what the process may and sees
{"do": "attack", "model": URI, "daemon": PID}
                                -> {"changed", "reached"}: ways that worked; {"same"}: whether the bytes are as before
{"do": "eat"}                   -> no answer: takes memory until it is killed
"""

import hashlib
import json
import os
import pathlib
import sys

import attacks
import weightd
from weightd._acquire import acquire
from weightd._deadline import Deadline
from weightd._session import Session

SOCKETS = pathlib.Path("/run/weightd")


def say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)


def writable(folder: str) -> bool:
    try:
        pathlib.Path(folder, "mark").touch()
    except OSError:
        return False
    return True


class Client:
    """One attached model at a time."""

    def __init__(self) -> None:
        self._models: list[weightd.Model] = []

    def attach(self, model: str) -> dict[str, object]:
        def report(progress: weightd.Progress) -> None:
            say({"progress": [progress.phase, progress.bytes_done, progress.bytes_total]})

        attached = weightd.attach(model, framework="np", timeout=60, progress=report)
        self._models.append(attached)
        return {
            "revision": attached.revision,
            "nbytes": sum(info.nbytes for info in attached.tensors.values()),
        }

    def digest(self, which: int = -1) -> dict[str, object]:
        model = self._models[which]
        digest = hashlib.sha256()
        for name in sorted(model.tensors):
            digest.update(model.raw(name))
        return {"digest": digest.hexdigest()}

    def about(self) -> dict[str, object]:
        status = dict(line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
        return {
            "pid": os.getpid(),
            "uid": os.getuid(),
            "status": {key: status[key].strip() for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")},
            "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
            "interfaces": os.listdir("/sys/class/net"),
            "writable": [folder for folder in ("/", "/etc", "/tmp", "/opt/weightd", str(SOCKETS)) if writable(folder)],
        }

    def attack(self, model: str, daemon: int) -> dict[str, object]:
        deadline = Deadline(60)
        session = Session(SOCKETS, deadline)
        grant = acquire(SOCKETS, session.token, model, {}, None, deadline, lambda _: None)
        fds = [fd for _, fd in session.claim(grant.lease_id, deadline)]

        def content() -> list[str]:
            return [hashlib.sha256(os.pread(fd, os.fstat(fd).st_size, 0)).hexdigest() for fd in fds]

        before = content()
        changed = attacks.attack(fds)
        reached = attacks.reach(daemon)
        same = content() == before
        session.close()
        return {"changed": changed, "reached": reached, "same": same, "attacked": len(fds)}

    def eat(self) -> dict[str, object]:
        eaten = []
        while True:
            eaten.append(b"\xff" * (1 << 20))


def main() -> None:
    client = Client()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(client, command.pop("do"))(**command)
        except weightd.Error as error:
            answer = {"error": str(error), "reason": error.reason, "hint": error.hint}
        say(answer)


if __name__ == "__main__":
    main()
