"""SGLang's weights from the daemon: `--load-format private`, the format that SGLang leaves to others.

Written for SGLang 0.5.23, which finds `register` by the entry point sglang.srt.plugins, in each of its processes; from
Python, `LoadConfig(load_format=weightd.sglang.loader_class())` does the same. The engine copies each tensor into a
parameter of its own, fused and sharded as it needs them.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

from weightd import _engines

# What SGLang imports for the format "private".
_SEAM = "sglang.private.private_model_loader"


@functools.cache
def loader_class() -> Any:
    """The loader. Imports SGLang."""
    from sglang.srt.model_loader.loader import BaseModelLoader, DefaultModelLoader

    class WeightdModelLoader(DefaultModelLoader):  # type: ignore[misc,unused-ignore]
        """SGLang's own loader, with the daemon's tensors in place of files. Options: `weightd._engines.Options`."""

        def __init__(self, load_config: Any) -> None:
            # Not DefaultModelLoader's, which knows other options.
            BaseModelLoader.__init__(self, load_config)
            self._options = _engines.Options.of(load_config.model_loader_extra_config or {})

        def download_model(self, model_config: Any) -> None:
            """Waits until the daemon has the model."""
            self._options.attach(model_config.model_path).close()

        def _get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
            _engines.require_one_model(model)
            with self._options.attach(model_config.model_path) as attached:
                # SGLang takes it for memory that was in use before it looked how much is free. If the model came to the
                # GPU only now, SGLang leaves a little more free than it has to.
                self.preloaded_weights_bytes = _engines.gpu_bytes(attached)
                # Some of its models write to weights (Gemma adds 1 to norms) before they copy them.
                yield from _engines.weights(attached, writable=True)

    return WeightdModelLoader


class PrivateModelLoader:
    """What SGLang makes: the loader, when it is wanted."""

    def __new__(cls, load_config: Any) -> Any:  # noqa: D102
        return loader_class()(load_config)


def register() -> None:
    """What SGLang calls: takes the format "private", unless somebody's module is there for it."""
    try:
        taken = importlib.util.find_spec(_SEAM) is not None
    except (ImportError, ValueError):
        taken = _SEAM in sys.modules
    if not taken:
        module = types.ModuleType(_SEAM, __doc__)
        module.PrivateModelLoader = PrivateModelLoader  # type: ignore[attr-defined]
        sys.modules[_SEAM] = module
