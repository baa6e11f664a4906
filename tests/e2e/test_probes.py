"""What machines ask of weightctl: whether the daemon serves, and whether a model is there."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import typing

import weightd
from loglines import lines_of
from models import even_model, small_model
from processes import PATIENCE, Daemon, binary, ending, wait_until

MIB = 1 << 20
Daemons = typing.Callable[..., Daemon]


def waiting(folder: pathlib.Path, *arguments: str) -> subprocess.Popen[str]:
    """`weightctl wait` over the clients' sockets in a folder, once it has said why it waits."""
    command = [binary("client/cli/weightctl"), "--socket-dir", str(folder), "wait", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting: ")
    return process


def test_health_is_the_exit_code(daemon: Daemon, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    healthy = daemon.ctl("health")
    assert healthy.stdout.startswith("weightd ") and healthy.stdout.count("\n") == 1
    assert daemon.ctl("health", "--model", str(path), check=False).returncode == 66
    assert daemon.ctl("health", "--model", "typo", check=False).returncode == 66
    daemon.ctl("preload", str(path))
    daemon.ctl("health", "--model", str(path))
    daemon.stop()
    assert daemon.ctl("health", check=False).returncode == 69


def test_ready_is_a_node_that_has_its_list(daemons: Daemons, files: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    models = "models:\n  - {{name: llama, uri: {}, preload: true}}\n"
    daemon = daemons(models.format(files / "nowhere.safetensors"))

    def ready(code: int, said: str) -> bool:
        asked = daemon.ctl("health", "--ready", check=False)
        return asked.returncode == code and said in asked.stdout + asked.stderr

    daemon.ctl("health")
    wait_until(lambda: ready(66, "llama (retrying: "), "the model that fails is named")
    (daemon.log_path.parent / "weightd.yaml").write_text(models.format(path))
    wait_until(lambda: ready(0, "1 preloaded model ready"), "the list was mended")
    daemon.ctl("evict", "llama")
    assert ready(0, "1 preloaded model ready, 1 evicted since")
    assert daemon.ctl("health", "--model", "llama", check=False).returncode == 66
    daemon.ctl("preload", "llama")
    assert ready(0, "1 preloaded model ready\n")


def test_a_node_stays_ready_when_clients_need_the_room(daemons: Daemons, files: pathlib.Path) -> None:
    paths = [even_model(files / f"{i}.safetensors", 3 * MIB, 3, seed=i) for i in range(2)]
    models = "host: {{budget: 5MiB}}\nmodels:\n  - {{name: llama, uri: {}, preload: true}}\n"
    daemon = daemons(models.format(paths[0]))
    wait_until(lambda: daemon.ctl("health", "--ready", check=False).returncode == 0, "it is preloaded")
    with weightd.attach(str(paths[1]), socket_dir=daemon.socket_dir, framework="np"):
        (llama,) = daemon.ctl_json("configured")["models"]
        assert llama["state"] == "EVICTED"
        health = daemon.ctl_json("health", "--ready")
        assert (health["preloaded"], health["evicted"]) == (1, 1)
        # Another entry is another promise, which hasn't been kept once.
        (daemon.log_path.parent / "weightd.yaml").write_text(models.format(files / "nowhere.safetensors"))
        wait_until(lambda: daemon.ctl("health", "--ready", check=False).returncode == 66, "the list has changed")


def test_health_of_a_listener_that_nobody_finds(daemons: Daemons, tmp_path: pathlib.Path) -> None:
    pods = tmp_path / "pods"
    own = f"  - {{name: pods, directory: {pods}, mode: 0755, access: {{attach: ['**']}}}}\n"
    daemon = daemons(f"listeners:\n  - name: default\n{own}")
    daemon.ctl("health")
    shutil.rmtree(pods)
    for _ in range(2):
        done = daemon.ctl("health", check=False)
        assert done.returncode == 69
        assert "the sockets of listener pods are gone from their folder" in done.stderr
    assert daemon.status()["listeners"][0]["directory"] == str(daemon.socket_dir)
    (lost,) = lines_of(daemon, "folder.lost")
    assert lost["socket_dir"] == str(pods)
    # Another one in its place is not what was there.
    pods.mkdir()
    (pods / "weightd.sock").touch()
    assert daemon.ctl("health", check=False).returncode == 69
    daemon.stop()
    assert len(lines_of(daemon, "folder.lost")) == 1


def test_health_of_a_daemon_that_hangs(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        assert daemon.ctl("health", "--timeout", "0.5", check=False).returncode == 69
        assert time.monotonic() - begin < PATIENCE
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_wait_for_the_daemon(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    with ending([waiting(tmp_path / "run", str(path))]) as (process,):
        daemon = daemons(socket_dir=tmp_path / "run")
        out, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert out.startswith(f"{path}: there, 2.0 MiB, after ")
        # It holds nothing when it is gone.
        daemon.ctl("evict", str(path))


def test_wait_for_somebody_elses_load(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = small_model(files / "m.safetensors")
    pods = tmp_path / "pods"
    daemon = daemons(f"listeners:\n  - name: pods\n    directory: {pods}\n    access:\n      attach: ['**']\n")
    with ending([waiting(pods, str(path))]) as (process,):
        daemon.ctl("preload", str(path))
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def test_wait_gives_up(tmp_path: pathlib.Path) -> None:
    with ending([waiting(tmp_path, "m", "--timeout", "2")]) as (process,):
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 75
        assert "m was not there within" in err
