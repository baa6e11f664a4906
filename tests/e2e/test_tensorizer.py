"""tensorizer's own files, from its releases, through the daemon."""

import hashlib
import json
import pathlib
import typing

import pytest
import weightd
from processes import Daemon, Nginx
from weightd._frameworks import _TORCH_TYPES as TORCH_NAMES

Daemons = typing.Callable[..., Daemon]

NEWEST = "2.12.1"
RELEASES = [pytest.param(old, marks=pytest.mark.plain_only) for old in ("1.1.0", "2.0.0", "2.5.1", "2.9.0")] + [NEWEST]
KEY = bytes(range(32))
PASSWORD = "correct horse"


def secrets(folder: pathlib.Path) -> str:
    """Configuration of the keys of encrypted files."""
    (folder / "key").write_bytes(KEY)
    (folder / "password").write_text(PASSWORD + "\n")
    return f"""
keys:
  - {{models: ["**/key.tensors"], key_file: {folder}/key}}
  - {{models: ["**/password.tensors"], password_file: {folder}/password}}
"""


def attach(daemon: Daemon, target: str, framework: str = "np") -> weightd.Model:
    return weightd.attach(target, socket_dir=str(daemon.socket_dir), framework=framework, timeout=60)


def found(model: weightd.Model) -> dict[str, list]:
    """What expected.json says, as the client sees it."""
    return {
        name: [
            info.torch_type or TORCH_NAMES[info.dtype],
            list(info.shape),
            hashlib.sha256(model.raw(name)).hexdigest(),
        ]
        for name, info in model.tensors.items()
    }


@pytest.mark.parametrize("release", RELEASES)
def test_every_tensor_of_every_file_is_as_it_was_written(
    daemons: Daemons, corpora: typing.Callable[[str], pathlib.Path], tmp_path: pathlib.Path, release: str
) -> None:
    folder = corpora(release)
    daemon = daemons(secrets(tmp_path))
    expected = json.loads((folder / "expected.json").read_text())
    assert "module.tensors" in expected
    for name, tensors in expected.items():
        with attach(daemon, str(folder / name)) as model:
            assert found(model) == tensors, name
            checks = model.verified_tensors
            assert checks.unverified == 0, name
            assert checks.crc32 + checks.sha256 + checks.poly1305 >= len(tensors), name


def test_over_http_too(daemon: Daemon, web: Nginx, files: pathlib.Path, corpora: typing.Any) -> None:
    folder = corpora(NEWEST)
    expected = json.loads((folder / "expected.json").read_text())
    for name in ("module.tensors", "opaque.tensors"):
        (files / name).write_bytes((folder / name).read_bytes())
        (files / name).chmod(0o644)
        with attach(daemon, web.url(name)) as model:
            assert found(model) == expected[name]


def test_nested_state_dicts_are_nested_again(daemon: Daemon, corpora: typing.Any) -> None:
    with attach(daemon, str(corpora(NEWEST) / "nested.tensors")) as model:
        state = model.state_dict()
        assert set(state) == {"layers", "head.bias"}
        assert state["layers"][0].shape == (4, 1)
        assert state["layers"][1]["w"].shape == (4, 2)
        del state


def test_a_module_takes_its_state_dict(daemon: Daemon, corpora: typing.Any) -> None:
    torch = pytest.importorskip("torch")
    with attach(daemon, str(corpora(NEWEST) / "module.tensors"), "pt") as model:
        state = model.state_dict()
        assert "scale" in state and "scale" in model and ".scale" in model
        embedding = torch.nn.Embedding(3000, 257, device="meta")
        embedding.load_state_dict({"weight": state["embedding.weight"]}, assign=True)
        assert torch.equal(model["scale"], state["scale"])
        del state, embedding


def failure(daemon: Daemon, target: str) -> weightd.Error:
    with pytest.raises(weightd.Error) as caught:
        attach(daemon, target)
    assert "resident" not in daemon.ctl("ls").stdout
    return caught.value


def test_each_fault_of_a_key_has_an_error_of_its_own(
    daemons: Daemons, corpora: typing.Any, tmp_path: pathlib.Path
) -> None:
    folder = corpora(NEWEST)
    (tmp_path / "wrong").write_bytes(bytes(32))
    (tmp_path / "wrongpw").write_text("incorrect horse")
    tampered = bytearray((folder / "key.tensors").read_bytes())
    tampered[-3000] ^= 1
    (tmp_path / "tampered.tensors").write_bytes(tampered)
    (tmp_path / "right").write_bytes(KEY)
    daemon = daemons(
        f"""
keys:
  - {{models: ["**/password.tensors"], password_file: {tmp_path}/wrongpw}}
  - {{models: ["**/key.tensors"], key_file: {tmp_path}/wrong}}
  - {{models: ["**/tampered.tensors", "**/plain.tensors"], key_file: {tmp_path}/right}}
"""
    )
    wrong_key = failure(daemon, str(folder / "key.tensors"))
    assert wrong_key.reason == "KEY_REFUSED" and "with this key" in str(wrong_key)
    wrong_password = failure(daemon, str(folder / "password.tensors"))
    assert wrong_password.reason == "KEY_REFUSED" and "with this password" in str(wrong_password)
    plain = failure(daemon, str(folder / "plain.tensors"))
    assert plain.reason == "KEY_REFUSED" and "none of its files is encrypted" in str(plain)
    changed = failure(daemon, str(tmp_path / "tampered.tensors"))
    assert changed.reason == "VERIFICATION_FAILED" and "was changed" in str(changed) and "big" in str(changed)

    missing = failure(daemons(), str(folder / "key.tensors"))
    assert missing.reason == "KEY_MISSING" and "encrypted" in str(missing)
    for text in (KEY.hex(), PASSWORD, "incorrect horse"):
        assert text not in daemon.log()


@pytest.mark.parametrize(("policy", "is_found"), [("fast", True), ("full", True), ("never", False)])
def test_a_flipped_bit_is_found_unless_nobody_looks(
    daemons: Daemons, corpora: typing.Any, tmp_path: pathlib.Path, policy: str, is_found: bool
) -> None:
    damaged = bytearray((corpora("2.5.1") / "module.tensors").read_bytes())
    damaged[-4000] ^= 4
    (tmp_path / "m.tensors").write_bytes(damaged)
    daemon = daemons(f"verify: {policy}\n")
    if is_found:
        error = failure(daemon, str(tmp_path / "m.tensors"))
        assert error.reason == "VERIFICATION_FAILED"
        assert "embedding.weight" in str(error) and "crc32" in str(error)
    else:
        with attach(daemon, str(tmp_path / "m.tensors")) as model:
            assert model.verified_tensors.unverified == len(model)


def test_full_verification_looks_at_every_checksum(daemons: Daemons, corpora: typing.Any) -> None:
    daemon = daemons("verify: full\n")
    path = str(corpora(NEWEST) / "module.tensors")
    with attach(daemon, path) as model:
        assert model.verified_tensors.sha256 == model.verified_tensors.crc32 == len(model)
        assert f"{len(model)} by crc32, {len(model)} by sha256" in daemon.ctl("show", path).stdout


def test_pins_hold_for_files_that_are_placed_tensor_by_tensor(daemon: Daemon, corpora: typing.Any) -> None:
    path = corpora(NEWEST) / "module.tensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    attach(daemon, str(path)).close()  # resident: the pin is compared with the bytes
    options = {"socket_dir": str(daemon.socket_dir), "framework": "np", "timeout": 60}
    with weightd.attach(str(path), sha256=digest, **options) as model:
        assert [check.value for check in model.verified] == [digest]
    with pytest.raises(weightd.Error) as caught:
        weightd.attach(str(path), sha256="0" * 64, **options)
    assert caught.value.reason == "VERIFICATION_FAILED"
