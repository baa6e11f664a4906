"""The units of deploy/systemd, as systemd itself reads them; no systemd runs here."""

import json
import pathlib
import re
import shutil
import subprocess

import oci
import pytest
import weightd
from models import small_model
from processes import ROOT, Daemon, wait_until
from shelves import same

UNITS = ROOT / "deploy/systemd"
SYSTEM = "etc/systemd/system"
# What systemd-analyze calls exposure, times ten: from 0 to 100.
MOST_EXPOSED = {"weightd.service": 17, "weightd-tune.service": 13}
WRITE, EXECUTE = 2, 4


@pytest.fixture
def node(tmp_path: pathlib.Path, unpacked: pathlib.Path) -> pathlib.Path:
    """The root of a node on which deploy/README.md was followed."""
    root = tmp_path / "node"
    shutil.copytree(unpacked, root / "opt/weightd")
    shutil.copytree("/lib/systemd/system", root / "lib/systemd/system", symlinks=True)
    (root / "bin").mkdir()
    shutil.copy("/bin/kill", root / "bin")
    (root / SYSTEM).mkdir(parents=True)
    for unit in (root / "opt/weightd/share/systemd").glob("*.service"):
        shutil.copy(unit, root / SYSTEM)
    return root


def analyze(node: pathlib.Path, *arguments: str) -> tuple[int, str]:
    """The exit code of systemd-analyze, and all that it said."""
    command = ["systemd-analyze", f"--root={node}", "--no-pager", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def install(node: pathlib.Path, addition: str) -> None:
    """Makes one of the additions to the unit its own."""
    folder = node / SYSTEM / "weightd.service.d"
    folder.mkdir()
    shutil.copy(UNITS / addition, folder)


def test_systemd_understands_every_line(node: pathlib.Path) -> None:
    assert analyze(node, "verify", *MOST_EXPOSED) == (0, "")
    unit = node / SYSTEM / "weightd.service"
    unit.write_text(unit.read_text().replace("ProtectClock=", "ProtectClok="))
    assert "ProtectClok" in analyze(node, "verify", "weightd.service")[1]


@pytest.mark.parametrize("addition", ["no-gpu.conf", "chown.conf"])
def test_systemd_understands_the_additions(node: pathlib.Path, addition: str) -> None:
    install(node, addition)
    assert analyze(node, "verify", "weightd.service") == (0, "")


@pytest.mark.parametrize("unit", MOST_EXPOSED)
def test_little_is_exposed(node: pathlib.Path, unit: str) -> None:
    code, said = analyze(node, "security", "--offline=true", f"--threshold={MOST_EXPOSED[unit]}", unit)
    assert code == 0, said


def test_less_is_exposed_without_gpus(node: pathlib.Path) -> None:
    install(node, "no-gpu.conf")
    arguments = ("security", "--offline=true", f"--threshold={MOST_EXPOSED['weightd.service'] - 2}")
    code, said = analyze(node, *arguments, "weightd.service")
    assert code == 0, said


def test_the_user_and_the_config_folder(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "etc/weightd"
    folders = [folder, folder / "tls", folder / "tls/old"]
    secrets = [folder / "model-key", folder / "tls/node.key", folder / "tls/old/node.key"]
    folders[-1].mkdir(parents=True)
    folders[1].chmod(0o640)
    for secret, mode in zip(secrets, (0o600, 0o644, 0o664), strict=True):
        secret.write_text("key")
        secret.chmod(mode)
    user = (UNITS / "weightd.sysusers.conf").read_text().splitlines()[-1]
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}", "--inline", user], check=True, capture_output=True)
    (number,) = re.findall(r"^weightd:x:(\d+):", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", UNITS / "weightd.tmpfiles.conf"], check=True)
    for path, mode in [*((path, 0o750) for path in folders), *((path, 0o640) for path in secrets)]:
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, int(number), mode)


def test_users_attach_to_the_models_of_the_list(tmp_path: pathlib.Path) -> None:
    listed, other = (small_model(tmp_path / f"{name}.safetensors") for name in ("listed", "other"))
    config = (UNITS / "weightd.yaml").read_text().replace("/run/weightd/users", str(tmp_path / "users"))
    models = f"models: [{{name: teams/a/llama, uri: {listed}}}]\nsources: {{file: {{roots: [{tmp_path}]}}}}\n"
    daemon = Daemon(tmp_path, config.replace("models: []\n", models)).start()
    try:
        daemon.ctl("preload", str(other))
        for name in ("teams/a/llama", str(listed)):
            with weightd.attach(name, socket_dir=tmp_path / "users", framework="np") as attached:
                assert same(attached, listed)
        with pytest.raises(weightd.errors.NotAllowedError):
            weightd.attach(str(other), socket_dir=tmp_path / "users", framework="np")
    finally:
        daemon.end()


def allowed_calls(unit: str) -> set[str]:
    """What the unit's SystemCallFilter lets through."""
    calls: set[str] = set()
    for value in re.findall(r"^SystemCallFilter=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
        named = {call for name in value.removeprefix("~").split() for call in members(name)}
        calls = calls - named if value.startswith("~") else calls | named
    return calls


def members(name: str) -> set[str]:
    """The system calls of one of systemd's sets, or the one that is named."""
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for word in words if word and not word.startswith("#") for call in members(word)}


def profile(calls: set[str]) -> dict[str, object]:
    """For runc: these calls, and of no-gpu.conf's MemoryDenyWriteExecute what systemd makes of it."""

    def without(index: int, bits: int) -> dict[str, object]:
        return {"index": index, "value": bits, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}

    guarded = {"mmap", "mprotect", "pkey_mprotect"}
    rules: list[dict[str, object]] = [{"names": sorted(calls - guarded)}]
    rules += [{"names": ["mmap"], "args": [without(2, bit)]} for bit in (WRITE, EXECUTE)]
    rules.append({"names": ["mprotect"], "args": [without(2, EXECUTE)]})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"action": "SCMP_ACT_ALLOW", **rule} for rule in rules],
    }


def test_the_daemon_works_behind_the_filter(
    engine: oci.Engine, unpacked: pathlib.Path, tmp_path: pathlib.Path, socket_dir: pathlib.Path
) -> None:
    calls = allowed_calls("weightd.service")
    assert "io_uring_setup" in calls and not calls & {"chown", "setuid", "add_key", "mount", "ptrace"}
    filter_file = tmp_path / "filter.json"
    filter_file.write_text(json.dumps(profile(calls)))
    model = small_model(tmp_path / "m.safetensors")
    mounts = [f"{socket_dir}:/run/weightd", f"{unpacked}:/opt/weightd:ro", f"{model}:/m.safetensors:ro"]
    isolation = oci.Isolation(user=0, seccomp=str(filter_file))
    image = oci.base_image("bookworm")
    daemon = engine.start(image, "/opt/weightd/bin/weightd", mounts=mounts, isolation=isolation)
    weightctl = "/opt/weightd/bin/weightctl"
    wait_until(lambda: daemon.exec(weightctl, "status", check=False).returncode == 0, "the daemon serves", 60)
    daemon.exec(weightctl, "preload", "/m.safetensors")
    with weightd.attach("/m.safetensors", socket_dir=socket_dir, framework="np") as attached:
        assert same(attached, model)
    daemon.kill("TERM")
    assert daemon.wait() == 0, daemon.logs()
