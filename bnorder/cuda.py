"""fused.cu, compiled for the GPU at hand by NVIDIA's run-time compiler, and called.

The compiler comes with PyTorch, and so does NVIDIA's own Python package for it and for the driver;
nothing else has to be installed.
"""

import ctypes
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bnorder.files import write_atomically
from bnorder.kernels import Activation, Unavailable, digest, folder
from bnorder.records import source_hash

Constants = tuple[tuple[str, int], ...]  # names and values, sorted
SOURCE = Path(__file__).with_name("fused.cu")
STRUCTURE = re.compile(r"typedef struct \{(.*?)\} (\w+);", re.DOTALL)
FIELD = re.compile(r"(?:const )?(\w+(?: \w+)*?) (\*?\w+(?:, \*?\w+)*);")
TYPES: dict[str, Any] = {
    "int": ctypes.c_int,
    "float": ctypes.c_float,
    "Activation": Activation,  # fused.c has the same
}


@cache
def structure(name: str) -> Any:
    """The ctypes structure of a `typedef struct` of fused.cu."""
    text = re.sub(r"/\*.*?\*/", "", SOURCE.read_text(encoding="utf-8"), flags=re.DOTALL)
    body = next(body for body, found in STRUCTURE.findall(text) if found == name)
    fields = [
        (field.lstrip("*"), ctypes.c_void_p if field[0] == "*" else TYPES[kind])
        for kind, names in FIELD.findall(body)
        for field in names.split(", ")
    ]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


class Kernels:
    """The kernels of fused.cu with some constants, on the current GPU."""

    def __init__(self, constants: Constants) -> None:
        self.threads = dict(constants)["THREADS"]
        self.module = _checked(_driver().cuModuleLoadData(_code(constants)))
        self.functions: dict[str, Any] = {}

    def launch(self, name: str, arguments: Any, blocks: int, replicas: int = 1) -> None:
        """Run a kernel on the current stream with a grid of blocks x replicas."""
        if name not in self.functions:
            found = _checked(_driver().cuModuleGetFunction(self.module, name.encode()))
            self.functions[name] = found
        address = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        stream = torch.cuda.current_stream().cuda_stream
        grid, block = (blocks, replicas, 1), (self.threads, 1, 1)
        function, parameters = self.functions[name], ctypes.addressof(address)
        _checked(_driver().cuLaunchKernel(function, *grid, *block, 0, stream, parameters, 0))


@cache
def load(**constants: int) -> Kernels:
    """The kernels with these constants."""
    return Kernels(tuple(sorted(constants.items())))


@cache
def name() -> str:
    """What provenance calls these kernels: "fused" and a digest of sources and compiler.

    Raises Unavailable where there is no compiler.
    """
    return f"fused {digest(_origin())[:8]}"


def _origin() -> list[str]:
    """What decides how the kernels round: their source, who shares the work out, the compiler."""
    version = _checked(_compiler().nvrtcVersion())
    calls = source_hash([SOURCE.with_name(name) for name in ("blocks.py", "fused_gpu.py")])
    return [SOURCE.read_text(encoding="utf-8"), calls, "nvrtc", *map(str, version)]


def _code(constants: Constants) -> bytes:
    """Machine code for the current GPU, compiled once by a user on a machine."""
    major, minor = torch.cuda.get_device_capability()
    architecture = f"sm_{major}{minor}"
    key = digest([*_origin(), architecture, repr(constants)])
    file = folder() / f"{key[:16]}.cubin"
    try:
        return file.read_bytes()
    except FileNotFoundError:
        code = compiled(architecture, constants)
    with suppress(OSError):  # a full disk, say: the next job compiles it again
        write_atomically(file, code)
    return code


def compiled(architecture: str, constants: Constants) -> bytes:
    """Machine code for an architecture, such as sm_90. Raises Unavailable where there is none."""
    nvrtc = _compiler()
    program = _checked(nvrtc.nvrtcCreateProgram(SOURCE.read_bytes(), b"fused.cu", 0, [], []))
    options = [f"--gpu-architecture={architecture}", *(f"-D{k}={v}" for k, v in constants)]
    given = [option.encode() for option in options]
    (done,) = nvrtc.nvrtcCompileProgram(program, len(given), given)
    if done.value:
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise Unavailable(f"fused.cu does not compile for {architecture}: {log.decode()[:500]}")
    code: bytes = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, code))
    nvrtc.nvrtcDestroyProgram(program)
    return code


def _compiler() -> Any:
    try:
        from cuda.bindings import nvrtc

        _checked(nvrtc.nvrtcVersion())
    except (ImportError, OSError, RuntimeError) as error:
        raise Unavailable(f"no run-time compiler of NVIDIA's: {error}") from None
    return nvrtc


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise Unavailable(f"no driver of NVIDIA's: {error}") from None
    return driver


def _checked(answer: Any) -> Any:
    """What a call gave beside its status, which must be success."""
    status, *values = answer
    if status.value:
        raise Unavailable(f"{status}; expected success")
    return values[0] if len(values) == 1 else values
