"""A node that is drained before another daemon takes over: it serves what it has and loads nothing."""

import concurrent.futures
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import typing

import pytest
import weightd
from fault_server import FaultServer, Handler
from keepers import Keeper
from loglines import line_of, lines_of
from metrics_steps import Held
from models import even_model, small_model
from processes import PATIENCE, Daemon, Reader, binary, wait_until

Daemons = typing.Callable[..., Daemon]
Readers = typing.Callable[[Daemon], Reader]
MIB = 1 << 20
CONFIG = "sources:\n  http: {chunk: 1MiB, connections: 1}\n"


@pytest.fixture
def kept(daemons: Daemons, keeper: Keeper) -> Daemon:
    """A daemon that keeps its models there."""
    return daemons(keeper.config + CONFIG)


class Slow:
    """A server of one model that stops in the middle of it until it is told to go on."""

    def __init__(self, files: pathlib.Path) -> None:
        self.held = Held()
        self.server = FaultServer(
            even_model(files / "slow.safetensors", 4 * MIB, 4).read_bytes(), [self._answer], spare_small=True
        )
        self.asked = False

    def _answer(self, handler: Handler) -> None:
        self.asked = True
        self.held(handler)

    @property
    def url(self) -> str:
        return self.server.url()


@pytest.fixture
def slow(files: pathlib.Path) -> typing.Iterator[Slow]:
    server = Slow(files)
    yield server
    server.held.go.set()
    server.server.shutdown()
    server.server.server_close()


def background(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    """weightctl, while the test goes on."""
    return subprocess.Popen(
        [binary("client/cli/weightctl"), "--socket-dir", str(daemon.socket_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and all that it said."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out + err


def preloading(daemon: Daemon, slow: Slow) -> subprocess.Popen[str]:
    """A preload that is in the middle of its transfer."""
    process = background(daemon, "preload", slow.url)
    wait_until(lambda: slow.asked, "the load has begun")
    return process


def draining(daemon: Daemon) -> bool:
    return "\nweightd_node_draining 1\n" in daemon.ctl("metrics").stdout


def test_what_is_there_is_served_and_nothing_is_loaded(
    kept: Daemon, keeper: Keeper, files: pathlib.Path, readers: Readers
) -> None:
    here, absent = small_model(files / "here.safetensors"), small_model(files / "absent.safetensors", seed=2)
    kept.ctl("preload", str(here))
    assert not draining(kept)
    wait_until(lambda: kept.ctl_json("drain")["handed_over"], "the keeper has it")
    drained = kept.ctl_json("drain")
    assert (drained["kept_models"], drained["lost_models"]) == (1, 0)
    assert drained["kept_bytes"] == kept.status()["host"]["resident"]
    assert drained["keeper"]["place"] == str(keeper.folder)
    assert drained["keeper"]["stored"] == len(keeper.names()) == 3
    assert "handed over: 1 model, " in kept.ctl("drain").stdout

    assert kept.status()["draining"] and draining(kept)
    assert "draining: no load starts" in kept.ctl("status").stdout
    assert "draining" in kept.ctl("health", "--ready").stdout
    client = readers(kept)
    client.ask("attach", model=str(here))
    refused = kept.ctl("preload", str(absent), check=False)
    assert refused.returncode == 69
    assert "this node's daemon is draining" in refused.stderr and "weightctl resume" in refused.stderr
    assert not lines_of(kept, "load.failed")

    assert kept.ctl("resume").stdout == "loads start again\n"
    assert kept.ctl("resume").stdout == "the node was not draining\n"
    kept.ctl("preload", str(absent))
    assert len(lines_of(kept, "node.draining")) == len(lines_of(kept, "node.resumed")) == 1
    assert line_of(kept, "node.drained")["bytes"] == drained["kept_bytes"]
    assert line_of(kept, "audit.admin", method="DrainNode")["outcome"] == "OK"


def test_whoever_watches_sees_it(kept: Daemon, tmp_path: pathlib.Path) -> None:
    seen = tmp_path / "seen"
    with seen.open("w") as out:
        watch = subprocess.Popen(
            [binary("client/cli/weightctl"), "--socket-dir", str(kept.socket_dir), "watch"], stdout=out
        )

    def told() -> bool:
        kept.ctl("drain")
        kept.ctl("resume")
        return all(f" {event}" in seen.read_text() for event in ("node_draining", "node_drained", "node_resumed"))

    wait_until(told, "the events were told")
    watch.terminate()
    watch.wait(PATIENCE)


def test_who_wants_more_waits_for_the_next_daemon(kept: Daemon, files: pathlib.Path, readers: Readers) -> None:
    path = small_model(files / "m.safetensors")
    kept.ctl("drain")
    client = readers(kept)
    client.send("attach", model=str(path))
    line_of(kept, "audit.attach", outcome="SHUTTING_DOWN")
    assert kept.stop() == 0
    kept.start()
    assert not kept.status().get("draining")
    answer = client.answer()
    assert "error" not in answer, answer


def test_loads_that_run_are_stopped(kept: Daemon, keeper: Keeper, slow: Slow) -> None:
    load = preloading(kept, slow)
    drained = kept.ctl_json("drain")
    assert (drained["loads_ended"], drained["loads_stopped"], drained["kept_models"]) == (0, 1, 0)
    code, said = end_of(load)
    assert code == 69 and "draining" in said
    assert keeper.names() == []


def test_loads_may_end_first(kept: Daemon, keeper: Keeper, slow: Slow) -> None:
    load = preloading(kept, slow)
    drain = background(kept, "drain", "--wait", "1m")
    silent = background(kept, "drain", "--wait", "1m", "--output", "json")
    assert drain.stderr is not None
    assert drain.stderr.readline() == f"waiting for 1 load: {slow.url}\n"
    assert " of 4.0 MiB" in drain.stderr.readline()
    slow.held.go.set()
    assert end_of(load)[0] == 0
    code, said = end_of(drain)
    assert code == 0 and "loads: 1 ended, 0 stopped\nhanded over: 1 model, " in said
    out, err = silent.communicate(timeout=PATIENCE)
    assert err == "" and json.loads(out)["loads_ended"] == json.loads(out)["kept_models"] == 1
    assert len(keeper.names()) == 3


@pytest.mark.parametrize("json_output", [False, True])
def test_it_goes_on_when_weightctl_is_interrupted(kept: Daemon, slow: Slow, json_output: bool) -> None:
    load = preloading(kept, slow)
    drain = background(kept, "drain", "--wait", "1h", *(["--output", "json"] if json_output else []))
    line_of(kept, "node.draining")
    drain.send_signal(signal.SIGTERM)  # SIGINT is ignored where a shell runs the tests in the background
    code, said = end_of(drain)
    assert code == 75 and "the drain goes on in the daemon" in said and "weightctl resume" in said
    if json_output:
        assert json.loads(said)["error"]["reason"] == "CANCELLED"
    assert draining(kept) and load.poll() is None
    slow.held.go.set()
    assert end_of(load)[0] == 0
    line_of(kept, "node.drained", kept_models=1)


def test_the_last_drain_says_how_long_loads_may_go_on(kept: Daemon, slow: Slow) -> None:
    load = preloading(kept, slow)
    long = background(kept, "drain", "--wait", "1h")
    line_of(kept, "node.draining")
    begin = time.monotonic()
    assert kept.ctl_json("drain", "--wait", "1s")["loads_stopped"] == 1
    assert time.monotonic() - begin >= 1
    code, said = end_of(long)
    assert code == 0 and "loads: 0 ended, 1 stopped" in said
    assert end_of(load)[0] == 69


def test_sigterm_does_the_same_at_once(kept: Daemon, keeper: Keeper, files: pathlib.Path, slow: Slow) -> None:
    path = small_model(files / "m.safetensors")
    kept.ctl("preload", str(path))
    load = preloading(kept, slow)
    drain = background(kept, "drain", "--wait", "1h")
    line_of(kept, "node.draining")
    begin = time.monotonic()
    assert kept.stop() == 0
    assert time.monotonic() - begin < 8  # it kills itself after ten
    code, said = end_of(load)
    assert code == 69 and "daemon is ending" in said and "resume" not in said
    code, said = end_of(drain)
    assert "loads: 0 ended, 1 stopped" in said or code == 69
    assert len(keeper.names()) == 3
    told = line_of(kept, "node.drained", kept_models=1)
    assert told["lost_models"] == 0 and told["bytes"] > 0
    kept.start()
    assert [model["state"] for model in kept.ctl_json("ls")["models"] if model.get("readopted")] == ["RESIDENT"]
    assert not lines_of(kept, "model.not_readopted")


def test_promises_of_the_config_wait(daemons: Daemons, slow: Slow) -> None:
    daemon = daemons(f'{CONFIG}models:\n  - {{name: m, uri: "{slow.url}", preload: true}}\n')
    wait_until(lambda: slow.asked, "the load has begun")
    daemon.ctl("drain")

    def promise() -> dict[str, typing.Any]:
        (model,) = daemon.ctl_json("configured")["models"]
        return dict(model)

    wait_until(lambda: promise()["state"] == "RETRYING", "it is held up")
    assert not promise().get("failures") and "draining" in promise()["last_error"]
    assert not lines_of(daemon, "preload.failed")
    slow.held.go.set()
    daemon.ctl("resume")
    wait_until(lambda: promise()["state"] == "READY", "it is kept")


def test_without_a_keeper_it_says_so(daemons: Daemons, files: pathlib.Path) -> None:
    daemon = daemons()
    daemon.ctl("preload", str(small_model(files / "m.safetensors")))
    said = daemon.ctl("drain").stdout
    assert "not handed over: no keeper" in said and "to be loaded anew: 1 model" in said
    assert "keeper       none" in daemon.ctl("status").stdout


def test_a_keeper_that_is_away_gets_nothing(daemons: Daemons, keeper: Keeper, files: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix="weightd-") as folder:
        other = Keeper(pathlib.Path(folder) / "keeper")
        with other:
            daemon = daemons(other.config)
            daemon.ctl("preload", str(small_model(files / "m.safetensors")))
            assert daemon.ctl_json("drain")["handed_over"]
        line_of(daemon, "keeper.away")
        away = daemon.status()["keeper"]
        assert not away.get("reachable") and away["pending"] == 3
        assert f"{other.folder}, not reachable: 0 descriptors, 3 waiting" in daemon.ctl("status").stdout
        said = daemon.ctl("drain", "--output", "json", check=False)
        drained = json.loads(said.stdout)
        assert said.returncode == 75 and "see to the keeper" in said.stderr
        assert not drained.get("handed_over")
        assert (drained["kept_models"], drained["kept_bytes"], drained["lost_models"]) == (0, 0, 1)
        text = daemon.ctl("drain", check=False).stdout
        assert f"not handed over: the keeper {other.folder} can't be reached\nto be loaded anew: 1 model\n" in text
        begin = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begin < 8
        line_of(daemon, "node.drained", kept_models=0, lost_models=1)


@pytest.mark.parametrize("ends", [Daemon.kill, Daemon.stop])
def test_a_client_waits_for_a_load_that_it_may_only_join(
    kept: Daemon, slow: Slow, ends: typing.Callable[[Daemon], object]
) -> None:
    slow.server.etag = 'W/"v1"'  # only operators may load what can't be held to one version
    load = preloading(kept, slow)
    joined = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as client:
        attached = client.submit(
            weightd.attach,
            slow.url,
            socket_dir=kept.socket_dir,
            timeout=60,
            framework="np",
            progress=lambda _: joined.set(),
        )
        assert joined.wait(PATIENCE)
        ends(kept)
        kept.start()
        assert end_of(load)[0] == 69
        line_of(kept, "audit.attach", outcome="NOT_ALLOWED")
        again = background(kept, "preload", slow.url)
        slow.held.go.set()
        assert end_of(again)[0] == 0
        attached.result(PATIENCE).close()
