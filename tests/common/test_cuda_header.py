"""Holds common/cuda_types.h, cuda_symbols.h and cuda_driver.h beside the CUDA toolkit's cuda.h.

The compiler judges: a program is written that includes both and asserts that every value, layout and signature is the
same, and that each symbol is what cuda.h makes of the function's name.
"""

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TYPES = (ROOT / "common/cuda_types.h").read_text()
SYMBOLS = dict(re.findall(r"X\((cu\w+), (cu\w+)\)", (ROOT / "common/cuda_symbols.h").read_text()))

# cuda.h has both forms of it and maps neither before CUDA 13; the first doesn't know MIG.
UNMAPPED = {"cuDeviceGetUuid"}

FIELDS = {
    "CUuuid": ["bytes"],
    "CUipcMemHandle": ["reserved"],
    "CUmemLocation": ["type", "id"],
    "CUmemAllocationProp": [
        "type",
        "requestedHandleTypes",
        "location",
        "win32HandleMetaData",
        "allocFlags",
        "allocFlags.compressionType",
        "allocFlags.gpuDirectRDMACapable",
        "allocFlags.usage",
    ],
    "CUmemAccessDesc": ["location", "flags"],
}

ALIKE = """
template <typename A, typename B>
constexpr bool kAlike = sizeof(A) == sizeof(B) && std::is_pointer_v<A> == std::is_pointer_v<B> &&
                        std::is_class_v<A> == std::is_class_v<B>;
template <typename R, typename... A, typename S, typename... B>
constexpr bool Alike(R (*)(A...), S (*)(B...)) {
  if constexpr (sizeof...(A) == sizeof...(B)) {
    return kAlike<R, S> && (kAlike<A, B> && ...);
  }
  return false;
}
#define TEXT_OF_(x) #x
#define TEXT_OF(x) TEXT_OF_(x)
"""


def include_folder() -> Path:
    """Of the toolkit, or of the wheel that deploy/requirements.txt names."""
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia/cuda_runtime/include"
    for folder in (Path(os.environ.get("CUDA_HOME", "/nowhere")) / "include", wheel):
        if (folder / "cuda.h").exists():
            return folder
    pytest.skip("no cuda.h: neither CUDA_HOME nor the wheel nvidia-cuda-runtime-cu12 has one")


def constants() -> list[str]:
    return re.findall(r"\b(CUDA_[A-Z_]+|CU_[A-Z0-9_]+) = \d+", TYPES)


def program() -> str:
    """What must compile. Ours comes first, under other names: cuda.h's macros change what follows them."""
    lines = [f"#include <{header}>" for header in ("cstddef", "string_view", "type_traits")]
    lines.append('#include "common/cuda_driver.h"')
    lines += [f"constexpr auto kOur_{name} = static_cast<long long>(weightd::cuda::{name});" for name in constants()]
    lines += [f"using Our_{name} = decltype(weightd::CudaDriver::{name});" for name in SYMBOLS]
    lines += [ALIKE, "#include <cuda.h>"]
    lines += [f"static_assert(kOur_{name} == static_cast<long long>({name}));" for name in constants()]
    for struct, fields in FIELDS.items():
        lines.append(f"static_assert(sizeof(weightd::cuda::{struct}) == sizeof(::{struct}));")
        offsets = [f"offsetof(weightd::cuda::{struct}, {f}) == offsetof(::{struct}, {f})" for f in fields]
        lines += [f"static_assert({offset});" for offset in offsets]
    for name, symbol in SYMBOLS.items():
        if name not in UNMAPPED:
            lines.append(f'static_assert(std::string_view(TEXT_OF({name})) == "{symbol}");')
        lines.append(f"static_assert(Alike(Our_{name}(nullptr), static_cast<decltype(&::{symbol})>(nullptr)));")
    return "\n".join(lines) + "\n"


def compile_program(text: str) -> subprocess.CompletedProcess[str]:
    command = ["clang++-19", "-std=c++20", "-fsyntax-only", "-x", "c++", "-Wno-invalid-offsetof", "-ferror-limit=0"]
    command += [f"-I{ROOT}", f"-I{include_folder()}", "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, timeout=300, check=False)


def test_is_what_cuda_h_says() -> None:
    done = compile_program(program())
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_out() -> None:
    assert len(constants()) > 30
    assert set(re.findall(r"^struct (\w+) \{", TYPES, re.MULTILINE)) == set(FIELDS)
    members = re.findall(r"\(\*(cu\w+)\)\(", (ROOT / "common/cuda_driver.h").read_text())
    assert sorted(members) == sorted(SYMBOLS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("kOur_CUDA_ERROR_OUT_OF_MEMORY ==", "1 + kOur_CUDA_ERROR_OUT_OF_MEMORY =="),
        ('== "cuMemGetInfo_v2"', '== "cuMemGetInfo"'),
        ("Alike(Our_cuMemFree(nullptr)", "Alike(Our_cuMemAlloc(nullptr)"),
    ],
)
def test_would_notice(right: str, wrong: str) -> None:
    text = program()
    assert right in text
    assert compile_program(text.replace(right, wrong)).returncode != 0
