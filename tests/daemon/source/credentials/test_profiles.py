"""Reads random files of profiles as botocore does, with the binary that the build left behind (show_credentials.cc)."""

import os
import random
import subprocess
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import BotoCoreError

HERE = Path(__file__).parent
BUILD = HERE.parents[3] / ".build" / os.environ.get("WEIGHTD_BUILD", "opt")
ROUNDS = 200
SEED = 20180605
KEYS = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"]
# One spelling of each profile: where two name the same, tools differ.
CREDENTIALS_SECTIONS = ["default", "a", "profile a", "b"]
CONFIG_SECTIONS = [
    ["default", "profile default"],
    ["profile a", 'profile "a"', "profile  'a'"],
    ["a"],
    ["sso-session a"],
]

Keys = tuple[str, str, str]


def section(name: str, chance: random.Random) -> str:
    """A section as people and tools write it: other cases, blanks, comments, nested settings."""
    indent = chance.choice(["", "", " "])
    names = chance.choice([KEYS, KEYS[:2], []]) + chance.sample(["region", "s3"], chance.randrange(3))
    chance.shuffle(names)
    lines = [f"[{name}]"]
    for setting in names:
        if setting == "s3":
            lines += [f"{indent}s3 =", f"{indent}  aws_access_key_id = nested"]
            continue
        spelled = chance.choice([setting, setting, setting.upper()])
        value = f"{chance.choice(['', ' '])}V{chance.randrange(1000)}{chance.choice(['', '', '#x', '/+=', ' '])}"
        lines.append(f"{indent}{spelled}{chance.choice(['', ' '])}={value}")
        lines += chance.choice([[], [], ["# words"], ["; aws_session_token = x"], [""]])
    return "\n".join(lines) + chance.choice(["\n", "\r\n", "\n\n"])


def write_files(home: Path, chance: random.Random) -> None:
    """Either file, both or none."""
    (home / ".aws").mkdir(parents=True)
    if chance.random() < 0.8:
        names = chance.sample(CREDENTIALS_SECTIONS, chance.randrange(len(CREDENTIALS_SECTIONS) + 1))
        (home / ".aws/credentials").write_text("".join(section(name, chance) for name in names))
    if chance.random() < 0.8:
        groups = chance.sample(CONFIG_SECTIONS, chance.randrange(len(CONFIG_SECTIONS) + 1))
        (home / ".aws/config").write_text("".join(section(chance.choice(group), chance) for group in groups))


def of_weightd(variables: dict[str, str]) -> Keys | str | None:
    """Keys, None, or "error"."""
    binary = BUILD / "tests/daemon/source/credentials/show_credentials"
    assert binary.exists(), "build it: bazel build --config=opt //tests/daemon/source/credentials:show_credentials"
    done = subprocess.run([binary], env=variables, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        return "error"
    lines = done.stdout.splitlines()
    return None if lines == ["none"] else (lines[1], lines[2], lines[3])


def of_botocore(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Keys | str | None:
    """The same."""
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        try:
            keys = botocore.session.Session().get_credentials()
        except BotoCoreError:
            return "error"
    return None if keys is None else (keys.access_key, keys.secret_key, keys.token or "")


def test_profiles_are_read_as_botocore_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(SEED)
    with_keys = 0
    for i in range(ROUNDS):
        home = tmp_path / str(i)
        write_files(home, chance)
        variables = {"HOME": str(home), "AWS_EC2_METADATA_DISABLED": "true"}
        if chance.random() < 0.6:
            variables["AWS_PROFILE"] = chance.choice(["a", "b", "default"])
        theirs = of_botocore(variables, monkeypatch)
        assert of_weightd(variables) == theirs, f"round {i}: {variables.get('AWS_PROFILE')}"
        with_keys += isinstance(theirs, tuple)
    assert with_keys > ROUNDS / 10
