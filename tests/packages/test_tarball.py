"""The tarball runs where nothing but glibc is installed."""

import os
import pathlib
import re
import subprocess
import zlib

import oci
import pytest
import weightd
from models import small_model
from packing import VERSION, make_tarball
from processes import ROOT, Daemon, wait_until
from shelves import same

# What every glibc brings.
GLIBC = r"(ld-linux-x86-64|libc|libm|libresolv|libpthread|libdl|librt)\.so\.\d|linux-vdso\.so\.1"
OLDEST_GLIBC = (2, 36)


def test_the_same_programs_give_the_same_bytes(tarball: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert tarball.name == f"weightd-{VERSION}-linux-x86_64.tar.gz"
    assert make_tarball(tmp_path).read_bytes() == tarball.read_bytes()


def test_it_has_what_one_needs(unpacked: pathlib.Path) -> None:
    beside = ("include/weightd.h", "lib/pkgconfig/weightd.pc")
    for path in ("LICENSE", "CHANGELOG.md", "share/README.md", "share/systemd/weightd.service", *beside):
        assert (unpacked / path).stat().st_size > 0
    # The C library has gRPC and what that needs inside.
    inside = ("libgrpc29", "libc-ares2", "libre2-9", "libabsl20220623")
    for package in (*inside, "libcurl4", "libssl3", "libstdc++6", "common-licenses/Apache-2.0"):
        assert (unpacked / "share/licenses" / package).stat().st_size > 0


def test_it_asks_for_no_newer_glibc(unpacked: pathlib.Path) -> None:
    files = [*unpacked.glob("bin/*"), *unpacked.glob("lib/*.so*")]
    text = subprocess.run(["objdump", "-p", *files], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, version.split("."))) for version in re.findall(r"\bGLIBC_([0-9.]+)", text)}
    assert max(versions) <= OLDEST_GLIBC


@pytest.fixture
def embedder(unpacked: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The C example, built as who embeds the library builds it, with what the tarball has alone."""
    environment = {**os.environ, "PKG_CONFIG_PATH": str(unpacked / "lib/pkgconfig")}
    asked = ["pkg-config", "--cflags", "--libs", "weightd"]
    flags = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.split()
    program = tmp_path / "checksums"
    source = ROOT / "client/c/examples/checksums.c"
    subprocess.run(["cc", "-std=c99", source, *flags, "-o", program], check=True)
    return program


def test_engines_embed_its_c_library(embedder: pathlib.Path, unpacked: pathlib.Path, tmp_path: pathlib.Path) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(unpacked / "lib")}
    asked = ["ldd", embedder]
    listed = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout
    others = [line.split()[0] for line in listed.splitlines() if str(unpacked) not in line]
    assert f"libweightd.so.0 => {unpacked}" in listed
    assert [name for name in others if not re.fullmatch(GLIBC, pathlib.Path(name).name)] == []
    model = small_model(tmp_path / "m.safetensors")
    daemon = Daemon(tmp_path).start()
    try:
        command = [embedder, model, daemon.socket_dir]
        read = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        with weightd.attach(str(model), socket_dir=daemon.socket_dir, framework="np") as attached:
            crcs = {name: f"{zlib.crc32(bytes(attached.raw(name))):08x}" for name in attached.tensors}
    finally:
        daemon.end()
    assert {line.split()[0]: line.split()[-1] for line in read.splitlines()} == crcs


def test_on_another_debian(
    engine: oci.Engine, tarball: pathlib.Path, tmp_path: pathlib.Path, socket_dir: pathlib.Path
) -> None:
    oci.base_image("trixie")
    (tmp_path / "Dockerfile").write_text(f"FROM debian:trixie-slim\nADD {tarball.name} /opt\n")
    (tmp_path / tarball.name).hardlink_to(tarball)
    image = engine.build(tmp_path, "tarball")
    programs = f"/opt/{tarball.name.removesuffix('.tar.gz')}/bin"
    said = engine.run(image, f"{programs}/weightd", "--version", check=True).stdout
    assert said.startswith(f"weightd {VERSION}")
    assert engine.run(image, f"{programs}/weightd-keeper", "--version", check=True).stdout.startswith("weightd-keeper")

    for program, least in (("weightd", 50), ("weightctl", 50), ("weightd-keeper", 3)):
        listed = engine.run(image, "/lib64/ld-linux-x86-64.so.2", "--list", f"{programs}/{program}", check=True).stdout
        names = [line.split()[0] for line in listed.splitlines() if "/opt/" not in line]
        assert len(listed.splitlines()) > least
        assert [name for name in names if not re.fullmatch(GLIBC, pathlib.Path(name).name)] == []

    (tmp_path / "models").mkdir()
    model = small_model(tmp_path / "models/m.safetensors")
    model.chmod(0o644)
    tmp_path.chmod(0o755)
    mounts = [f"{socket_dir}:/run/weightd", f"{model.parent}:/models:ro"]
    socket_dir.chmod(0o700)
    subprocess.run(["chown", "65532:65532", socket_dir], check=True)
    daemon = engine.start(image, f"{programs}/weightd", mounts=mounts)
    weightctl = f"{programs}/weightctl"
    wait_until(lambda: daemon.exec(weightctl, "status", check=False).returncode == 0, "the daemon serves", 60)
    daemon.exec(weightctl, "preload", "/models/m.safetensors")
    assert "m.safetensors" in daemon.exec(weightctl, "ls").stdout
    with weightd.attach("/models/m.safetensors", socket_dir=socket_dir, framework="np") as attached:
        assert same(attached, model)
    daemon.kill("TERM")
    assert daemon.wait() == 0, daemon.logs()
