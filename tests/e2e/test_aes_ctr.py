"""Files as veTurboIO encrypts them, with AES-CTR: loaded, listed and converted."""

import base64
import hashlib
import json
import pathlib
import subprocess
import typing

import pytest
import weightd
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from models import even_model, expected, sharded_model, small_model
from processes import Daemon, Nginx, binary
from shelves import same
from test_convert import contents, weightctl
from test_tensorizer import attach, failure

Daemons = typing.Callable[..., Daemon]

KEY = bytes(range(100, 116))
KEYS = {128: KEY, 256: bytes(range(200, 232))}
# The counter wraps within every file.
IV = b"\xff" * 15 + b"\xf0"


def header(bits: int, iv: bytes, /, **fields: object) -> bytes:
    """veTurboIO's header in clear, with these fields instead of the right ones."""
    right = {"mode": f"CTR-{bits}", "iv": text(iv), "meta_data_key": text(b"wrapped"), "file_timestamp": 1700000000}
    return (b"Byte3ncryptM0del" + json.dumps(right | fields).encode()).ljust(262144, b"\0")


def text(secret: bytes) -> str:
    return base64.b64encode(secret).decode()


def encrypt(plain: pathlib.Path, to: pathlib.Path, key: bytes = KEY, iv: bytes = IV, clear: bool = False) -> str:
    """Encrypts a file, behind the header in clear if so; gives the new one's path."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes((header(8 * len(key), iv) if clear else b"") + cipher.update(plain.read_bytes()))
    to.chmod(0o644)
    return str(to)


@pytest.fixture
def plain(tmp_path: pathlib.Path) -> pathlib.Path:
    return small_model(tmp_path / "plain.safetensors")


def configured(key_file: pathlib.Path, key: bytes = KEY, iv: bytes = IV, models: str = "**") -> str:
    """Configuration of a key in a file, in hexadecimal digits."""
    key_file.write_text(key.hex() + "\n")
    return f"keys:\n- {{models: ['{models}'], cipher: aes-ctr, key_file: {key_file}, iv: {iv.hex()}}}\n"


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("clear", [False, True])
def test_every_tensor_is_as_it_was_encrypted(
    daemons: Daemons,
    web: Nginx,
    files: pathlib.Path,
    plain: pathlib.Path,
    tmp_path: pathlib.Path,
    bits: int,
    clear: bool,
) -> None:
    key = KEYS[bits]
    path = encrypt(plain, files / "m.safetensors", key, clear=clear)
    daemon = daemons(configured(tmp_path / "key", key))
    for target in (path, web.url("m.safetensors")):
        with attach(daemon, target) as model:
            assert same(model, plain)
            assert model.verified_tensors == (0, 0, 0, 0, 5)  # unauthenticated
        assert "tensors  5 unauthenticated" in daemon.ctl("show", target).stdout
        assert daemon.ctl_json("show", target)["verification"]["tensors"]["unauthenticated"] == 5
    for secret in (key.hex(), text(key)):
        assert secret not in daemon.log()


def test_large_tensors_too(daemons: Daemons, web: Nginx, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    plain = even_model(tmp_path / "plain.safetensors", 48 << 20, count=2)
    path = encrypt(plain, files / "m.safetensors", clear=True)
    daemon = daemons(configured(tmp_path / "key"))
    for target in (path, web.url("m.safetensors")):
        with attach(daemon, target) as model:
            assert same(model, plain)


def test_every_shard_has_an_iv_of_its_own(daemons: Daemons, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = sharded_model(tmp_path / "plain", shards=4)
    (files / "model.safetensors.index.json").write_bytes((folder / "model.safetensors.index.json").read_bytes())
    truth: dict[str, bytes] = {}
    for i, shard in enumerate(sorted(folder.glob("*.safetensors"))):
        encrypt(shard, files / shard.name, iv=bytes([i] * 16), clear=True)
        truth |= expected(shard)
    (tmp_path / "key").write_bytes(KEY)
    daemon = daemons(f"keys:\n- {{models: ['**'], cipher: aes-ctr, key_file: {tmp_path}/key}}\n")
    with attach(daemon, f"{files}/") as model:
        assert {name: bytes(model.raw(name)) for name in model.tensors} == truth


@pytest.mark.parametrize(
    ("config", "variables"),
    [
        ("", {"VETURBOIO_KEY": text(KEY), "VETURBOIO_IV": text(IV)}),
        ("", {"VETUROIO_KEY": text(KEY), "VETUROIO_IV": text(IV)}),
        (", key_env: MODEL_KEY, iv_env: MODEL_IV", {"MODEL_KEY": KEY.hex(), "MODEL_IV": IV.hex()}),
        (f", key_env: MODEL_KEY, iv: {text(IV)}", {"MODEL_KEY": text(KEY)}),
        (f", iv: {IV.hex()}", {"VETURBOIO_KEY": text(KEY), "VETURBOIO_IV": text(bytes(16))}),
    ],
)
def test_key_and_iv_from_the_environment(
    daemons: Daemons,
    plain: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    config: str,
    variables: dict[str, str],
) -> None:
    path = encrypt(plain, tmp_path / "m.safetensors")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    daemon = daemons(f"keys:\n- {{models: ['**'], cipher: aes-ctr{config}}}\n")
    with attach(daemon, path) as model:
        assert same(model, plain)
    assert text(KEY) not in daemon.log() and KEY.hex() not in daemon.log()


def test_each_fault_of_a_key_has_an_error_of_its_own(
    daemons: Daemons, plain: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    wrong = bytes(16)
    bare = encrypt(plain, tmp_path / "bare.safetensors")
    clear = encrypt(plain, tmp_path / "clear.safetensors", clear=True)

    daemon = daemons(configured(tmp_path / "wrong", wrong))
    for target in (bare, clear):
        error = failure(daemon, target)
        assert error.reason == "KEY_REFUSED"
        assert "the key or IV isn't the file's, or it is damaged" in str(error)

    daemon = daemons(configured(tmp_path / "right", iv=bytes(16)))
    assert failure(daemon, bare).reason == "KEY_REFUSED"
    with attach(daemon, clear) as model:  # whose own IV counts
        assert same(model, plain)

    daemon = daemons(configured(tmp_path / "long", KEYS[256]))
    error = failure(daemon, clear)
    assert error.reason == "KEY_REFUSED" and "CTR-128, which takes a key of 16 bytes" in str(error)

    daemon = daemons(configured(tmp_path / "right"))
    error = failure(daemon, str(plain))
    assert error.reason == "KEY_REFUSED" and "none of its files is encrypted" in str(error)

    daemon = daemons()
    error = failure(daemon, clear)
    assert error.reason == "KEY_MISSING" and "cipher: aes-ctr" in str(error)
    assert failure(daemon, bare).reason == "MALFORMED_MODEL"

    daemon = daemons(f"keys:\n- {{models: ['**'], cipher: aes-ctr, key_file: {tmp_path}/right}}\n")
    error = failure(daemon, bare)
    assert error.reason == "KEY_MISSING" and "IV" in str(error)

    daemon = daemons("keys: [{models: ['**'], cipher: aes-ctr}]\n")
    error = failure(daemon, bare)
    assert error.reason == "KEY_MISSING" and "VETURBOIO_KEY: not set" in str(error)


def test_what_is_malformed_is_said(daemons: Daemons, plain: pathlib.Path, tmp_path: pathlib.Path) -> None:
    daemon = daemons(configured(tmp_path / "key"))
    whole = pathlib.Path(encrypt(plain, tmp_path / "whole.safetensors", clear=True)).read_bytes()
    cipher = whole[262144:]
    for name, data, said in (
        ("cut", whole[:1000], "byte 1000: the file ends within veTurboIO's header"),
        ("short", whole[:-1], "decrypted: byte"),
        ("mode", header(128, IV, mode="CTR-129") + cipher, 'byte 17: mode "CTR-129"'),
        ("type", header(128, IV, mode=128) + cipher, "expected a string"),
        ("iv", header(128, IV, iv=text(IV)[:-4]) + cipher, "iv is not 16 bytes in base64"),
        ("json", whole.replace(b'"iv"', b'"iv', 1), "byte "),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        error = failure(daemon, str(path))
        assert error.reason == "MALFORMED_MODEL", error
        assert said in str(error) and path.name in str(error)


def test_what_proves_nothing_is_refused_where_all_is_to_be_proved(
    daemons: Daemons, plain: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    daemon = daemons("verify: full\n" + configured(tmp_path / "key"))
    error = failure(daemon, encrypt(plain, tmp_path / "m.safetensors"))
    assert error.reason == "VERIFICATION_FAILED"
    assert "encrypted with AES-CTR, which doesn't prove its bytes" in str(error) and "verify: fast" in str(error)


def test_pins_are_of_the_stored_bytes(daemons: Daemons, plain: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(encrypt(plain, tmp_path / "m.safetensors", clear=True))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    models = f"models: [{{name: m, uri: 'file://{path}', sha256: [{digest}]}}]\n"
    daemon = daemons(models + configured(tmp_path / "key"))
    with attach(daemon, "m") as model:
        assert same(model, plain)
        assert [check.value for check in model.verified] == [digest]
    daemon = daemons(configured(tmp_path / "key"))
    with pytest.raises(weightd.Error) as caught:  # the file's bytes are gone
        weightd.attach(str(path), socket_dir=str(daemon.socket_dir), framework="np", sha256=digest, timeout=60)
    assert caught.value.reason == "UNSUPPORTED"


def test_converted_to_a_plain_file(plain: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    key = ("--key", f"aes-ctr-key-file={tmp_path}/key")
    for clear in (False, True):
        path = encrypt(plain, tmp_path / f"m-{clear}.safetensors", clear=clear)
        iv = () if clear else ("--iv", IV.hex())
        out = tmp_path / f"out-{clear}.safetensors"
        weightctl("convert", path, out, *key, *iv)
        assert contents(out) == contents(plain)
        verified = weightctl("verify", path, *key, *iv, "-o", "json")
        assert len(json.loads(verified.stdout)["tensors"]) == len(contents(plain))
        sealed = tmp_path / f"sealed-{clear}.tensors"
        weightctl("convert", path, sealed, "--key", "aes-ctr-key-env=K", "--iv", text(IV), K=text(KEY))
        weightctl("convert", sealed, tmp_path / f"back-{clear}.safetensors")
        assert contents(tmp_path / f"back-{clear}.safetensors") == contents(plain)
    assert "no key of that cipher" in weightctl("verify", path, code=77).stderr
    assert "--key names no key of it" in weightctl("verify", path, "--iv", IV.hex(), code=64).stderr
    told = weightctl("verify", path, "--key", "aes-ctr-password-file=hunter2", code=64).stderr
    assert "aes-ctr-key-file=PATH" in told and "hunter2" not in told
    assert "isn't the file's" in weightctl("verify", path, "--key", "aes-ctr-key-env=K", code=77, K="0" * 32).stderr
    assert "none is given" in weightctl("verify", tmp_path / "m-False.safetensors", *key, code=77).stderr


def test_mistakes_in_the_config_are_named(tmp_path: pathlib.Path) -> None:
    for entry, said in (
        ("cipher: aes-cbc, key_env: K", "keys[0].cipher: must be one of secretbox, aes-ctr"),
        ("cipher: aes-ctr, password_env: K", "aes-ctr takes a key, not a password"),
        ("cipher: aes-ctr, iv: 0123", "keys[0].iv: not an IV of 16 bytes"),
        (f"key_env: K, iv: {IV.hex()}", "only keys of aes-ctr have an IV"),
    ):
        (tmp_path / "c.yaml").write_text(f"keys:\n- {{models: ['**'], {entry}}}\n")
        command = [binary("daemon/weightd"), "--config", str(tmp_path / "c.yaml"), "--check-config"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0 and said in done.stderr and "c.yaml:2" in done.stderr
