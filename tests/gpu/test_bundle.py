"""The bundle for a machine with a GPU, packed and run here, on the stand-in for the driver: every step works, and no
figure means anything."""

import json
import os
import pathlib
import subprocess
import sys

sys.path += [str(pathlib.Path(__file__).parents[1] / folder) for folder in ("e2e", "bench", "gpu")]

from processes import BUILD  # noqa: E402
from results import FIGURES  # noqa: E402

HERE = pathlib.Path(__file__).parent
NEED_A_GPU = {"safetensors", "safetensors_shared", "import_40", "map_40", "set_access_40"}


def test_bundle_runs(tmp_path: pathlib.Path) -> None:
    bundle = tmp_path / "gpu-bundle.tar.gz"
    packed = [sys.executable, str(HERE / "pack.py"), str(BUILD.resolve()), str(bundle)]
    subprocess.run(packed, check=True)
    subprocess.run(["tar", "-xzf", str(bundle), "-C", str(tmp_path)], check=True)
    root = tmp_path / "gpu-bundle"
    fake = root / ".build/opt/tests/fakes/fake_cuda/libfake_cuda.so"
    done = subprocess.run(
        [str(root / "tests/gpu/run.sh"), "--driver", str(fake), "--quick", "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
    steps = json.loads((tmp_path / "out/results.json").read_text())["steps"].values()
    assert {key for step in steps for key in step["figures"]} == FIGURES.keys() - NEED_A_GPU
    assert "mean nothing" in (tmp_path / "out/results.md").read_text()


def test_results_page_has_every_figure() -> None:
    page = (HERE / "RESULTS.md").read_text()
    for figure in FIGURES.values():
        assert f"| {figure.title} | {figure.target()} |" in page
