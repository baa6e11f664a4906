"""The committed protocol code is what proto/ says."""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[3] / "client/python"


def test_generated_code_is_current(tmp_path: Path) -> None:
    if shutil.which("protoc") is None:
        pytest.skip("no protoc")
    subprocess.run([CLIENT / "generate_proto.sh", tmp_path], check=True)
    made = sorted(path.name for path in (tmp_path / "weightd/v1").iterdir())
    assert "weights_pb2.py" in made
    _, differ, missing = filecmp.cmpfiles(tmp_path / "weightd/v1", CLIENT / "src/weightd/v1", made, shallow=False)
    assert (differ, missing) == ([], []), "run client/python/generate_proto.sh"
