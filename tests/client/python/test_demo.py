"""The demonstration, and the wheel it comes in."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT, Daemon


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weightd.demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_demo(daemon: Daemon) -> None:
    done = demo("--socket-dir", str(daemon.socket_dir))
    assert done.returncode == 0, done.stderr
    assert len(set(re.findall(r"every byte: (\w+)", done.stdout))) == 1
    assert len(re.findall(r"attached in [\d.]+ ms", done.stdout)) == 4
    (own, copies) = re.findall(r"([\d.]+) MB", done.stdout.splitlines()[-1])
    assert float(own) < 1
    assert float(copies) == round(4 * (256 << 20) / 1e6, 1)


def test_without_a_daemon(tmp_path: Path) -> None:
    done = demo("--socket-dir", str(tmp_path / "nobody"), "m")
    assert done.returncode == 1
    assert "[DAEMON_UNREACHABLE]" in done.stderr
    assert "start" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there(daemon: Daemon, tmp_path: Path) -> None:
    done = demo("--socket-dir", str(daemon.socket_dir), (tmp_path / "absent.safetensors").as_uri())
    assert done.returncode == 1
    assert "[MODEL_NOT_FOUND]" in done.stderr


def test_the_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", ROOT / "client/python", source], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("weightd-*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entries,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert {"weightd/py.typed", "weightd/v1/weights_pb2.pyi", "weightd/demo.py"} <= set(names)
    assert "weightd = weightd.vllm:register" in entries
    assert not [name for name in names if not name.startswith("weightd")]
