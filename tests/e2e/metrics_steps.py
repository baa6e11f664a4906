"""A node with everything that metrics have labels for, and what is done on it to move each of them."""

import functools
import os
import pathlib
import signal
import threading
import time
import typing
import urllib.error

import pytest
from certificates import Authority, Secrets
from fault_server import Behaviour, FaultServer, Handler, right
from gpu_node import MIB, GpuNode
from keepers import Keeper
from models import even_model, small_model
from processes import Daemon, Reader, wait_until
from prometheus import Scrape, free_port, get, series

Daemons = typing.Callable[..., Daemon]
# Whether a series changed as it should: before and after.
Change = typing.Callable[[float, float], bool]

MODEL_BYTES = 4 * MIB
BUDGET = 96 * MIB
QUOTA = 64 * MIB
TRICKLE = 1 << 10


def by(delta: float) -> Change:
    """Grows by so much."""
    return lambda before, after: after - before == delta


def to(value: float) -> Change:
    """Becomes that."""
    return lambda before, after: after == value


def more(before: float, after: float) -> bool:
    """Grows."""
    return after > before


def above_zero(before: float, after: float) -> bool:
    """Becomes something."""
    return before == 0 and after > 0


class Held:
    """A behaviour of a server: a trickle that is no stall, until it may answer."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(self, handler: Handler) -> None:
        begin, end = handler.wanted()
        handler.answer(body=b"", length=end - begin)
        while begin < end and not self.go.wait(0.1):
            begin = self._send(handler, begin, min(begin + TRICKLE, end))
        self._send(handler, begin, end)

    @staticmethod
    def _send(handler: Handler, begin: int, end: int) -> int:
        handler.wfile.write(handler.server.data[begin:end])
        return end


def fails(status: int) -> Behaviour:
    return lambda handler: handler.answer(status=status, body=b"no")


class World:
    """A node with a daemon, stores and clients; what the steps act on."""

    def __init__(self, tmp_path: pathlib.Path, daemons: Daemons, node: GpuNode, keeper: Keeper) -> None:
        self.node = node
        self.keeper = keeper
        self.files = tmp_path / "files"
        self.files.mkdir()
        self.data = even_model(self.files / "steady.safetensors", MODEL_BYTES, 4).read_bytes()
        self.wrong = small_model(self.files / "wrong.safetensors")
        self.local = small_model(self.files / "local.safetensors")
        self.held = Held()
        self.servers: list[FaultServer] = []
        self.steady = self.server(self.held)
        self.store = self.server(right)
        self.broken = self.server(fails(500), spare_small=False)
        self.port = free_port()
        self.tenants = tmp_path / "tenants"
        self.nodes = Authority(tmp_path, "nodes")
        self.secrets = Secrets(tmp_path / "secrets")
        self.renew()
        self.daemon = daemons(self.secrets.config("127.0.0.1:0") + self.config(), wait=False)
        self.readers: list[Reader] = []

    def renew(self) -> None:
        """Gives the daemon a new certificate for operators over TCP."""
        self.secrets.put(self.nodes.issue("node"), self.nodes.certificate)

    def server(self, *behaviours: Behaviour, spare_small: bool = True) -> FaultServer:
        """Serves a model; so it behaves for larger requests."""
        self.servers.append(FaultServer(self.data, list(behaviours), spare_small=spare_small))
        return self.servers[-1]

    def config(self) -> str:
        """Everything that metrics have labels for."""
        return self.node.config(
            budget="50%",
            rest=f"""
metrics: {{address: "127.0.0.1:{self.port}"}}
{self.keeper.config}
host: {{budget: {BUDGET}}}
cache: {{revalidate: always}}
listeners:
  - name: default
  - name: tenants
    directory: {self.tenants}
    max_bytes: {QUOTA}
    access: {{attach: [steady]}}
models:
  - {{name: steady, uri: "{self.steady.url()}", preload: true}}
  - {{name: broken, uri: "{self.broken.url()}", preload: true}}
  - {{name: local, uri: "{self.local}"}}
  - {{name: wrong, uri: "{self.wrong}", sha256: ["{"0" * 64}"]}}
sources:
  http: {{stall_timeout: 3s, attempts: 4, chunk: 1MiB, connections: 2}}
  s3:
    stores:
      - name: models
        buckets: [models]
        endpoint: http://127.0.0.1:{self.store.server_port}
        credentials: {{anonymous: true}}
""",
        )

    def scrape(self) -> Scrape:
        """All metrics, now; none if nobody serves them yet."""
        try:
            return Scrape(get(f"http://127.0.0.1:{self.port}/metrics"))
        except urllib.error.URLError:
            return Scrape("")

    def reader(self, folder: pathlib.Path | None = None) -> Reader:
        """A client, of the default listener's folder unless told."""
        self.readers.append(Reader(folder or self.daemon.socket_dir))
        return self.readers[-1]

    def attach(self, model: object, **options: object) -> Reader:
        """A client that has attached."""
        reader = self.reader()
        reader.ask("attach", model=str(model), **options)
        return reader

    def end(self) -> None:
        """Lets everything go."""
        self.held.go.set()
        for reader in self.readers:
            if reader.process.poll() is None:
                reader.kill()
        for server in self.servers:
            server.shutdown()
            server.server_close()


class Step(typing.NamedTuple):
    """Something that is done, and which series it changes how."""

    action: typing.Callable[[World], object]
    moves: dict[str, Change]


def start(world: World) -> None:
    wait_until(world.daemon.serves, "the daemon serves")


def compare_huge_pages(world: World) -> None:
    (model,) = (model for model in world.daemon.ctl_json("ls")["models"] if model["state"] == "RESIDENT")
    shown = world.daemon.ctl_json("show", model["model"]).get("huge_page_fraction", 0)
    assert world.scrape().values["weightd_huge_page_fraction"] == pytest.approx(shown)


def attach_resident(world: World) -> None:
    world.attach("steady")


def attach_missing(world: World) -> None:
    world.attach(small_model(world.files / "new.safetensors"))


def replace(world: World) -> None:
    path = world.files / "new.safetensors"
    small_model(path, seed=2)
    world.attach(path)


def keep_mapping(world: World) -> None:
    reader = world.attach(even_model(world.files / "kept.safetensors", MODEL_BYTES, 4))
    reader.ask("keep_mapping")
    world.daemon.ctl("evict", str(world.files / "kept.safetensors"), "--force")


def let_go(world: World) -> None:
    world.readers[-1].kill()


def pin(world: World) -> None:
    world.daemon.ctl("preload", str(even_model(world.files / "pinned.safetensors", MODEL_BYTES, 4)), "--pin")


def preload_missing(world: World) -> None:
    world.daemon.ctl("preload", str(world.files / "none.safetensors"), check=False)


def preload_wrong(world: World) -> None:
    world.daemon.ctl("preload", "wrong", check=False)


def preload_from_store(world: World) -> None:
    world.daemon.ctl("preload", "s3://models/m.safetensors")


def preload_after(fault: Behaviour) -> typing.Callable[[World], object]:
    return lambda world: world.daemon.ctl("preload", world.server(fault, right).url())


def ask_for_what_is_not_allowed(world: World) -> None:
    reader = world.reader(world.tenants)
    reader.send("attach", model=str(world.files / "new.safetensors"))
    assert reader.answer()["reason"] == "NOT_ALLOWED"


def attach_on_gpu(world: World) -> None:
    world.attach("steady", device="cuda:0")


def kill_worker(world: World) -> None:
    os.kill(world.daemon.status()["gpus"][0]["worker_pid"], signal.SIGKILL)


def take_source_away(world: World) -> None:
    world.attach("local")
    world.local.unlink()
    world.attach("local")


def steps(node: GpuNode) -> list[Step]:
    """In the order in which they are taken."""
    default = functools.partial(series, listener="default")
    gpu = node.uuid(0)
    configured = functools.partial(series, "weightd_configured_model_state")
    retries = functools.partial(series, "weightd_source_retries_total", store="http")
    return [
        Step(
            start,
            {
                "process_start_time_seconds": lambda before, after: abs(time.time() - after) < 600,
                "weightd_host_budget_bytes": to(BUDGET),
                "weightd_keeper_up": to(1),
                "weightd_admin_certificate_expiry_timestamp_seconds": above_zero,
                series("weightd_listener_max_bytes", listener="tenants"): to(QUOTA),
                series("weightd_gpu_budget_bytes", gpu=gpu): to(64 * MIB),
                configured(model="steady", state="loading"): to(1),
                configured(model="wrong", state="on_demand"): to(1),
                configured(model="broken", state="retrying"): to(1),
                series("weightd_models", state="loading"): more,
                "weightd_loads_running": more,
                series("weightd_host_bytes", state="loading"): more,
                retries(reason="server_error"): more,
                series("weightd_source_requests_total", store="http", reason="source_unavailable"): more,
                series("weightd_loads_total", reason="source_unavailable"): more,
            },
        ),
        Step(
            lambda world: world.held.go.set(),
            {
                configured(model="steady", state="ready"): to(1),
                configured(model="steady", state="loading"): to(0),
                series("weightd_keeper_descriptors", state="stored"): to(3),
                series("weightd_model_resident", model="steady"): to(1),
                series("weightd_model_bytes", model="steady"): above_zero,
                series("weightd_models", state="resident"): by(1),
                series("weightd_host_bytes", state="resident"): more,
                series("weightd_loads_total", reason="ok"): by(1),
                "weightd_load_seconds_count": by(1),
                "weightd_load_seconds_sum": more,
                series("weightd_load_phase_seconds_total", phase="transferring"): more,
                "weightd_loaded_bytes_total": lambda before, after: after - before >= MODEL_BYTES,
                series("weightd_source_bytes_total", store="http"): lambda before, after: after - before >= MIB,
                series("weightd_source_requests_total", store="http", reason="ok"): more,
            },
        ),
        Step(lambda world: world.renew(), {"weightd_admin_certificate_expiry_timestamp_seconds": more}),
        Step(compare_huge_pages, {"weightd_huge_page_fraction": lambda before, after: 0 <= after <= 1}),
        Step(
            attach_resident,
            {
                default("weightd_acquires_total", result="hit"): by(1),
                default("weightd_acquires_total", result="miss"): by(0),
                default("weightd_attach_seconds_count", result="hit"): by(1),
                default("weightd_attach_seconds_sum", result="hit"): more,
                default("weightd_calls_total", method="Acquire", reason="ok"): by(1),
                default("weightd_calls_total", method="Claim", reason="ok"): by(1),
                default("weightd_leases"): by(1),
                default("weightd_sessions"): by(1),
                default("weightd_listener_bytes", state="leased"): above_zero,
                series("weightd_model_leases", model="steady"): by(1),
                "weightd_host_held_bytes": above_zero,
            },
        ),
        Step(
            let_go,
            {
                default("weightd_leases"): by(-1),
                default("weightd_sessions"): by(-1),
                default("weightd_listener_bytes", state="leased"): to(0),
                series("weightd_model_leases", model="steady"): to(0),
                "weightd_host_held_bytes": to(0),
            },
        ),
        Step(
            attach_missing,
            {
                default("weightd_acquires_total", result="miss"): by(1),
                default("weightd_acquires_total", result="hit"): by(0),
                default("weightd_attach_seconds_count", result="miss"): by(1),
                series("weightd_loads_total", reason="ok"): by(1),
                series("weightd_source_bytes_total", store="file"): more,
                series("weightd_source_requests_total", store="file", reason="ok"): more,
            },
        ),
        Step(replace, {"weightd_superseded_total": by(1), series("weightd_loads_total", reason="ok"): by(1)}),
        Step(
            keep_mapping,
            {
                "weightd_evictions_total": by(1),
                "weightd_evicted_bytes_total": lambda before, after: after - before >= MODEL_BYTES,
                "weightd_draining_segments": above_zero,
                series("weightd_host_bytes", state="draining"): above_zero,
                default("weightd_listener_bytes", state="draining"): above_zero,
                series("weightd_calls_total", listener="admin", method="Evict", reason="ok"): by(1),
            },
        ),
        Step(
            let_go,
            {
                "weightd_draining_segments": to(0),
                series("weightd_host_bytes", state="draining"): to(0),
                default("weightd_listener_bytes", state="draining"): to(0),
            },
        ),
        Step(pin, {"weightd_host_held_bytes": lambda before, after: after - before >= MODEL_BYTES}),
        Step(
            preload_missing,
            {
                series("weightd_loads_total", reason="model_not_found"): by(1),
                series("weightd_source_requests_total", store="file", reason="model_not_found"): more,
                series("weightd_calls_total", listener="admin", method="Preload", reason="model_not_found"): by(1),
            },
        ),
        Step(
            preload_wrong,
            {
                "weightd_verification_failures_total": by(1),
                series("weightd_loads_total", reason="verification_failed"): by(1),
            },
        ),
        Step(
            preload_from_store,
            {
                series("weightd_source_bytes_total", store="models"): lambda before, after: after >= MODEL_BYTES,
                series("weightd_source_requests_total", store="models", reason="ok"): more,
            },
        ),
        Step(preload_after(fails(429)), {retries(reason="throttled"): more}),
        Step(preload_after(lambda handler: handler.cut(reset=False)), {retries(reason="cut_short"): more}),
        Step(preload_after(Handler.stall), {retries(reason="stalled"): more}),
        Step(
            ask_for_what_is_not_allowed,
            {
                series("weightd_refused_total", listener="tenants", reason="not_allowed"): by(1),
                series("weightd_calls_total", listener="tenants", method="Acquire", reason="not_allowed"): by(1),
            },
        ),
        Step(
            attach_on_gpu,
            {
                series("weightd_gpu_copies_total", gpu=gpu): by(1),
                series("weightd_gpu_bytes", gpu=gpu, state="resident"): above_zero,
                series("weightd_gpu_state", gpu=gpu, state="running"): to(1),
                series("weightd_gpu_state", gpu=gpu, state="idle"): to(0),
                default("weightd_acquires_total", result="miss"): by(1),
            },
        ),
        Step(
            kill_worker,
            {
                series("weightd_gpu_losses_total", gpu=gpu): by(1),
                series("weightd_gpu_state", gpu=gpu, state="failed"): to(1),
            },
        ),
        Step(lambda world: world.daemon.ctl("drain"), {"weightd_node_draining": to(1)}),
        Step(lambda world: world.daemon.ctl("resume"), {"weightd_node_draining": to(0)}),
        Step(take_source_away, {"weightd_stale_models": by(1), series("weightd_model_stale", model="local"): to(1)}),
    ]
