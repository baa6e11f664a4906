"""A client process for tests: attaches and does what it is told, one JSON line a command.

{"do": "attach", "model": URI}      -> {"revision", "tensors", "nbytes"}; on a GPU of the fake driver's with "device",
                                       "mode" and "legacy"
{"do": "digest"}                    -> {"digest"}: SHA-256 over all tensors in the order of their names
{"do": "files"}                     -> {"files"}: SHA-256 of each of what lies beside the weights, by name
{"do": "fault"}                     -> {"result"}: the CUresult of a write to the first tensor on the GPU
{"do": "write"}                     -> {}: overwrites every tensor's first bytes in its own mapping
{"do": "release"}                   -> {}: closes the model, no tensor kept
{"do": "keep_mapping"}              -> {}: closes the model, but a tensor keeps the mapping
{"do": "pss"}                       -> {"pss"}
"""

import hashlib
import json
import os
import pathlib
import sys

import numpy
import weightd

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "fakes/fake_cuda"))

from fake_gpu import FakeGpu  # noqa: E402
from processes import pss_of_segment  # noqa: E402


class Reader:
    """One attached model."""

    def __init__(self, socket_dir: str) -> None:
        self._socket_dir = socket_dir
        self._model: weightd.Model | None = None
        self._kept: object = None
        self._gpu: FakeGpu | None = None

    def attach(
        self,
        model: str,
        device: str | None = None,
        mode: str = "shared",
        legacy: bool = False,
        timeout: float = 120,
    ) -> dict[str, object]:
        options: dict[str, object] = {"framework": "np"}
        if device is not None:
            driver = os.environ["WEIGHTD_TEST_DRIVER"]
            options = {"device": device, "mode": mode, "legacy": legacy, "cuda_driver": driver}
        self._model = weightd.attach(model, socket_dir=self._socket_dir, timeout=timeout, **options)
        if device is not None:
            self._gpu = FakeGpu(driver, int(device.removeprefix("cuda:")))
        tensors = self._model.tensors
        return {
            "revision": self._model.revision,
            "tensors": len(tensors),
            "nbytes": sum(info.nbytes for info in tensors.values()),
        }

    def digest(self) -> dict[str, object]:
        assert self._model is not None
        digest = hashlib.sha256()
        for name in sorted(self._model.tensors):
            digest.update(self._bytes(name))
        return {"digest": digest.hexdigest()}

    def _bytes(self, name: str) -> bytes | memoryview:
        assert self._model is not None
        raw = self._model.raw(name)
        if not isinstance(raw, weightd.DeviceBytes):
            return raw
        assert self._gpu is not None
        return self._gpu.read(raw.pointer, raw.nbytes) if raw.nbytes else b""

    def files(self) -> dict[str, object]:
        assert self._model is not None
        return {"files": {name: hashlib.sha256(text).hexdigest() for name, text in self._model.files.items()}}

    def fault(self) -> dict[str, object]:
        assert self._model is not None
        assert self._gpu is not None
        first = next(name for name, info in self._model.tensors.items() if info.nbytes)
        return {"result": self._gpu.write(self._model.raw(first).pointer, b"overwrit")}

    def touch(self) -> dict[str, object]:
        """Reads every page once."""
        assert self._model is not None
        total = 0
        for name in self._model.tensors:
            total += int(numpy.frombuffer(self._model.raw(name), dtype=numpy.uint8)[::4096].sum())
        return {"sum": total}

    def write(self) -> dict[str, object]:
        assert self._model is not None
        for name, info in self._model.tensors.items():
            if info.dtype == "F32" and info.nbytes:
                self._model[name].reshape(-1)[0] = 12345.0
        return {}

    def release(self) -> dict[str, object]:
        assert self._model is not None
        self._model.close()
        self._model = None
        return {}

    def keep_mapping(self) -> dict[str, object]:
        assert self._model is not None
        first = next(name for name, info in self._model.tensors.items() if info.nbytes)
        self._kept = self._model.raw(first)
        return self.release()

    def pss(self) -> dict[str, object]:
        return {"pss": pss_of_segment(os.getpid())}


def main() -> None:
    reader = Reader(sys.argv[1])
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(reader, command.pop("do"))(**command)
        except weightd.Error as error:
            answer = {"error": str(error), "reason": error.reason, "hint": error.hint}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
