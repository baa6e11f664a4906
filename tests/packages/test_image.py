"""The image of deploy/Dockerfile, with a prebuilt tarball, run as a careful cluster runs it."""

import json
import pathlib
import re

import oci
import pytest
from models import even_model
from packing import VERSION
from processes import ROOT, wait_until

MIB = 1 << 20
# Debian's slim image is 127 of them.
MOST_MIB = 190
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def image(engine: oci.Engine, tarball: pathlib.Path) -> str:
    oci.base_image("bookworm")
    arguments = [f"PREBUILT={tarball.name}", f"REVISION={COMMIT}"]
    # OCI's own format has no health checks.
    options = ["--format", "docker", *(f"--build-arg={argument}" for argument in arguments)]
    return engine.build(tarball.parent, "weightd", ROOT / "deploy/Dockerfile", options)


def healthy(engine: oci.Engine, container: oci.Container) -> bool:
    return engine.podman("healthcheck", "run", container.name, check=False).returncode == 0


def test_is_small_and_says_what_it_is(engine: oci.Engine, image: str) -> None:
    (described,) = json.loads(engine.podman("image", "inspect", image).stdout)
    assert described["Size"] < MOST_MIB * MIB
    labels = described["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert described["Config"]["User"] == "65532:65532"
    said = engine.run(image, "--version", check=True).stdout
    assert said.startswith(f"weightd {VERSION}")


def test_the_page_names_its_arguments() -> None:
    page, dockerfile = ((ROOT / "deploy" / name).read_text() for name in ("README.md", "Dockerfile"))
    named = set(re.findall(r"--build-arg (\w+)=", page))
    assert named == {"PREBUILT", "REVISION"}
    assert named <= set(re.findall(r"^ARG (\w+)=", dockerfile, re.MULTILINE))


def test_serves_as_nobody_and_is_healthy(engine: oci.Engine, image: str) -> None:
    daemon = engine.start(image)
    wait_until(lambda: healthy(engine, daemon), "the daemon is healthy", 60)
    daemon.exec("test", "-s", "/etc/ssl/certs/ca-certificates.crt")
    daemon.kill("TERM")
    assert daemon.wait() == 0, daemon.logs()


def test_is_not_healthy_without_a_daemon_that_answers(engine: oci.Engine, image: str) -> None:
    sleeper = engine.start(image, "600", entrypoint="sleep")
    assert not healthy(engine, sleeper)
    sleeper.remove()


def test_locks_memory_as_root_without_other_powers(
    engine: oci.Engine, image: str, tmp_path: pathlib.Path, socket_dir: pathlib.Path
) -> None:
    model = even_model(tmp_path / "m.safetensors", 16 * MIB, 4)
    model.chmod(0o644)
    mounts = [f"{socket_dir}:/run/weightd", f"{model}:/m.safetensors:ro"]
    daemon = engine.start(image, mounts=mounts, isolation=oci.Isolation(user=0, capabilities=("IPC_LOCK",)))
    wait_until(lambda: healthy(engine, daemon), "the daemon is healthy", 60)
    daemon.exec("weightctl", "preload", "/m.safetensors")
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    locked = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmLck"))
    assert locked * 1024 >= 16 * MIB
    daemon.remove()
