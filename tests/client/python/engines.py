# ruff: noqa: ARG002, ARG004
"""Stand-ins for the parts of vLLM and SGLang that load models, with their names and signatures.

`differences` compares them with a wheel's sources, so that they stay what the engines are.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

VERSIONS = {"vllm": "0.33.0", "sglang": "0.5.23"}


def vllm() -> dict[str, types.ModuleType]:
    """Modules by name."""

    class BaseModelLoader(ABC):
        def __init__(self, load_config: Any):
            self.load_config = load_config

        def get_external_weight_memory(self, vllm_config: Any) -> int:
            return 0

        @abstractmethod
        def download_model(self, model_config: Any) -> None:
            raise NotImplementedError

        @abstractmethod
        def load_weights(self, model: Any, model_config: Any) -> None:
            raise NotImplementedError

        def create_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> Any:
            return vllm_config.made

        def load_model(self, vllm_config: Any, model_config: Any, prefix: str = "") -> Any:
            model = self.create_model(vllm_config, model_config, prefix)
            self.load_weights(model, model_config)
            return model.eval()

    def register_model_loader(load_format: str) -> Any:
        def _wrapper(model_loader_cls: Any) -> Any:
            if not issubclass(model_loader_cls, BaseModelLoader):
                raise ValueError("The model loader must be a subclass of `BaseModelLoader`.")
            formats[load_format] = model_loader_cls
            return model_loader_cls

        return _wrapper

    def get_model_loader(load_config: Any) -> BaseModelLoader:
        return formats[load_config.load_format](load_config)

    formats: dict[str, Any] = {}
    names = {
        "BaseModelLoader": BaseModelLoader,
        "register_model_loader": register_model_loader,
        "get_model_loader": get_model_loader,
        "_LOAD_FORMAT_TO_MODEL_LOADER": formats,
    }
    return _modules({"vllm.model_executor.model_loader": names, "vllm.model_executor.model_loader.base_loader": names})


def sglang() -> dict[str, types.ModuleType]:
    """Modules by name."""

    class BaseModelLoader(ABC):
        preloaded_weights_bytes: int = 0

        def __init__(self, load_config: Any):
            self.load_config = load_config

        @abstractmethod
        def download_model(self, model_config: Any) -> None:
            raise NotImplementedError

        @abstractmethod
        def load_model(self, *, model_config: Any, device_config: Any) -> Any:
            raise NotImplementedError

    class DefaultModelLoader(BaseModelLoader):
        def __init__(self, load_config: Any):
            super().__init__(load_config)
            if load_config.model_loader_extra_config:
                raise ValueError("Unexpected extra config keys")

        def download_model(self, model_config: Any) -> None:
            raise AssertionError("from a hub")

        def _get_all_weights(self, model_config: Any, model: Any) -> Any:
            raise AssertionError("from files")

        def load_model(self, *, model_config: Any, device_config: Any) -> Any:
            model = model_config.made
            self.load_weights_and_postprocess(
                model, self._get_all_weights(model_config, model), device_config.device
            )
            return model.eval()

        @staticmethod
        def load_weights_and_postprocess(model, weights, target_device):  # type: ignore[no-untyped-def]
            model.load_weights(weights)

    names = {"BaseModelLoader": BaseModelLoader, "DefaultModelLoader": DefaultModelLoader}
    return _modules({"sglang.srt.model_loader.loader": names})


# Where the wheels have what the stand-ins have.
_SOURCES = {
    "vllm": {
        "vllm/model_executor/model_loader/base_loader.py": ["BaseModelLoader"],
        "vllm/model_executor/model_loader/__init__.py": ["register_model_loader", "get_model_loader"],
    },
    "sglang": {"sglang/srt/model_loader/loader.py": ["BaseModelLoader", "DefaultModelLoader"]},
}


def differences(engine: str, wheel: Path) -> list[str]:
    """What a stand-in has that the engine in that wheel has not, or has with other parameters."""
    stand_ins = {name: value for module in globals()[engine]().values() for name, value in vars(module).items()}
    problems = []
    with zipfile.ZipFile(wheel) as archive:
        for path, names in _SOURCES[engine].items():
            real = _signatures(ast.parse(archive.read(path)))
            for name in names:
                tree = ast.parse(textwrap.dedent(inspect.getsource(stand_ins[name])))
                problems += [
                    f"{path}: {what} has {real.get(what)}, and the stand-in {parameters}"
                    for what, parameters in _signatures(tree).items()
                    if "_wrapper" not in what and real.get(what) != parameters
                ]
    return problems


def _signatures(tree: ast.AST, prefix: str = "") -> dict[str, list[str]]:
    """Names of the parameters of each function and method at the top, and whether it is abstract; and attributes."""
    found = {}
    for node in getattr(tree, "body", []):
        if isinstance(node, ast.ClassDef):
            found.update(_signatures(node, f"{node.name}."))
        elif isinstance(node, ast.FunctionDef):
            parameters = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            marks = [d.id for d in node.decorator_list if isinstance(d, ast.Name) and d.id == "abstractmethod"]
            found[prefix + node.name] = parameters + marks
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and prefix:
            found[prefix + node.target.id] = [ast.unparse(node.annotation)]
    return found


def _modules(contents: dict[str, dict[str, Any]]) -> dict[str, types.ModuleType]:
    """Those modules, and the packages around them."""
    modules: dict[str, types.ModuleType] = {}
    for name, names in contents.items():
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            package = ".".join(parts[:i])
            module = modules.setdefault(package, types.ModuleType(package))
            module.__path__ = []  # type: ignore[attr-defined]
            if i > 1:
                setattr(modules[".".join(parts[: i - 1])], parts[i - 1], module)
        vars(modules[name]).update(names)
    return modules
