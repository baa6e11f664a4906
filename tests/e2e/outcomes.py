"""What becomes of a client that attaches, and which models are there then."""

import pathlib

import weightd
from processes import Daemon

OK, NO, ABSENT, FULL = "", "NOT_ALLOWED", "MODEL_NOT_RESIDENT", "QUOTA_EXCEEDED"


def outcome(folder: pathlib.Path, model: str) -> str:
    """The reason why an attach by the Python client fails; empty if it doesn't."""
    try:
        weightd.attach(model, socket_dir=str(folder), framework="np", timeout=20).close()
    except weightd.Error as error:
        return error.reason
    return OK


def resident(daemon: Daemon) -> list[str]:
    """The models that are on the node."""
    return [model["model"] for model in daemon.ctl_json("ls")["models"] if model["state"] == "RESIDENT"]
