"""The C library and the examples, on the real daemon, as who embeds them builds and runs them."""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import time
import typing
import zlib

import pytest
import weightd
from models import sharded_model, small_model
from processes import BUILD, ROOT, Daemon, binary

pytestmark = pytest.mark.plain_only

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
EXAMPLE = ROOT / "client/c/examples/checksums.c"
# What the library may take to load: more than ten times what it does.
MOST_SECONDS = 0.05

VERSION_ONLY = """
#include <weightd.h>
int main(void) { return weightd_version()[0] == '\\0' || weightd_abi_version() < WEIGHTD_ABI_VERSION; }
"""

# Loads the library twice, attaches each time, and unloads it while gRPC's threads are there.
UNLOADS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <weightd.h>
int main(int argc, char** argv) {
  for (int i = 0; i < 2 && argc == 4; ++i) {
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | (i ? RTLD_DEEPBIND : 0));
    if (library == NULL) return puts(dlerror()), 1;
    weightd_error* (*attach)(const char*, const weightd_options*, weightd_model**);
    void (*release)(weightd_model*);
    *(void**)&attach = dlsym(library, "weightd_attach");
    *(void**)&release = dlsym(library, "weightd_model_release");
    weightd_options options = WEIGHTD_OPTIONS_INIT;
    options.socket_dir = argv[3];
    weightd_model* model = NULL;
    if (attach(argv[2], &options, &model) != NULL) return 2;
    release(model);
    if (dlclose(library) != 0) return 3;
  }
  return 0;
}
"""

# A child reads, releases and ends; the parent then asks how many leases the daemon has.
FORKS = """
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <weightd.h>
int main(int argc, char** argv) {
  weightd_options options = WEIGHTD_OPTIONS_INIT;
  options.socket_dir = argv[argc - 1];
  weightd_model* model = NULL;
  if (weightd_attach(argv[1], &options, &model) != NULL) return 1;
  const pid_t child = fork();
  if (child == 0) {
    weightd_tensor tensor = WEIGHTD_TENSOR_INIT;
    if (weightd_model_tensor_at(model, 0, &tensor) != NULL) _exit(1);
    const volatile char first = *(const char*)tensor.data;
    (void)first;
    weightd_model_release(model);
    _exit(0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || status != 0) return 2;
  puts("alive");
  fflush(stdout);
  const int end = getchar();
  weightd_model_release(model);
  return end == EOF ? 0 : 3;
}
"""


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where the library was installed, and then moved to."""
    folder = tmp_path_factory.mktemp("installed")
    command = [ROOT / "client/c/install.sh", folder / "first", "--programs", BUILD]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return pathlib.Path(shutil.move(folder / "first", folder / "moved"))


@pytest.fixture
def compiled(prefix: pathlib.Path, tmp_path: pathlib.Path) -> typing.Callable[[str], str]:
    """Builds a C program with cc and pkg-config."""

    def build(source: str, link: bool = True) -> str:
        path = tmp_path / "program.c"
        path.write_text(source)
        environment = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
        wanted = ["--cflags", "--libs"] if link else ["--cflags"]
        flags = subprocess.run(["pkg-config", *wanted, "weightd"], env=environment, capture_output=True, check=True)
        rpath = f"-Wl,-rpath,{prefix / 'lib'}"
        command = ["cc", *STRICT, path, *flags.stdout.decode().split(), rpath, "-o", tmp_path / "program"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(tmp_path / "program")

    return build


def checksums(model: str, daemon: Daemon) -> list[str]:
    """What the examples print, from the Python client."""
    with weightd.attach(model, socket_dir=str(daemon.socket_dir)) as attached:
        lines = []
        for name, tensor in sorted(attached.tensors.items()):
            shape = ",".join(map(str, tensor.shape))
            data = bytes(attached.raw(name))
            lines.append(f"{name} {tensor.dtype} [{shape}] {len(data)} {zlib.crc32(data):08x}")
        return lines


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_examples_read_the_same_bytes_as_python(
    daemon: Daemon, files: pathlib.Path, compiled: typing.Callable[[str], str]
) -> None:
    program = compiled(EXAMPLE.read_text())
    for model in (small_model(files / "m.safetensors"), sharded_model(files / "sharded", shards=3)):
        expected = checksums(str(model), daemon)
        assert len(expected) >= 5
        for example in (program, binary("client/c/examples/checksums"), binary("client/cpp/examples/checksums")):
            assert run(example, model, daemon.socket_dir).splitlines() == expected, example


def test_the_example_reads_what_lies_beside_the_weights(
    daemon: Daemon, files: pathlib.Path, compiled: typing.Callable[[str], str]
) -> None:
    folder = sharded_model(files / "sharded", shards=2)
    beside = {"config.json": b'{"a": 1}', "tokenizer.json": bytes(range(256)) * 500, "vocab.txt": b""}
    for name, data in beside.items():
        (folder / name).write_bytes(data)
    expected = [f"{name} {len(data)} {zlib.crc32(data):08x}" for name, data in sorted(beside.items())]
    lines = run(compiled(EXAMPLE.read_text()), folder, daemon.socket_dir).splitlines()
    assert lines == checksums(str(folder), daemon) + expected


def test_examples_say_what_is_wrong(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    for example in (binary("client/c/examples/checksums"), binary("client/cpp/examples/checksums")):
        for arguments, said in ((["/no/model", daemon.socket_dir], "/no/model"), (["m", tmp_path], str(tmp_path))):
            done = subprocess.run([example, *map(str, arguments)], capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert said in done.stderr and done.stdout == ""
        assert subprocess.run([example], capture_output=True, check=False).returncode == 64


def test_the_page_works_as_it_stands(daemon: Daemon, files: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "client/c/README.md").read_text(), re.DOTALL)
    block = block.replace("/usr/local ", f"{tmp_path}/local --programs {BUILD} ")
    block = block.replace("https://models.example/llama/model.safetensors", str(small_model(files / "m.safetensors")))
    block = block.replace("/run/weightd", str(daemon.socket_dir)).replace("client/c/", f"{ROOT}/client/c/")
    environment = {
        **os.environ,
        "PKG_CONFIG_PATH": f"{tmp_path}/local/lib/pkgconfig",
        "LD_LIBRARY_PATH": f"{tmp_path}/local/lib",
    }
    done = subprocess.run(["bash", "-ec", block], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5


def test_exports_only_its_own_names(prefix: pathlib.Path) -> None:
    library = prefix / "lib/libweightd.so"
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", library).splitlines()}
    declared = set(re.findall(r"\b(weightd_\w+)\(", re.sub(r"/\*.*?\*/", "", header(prefix), flags=re.DOTALL)))
    assert {name.partition("@")[0] for name in exported} - {"WEIGHTD_1", "WEIGHTD_2"} == declared
    assert {name for name in exported if name.endswith("@WEIGHTD_2")} == {
        f"weightd_model_file{suffix}@@WEIGHTD_2" for suffix in ("", "_at", "_count")
    }
    dynamic = run("readelf", "-d", library)
    assert "Library soname: [libweightd.so.0]" in dynamic
    assert not re.search(r"\[lib(grpc|gpr|ssl|crypto)|RPATH|RUNPATH|TEXTREL", dynamic)


def header(prefix: pathlib.Path) -> str:
    return (prefix / "include/weightd.h").read_text()


def test_the_header_is_cpp_too(prefix: pathlib.Path) -> None:
    for standard in ("c++11", "c++20"):
        flags = ["-fsyntax-only", f"-std={standard}", "-pedantic", "-Wall", "-Wextra", "-Werror", "-x", "c++"]
        run("c++", *flags, f"-I{prefix / 'include'}", EXAMPLE)


def seconds(command: list[str], times: int = 15) -> float:
    """The median of so many runs."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        run(*command)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def test_loads_fast(
    compiled: typing.Callable[[str], str], record_property: typing.Callable[[str, object], None]
) -> None:
    taken = seconds([compiled(VERSION_ONLY)])
    record_property("seconds to load libweightd.so", taken)
    assert taken < MOST_SECONDS


def test_can_be_unloaded(
    daemon: Daemon, files: pathlib.Path, prefix: pathlib.Path, compiled: typing.Callable[..., str]
) -> None:
    program = compiled(UNLOADS, link=False)
    run(program, prefix / "lib/libweightd.so.0", small_model(files / "m.safetensors"), daemon.socket_dir)


def test_a_child_reads_and_the_lease_stays_the_parents(
    daemon: Daemon, files: pathlib.Path, compiled: typing.Callable[[str], str]
) -> None:
    command = [compiled(FORKS), str(small_model(files / "m.safetensors")), str(daemon.socket_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == b"alive\n"
        assert daemon.status()["leases"] == 1
        process.stdin.close()
        assert process.wait(20) == 0
    assert daemon.status()["leases"] == 0
