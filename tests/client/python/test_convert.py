"""python -m weightd.convert."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections import OrderedDict
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import safetensors
import safetensors.torch
import torch
import weightd
from weightd import _weight_file, _written, convert

from conftest import PATIENCE, Daemon, daemon_binary


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def environment(**changes: str) -> dict[str, str]:
    """Has weightctl, unless `changes` says otherwise."""
    weightctl = daemon_binary().resolve().parents[1] / "client/cli/weightctl"
    return {**os.environ, "WEIGHTCTL": str(weightctl), **changes}


def run(*arguments: object, **changes: str) -> Done:
    """Runs the command in this process, which saves importing torch."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in environment(**changes).items():
            patch.setenv(name, value)
        try:
            code = convert.main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = int(str(end.code))
    return Done(code, out.getvalue(), err.getvalue())


def process(*arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """Runs it as users do."""
    return subprocess.run(
        [sys.executable, "-m", "weightd.convert", *map(str, arguments)],
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def converted(*arguments: object) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def checkpoint() -> OrderedDict[str, torch.Tensor]:
    """Tied weights, a view of another tensor, types, a scalar, an empty tensor, a parameter."""
    torch.manual_seed(1)
    weight = torch.randn(7, 5)
    return OrderedDict(
        {
            "embedding.weight": weight,
            "head.weight": weight,
            "rows": weight[2:4],
            "turned": weight.t(),
            "half": torch.randn(3).bfloat16(),
            "eighth": torch.randn(3).to(torch.float8_e4m3fn),
            "scalar": torch.tensor(3),
            "empty": torch.empty((0, 2)),
            "parameter": torch.nn.Parameter(torch.randn(2)),
        }
    )


def test_to_safetensors(daemon: Daemon, tmp_path: Path) -> None:
    state = checkpoint()
    path = tmp_path / "out" / "m.safetensors"
    path.parent.mkdir()
    assert converted(saved(tmp_path / "m.pt", state), path) == f"{path}: 8 tensors\n"
    assert leftovers(path.parent) == ["m.safetensors"]
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "head.weight": "embedding.weight"}
        assert "head.weight" not in file.keys()  # noqa: SIM118
    with weightd.attach(path.as_uri(), socket_dir=daemon.socket_dir) as model:
        found = model.state_dict()
    assert found.keys() == state.keys()
    assert found["head.weight"] is found["embedding.weight"]
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(tensor.dtype), tensor.detach()), name


def test_to_tensorizer_nested(daemon: Daemon, tmp_path: Path) -> None:
    nested = {"model": dict(checkpoint()), "list": [torch.ones(1), torch.zeros(2)]}
    path = tmp_path / "m.tensors"
    converted(saved(tmp_path / "m.bin", nested), path)
    with weightd.attach(path.as_uri(), socket_dir=daemon.socket_dir) as model:
        found = model.state_dict()
        assert model.verified_tensors.unverified == 0
    assert found["model"].keys() == nested["model"].keys()
    assert torch.equal(found["model"]["turned"], nested["model"]["turned"])
    assert torch.equal(found["list"][1], torch.zeros(2))


@pytest.mark.parametrize("suffix", ["safetensors", "tensors"])
def test_long_and_hollow_tensors_pass_their_validation(tmp_path: Path, suffix: str) -> None:
    state = {"long": torch.empty((2**32, 0)), "b": torch.ones(3)}
    if suffix == "tensors":
        state["hollow"] = torch.empty((3, 3), device="meta")
    assert f"{len(state)} tensors" in converted(saved(tmp_path / "m.pt", state), tmp_path / f"m.{suffix}")


def test_a_wrapper_is_opened_only_where_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"state_dict": {"w": torch.ones(2)}, "epoch": 3, "args": {"lr": 0.1}})
    done = run(path, tmp_path / "m.safetensors")
    assert done.returncode == 64
    assert "['epoch'], ['args']['lr']" in done.stderr
    assert "--key state_dict" in done.stderr
    done = run(path, tmp_path / "m.safetensors", "--skip-others")
    assert done.returncode == 64
    assert "the dict 'state_dict'" in done.stderr
    assert leftovers(tmp_path) == ["m.pt"]
    converted(path, tmp_path / "m.safetensors", "--key", "state_dict")
    assert safetensors.torch.load_file(tmp_path / "m.safetensors").keys() == {"w"}
    done = run(path, tmp_path / "m.tensors", "--key", "model")
    assert done.returncode == 64
    assert "no key 'model'" in done.stderr


def test_what_is_no_tensor_is_left_out_only_where_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2), "steps": 3, "names": ["a", "b"]})
    done = run(path, tmp_path / "m.safetensors", "--skip-others")
    assert done.returncode == 0, done.stderr
    assert "left out ['steps']" in done.stderr
    assert "left out ['names'][1]" in done.stderr
    assert safetensors.torch.load_file(tmp_path / "m.safetensors").keys() == {"w"}


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("force", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, force: dict[str, str]) -> None:
    mark = tmp_path / "it ran"
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2), "x": RunsCode(mark)})
    done = process(path, tmp_path / "m.safetensors", "--skip-others", **force)
    assert done.returncode == 65
    assert "mkdir" in done.stderr
    assert "nothing was run" in done.stderr
    assert "weights_only=False" not in done.stderr
    assert not mark.exists()
    assert leftovers(tmp_path) == ["m.pt"]
    torch.load(path, weights_only=False)  # the pickle does what it is said to do
    assert mark.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    done = run(saved(tmp_path / "m.pt", torch.nn.Linear(2, 2)), tmp_path / "m.safetensors")
    assert done.returncode == 65
    assert "torch.nn.modules.linear.Linear" in done.stderr
    assert "state_dict()" in done.stderr


def test_files_of_old_releases_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2)}, _use_new_zipfile_serialization=False)
    done = run(path, tmp_path / "m.safetensors")
    assert done.returncode == 65
    assert "not a zip file" in done.stderr
    assert "torch 1.6" in done.stderr


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "m.pt", {"w": torch.ones(20_000)}).read_bytes()
    for length in (0, 3, 4, 100, len(whole) // 2, len(whole) - 30):
        (tmp_path / "m.pt").write_bytes(whole[:length])
        done = run(tmp_path / "m.pt", tmp_path / "m.safetensors")
        assert done.returncode == 65, (length, done.stderr)
        assert done.stderr.startswith(f"weightd.convert: {tmp_path}/m.pt: ")
        assert "Traceback" not in done.stderr
    assert leftovers(tmp_path) == ["m.pt"]


def test_what_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {"w": torch.ones(2)}
    content["again"] = content
    done = run(saved(tmp_path / "m.pt", content), tmp_path / "m.tensors")
    assert done.returncode == 65
    assert "holds itself" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.pt", "m.safetensors"], 66, "No such file"),
        ([".", "m.safetensors"], 64, "directory"),
        (["m.pt", "m.bin"], 64, "'m.bin' is no name of a weight file"),
        (["m.pt"], 64, "OUT"),
        (["m.pt", "m", "--shard-size", "5XB"], 64, "'5XB' is no size"),
        (["m.pt", "m.tensors", "--shard-size", "5GB"], 64, "OUT is a folder"),
        (["m.pt", "none/m.safetensors"], 73, "none"),
    ],
)
def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "m.pt", {"w": torch.ones(2)})
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_shards(daemon: Daemon, tmp_path: Path) -> None:
    state = {f"t{i}": torch.full((100,), float(i)) for i in range(7)}
    state["tied"] = state["t6"]
    folder = tmp_path / "model"
    out = converted(saved(tmp_path / "m.pt", state), folder, "--shard-size", "1KB")
    assert out == f"{folder}: 7 tensors in 4 files\n"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 2800}
    assert index["weight_map"]["t6"] == "model-00004-of-00004.safetensors"
    assert len(leftovers(folder)) == 5
    with weightd.attach(folder.as_uri(), socket_dir=daemon.socket_dir) as model:
        found = model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    done = run(tmp_path / "m.pt", folder, "--shard-size", "1KB")
    assert done.returncode == 73
    assert "a folder with something in it" in done.stderr


def test_what_weightctl_finds_is_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2)})
    bad = tmp_path / "weightctl"
    bad.write_text(
        '#!/bin/sh\necho \'{"error":{"reason":"MALFORMED_MODEL","message":"no","hint":"h"}}\' >&2\nexit 65\n'
    )
    bad.chmod(0o755)
    done = run(path, tmp_path / "m.safetensors", WEIGHTCTL=str(bad))
    assert done.returncode == 65
    assert "no [MALFORMED_MODEL]; h" in done.stderr
    assert leftovers(tmp_path) == ["m.pt", "weightctl"]
    done = run(path, tmp_path / "m.safetensors", WEIGHTCTL=str(tmp_path / "none"))
    assert "can't be run" in done.stderr
    assert run(path, tmp_path / "m.safetensors", WEIGHTCTL="", PATH="/nowhere").returncode == 0


@pytest.mark.parametrize("suffix", ["safetensors", "tensors"])
def test_validation_finds_every_flipped_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    plan = _weight_file.plan({"a": torch.arange(5), "bc": torch.ones(2, dtype=torch.bfloat16)}, f".{suffix}")
    _written.write(path, plan)
    content = path.read_bytes()
    # But most of the zeros that fill a tensorizer file's metadata region.
    places = [*range(min(len(content), 400)), *range(-min(len(content), 300), 0)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(weightd.MalformedModelError) as raised:
            _written.check(path, plan)
        assert raised.value.reason == "VERIFICATION_FAILED", place
    path.write_bytes(content)
    _written.check(path, plan)


def test_a_kill_leaves_no_target(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"w": torch.ones(2)})
    killer = tmp_path / "weightctl"  # runs when all is written and nothing is in place yet
    killer.write_text("#!/bin/sh\nkill -9 $PPID\n")
    killer.chmod(0o755)
    done = process(path, tmp_path / "m.safetensors", WEIGHTCTL=str(killer))
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "m.safetensors").exists()
