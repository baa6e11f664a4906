"""vLLM's weights from the daemon: `vllm serve MODEL --load-format weightd`.

Written for vLLM 0.33. vLLM finds `register` by the entry point vllm.general_plugins, in each of its processes; nothing
else imports this module. What the engine does with the weights stays as it is: it copies each tensor into a parameter
of its own, fused and sharded as it needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weightd import _engines
from weightd.model import Model

if TYPE_CHECKING:

    class BaseModelLoader:  # noqa: D101
        def __init__(self, load_config: Any) -> None: ...

else:
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader


class WeightdModelLoader(BaseModelLoader):
    """Streams a model's tensors as views of the daemon's bytes. Options: `weightd._engines.Options`."""

    def __init__(self, load_config: Any) -> None:
        super().__init__(load_config)
        self._options = _engines.Options.of(load_config.model_loader_extra_config or {})

    def get_external_weight_memory(self, vllm_config: Any) -> int:
        """Bytes of the daemon's copy on this GPU, which vLLM leaves out of its budget.

        With device="cuda" the model is put there now, so that vLLM measures the GPU's free memory with it. Without,
        the daemon has nothing on the GPU on our account.
        """
        if self._options.device != "cuda":
            return 0
        with self._attach(vllm_config.model_config) as model:
            return _engines.gpu_bytes(model)

    def download_model(self, model_config: Any) -> None:
        """Waits until the daemon has the model."""
        self._attach(model_config).close()

    def load_weights(self, model: Any, model_config: Any) -> None:
        """Gives the engine's model every tensor. What it has no weight for is an error, unless it is quantized."""
        _engines.require_one_model(model)
        with self._attach(model_config) as attached:
            loaded = model.load_weights(_engines.weights(attached))
            # As vLLM's own loader does: some models don't say what they loaded, and quantized ones make weights.
            if loaded is None or model_config.quantization is not None:
                return
            missing = sorted({name for name, _ in model.named_parameters()} - set(loaded))
            if missing:
                raise ValueError(f"weightd: {attached.uri} has no weights for {missing[:5]} ({len(missing)} in all)")

    def _attach(self, model_config: Any) -> Model:
        return self._options.attach(getattr(model_config, "model_weights", "") or model_config.model)


def register() -> None:
    """What vLLM calls. May be called again."""
    from vllm.model_executor import model_loader

    if getattr(model_loader, "_LOAD_FORMAT_TO_MODEL_LOADER", {}).get("weightd") is not WeightdModelLoader:
        model_loader.register_model_loader("weightd")(WeightdModelLoader)
