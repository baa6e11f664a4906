"""A client process of the GPU suite: does what it is told, one JSON line a command. Reads with torch on the GPU where
there is a torch that can, else copies back with the driver.

{"do": "attach", "model": URI, "mode": …, "legacy": …}    -> {"seconds"}
{"do": "sum"}                                             -> {"sum", "by"}: checksum.py, of all tensors
{"do": "write"}                                           -> {"failure"}: of a write to every tensor, "" if it succeeds
{"do": "release"}, {"do": "free"}                         -> {}, {"free"}: bytes of the GPU
{"do": "attaches", "model": …, "mode": …, "count": N}     -> {"seconds": […]}
{"do": "coexist", "model": …}                             -> {"claims": {what: held}}, with torch
{"do": "against_safetensors", "model": …, "path": …, "count": N} -> {"safetensors": […], "private": […], "shared": […]}
"""

import json
import pathlib
import random
import sys
import time
import typing

sys.path += [str(pathlib.Path(__file__).parents[1] / "fakes" / "fake_cuda")]

import checksum  # noqa: E402
import weightd  # noqa: E402
from fake_gpu import FakeGpu as Gpu  # noqa: E402  (what it does with a driver works with a real one)
from torch_here import torch_with_cuda  # noqa: E402

PIECE = 64 << 20
TIMEOUT = 120


class Peer:
    """A process with a context on the first GPU, and at most one attached model."""

    def __init__(self, socket_dir: str, driver: str) -> None:
        self._socket_dir = socket_dir
        self._driver = driver
        torch = torch_with_cuda()
        self._torch = None if isinstance(torch, str) else torch
        if self._torch is not None:
            self._torch.zeros(1, device="cuda:0")
        self._gpu = Gpu(driver)
        self._model: weightd.Model | None = None

    def _attach(self, model: str, **how: typing.Any) -> weightd.Model:
        return weightd.attach(
            model, socket_dir=self._socket_dir, device="cuda:0", cuda_driver=self._driver, timeout=TIMEOUT, **how
        )

    def attach(self, model: str, mode: str = "shared", legacy: bool = False) -> dict[str, object]:
        begin = time.monotonic()
        self._model = self._attach(model, mode=mode, legacy=legacy)
        return {"seconds": time.monotonic() - begin}

    def sum(self) -> dict[str, object]:
        assert self._model is not None
        if self._torch is not None:
            sums = {name: checksum.of_tensor(self._model[name]) for name in self._model}
            return {"sum": checksum.of_all(sums), "by": "torch on the GPU"}
        sums = {name: checksum.of_bytes(self._copied_back(self._model.raw(name))) for name in self._model}
        return {"sum": checksum.of_all(sums), "by": "copying back"}

    def _copied_back(self, part: typing.Any) -> bytes:
        pieces = range(0, part.nbytes, PIECE)
        return b"".join(self._gpu.read(part.pointer + at, min(PIECE, part.nbytes - at)) for at in pieces)

    def write(self) -> dict[str, object]:
        assert self._model is not None
        failure = ""
        for name in self._model:
            if self._torch is None:
                result = self._gpu.write(self._model.raw(name).pointer, b"other bytes")
                failure = failure or (f"CUresult {result}" if result else "")
                continue
            try:
                self._model[name].fill_(1)
                self._torch.cuda.synchronize()
            except RuntimeError as error:
                failure = failure or str(error).splitlines()[0]
        return {"failure": failure}

    def release(self) -> dict[str, object]:
        self._model = None
        return {}

    def free(self) -> dict[str, object]:
        return {"free": self._gpu.free_bytes()}

    def attaches(self, model: str, mode: str, count: int) -> dict[str, object]:
        seconds = []
        for _ in range(count + 1):
            begin = time.monotonic()
            attached = self._attach(model, mode=mode)
            seconds.append(time.monotonic() - begin)
            del attached
        return {"seconds": seconds[1:]}

    def coexist(self, model: str) -> dict[str, object]:
        """torch's context and its caching allocator, before, beside and after a model."""
        torch = self._torch
        matrix = torch.randn(2048, 2048, device="cuda:0")
        product = matrix @ matrix
        allocated = torch.cuda.memory_allocated()
        self._model = self._attach(model)
        before = self.sum()["sum"]
        tensors = self._model.state_dict()
        claims = {"attaching takes nothing from torch's allocator": torch.cuda.memory_allocated() == allocated}
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        same = all(torch.equal(copies[name].view(torch.int32), tensors[name].view(torch.int32)) for name in tensors)
        claims["torch copies what is mapped"] = same
        blocks = [torch.full((64 << 20,), float(i), device="cuda:0") for i in range(8)]
        del blocks, copies
        torch.cuda.empty_cache()
        claims["torch's allocator gives back and leaves the weights alone"] = self.sum()["sum"] == before
        kept = next(iter(tensors.values()))
        expected = kept.clone().view(torch.int32)
        del tensors
        self._model = None
        claims["a tensor keeps the mapping"] = bool(torch.equal(kept.view(torch.int32), expected))
        del kept
        claims["torch computes on after the model is gone"] = bool(torch.equal(matrix @ matrix, product))
        return {"claims": claims}

    def against_safetensors(self, model: str, path: str, count: int) -> dict[str, object]:
        from safetensors.torch import load_file

        ways: dict[str, typing.Callable[[], object]] = {
            "safetensors": lambda: load_file(path, device="cuda:0"),
            "private": lambda: dict(self._attach(model, mode="private").state_dict()),
            "shared": lambda: dict(self._attach(model).state_dict()),
        }
        order = random.Random(1)
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(count + 1):
            for way in order.sample(sorted(ways), len(ways)):
                self._torch.cuda.synchronize()
                begin = time.monotonic()
                tensors = ways[way]()
                self._torch.cuda.synchronize()
                seconds[way].append(time.monotonic() - begin)
                del tensors
                self._torch.cuda.empty_cache()
        return {way: taken[1:] for way, taken in seconds.items()}


def main() -> None:
    peer = Peer(*sys.argv[1:])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(peer, command.pop("do"))(**command)
        except weightd.Error as error:
            answer = {"error": str(error), "reason": error.reason}
        except Exception as error:  # noqa: BLE001 (whatever it is, the suite goes on)
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
