"""Completion as shells do it, with the real shells."""

import os
import pathlib
import re
import shutil
import subprocess
import typing

import pytest
from models import small_model
from processes import Daemon, binary
from terminal import Terminal


@pytest.fixture
def node(daemons: typing.Callable[..., Daemon], files: pathlib.Path) -> Daemon:
    """With a resident model, and one that has a name."""
    path = small_model(files / "m.safetensors")
    daemon = daemons(f"models:\n  - name: llama\n    uri: file://{path}\n    preload: true\n")
    daemon.ctl("preload", "llama")
    other = small_model(files / "other.safetensors", seed=2)
    daemon.ctl("preload", str(other))
    return daemon


def run(shell: list[str], daemon: Daemon, script: str) -> list[str]:
    """What the script prints, with weightctl in the path, and its own end for a good one."""
    folder = os.path.dirname(binary("client/cli/weightctl"))
    environment = {**os.environ, "WEIGHTD_DIR": str(daemon.socket_dir), "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run([*shell, script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout.splitlines()


def bash(daemon: Daemon, line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    return run(
        ["bash", "--norc", "--noprofile", "-c"],
        daemon,
        f"""
. <(weightctl completion bash)
COMP_LINE='{line}' COMP_POINT={len(line)}
_weightctl
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    )


def test_bash(node: Daemon, files: pathlib.Path) -> None:
    assert bash(node, "weightctl stat") == ["status"]
    assert bash(node, "weightctl evict --fo") == ["--force"]
    assert bash(node, "weightctl status --output ") == ["table", "json"]
    assert bash(node, "weightctl evict ll") == ["llama"]
    # Only what follows a colon or an equals sign is bash's word.
    assert bash(node, f"weightctl show file://{files}/o") == [f"//{files}/other.safetensors"]
    assert bash(node, "weightctl status --output=j") == ["json"]


def test_a_name_that_a_shell_would_run_is_not_offered(node: Daemon, files: pathlib.Path) -> None:
    for name in ("x;true", "x$(true)", "x`true`", "x&true", "x|true", "x'", "x>y"):
        node.ctl("preload", str(small_model(files / f"{name}.safetensors", seed=3)))
    offered = bash(node, f"weightctl show file://{files}/x")
    # Quoted by their percents, three are as harmless as any other.
    assert len(offered) == 3 and all(re.fullmatch(r"[-\w./%]+", word) for word in offered), offered


def test_a_tab_in_bash(node: Daemon) -> None:
    folder = os.path.dirname(binary("client/cli/weightctl"))
    terminal = Terminal(
        ["bash", "--norc", "--noprofile", "-i"],
        environment={
            "PATH": f"{folder}:{os.environ['PATH']}",
            "WEIGHTD_DIR": str(node.socket_dir),
            "PS1": "> ",
            "INPUTRC": "/dev/null",
        },
    )
    try:
        terminal.waits_for(r"^>")
        terminal.type(b". <(weightctl completion bash); echo rea''dy\n")
        terminal.waits_for(r"\nready\n")
        terminal.type(b"weightctl sho\tlla\t")
        terminal.waits_for(r"> weightctl show llama")
    finally:
        terminal.end()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(node: Daemon) -> None:
    def fish(line: str) -> list[str]:
        script = f"weightctl completion fish | source; complete -C '{line}'"
        return [word.split("\t")[0] for word in run(["fish", "--no-config", "-c"], node, script)]

    assert fish("weightctl stat") == ["status"]
    assert fish("weightctl evict --fo") == ["--force"]
    assert "llama" in fish("weightctl evict ll")


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(node: Daemon) -> None:
    def zsh(*words: str) -> list[str]:
        given = " ".join(f"'{word}'" for word in words)
        script = f"""
compdef() {{ :; }}
_describe() {{ print -rl -- "${{candidates[@]}}" }}
_files() {{ print -- files }}
. <(weightctl completion zsh)
words=(weightctl {given}) CURRENT={len(words) + 1}
_weightctl
:
"""
        return run(["zsh", "-f", "-c"], node, script)

    assert zsh("stat") == ["status:Budget, sessions and listeners of the daemon"]
    assert zsh("evict", "ll") == ["llama:", "files"]
    assert any(re.match(r"file\\:///.*other.safetensors:$", word) for word in zsh("evict", "file"))


def test_a_daemon_that_is_gone_is_silent(node: Daemon) -> None:
    node.stop()
    assert bash(node, "weightctl evict ll") == [""]
