"""The GPU suite: each step in a process of its own, with a deadline; what fails or hangs stops no other. See run.sh.

Writes results.json and results.md to --out. Last line: N passed, M failed; exit code 1 if any failed.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE), *(str(HERE.parent / folder) for folder in ("e2e", "bench"))]

import measure  # noqa: E402
import results  # noqa: E402
import setting as settings  # noqa: E402
from claims import CLAIMS, torch_is_missing  # noqa: E402
from setting import GIB, MIB, Setting  # noqa: E402
from speeds import SPEEDS  # noqa: E402

STEPS = {**CLAIMS, **SPEEDS}
IN_ALL = 560.0  # seconds; nothing starts later
OF_A_STEP = 120.0
LARGE = 8 * GIB


def device_bytes(driver: str) -> int:
    """Free memory of the GPU, asked in a process that ends: this one never touches the driver."""
    script = "import sys; from fake_gpu import FakeGpu; print(FakeGpu(sys.argv[1]).free_bytes())"
    folder = HERE.parent / "fakes" / "fake_cuda"
    done = subprocess.run([sys.executable, "-c", script, driver], capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        print(f"no GPU to use: {done.stderr.strip().splitlines()[-1]}\n0 passed, 1 failed")
        sys.exit(1)
    return int(done.stdout)


def room(options: argparse.Namespace, scratch: pathlib.Path) -> Setting:
    """Sizes that fit this machine."""
    if options.quick:
        return Setting(options.driver, scratch, rounds=2, small_mib=8, large_mib=16, mapped_gib=(0,))
    on_gpu = device_bytes(options.driver)
    in_memory = min(shutil.disk_usage(scratch).free // 2, settings.memory_of("MemAvailable") // 5)
    large = options.mib * MIB or min(LARGE, in_memory, on_gpu // 6)
    small = min(GIB, large)
    mapped = (1, 40) if on_gpu > 44 * GIB else (1,)
    sizes = (small // MIB // 32 * 32, large // MIB // 32 * 32)
    return Setting(options.driver, scratch, options.rounds, *sizes, mapped)


def machine(driver: str) -> dict[str, str]:
    """What this runs on, and what of it is missing."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(asked, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        gpu = "nvidia-smi is missing"
    found = {"GPU": gpu, "driver": driver, "kernel": platform.release(), "cores": str(os.cpu_count())}
    found["memory"] = f"{settings.memory_of('MemTotal') / GIB:.0f} GiB"
    found["huge pages"] = measure.SHMEM_HUGE.read_text().strip() if measure.SHMEM_HUGE.exists() else "none"
    found["Python"] = platform.python_version()
    for package in ("torch", "safetensors", "numpy", "protobuf", "h2"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    found["torch on the GPU"] = torch_is_missing() or "yes"
    return found


def run_step(name: str, setting: Setting, log: pathlib.Path, seconds: float) -> str:
    """Runs a step in a process group of its own. Why it failed; empty if it didn't."""
    command = [sys.executable, str(HERE / "suite.py"), "--step", name, "--setting", json.dumps(as_json(setting))]
    with log.open("wb") as output:
        step = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = step.wait(seconds)
            failure = f"exit code {code}" if code else ""
        except subprocess.TimeoutExpired:
            failure = f"not within {seconds:.0f} s"
    try:
        os.killpg(step.pid, signal.SIGKILL)  # with what it left running
    except ProcessLookupError:
        pass
    step.wait()
    text = log.read_text(errors="replace").strip()
    print(text, flush=True)
    return f"{failure}: {text.splitlines()[-1][:300]}" if failure and text else failure


def as_json(setting: Setting) -> dict[str, object]:
    """For the process of a step."""
    return {**dataclasses.asdict(setting), "scratch": str(setting.scratch)}


def run_here(name: str, raw: str) -> None:
    """In the process of a step."""
    fields = json.loads(raw)
    fields |= {"scratch": pathlib.Path(fields["scratch"]), "mapped_gib": tuple(fields["mapped_gib"])}
    setting = Setting(**fields)
    STEPS[name](setting, results.Report(setting.scratch / f"{name}.json"))


def run_all(options: argparse.Namespace, scratch: pathlib.Path) -> int:
    """Every step, one after another."""
    end = time.monotonic() + IN_ALL
    fake = "fake" in pathlib.Path(options.driver).name
    if fake:
        (scratch / "fake").mkdir()
        os.environ |= {"FAKE_CUDA_DIR": str(scratch / "fake"), "FAKE_CUDA_DEVICES": "1x4GiB"}
    setting = room(options, scratch)
    about = machine(options.driver) | {"models": f"{setting.small_mib} and {setting.large_mib} MiB"}
    for name, value in about.items():
        print(f"{name}: {value}", flush=True)
    found = results.Results(about, judged=not fake)
    for name in options.steps.split(",") if options.steps else STEPS:
        begin = time.monotonic()
        print(f"\n== {name}", flush=True)
        left = min(OF_A_STEP, end - begin)
        failure = run_step(name, setting, scratch / f"{name}.log", left) if left > 1 else "no time was left for it"
        found.add(name, scratch / f"{name}.json", failure)
        found.write(options.out)
        print(f"{failure or 'done'}, {time.monotonic() - begin:.1f} s", flush=True)
    passed, failed = found.counts()
    print(f"\n{options.out / 'results.md'}\n{passed} passed, {failed} failed")
    return 1 if failed else 0


def memory_folder() -> str:
    """Where files are in memory, with room for two models."""
    return "/dev/shm" if shutil.disk_usage("/dev/shm").free > GIB else tempfile.gettempdir()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", default="libcuda.so.1", help="the CUDA driver's library")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu-results"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="small models, two rounds: to see that it works")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--mib", type=int, default=0, help="of the large model; default what there is room for, <= 8192"
    )
    parser.add_argument("--steps", default="", help=f"of {','.join(STEPS)}")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_here(options.step, options.setting)
        return 0
    with tempfile.TemporaryDirectory(dir=memory_folder(), prefix="weightd-gpu-") as folder:
        return run_all(options, pathlib.Path(folder))


if __name__ == "__main__":
    sys.exit(main())
