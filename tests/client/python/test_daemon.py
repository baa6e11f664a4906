"""The client against the real daemon."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import safetensors.torch
import torch
import weightd

from conftest import PATIENCE, Daemon, daemon_binary

Python = Callable[..., "subprocess.CompletedProcess[str]"]

# Every dtype that torch and safetensors share. F4 holds two elements a byte.
TORCH_TYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.uint16,
    torch.int16,
    torch.uint32,
    torch.int32,
    torch.uint64,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.float8_e5m2,
    torch.float8_e4m3fn,
    torch.float8_e8m0fnu,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
    torch.float4_e2m1fn_x2,
]


def save(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> str:
    """Writes a file and returns its URI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path, metadata)
    return path.as_uri()


def leases(daemon: Daemon) -> int:
    """Live leases, as the operators see them."""
    binary = daemon_binary().resolve().parents[1] / "client/cli/weightctl"
    done = subprocess.run(
        [binary, "--socket-dir", daemon.socket_dir, "leases", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    return len(answer["leases"])


def test_every_dtype_is_bit_equal(daemon: Daemon, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for kind in TORCH_TYPES:
        width = torch.empty(0, dtype=kind).element_size()
        content = torch.randint(0, 2 if kind is torch.bool else 256, (3, 4 * width), generator=generator)
        tensors[str(kind)] = content.to(torch.uint8).view(kind)
        tensors[f"{kind}.empty"] = torch.empty((2, 0), dtype=kind)
    uri = save(tmp_path / "all.safetensors", tensors, made_by="test")
    expected = safetensors.torch.load_file(tmp_path / "all.safetensors")
    with weightd.attach(uri, socket_dir=daemon.socket_dir) as model:
        state = model.state_dict()
        assert model.metadata == {"made_by": "test"}
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (state[name].dtype, state[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(state[name].view(torch.uint8), tensor.view(torch.uint8)), name
        assert state[name].untyped_storage().nbytes() == tensor.nbytes


def test_a_folder_of_shards(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    first = {"a": torch.arange(1000.0), "b": torch.ones(3, 3)}
    second = {"c": torch.arange(7)}
    save(folder / "model-00001-of-00002.safetensors", first)
    save(folder / "model-00002-of-00002.safetensors", second)
    weight_map = {
        **dict.fromkeys(first, "model-00001-of-00002.safetensors"),
        **dict.fromkeys(second, "model-00002-of-00002.safetensors"),
    }
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    state = weightd.attach(folder.as_uri(), socket_dir=daemon.socket_dir).state_dict()
    assert state.keys() == {"a", "b", "c"}
    for name, tensor in (first | second).items():
        assert torch.equal(state[name], tensor)


def test_weights_that_save_model_ties_are_tied_again(daemon: Daemon, tmp_path: Path) -> None:
    network = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(7, 5), "head": torch.nn.Linear(5, 7, bias=False)})
    network["head"].weight = network["embedding"].weight
    safetensors.torch.save_model(network, str(tmp_path / "m.safetensors"))
    with weightd.attach((tmp_path / "m.safetensors").as_uri(), socket_dir=daemon.socket_dir) as model:
        assert list(model) == ["embedding.weight"]
        assert "head.weight" in model
        assert torch.equal(model["head.weight"], network["head"].weight)
        state = model.state_dict()
        assert state["head.weight"] is state["embedding.weight"]
        network.load_state_dict(state, assign=True)


def test_a_hundred_thousand_tensors(daemon: Daemon, tmp_path: Path) -> None:
    entries = {f"t{i:06}": {"dtype": "I64", "shape": [1], "data_offsets": [8 * i, 8 * i + 8]} for i in range(100_000)}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path = tmp_path / "many.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + numpy.arange(100_000).tobytes())
    model = weightd.attach(path.as_uri(), socket_dir=daemon.socket_dir, framework="np")
    assert len(model.tensors) == 100_000
    assert [int(model[f"t{i:06}"][0]) for i in range(0, 100_000, 9999)] == list(range(0, 100_000, 9999))


def test_the_mapping_is_where_huge_pages_can_be(daemon: Daemon, tmp_path: Path) -> None:
    setting = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled").read_text()
    if any(f"[{off}]" in setting for off in ("never", "deny")):
        pytest.skip("huge pages are off for shared memory")
    uri = save(tmp_path / "large.safetensors", {"t": torch.zeros(8 << 20, dtype=torch.uint8)})
    model = weightd.attach(uri, socket_dir=daemon.socket_dir)
    assert (model["t"].data_ptr() - model.tensors["t"].offset) % (2 << 20) == 0


def test_another_process_sees_no_write(daemon: Daemon, tmp_path: Path, python: Python) -> None:
    uri = save(tmp_path / "m.safetensors", {"t": torch.arange(5000.0)})
    tensor = weightd.attach(uri, socket_dir=daemon.socket_dir)["t"]
    tensor.zero_()
    script = "import sys, weightd; print(weightd.attach(sys.argv[1], sys.argv[2], framework='np')['t'].sum())"
    assert python(script, uri, daemon.socket_dir).stdout.strip() == str(numpy.arange(5000, dtype=numpy.float32).sum())
    assert tensor.sum() == 0


def test_the_lease_ends_with_the_last_tensor(daemon: Daemon, tmp_path: Path) -> None:
    uri = save(tmp_path / "m.safetensors", {"t": torch.arange(5000.0)})
    with weightd.attach(uri, socket_dir=daemon.socket_dir) as model:
        tensor = model["t"][10:20]
    assert leases(daemon) == 1
    del tensor
    for _ in range(1000):  # the daemon notices soon; each look takes milliseconds
        if leases(daemon) == 0:
            break
    assert leases(daemon) == 0


def test_bytes_stay_when_the_daemon_is_killed(daemon: Daemon, tmp_path: Path) -> None:
    content = torch.arange(1 << 20)
    uri = save(tmp_path / "m.safetensors", {"t": content, "u": content + 1})
    model = weightd.attach(uri, socket_dir=daemon.socket_dir)
    tensor = model["t"]
    daemon.kill()
    assert torch.equal(tensor, content)
    assert torch.equal(model["u"], content + 1)
    model.close()
    with pytest.raises(weightd.UnavailableError):
        weightd.attach(uri, socket_dir=daemon.socket_dir, timeout=0.2)


def test_progress_ends_with_every_byte(daemon: Daemon, tmp_path: Path) -> None:
    uri = save(tmp_path / "m.safetensors", {"t": torch.zeros(64 << 20, dtype=torch.uint8)})
    seen: list[weightd.Progress] = []
    weightd.attach(uri, socket_dir=daemon.socket_dir, progress=seen.append)
    done = [progress.bytes_done for progress in seen]
    assert done == sorted(done)
    assert all(p.bytes_done <= p.bytes_total or not p.bytes_total for p in seen)


def test_errors_say_what_and_what_to_do(daemon: Daemon, tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\x10" + bytes(7) + b"{" * 16)
    cases = {
        (tmp_path / "none.safetensors").as_uri(): ("MODEL_NOT_FOUND", weightd.NotFoundError),
        bad.as_uri(): ("MALFORMED_MODEL", weightd.MalformedModelError),
        "ftp://host/x": ("INVALID_URI", weightd.InvalidRequestError),
        "x" * 10_000: ("INVALID_URI", weightd.InvalidRequestError),
    }
    for uri, (reason, kind) in cases.items():
        with pytest.raises(weightd.Error) as raised:
            weightd.attach(uri, socket_dir=daemon.socket_dir)
        assert isinstance(raised.value, kind), uri
        assert raised.value.reason == reason
        assert raised.value.model
    with pytest.raises(weightd.Error) as raised:
        weightd.attach(bad.as_uri(), socket_dir=daemon.socket_dir)
    assert raised.value.hint
    assert raised.value.model == bad.as_uri()


def test_attaching_costs_no_torch(daemon: Daemon, tmp_path: Path, python: Python) -> None:
    uri = save(tmp_path / "m.safetensors", {"t": torch.arange(3)})
    script = """
import sys, weightd
with weightd.attach(sys.argv[1], sys.argv[2]) as model:
    assert bytes(model.raw("t"))[8] == 1
print(sorted({"torch", "numpy", "grpc", "tqdm"} & sys.modules.keys()), model.framework)
"""
    assert python(script, uri, daemon.socket_dir).stdout == "[] pt\n"


def test_many_threads_attach_and_detach(daemon: Daemon, tmp_path: Path) -> None:
    uri = save(tmp_path / "m.safetensors", {"t": torch.arange(5000)})
    sums: list[int] = []

    def work() -> None:
        for _ in range(20):
            with weightd.attach(uri, socket_dir=daemon.socket_dir, framework="np") as model:
                sums.append(int(model["t"].sum()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [5000 * 4999 // 2] * 160


# Forks happen in processes of their own: pytest's has gRPC servers, which don't survive them.

FORK = """
import gc, os, signal, sys, threading, weightd
uri, folder = sys.argv[1:]

def attach():
    return weightd.attach(uri, socket_dir=folder, framework="np", timeout=30)

def forked(work):
    "0 if `work` returned in a child, 1 if it raised, -N if signal N ended it."
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)
        try:
            work()
        except BaseException as failure:
            print(repr(failure), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def tell(what):
    print(what, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def client(daemon: Daemon, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Starts a process that runs FORK and a script on a model whose tensor "t" is 0 to 99."""
    uri = save(tmp_path / "m.safetensors", {"t": torch.arange(100)})

    def start(script: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", FORK + script, uri, str(daemon.socket_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


Client = Callable[[str], "subprocess.Popen[str]"]


def test_a_forked_child_leaves_the_parents_lease_alone(client: Client, daemon: Daemon) -> None:
    parent = client("""
model = attach()
tensor = model["t"]

def use_and_drop():
    global model, tensor
    assert tensor.sum() == 4950
    tensor[:] = 1
    model.close()
    del tensor, model
    gc.collect()

codes = forked(use_and_drop), forked(lambda: sys.exit(0)), forked(attach)
tell((codes, int(tensor.sum())))
""")
    assert parent.stdout is not None
    assert parent.stdout.readline() == "((0, 1, 0), 4950)\n"
    assert leases(daemon) == 1
    parent.communicate("\n", PATIENCE)
    assert parent.returncode == 0


def test_a_forked_child_does_not_keep_the_parents_lease(client: Client, daemon: Daemon) -> None:
    parent = client("""
model = attach()
tensor = model["t"]
if os.fork() == 0:
    tell(int(tensor.sum()))
    tell(int(tensor.sum()))
    os._exit(0)
signal.pause()
""")
    assert parent.stdout is not None
    assert parent.stdin is not None
    assert parent.stdout.readline() == "4950\n"
    assert leases(daemon) == 1
    parent.kill()
    parent.wait()
    for _ in range(1000):
        if leases(daemon) == 0:
            break
    assert leases(daemon) == 0
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert parent.stdout.readline() == "4950\n"
    parent.communicate("\n", PATIENCE)


def test_forks_while_threads_attach(client: Client) -> None:
    parent = client("""
attach()["t"]
stop = threading.Event()
failures = []

def churn():
    try:
        while not stop.is_set():
            assert attach()["t"].sum() == 4950
    except BaseException as failure:
        failures.append(failure)

threads = [threading.Thread(target=churn) for _ in range(2)]
for thread in threads:
    thread.start()

def child():
    assert attach()["t"].sum() == 4950

codes = [forked(child) for _ in range(30)]
stop.set()
for thread in threads:
    thread.join()
print(set(codes), failures)
""")
    out, err = parent.communicate(timeout=PATIENCE)
    assert out == "{0} []\n", err


def test_exit_while_tensors_live(client: Client) -> None:
    parent = client("""
import atexit
kept = attach()["t"]
atexit.register(lambda: print(kept.sum()))
sys.modules["builtins"].kept = [kept, attach()]
""")
    out, err = parent.communicate(timeout=PATIENCE)
    assert (parent.returncode, out, err) == (0, "4950\n", "")


@pytest.mark.parametrize("uri", [None, 5, Path("/m"), "/x\udcff", "a\nb"])
def test_what_is_no_name_is_refused_in_words(tmp_path: Path, uri: object) -> None:
    with pytest.raises(weightd.Error) as raised:
        weightd.attach(uri, socket_dir=tmp_path)  # type: ignore[arg-type]
    assert raised.value.reason == "INVALID_URI"


def test_what_is_no_folder_is_refused_in_words() -> None:
    with pytest.raises(weightd.Error) as raised:
        weightd.attach("/m", socket_dir=5)  # type: ignore[arg-type]
    assert raised.value.reason == "INVALID_ARGUMENT"


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5"])
def test_what_is_no_timeout_is_refused_in_words(tmp_path: Path, timeout: object) -> None:
    with pytest.raises(weightd.Error) as raised:
        weightd.attach("/m", socket_dir=tmp_path, timeout=timeout)  # type: ignore[arg-type]
    assert raised.value.reason == "INVALID_ARGUMENT"
