"""weightd.torch over the real daemon, and on a GPU's stand-in."""

from __future__ import annotations

import copy
import io
import itertools
import os
import pickle
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import weightd
from weightd.serialization import save_file

from conftest import Daemon, GpuModel, Moves

Attach = Callable[[object], weightd.Model]
Python = Callable[..., "subprocess.CompletedProcess[str]"]


class Network(torch.nn.Module):
    """Tied weights, buffers of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embedding = torch.nn.Embedding(7, 5)
        self.head = torch.nn.Linear(5, 7)
        self.head.weight = self.embedding.weight
        self.norm = torch.nn.BatchNorm1d(5)
        self.register_buffer("scale", torch.arange(5) / 5, persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.norm(self.embedding(ids)) * self.scale)
        return output


IDS = torch.tensor([3, 1, 6])


def on_meta() -> Network:
    with weightd.torch.parameters_on_meta():
        return Network()


@pytest.fixture(params=["safetensors", "tensors"])
def attach(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Attach:
    """Writes a module or a state dict, and attaches to it."""
    written = itertools.count()

    def call(source: object) -> weightd.Model:
        path = tmp_path / f"m{next(written)}.{request.param}"
        save_file(source, path)  # type: ignore[arg-type]
        return weightd.attach(str(path), socket_dir=daemon.socket_dir, framework="pt")

    return call


def pointers(tensors: object) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}  # type: ignore[attr-defined]


# load_into.


def test_a_module_on_meta_gets_the_shared_bytes(attach: Attach) -> None:
    written = Network().eval()
    module = on_meta()
    assert all(parameter.is_meta for parameter in module.parameters())
    assert torch.equal(module.scale, written.scale)
    assert module.head.weight is module.embedding.weight
    m = attach(written)
    report = weightd.torch.load_into(module, m)
    assert (report.copied, report.copied_bytes, report.missing, report.unexpected) == ({}, 0, (), ())
    assert report.loaded == len(m.state_dict())
    assert pointers(module.parameters()) <= pointers(m.state_dict().values())
    assert module.head.weight is module.embedding.weight
    assert torch.equal(module.eval()(IDS), written(IDS))
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_what_stays_on_meta_is_named(attach: Attach) -> None:
    with torch.device("meta"):
        module = Network()
    m = attach({name: tensor for name, tensor in Network().state_dict().items() if not name.startswith("norm.r")})
    with pytest.raises(weightd.InvalidRequestError, match=r"still on meta: .*'scale'.*parameters_on_meta"):
        weightd.torch.load_into(module, m, strict=False)
    module = on_meta()
    few = {name: tensor for name, tensor in m.state_dict().items() if name != "norm.bias"}
    with pytest.raises(weightd.InvalidRequestError, match=r"parameters that are still on meta: 'norm\.bias'"):
        weightd.torch.load_into(module, attach(few), strict=False)


def test_what_does_not_fit_is_named(attach: Attach) -> None:
    m = attach({"weight": torch.ones(5, 3), "more": torch.ones(1)})
    with pytest.raises(weightd.InvalidRequestError, match=r"model has not: 'bias'.*strict=False"):
        weightd.torch.load_into(torch.nn.Linear(3, 5), m)
    with pytest.raises(weightd.InvalidRequestError, match="module has not: 'more'"):
        weightd.torch.load_into(torch.nn.Linear(3, 5, bias=False), m)
    with pytest.raises(weightd.InvalidRequestError, match="size mismatch"):
        weightd.torch.load_into(torch.nn.Linear(3, 4), m, strict=False)
    report = weightd.torch.load_into(torch.nn.Linear(3, 5), m, strict=False)
    assert report == (1, {}, ("bias",), ("more",))


def test_types_that_differ_are_an_error_taken_or_cast(attach: Attach) -> None:
    m = attach({"weight": torch.ones(5, 3, dtype=torch.bfloat16), "bias": torch.ones(5)})
    with pytest.raises(weightd.InvalidRequestError, match=r"bfloat16 in the model, torch\.float32.*'weight'.*\"cast\""):
        weightd.torch.load_into(torch.nn.Linear(3, 5), m)
    module = torch.nn.Linear(3, 5)
    assert weightd.torch.load_into(module, m, dtypes="take").copied == {}
    assert module.weight.dtype == torch.bfloat16
    module = torch.nn.Linear(3, 5)
    assert weightd.torch.load_into(module, m, dtypes="cast").copied == {"weight": 60}
    assert (module.weight.dtype, module.bias.data_ptr()) == (torch.float32, m["bias"].data_ptr())
    assert torch.equal(module.weight, torch.ones(5, 3))
    with pytest.raises(weightd.InvalidRequestError, match="dtypes"):
        weightd.torch.load_into(module, m, dtypes="any")


def test_only_torchs_flat_tensors_have_a_place(daemon: Daemon, tmp_path: Path) -> None:
    save_file({"layers": [torch.ones(1)]}, tmp_path / "m.tensors")
    for framework, what in (("pt", "nested"), ("np", "numpy")):
        m = weightd.attach(str(tmp_path / "m.tensors"), socket_dir=daemon.socket_dir, framework=framework)
        with pytest.raises(weightd.InvalidRequestError, match=what):
            weightd.torch.load_into(torch.nn.Linear(1, 1), m)


# parameters_on_meta.


def test_only_parameters_of_this_thread_go_to_meta() -> None:
    class Special(torch.nn.Parameter):
        pass

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            one = torch.nn.Parameter(torch.ones(2), requires_grad=False)
            one.mark = "kept"  # type: ignore[attr-defined]
            self.one, self.same = one, one
            self.special = Special(torch.ones(2))
            self.many = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(2))])
            self.none = None
            self.register_parameter("nothing", None)
            self.lazy = torch.nn.LazyLinear(2)

    elsewhere: list[torch.nn.Module] = []
    with weightd.torch.parameters_on_meta():
        module = Module()
        with weightd.torch.parameters_on_meta():
            assert torch.nn.Linear(1, 1).weight.is_meta
        assert torch.nn.Linear(1, 1).weight.is_meta
        other = threading.Thread(target=lambda: elsewhere.append(torch.nn.Linear(1, 1)))
        other.start()
        other.join()
    assert module.one.is_meta
    assert module.one is module.same
    assert not module.one.requires_grad
    assert module.one.mark == "kept"
    assert isinstance(module.special, Special)
    assert module.special.is_meta
    assert module.many[0].is_meta
    assert not any(parameter.is_meta for parameter in elsewhere[0].parameters())
    with pytest.raises(RuntimeError, match="boom"), weightd.torch.parameters_on_meta():
        raise RuntimeError("boom")
    assert not torch.nn.Linear(1, 1).weight.is_meta


# On a GPU. What torch would do there is watched: this one has none.


def test_on_a_gpu_only_buffers_move(gpu_model: GpuModel, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Network().eval()
    m = gpu_model({name: tensor for name, tensor in written.state_dict().items() if name != "head.weight"})
    module = on_meta()
    scale = module.scale.data_ptr()
    with monkeypatch.context() as patch:
        moves = Moves(patch)
        report = weightd.torch.load_into(module, m, strict=False)
    assert moves.seen == [("to", scale)]
    assert report.copied == {}
    for name, parameter in module.named_parameters():
        assert parameter.data_ptr() == m[name].data_ptr(), name
    assert torch.equal(module.eval()(IDS), written(IDS))


# What a write does, and what copies.


def test_a_write_is_this_process_own(attach: Attach, daemon: Daemon) -> None:
    m = attach({"w": torch.zeros(4096)})
    m["w"].add_(1)
    assert m["w"].sum() == 4096  # the mapping's other views see it
    with weightd.attach(m.uri, socket_dir=daemon.socket_dir, framework="pt") as other:
        assert other["w"].sum() == 0


def test_a_childs_end_leaves_the_lease(attach: Attach, daemon: Daemon) -> None:
    def leases() -> int:
        return int(weightd_leases(daemon))

    m = attach({"w": torch.zeros(4096)})
    tensor = m["w"]
    child = os.fork()
    if child == 0:
        tensor.add_(1)
        os._exit(0 if tensor.sum() == 4096 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert tensor.sum() == 0
    assert leases() == 1
    m.close()
    del tensor
    assert eventually(lambda: leases() == 0)


def weightd_leases(daemon: Daemon) -> str:
    import grpc
    from weightd.v1 import admin_pb2

    with grpc.insecure_channel(f"unix:{daemon.socket_dir}/admin.sock") as channel:
        call = channel.unary_unary(
            "/weightd.v1.Admin/GetStatus",
            request_serializer=admin_pb2.GetStatusRequest.SerializeToString,
            response_deserializer=admin_pb2.GetStatusResponse.FromString,
        )
        return str(call(admin_pb2.GetStatusRequest()).leases)


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition():
        if time.monotonic() > end:
            return False
    return True


@pytest.mark.parametrize("copied", ["pickle", "save", "deepcopy"])
def test_copies_hold_their_own_bytes(attach: Attach, copied: str) -> None:
    m = attach({"a": torch.arange(1000.0), "b": torch.ones(100_000)})
    tensor = m["a"]
    if copied == "pickle":
        data = pickle.dumps(tensor)
        again = pickle.loads(data)
        assert len(data) < 10_000  # of this tensor's, not of the model's
    elif copied == "save":
        file = io.BytesIO()
        torch.save(tensor, file)
        assert len(file.getvalue()) < 10_000
        file.seek(0)
        again = torch.load(file)
    else:
        again = copy.deepcopy(tensor)
    assert torch.equal(again, tensor)
    assert again.data_ptr() != tensor.data_ptr()
    again.zero_()
    assert tensor[1] == 1


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_model_is_not_copied(attach: Attach, copied: Callable[[object], object]) -> None:
    m = attach({"w": torch.ones(3)})
    with pytest.raises(weightd.InvalidRequestError, match="attach in the other process"):
        copied(m)
    assert m["w"].sum() == 3


QUEUE = """
import sys, torch, weightd
import torch.multiprocessing as processes

def child(tensors, answers):
    tensor = tensors.get()
    answers.put(float(tensor.sum()))

if __name__ == "__main__":
    model = weightd.attach(sys.argv[1], socket_dir=sys.argv[2])
    tensor = model["w"]
    context = processes.get_context("fork")
    tensors, answers = context.Queue(), context.Queue()
    worker = context.Process(target=child, args=(tensors, answers))
    worker.start()
    tensors.put(tensor)
    print(answers.get(), tensor.is_shared())
    worker.join()
    print(model["w"].is_shared(), worker.exitcode)
"""


def test_multiprocessing_copies_into_torchs_shared_memory(attach: Attach, daemon: Daemon, python: Python) -> None:
    m = attach({"w": torch.ones(1000)})
    done = python(QUEUE, m.uri, daemon.socket_dir)
    # torch has put the sender's tensor, too, over a copy; the model's other tensors are as they were.
    assert (done.returncode, done.stdout) == (0, "1000.0 True\nFalse 0\n"), done.stderr


def test_compiled(attach: Attach) -> None:
    if not any((Path(folder) / "g++").exists() for folder in os.environ["PATH"].split(os.pathsep)):
        pytest.skip("torch.compile needs a C++ compiler, and there is no g++")
    written = Network().eval()
    module = on_meta()
    m = attach(written)
    weightd.torch.load_into(module, m)
    compiled = torch.compile(module.eval())
    assert torch.allclose(compiled(IDS), written(IDS), atol=1e-6)
    assert pointers(module.parameters()) <= pointers(m.state_dict().values())


# Parts of tensors.


def test_a_shard_is_a_view(attach: Attach, daemon: Daemon) -> None:
    m = attach({"w": torch.arange(24.0).reshape(4, 6), "s": torch.tensor(1.0)})
    whole = m["w"]
    rows = m.get_sharded("w", 0, 1, 2)
    assert torch.equal(rows, whole[2:])
    assert rows.is_contiguous()
    assert rows.data_ptr() == whole[2:].data_ptr()
    assert rows.untyped_storage().nbytes() == 48  # so torch.save writes the shard
    columns = m.get_sharded("w", -1, 2, 3)
    assert torch.equal(columns, whole[:, 4:])
    assert columns.stride() == (6, 1)
    assert columns.data_ptr() == whole[:, 4:].data_ptr()
    for arguments, why in (
        (("w", 0, 0, 3), "4 rows.*3"),
        (("w", 2, 0, 2), "dim 2"),
        (("s", 0, 0, 1), "dim 0"),
        (("w", 0, 2, 2), "rank 2"),
        (("w", 0, 0, 0), "world 0"),
    ):
        with pytest.raises(weightd.InvalidRequestError, match=why):
            m.get_sharded(*arguments)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        m.get_sharded("none", 0, 0, 1)
    with weightd.attach(m.uri, socket_dir=daemon.socket_dir, framework="np") as other:
        assert (other.get_sharded("w", 1, 0, 2) == whole[:, :3].numpy()).all()
