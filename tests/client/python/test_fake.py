"""The client against a daemon that is good, or lies."""

from __future__ import annotations

import gc
import io
import os
import threading
import time

import ml_dtypes
import numpy
import pytest
import torch
import weightd
from weightd.v1 import weights_pb2

from fake_daemon import model
from small_model import WEIGHTS, Python, Start, small

# What a model is.


def test_a_model_says_what_it_holds(fake: Start) -> None:
    daemon = fake({"m": small()})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        assert m.uri == "fake:model"
        assert m.revision == "ab" * 32
        assert m.metadata == {"format": "pt"}
        assert list(m) == list(m.tensors) == m.keys() == ["a", "b"]
        assert "a" in m
        assert "c" not in m
        assert m.tensors["b"] == weightd.TensorInfo("F32", (2, 3), 24, 64)
        assert bytes(m.raw("a")) == WEIGHTS
        assert m.raw("a").readonly
        assert m.framework == "pt"
        assert "fake:model" in repr(m)
        assert set(dict(m)) == {"a", "b"}


def test_metadata_names_aliases_only_where_it_can(fake: Start) -> None:
    tensors = {name: ("F32", [2, 3], WEIGHTS) for name in ("a", "b", "pt")}
    daemon = fake({"m": model(tensors, format="pt", a="b", also="a", author="somebody")})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        assert m.state_dict().keys() == {"a", "b", "pt", "also"}
        assert m["also"].data_ptr() == m["a"].data_ptr()
        for name in ("format", "author", "somebody"):
            assert name not in m
            with pytest.raises(weightd.TensorNotFoundError):
                m[name]


def test_tensors_are_views_with_a_storage_each(fake: Start) -> None:
    daemon = fake({"m": small()})
    m = weightd.attach("m", socket_dir=daemon.directory)
    state = m.state_dict()
    assert torch.equal(state["a"], torch.arange(6.0).reshape(2, 3))
    assert state["a"].data_ptr() == m["a"].data_ptr()
    assert state["b"].data_ptr() - state["a"].data_ptr() == 64
    assert state["a"].untyped_storage().nbytes() == 24
    saved = io.BytesIO()
    torch.save(state["a"], saved)
    assert saved.tell() < 4000


@pytest.mark.parametrize(
    "dtype",
    ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64", "C128"],
)
def test_numpy_has_the_plain_types(fake: Start, dtype: str) -> None:
    width = {"BOOL": 1, "U8": 1, "I8": 1}.get(dtype) or int(dtype[1:]) // 8
    content = bytes(i % 2 for i in range(6 * width))
    daemon = fake({"m": model({"t": (dtype, [2, 3], content), "empty": (dtype, [0, 3], b"")})})
    m = weightd.attach("m", socket_dir=daemon.directory, framework="np")
    assert m["t"].shape == (2, 3)
    assert m["t"].tobytes() == content
    assert m["empty"].shape == (0, 3)
    assert m.framework == "np"


@pytest.mark.parametrize(
    ("dtype", "numpy_type"),
    [
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("F8_E8M0", ml_dtypes.float8_e8m0fnu),
    ],
)
def test_numpy_has_the_small_types_of_ml_dtypes(fake: Start, dtype: str, numpy_type: type) -> None:
    content = bytes(range(12 * numpy.dtype(numpy_type).itemsize))
    daemon = fake({"m": model({"t": (dtype, [12], content)})})
    tensor = weightd.attach("m", socket_dir=daemon.directory, framework="np")["t"]
    assert tensor.dtype == numpy_type
    assert tensor.tobytes() == content


@pytest.mark.parametrize(
    ("dtype", "kind"), [("C32", torch.complex32), ("C64", torch.complex64), ("C128", torch.complex128)]
)
def test_torch_has_the_complex_types(fake: Start, dtype: str, kind: torch.dtype) -> None:
    content = bytes(range(12 * kind.itemsize))
    daemon = fake({"m": model({"t": (dtype, [12], content)})})
    tensor = weightd.attach("m", socket_dir=daemon.directory, framework="pt")["t"]
    assert (tensor.dtype, tensor.shape) == (kind, (12,))
    assert bytes(tensor.view(torch.uint8).numpy()) == content


@pytest.mark.parametrize(("dtype", "nbytes"), [("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6)])
def test_packed_types_without_a_numpy_type_are_raw_only(fake: Start, dtype: str, nbytes: int) -> None:
    daemon = fake({"m": model({"t": (dtype, [2, 4], bytes(range(nbytes)))})})
    m = weightd.attach("m", socket_dir=daemon.directory, framework="np")
    assert bytes(m.raw("t")) == bytes(range(nbytes))
    with pytest.raises(weightd.InvalidRequestError, match="raw") as raised:
        m["t"]
    assert raised.value.reason == "UNSUPPORTED"


def test_scalars_and_empty_tensors(fake: Start) -> None:
    daemon = fake({"m": model({"s": ("F32", [], WEIGHTS[4:8]), "e": ("BF16", [0, 5], b"")})})
    m = weightd.attach("m", socket_dir=daemon.directory)
    assert m["s"].shape == ()
    assert m["s"].item() == 1
    assert m["e"].shape == (0, 5)
    assert m["e"].dtype == torch.bfloat16


def test_a_model_of_only_empty_tensors(fake: Start) -> None:
    daemon = fake({"m": model({"e": ("F32", [0], b"")})})
    assert weightd.attach("m", socket_dir=daemon.directory).state_dict()["e"].shape == (0,)


def test_an_unknown_tensor_is_a_key_error(fake: Start) -> None:
    daemon = fake({"m": small()})
    m = weightd.attach("m", socket_dir=daemon.directory)
    for read in (m.__getitem__, m.raw, m.tensors.__getitem__):
        with pytest.raises(KeyError, match="no tensor 'zz'") as raised:
            read("zz")
        assert isinstance(raised.value, weightd.TensorNotFoundError)
        assert raised.value.reason == "TENSOR_NOT_FOUND"


def test_a_hundred_thousand_tensors(fake: Start) -> None:
    count = 100_000
    daemon = fake({"m": model({f"t{i:06}": ("U8", [1], bytes([i % 251])) for i in range(count)})})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        assert len(m) == count
        assert m["t099999"].item() == 99_999 % 251
        state = m.state_dict()
        assert sum(tensor.item() for tensor in list(state.values())[:251]) == sum(range(251))


# How long it lives.


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_the_lease_ends_with_the_last_view(fake: Start, framework: str) -> None:
    daemon = fake({"m": small()})
    m = weightd.attach("m", socket_dir=daemon.directory, framework=framework)
    tensor, view = m["a"], m["b"][1:]
    m.close()
    m.close()
    daemon.wait_for_claimed(1)
    del tensor
    gc.collect()
    assert daemon.claimed() == 1
    assert view.sum() == 12
    del view
    gc.collect()
    daemon.wait_for_claimed(0)


def test_a_closed_model_says_so(fake: Start) -> None:
    daemon = fake({"m": small()})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        pass
    daemon.wait_for_claimed(0)
    for use in (lambda: m["a"], lambda: m.raw("a"), m.state_dict):
        with pytest.raises(weightd.ClosedError, match="closed") as raised:
            use()
        assert raised.value.model == "fake:model"
    assert "closed" in repr(m)
    assert list(m.tensors) == ["a", "b"]


def test_raw_keeps_the_mapping(fake: Start) -> None:
    daemon = fake({"m": small()})
    with weightd.attach("m", socket_dir=daemon.directory) as m:
        content = m.raw("a")
    assert bytes(content) == WEIGHTS
    daemon.wait_for_claimed(1)
    content.release()
    daemon.wait_for_claimed(0)


def test_writes_stay_private(fake: Start) -> None:
    daemon = fake({"m": small()})
    one = weightd.attach("m", socket_dir=daemon.directory)
    two = weightd.attach("m", socket_dir=daemon.directory)
    one["a"].fill_(7)
    assert one["a"].sum() == 42
    assert two["a"].sum() == 15


def test_nothing_is_left_open(fake: Start) -> None:
    daemon = fake({"m": small()})
    weightd.attach("m", socket_dir=daemon.directory).close()
    daemon.wait_for_claimed(0)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        weightd.attach("m", socket_dir=daemon.directory).close()
        with pytest.raises(weightd.NotFoundError):
            weightd.attach("none", socket_dir=daemon.directory)
    daemon.wait_for_claimed(0)
    # The fake's side of the last connections may still be closing.
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_exit_with_tensors_alive(fake: Start, python: Python) -> None:
    daemon = fake({"m": small()})
    script = """
import sys, atexit, torch, numpy, weightd
model = weightd.attach("m", socket_dir=sys.argv[1])
layer = torch.nn.Linear(3, 2)
layer.load_state_dict({"weight": model["a"], "bias": torch.zeros(2)}, assign=True)
loss = layer(torch.ones(1, 3)).sum()
array = weightd.attach("m", socket_dir=sys.argv[1], framework="np")["b"]
atexit.register(lambda: print(model["a"].sum().item(), array.sum()))
sys.modules["builtins"].kept = (loss, array, model)
"""
    done = python(script, daemon.directory)
    assert (done.returncode, done.stdout) == (0, "15.0 15.0\n"), done.stderr
    daemon.wait_for_claimed(0)


# Threads.


def test_threads_share_a_model(fake: Start) -> None:
    daemon = fake({"m": model({f"t{i}": ("F32", [2, 3], WEIGHTS) for i in range(500)})})
    m = weightd.attach("m", socket_dir=daemon.directory)
    sums: list[float] = []

    def read() -> None:
        sums.append(sum(float(tensor.sum()) for tensor in m.state_dict().values()))
        sums.append(sum(float(m[name].sum()) for name in m))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [500 * 15.0] * 16


# Progress and time.


def test_progress_is_reported(fake: Start) -> None:
    steps = [
        weights_pb2.LoadProgress(phase=weights_pb2.RESOLVING),
        weights_pb2.LoadProgress(phase=weights_pb2.TRANSFERRING, bytes_done=5, bytes_total=10),
    ]
    daemon = fake({"m": small(progress=steps)})
    seen: list[weightd.Progress] = []
    weightd.attach("m", socket_dir=daemon.directory, progress=seen.append)
    assert seen == [("RESOLVING", 0, 0), ("TRANSFERRING", 5, 10)]


def test_an_exception_of_the_callback_cancels(fake: Start) -> None:
    cancelled = threading.Event()

    daemon = fake(
        {
            "m": small(
                at_start=lambda context: context.add_callback(cancelled.set),
                progress=[weights_pb2.LoadProgress()],
                before_grant=lambda: cancelled.wait(30),
            )
        }
    )

    def stop(_: weightd.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weightd.attach("m", socket_dir=daemon.directory, progress=stop)
    assert cancelled.wait(10)


def test_a_bar_on_a_terminal(fake: Start, python: Python) -> None:
    steps = [
        weights_pb2.LoadProgress(phase=weights_pb2.TRANSFERRING, bytes_done=n << 20, bytes_total=10 << 20)
        for n in (1, 5, 10)
    ]
    daemon = fake({"m": small(progress=steps)})
    script = """
import os, pty, sys, termios, weightd
ours, theirs = pty.openpty()
termios.tcsetwinsize(theirs, (24, 100))
os.dup2(theirs, 2)
weightd.attach("m", socket_dir=sys.argv[1], framework="np")
os.write(theirs, b"end of test")
seen = b""
while b"end of test" not in seen:
    seen += os.read(ours, 65536)
print(seen.decode())
"""
    done = python(script, daemon.directory)
    assert "100%" in done.stdout
    assert "10.0M/10.0M" in done.stdout
    assert python("import sys, weightd; weightd.attach('m', sys.argv[1])", daemon.directory).stderr == ""


def test_the_timeout_passes(fake: Start) -> None:
    done = threading.Event()
    daemon = fake({"m": small(before_grant=lambda: done.wait(30))})
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.3 s") as raised:
        weightd.attach("m", socket_dir=daemon.directory, timeout=0.3)
    done.set()
    assert time.monotonic() - begin < 5
    assert isinstance(raised.value, weightd.DeadlineError)
    assert (raised.value.reason, raised.value.model) == ("DEADLINE", "m")
    assert "preload" in raised.value.hint
