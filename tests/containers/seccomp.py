"""Seccomp profiles that differ in what becomes of io_uring, as those of container engines do."""

import json
import pathlib

_ENGINES_OWN = pathlib.Path("/usr/share/containers/seccomp.json")
_CALLS = ["io_uring_setup", "io_uring_enter", "io_uring_register"]
_EPERM, _ENOSYS = 1, 38

RULES: dict[str, dict[str, object]] = {
    "allowed": {"action": "SCMP_ACT_ALLOW"},
    "ENOSYS": {"action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    "EPERM": {"action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
}


def profile(folder: pathlib.Path, rule: str) -> str:
    """Writes the engine's own profile with that rule for io_uring; gives the file."""
    content = json.loads(_ENGINES_OWN.read_text())
    for entry in content["syscalls"]:
        entry["names"] = [name for name in entry["names"] if name not in _CALLS]
    content["syscalls"] = [entry for entry in content["syscalls"] if entry["names"]]
    content["syscalls"].append({"names": _CALLS, "args": [], **RULES[rule]})
    path = folder / f"seccomp-{rule}.json"
    path.write_text(json.dumps(content))
    return str(path)
