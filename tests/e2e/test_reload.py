"""The config's model list while the daemon runs: read again when told, and when the file changes."""

import hashlib
import json
import os
import pathlib
import signal
import typing

import grpc
import pytest
import weightd
from admin import Admin
from models import small_model
from processes import INSTRUMENTED, Daemon, Reader, wait_until
from shelves import same

Readers = typing.Callable[[Daemon], Reader]


class Node:
    """A daemon and its config file."""

    def __init__(self, daemon: Daemon, config: pathlib.Path, files: pathlib.Path) -> None:
        self.daemon = daemon
        self.config = config
        self.files = files
        self.admin = Admin(daemon.socket_dir)

    def write(self, *entries: str, rest: str = "") -> None:
        """Replaces the config as editors do, by a rename."""
        text = "models:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries) if entries else "models: []\n"
        replacing = self.config.with_suffix(".new")
        replacing.write_text(text + rest)
        replacing.rename(self.config)

    def entry(self, name: str, *settings: str) -> str:
        """An entry of the list for a model that exists."""
        return ", ".join((f"name: {name}, uri: {self.path(name)}", *settings))

    def path(self, name: str) -> pathlib.Path:
        """A small model of that name."""
        path = self.files / f"{name}.safetensors"
        if not path.exists():
            small_model(path, seed=len(list(self.files.iterdir())) + 1)
        return path

    def await_states(self, **states: str) -> None:
        wait_until(lambda: self.admin.states() == states, f"{states}, not {self.admin.states()}")

    def lines(self, event: str) -> list[dict[str, typing.Any]]:
        """What the daemon has logged of that kind."""
        lines = [line for line in self.daemon.log().splitlines() if line.startswith("{")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def resident(self) -> list[str]:
        """Names of files that are resident."""
        models = self.daemon.ctl_json("ls").get("models", [])
        return sorted(pathlib.Path(one["model"]).stem for one in models if one["state"] == "RESIDENT")

    def used(self) -> int:
        """Bytes of the budget that are taken."""
        host = self.daemon.status()["host"]
        return sum(int(host.get(part, 0)) for part in ("resident", "loading", "draining"))


Nodes = typing.Callable[..., Node]


@pytest.fixture
def start(tmp_path: pathlib.Path, files: pathlib.Path) -> typing.Iterator[Nodes]:
    """Starts a daemon with this list."""
    started: list[Node] = []

    def make(*names: str, rest: str = "", config: pathlib.Path | None = None) -> Node:
        folder = tmp_path / "node"
        folder.mkdir()
        path = config or folder / "weightd.yaml"
        daemon = Daemon(folder, arguments=("--config", str(path)))
        node = Node(daemon, path, files)
        started.append(node)
        if config is None:
            node.write(*(node.entry(name, "preload: true") for name in names), rest=rest)
        daemon.start()
        return node

    yield make
    for node in started:
        with node.admin:
            node.daemon.end()
        if INSTRUMENTED:
            assert "Sanitizer" not in node.daemon.log(), node.daemon.log()[-6000:]


def test_a_list_that_was_replaced_is_kept(start: Nodes) -> None:
    node = start("a", "b")
    node.await_states(a="READY", b="READY")
    node.write(node.entry("b", "preload: true"), node.entry("c", "preload: true, pin: true"), node.entry("d"))
    node.await_states(b="READY", c="READY", d="ON_DEMAND")
    assert node.resident() == ["b", "c"]
    assert [model["pinned"] for model in node.daemon.ctl_json("ls")["models"] if model.get("pinned")] == [True]
    (line,) = node.lines("config.reloaded")
    assert (line["by"], line["added"], line["changed"], line["removed"]) == ("file", "c,d", "", "a")
    with pytest.raises(weightd.Error, match="neither a URI nor the name"):
        weightd.attach("a", socket_dir=node.daemon.socket_dir)


def test_each_way_of_asking_for_it(start: Nodes, tmp_path: pathlib.Path) -> None:
    node = start("a")
    node.write(node.entry("b"))
    answer = node.admin.reload()
    changes = (list(answer.added), list(answer.removed))
    # The change of the file may have been noticed before.
    assert changes in ((["b"], ["a"]), ([], []))
    node.await_states(b="ON_DEMAND")
    count = len(node.lines("config.reloaded"))
    os.kill(node.daemon.pid, signal.SIGHUP)
    wait_until(
        lambda: [line["by"] for line in node.lines("config.reloaded")[count:]].count("signal") == 1,
        "it is read again on SIGHUP",
    )
    # In place, as `cat > FILE` does.
    node.config.write_text(f"models: [{{{node.entry('c')}}}]\n")
    node.await_states(c="ON_DEMAND")


def test_a_config_map_that_kubernetes_switches(start: Nodes, tmp_path: pathlib.Path, files: pathlib.Path) -> None:
    volume = tmp_path / "volume"
    paths = {name: small_model(files / f"{name}.safetensors") for name in ("a", "b")}

    def update(version: str, name: str) -> None:
        """As the kubelet does: a new folder, and a link to it that takes the old one's place."""
        folder = volume / f"..{version}"
        folder.mkdir(parents=True)
        (folder / "weightd.yaml").write_text(f"models: [{{name: {name}, uri: {paths[name]}, preload: true}}]\n")
        (volume / "..data_tmp").symlink_to(folder.name)
        (volume / "..data_tmp").rename(volume / "..data")

    update("1", "a")
    (volume / "weightd.yaml").symlink_to("..data/weightd.yaml")
    node = start(config=volume / "weightd.yaml")
    node.await_states(a="READY")
    update("2", "b")
    node.await_states(b="READY")
    for old in (volume / "..1").iterdir():
        old.unlink()
    (volume / "..1").rmdir()
    update("3", "a")
    node.await_states(a="READY")


def test_a_mistake_changes_nothing(start: Nodes) -> None:
    node = start("a")
    node.await_states(a="READY")
    node.write(node.entry("a", "prelaod: true"))
    (line,) = wait_until(lambda: node.lines("config.refused"), "the mistake is logged")
    assert "weightd.yaml:2" in line["error"] and "prelaod" in line["error"], line
    error = node.admin.refused_reload()
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "prelaod" in error.details()
    node.await_states(a="READY")
    assert node.resident() == ["a"]
    node.write(node.entry("b", "preload: true"))
    node.await_states(b="READY")


def test_a_pipe_in_the_files_place_holds_nobody(start: Nodes) -> None:
    node = start("a")
    node.await_states(a="READY")
    pipe = node.config.with_suffix(".pipe")
    os.mkfifo(pipe)
    pipe.rename(node.config)
    (line,) = wait_until(lambda: node.lines("config.refused"), "the pipe is refused")
    assert "not a regular file" in line["error"], line
    assert "not a regular file" in node.admin.refused_reload().details()
    node.write(node.entry("b", "preload: true"))
    node.await_states(b="READY")


@pytest.mark.parametrize(
    ("left", "why"),
    [
        ("", "no list of models"),
        ("log: {level: info}\n", "no list of models"),
        ("log: {level: info}\nmodels:\n", "models: no value"),
    ],
)
def test_a_file_that_was_cut_short_drops_no_models(start: Nodes, left: str, why: str) -> None:
    node = start("a")
    node.await_states(a="READY")
    node.config.write_text(left)
    (line,) = wait_until(lambda: node.lines("config.refused"), "the rest of a file is refused")
    assert why in line["error"] and line["hint"], line
    assert why in node.admin.refused_reload().details()
    node.await_states(a="READY")
    node.write()
    node.await_states()


def test_without_a_file_there_is_nothing_to_read(daemon: Daemon) -> None:
    with Admin(daemon.socket_dir) as admin:
        error = admin.refused_reload()
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "without a config file" in error.details()
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: daemon.log().count('"config.refused"') == 2, "SIGHUP is answered in the log")
        assert admin.configured() == {}


def test_other_settings_take_a_restart(start: Nodes) -> None:
    node = start("a")
    node.write(node.entry("a", "preload: true"), rest="cache: {max_loads: 3}\nsources: {http: {chunk: 1MiB}}\n")
    wait_until(lambda: node.lines("config.needs_restart"), "it is logged")
    assert node.lines("config.needs_restart")[0]["fields"] == "cache.max_loads,sources.http.chunk"
    assert list(node.admin.reload().needs_restart) == ["cache.max_loads", "sources.http.chunk"]


def test_the_log_level_follows(start: Nodes) -> None:
    node = start("a", rest="log: {level: error}\n")
    node.await_states(a="READY")
    assert "load.finished" not in node.daemon.log()
    node.write(node.entry("a", "preload: true"), node.entry("b", "preload: true"), rest="log: {level: info}\n")
    wait_until(lambda: node.lines("config.reloaded"), "the log tells more")
    node.await_states(a="READY", b="READY")
    wait_until(lambda: any("b.safetensors" in line["model"] for line in node.lines("load.finished")), "of b's load")


def test_leases_of_a_removed_model_live_on(start: Nodes, readers: Readers) -> None:
    node = start("a")
    node.await_states(a="READY")
    reader = readers(node.daemon)
    reader.ask("attach", model="a")
    digest = reader.ask("digest")
    node.write()
    node.await_states()
    assert reader.ask("digest") == digest
    assert len(node.daemon.ctl_json("leases")["leases"]) == 1
    assert node.resident() == ["a"]
    reader.ask("keep_mapping")
    assert node.resident() == ["a"]
    reader.end()
    wait_until(lambda: node.resident() == [], "it leaves with its last lease")
    wait_until(lambda: node.used() == 0, "its bytes are back")


def test_pins_of_operators_stay(start: Nodes) -> None:
    node = start()
    node.write(node.entry("a", "preload: true, pin: true"), node.entry("b", "preload: true, pin: true"))
    node.await_states(a="READY", b="READY")
    node.daemon.ctl("pin", "a")
    node.write()
    node.await_states()
    wait_until(lambda: node.resident() == ["a"], "only what an operator pinned stays")
    assert node.daemon.ctl("evict", str(node.path("a")), check=False).returncode != 0
    node.daemon.ctl("unpin", str(node.path("a")))
    node.daemon.ctl("evict", str(node.path("a")))


def test_the_right_to_load_configured_models_follows(start: Nodes, tmp_path: pathlib.Path) -> None:
    listeners = f"""
listeners:
  - name: pods
    directory: {tmp_path}/pods
    mode: 0755
    access: {{load_configured: ["**"]}}
sources: {{file: {{roots: ["{tmp_path}"]}}}}
"""
    node = start(rest=listeners)
    pods = tmp_path / "pods"

    def attach(name: str) -> bool:
        with weightd.attach(name, socket_dir=pods, framework="np", timeout=20) as model:
            return same(model, node.path("a"))

    path = str(node.path("a"))
    with pytest.raises(weightd.Error, match="not allowed or unknown"):
        attach(path)
    node.write(node.entry("a"), rest=listeners)
    node.await_states(a="ON_DEMAND")
    assert attach("a") and attach(path)
    node.write(node.entry("b"), rest=listeners)
    node.await_states(b="ON_DEMAND")
    with pytest.raises(weightd.Error, match="not allowed or unknown"):
        attach(path)


def test_digests_of_a_new_list_are_in_force(start: Nodes) -> None:
    node = start("a")
    node.await_states(a="READY")
    right = hashlib.sha256(node.path("a").read_bytes()).hexdigest()
    node.write(node.entry("a", f"preload: true, sha256: [{right}]"))
    wait_until(lambda: node.lines("config.reloaded"), "it is read again")
    node.await_states(a="READY")
    node.write(node.entry("a", f"preload: true, sha256: [{'0' * 64}]"))
    wait_until(lambda: node.admin.states()["a"] == "RETRYING", "what is resident is another one")
    assert "the pin says" in node.admin.configured()["a"].last_error
    assert node.resident() == []
    node.write(node.entry("a", f"preload: true, sha256: [{right}]"))
    node.await_states(a="READY")
