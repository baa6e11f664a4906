"""Every command and every line of Python in the README works as it stands."""

import ast
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing

import pytest
import weightd
from models import sharded_model, write_model
from processes import BUILD, PATIENCE, ROOT, Daemon, Nginx, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "servers"))

from s3 import Moto  # noqa: E402

MODEL_URL = "https://models.example/llama/model.safetensors"
STORE_URL = "https://objects.example"


def blocks(language: str, page: str = "README.md") -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture
def url(web: Nginx, files: pathlib.Path) -> str:
    write_model(files / "model.safetensors", {"lm_head.weight": ("F32", [8, 8]), "norm.weight": ("BF16", [8])})
    return web.url("model.safetensors")


@pytest.fixture
def store(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> typing.Iterator[str]:
    """The endpoint of a store with a bucket for models, whose keys and place are in the environment."""
    with Moto(tmp_path) as server:
        server.client().create_bucket(Bucket="models")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        yield server.endpoint


def test_shell_blocks(url: str, store: str, tmp_path: pathlib.Path) -> None:
    sharded_model(tmp_path / "llama", shards=2)
    links = tmp_path / "bazel-bin"
    links.mkdir()
    for folder in ("daemon", "client"):
        (links / folder).symlink_to(BUILD / folder)
    ran = 0
    daemons: list[subprocess.Popen[bytes]] = []
    for block in blocks("sh"):
        if "deploy/quickstart.sh" in block or "tests/run.sh" in block:
            assert all(os.access(ROOT / path, os.X_OK) for path in re.findall(r"\./(\S+\.sh)", block))
            continue
        lines = [line for line in block.splitlines() if not line.startswith("bazel build") and "--fix" not in line]
        script = "\n".join(lines).replace(MODEL_URL, url).replace(STORE_URL, store)
        script = script.replace("/run/weightd", str(tmp_path / "run"))
        for line in script.splitlines():
            try:
                assert run_line(line.strip(), tmp_path, daemons) == 0, line
            except BaseException:
                end(daemons)
                raise
            ran += 1
    end(daemons)
    assert ran >= 4


@pytest.fixture
def cuda_driver(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A stand-in for the CUDA driver, with one GPU, where the system's would be found."""
    library = BUILD / "tests/fakes/fake_cuda/libfake_cuda.so"
    assert library.exists(), "bazel build //tests/fakes/fake_cuda:libfake_cuda.so"
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver/libcuda.so.1").symlink_to(library)
    (tmp_path / "cuda").mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "driver"))
    monkeypatch.setenv("FAKE_CUDA_DIR", str(tmp_path / "cuda"))
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "1x4GiB")
    return library


def test_gpu_shell_blocks(
    cuda_driver: pathlib.Path, daemons: typing.Callable[..., Daemon], url: str, tmp_path: pathlib.Path
) -> None:
    """With the config that the README has for GPUs, as it stands."""
    (config,) = [block for block in blocks("yaml") if "placement:" in block]
    daemon = daemons(config.replace(MODEL_URL, url))
    assert len(daemon.status()["gpus"]) == 1, daemon.log()
    links = tmp_path / "bazel-bin"
    links.mkdir()
    (links / "client").symlink_to(BUILD / "client")
    environment = {**os.environ, "WEIGHTD_DIR": str(daemon.socket_dir)}
    lines = [line for block in blocks("sh gpu") for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"


def test_gpu_python_block() -> None:
    """It takes torch with CUDA to run: here only that it is Python, and names what attach takes."""
    assert blocks("python gpu")
    parameters = inspect.signature(weightd.attach).parameters
    for block in blocks("python gpu"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "attach":
                assert {keyword.arg for keyword in node.keywords} <= set(parameters)


def end(daemons: list[subprocess.Popen[bytes]]) -> None:
    """Stops what a line started in the background."""
    for daemon in daemons:
        daemon.terminate()
        daemon.wait(PATIENCE)


def run_line(line: str, folder: pathlib.Path, daemons: list[subprocess.Popen[bytes]]) -> int:
    """One line as a user's shell runs it; a daemon is waited for. doctor may have warnings to give."""
    environment = {**os.environ, "WEIGHTD_DIR": str(folder / "run")}
    if line.split("#")[0].strip().endswith("&"):
        command = line.split("&")[0].split()
        daemons.append(subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL))
        wait_until((folder / "run" / "admin.sock").exists, "the daemon serves")
        return 0
    code = subprocess.run(line, shell=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL).returncode
    return 0 if "doctor" in line and code in (0, 69, 75) else code


def test_python_block(daemon: Daemon, url: str) -> None:
    for block in blocks("python"):
        script = block.replace(MODEL_URL, url)
        environment = {**os.environ, "WEIGHTD_DIR": str(daemon.socket_dir)}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_cpp_block_is_the_example_that_is_built() -> None:
    example = (ROOT / "tests/client/cpp/readme_example.cc").read_text()
    for block in blocks("cpp") + blocks("cpp", "client/cpp/README.md"):
        for line in block.splitlines():
            assert line.strip() in example, line


def test_yaml_blocks_are_accepted(tmp_path: pathlib.Path) -> None:
    assert blocks("yaml")
    for block in blocks("yaml") + blocks("yaml", "daemon/metrics/README.md"):
        (tmp_path / "config").write_text(block)
        command = [str(BUILD / "daemon/weightd"), "--config", str(tmp_path / "config"), "--check-config"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_links_lead_somewhere() -> None:
    for page in ROOT.glob("**/README.md"):
        if any(part.startswith((".", "bazel-")) for part in page.relative_to(ROOT).parts):
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def help_of(*command: str) -> str:
    """What weightctl says of itself, or of a command."""
    weightctl = str(BUILD / "client/cli/weightctl")
    return subprocess.run([weightctl, *command, "--help"], capture_output=True, text=True, check=True).stdout


def weightctl_lines() -> typing.Iterator[tuple[str, list[str]]]:
    """Where pages, alerts and manifests have a command of weightctl, and its words."""
    listed = subprocess.run(["git", "ls-files", "deploy", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if name.endswith((".md", ".yaml", ".txt", ".sh")):
            text = (ROOT / name).read_text()
            quoted = re.findall(r"`weightctl\s([^`]+)`", text)
            lines = re.findall(r"(?:^ *|/| -- |exec \w+ |\()weightctl ([^`#;|<>)\n]+)", text, re.MULTILINE)
            yield from ((name, line.split()) for line in quoted + lines if not line.startswith("/"))


def test_commands_of_weightctl_are_there() -> None:
    """Those that no test runs as they stand, for they need a cluster or a store, have commands and options at least."""
    everywhere = help_of()
    commands = set(re.findall(r"^  ([a-z-]+) ", everywhere.partition("Subcommands:")[2], re.MULTILINE))
    helps = {command: everywhere + help_of(command) for command in commands} | {"complete": everywhere, "": everywhere}
    named = set()
    for page, words in weightctl_lines():
        command = next((word for word in words if word in helps), "" if words[0].startswith("--") else words[0])
        assert command in helps, f"{page}: {words}"
        for option in (word for word in words if re.fullmatch("--?[a-z-]+", word)):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", helps[command]), f"{page}: {words}"
        named.add(command)
    assert len(named) > len(commands) / 2


def test_config_example_is_accepted() -> None:
    example = ROOT / "deploy/examples/weightd.yaml"
    weightd = str(BUILD / "daemon/weightd")
    done = subprocess.run([weightd, "--config", str(example), "--check-config"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tools_that_the_readme_names_exist() -> None:
    readme: typing.Final = (ROOT / "README.md").read_text()
    for path in set(re.findall(r"\(((?:deploy|tests|client|daemon|proto)/[^)#]*)", readme)):
        assert (ROOT / path).exists(), path
    assert shutil.which("bash")
