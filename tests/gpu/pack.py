"""Packs the GPU suite: a small copy of the tree with programs, their libraries, the Python client and what it needs.

pack.py BUILD_FOLDER TARGET.tar.gz; run by the Python whose packages are packed.
"""

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST_BYTES = 60 << 20

PROGRAMS = (
    "daemon/weightd",
    "client/cli/weightctl",
    "tests/contract/cuda_memory_contract_test",
    "tests/contract/gpu_process_main",
    "tests/gpu/gpu_figures",
    "tests/gpu/attach_figures",
)
LIBRARIES = ("tests/fakes/fake_cuda/libfake_cuda.so",)
SOURCES = (
    "client/python/src",
    "tests/bench/measure.py",
    "tests/e2e/models.py",
    "tests/e2e/processes.py",
    "tests/fakes/fake_cuda/fake_gpu.py",
    "tests/gpu",
)
PACKAGES = ("h2", "hpack", "hyperframe", "protobuf")
# Parts of glibc, which has to be the machine's own, and of the driver.
OF_THE_SYSTEM = ("ld-linux", "libc.", "libm.", "libdl.", "libpthread.", "librt.", "libresolv.", "libanl.", "libcuda")

# Programs find their libraries by it, but no Python process does, whose own libraries may be newer.
LAUNCHER = """#!/bin/sh
root=$(cd "$(dirname "$0")/{up}" && pwd)
export LD_LIBRARY_PATH="$root/.build/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
exec "$root/.build/programs/{program}" "$@"
"""


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """A file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.cc", "*.h", "*.egg-info"))
    else:
        shutil.copy(source, target)


def libraries_of(program: pathlib.Path) -> list[pathlib.Path]:
    """All that it is linked with but the system's, by the names it asks for."""
    found = []
    for line in subprocess.run(["ldd", str(program)], check=True, capture_output=True, text=True).stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        if not arrow or name.startswith(OF_THE_SYSTEM):
            continue
        if rest.startswith("not found"):
            raise SystemExit(f"{program}: no {name}")
        found.append(pathlib.Path(rest.split(" (")[0]))
    return found


def pack(build: pathlib.Path, folder: pathlib.Path) -> None:
    """Puts everything into the folder."""
    for name in SOURCES:
        copy(ROOT / name, folder / name)
    for package in PACKAGES:
        for file in importlib.metadata.files(package) or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                copy(pathlib.Path(str(file.locate())), folder / ".build/python" / file)
    libraries = folder / ".build/lib"
    for name in (*PROGRAMS, *LIBRARIES):
        is_program = name in PROGRAMS
        target = folder / (".build/programs" if is_program else ".build/opt") / name
        copy(build / name, target)
        target.chmod(0o755)
        subprocess.run(["strip", "--strip-debug", str(target)], check=True)
        for library in libraries_of(build / name):
            if not (libraries / library.name).exists():
                copy(library, libraries / library.name)
        if is_program:
            launcher = folder / ".build/opt" / name
            launcher.parent.mkdir(parents=True, exist_ok=True)
            launcher.write_text(LAUNCHER.format(up="/".join([".."] * (2 + name.count("/"))), program=name))
            launcher.chmod(0o755)


def main() -> int:
    build, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "gpu-bundle"
        pack(build, folder)
        subprocess.run(["tar", "-czf", str(target), "-C", scratch, folder.name], check=True)
    size = target.stat().st_size
    print(f"{target}: {size / (1 << 20):.1f} MiB")
    if size > MOST_BYTES:
        print(f"more than {MOST_BYTES >> 20} MiB")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
