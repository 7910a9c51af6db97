"""fused.c, compiled for this very processor by the C compiler at hand, and loaded.

The compiled file is kept in the user's own folder for temporary files, by a digest of the source,
the command and the processor: a cluster's nodes that differ never share one.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bnorder.errors import UserError
from bnorder.files import replacing, temporary_folder

# The first is compiled and includes the others.
SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("fused.c", "narrow.h", "winograd.h", "classifier.h", "vectors.h")
)
TORCH = "torch"  # what provenance calls PyTorch's own kernels
LANES = 16  # channels that go together: the source's widest vector
# No fast-math: not-a-number has to stay one, and sums keep their order.
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared", "-w")
NATIVE = ("-march=native", "-mcpu=native")  # the second is how some compilers for ARM call it
COMPILERS = ("cc", "gcc", "clang")
PATIENCE = 120  # seconds that a compiler may take


class Unavailable(UserError):
    """Why there are no kernels of ours on this machine, in a few words."""


class Activation(ctypes.Structure):
    """`elu`, or a slope left of zero; see fused.c for its fields."""

    _fields_ = (("elu", ctypes.c_int32), ("gain", ctypes.c_float), ("slope", ctypes.c_float))


class Group(ctypes.Structure):
    """A group of layers and the shape of what it makes, as fused.c has them."""

    _fields_ = (
        ("images", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("replicas", ctypes.c_int64),
        ("inputs", ctypes.c_int64),
        ("kernel", ctypes.c_int64),
        ("planar", ctypes.c_int64),
        ("pooled", ctypes.c_int64),
        ("act1", Activation),
        ("act2", Activation),
    )


class BatchNorm(ctypes.Structure):
    """Batch norm as fused.c has it; its tensors as their addresses."""

    _fields_ = (
        ("tile", ctypes.c_int64),
        ("by_batch", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("gamma", "beta", "mean", "variance", "batches")),
        ("eps", ctypes.c_float),
        ("momentum", ctypes.c_float),
    )


class Classifier(ctypes.Structure):
    """What a classifier reads and gives, as classifier.h has it."""

    _fields_ = tuple(
        (name, ctypes.c_int64) for name in ("images", "pixels", "channels", "replicas", "classes")
    )


@cache
def library() -> ctypes.CDLL:
    """The kernels, compiled if need be. Raises Unavailable where that cannot be done."""
    compiler = _compiler()
    file = folder() / f"{digest([*_origin(compiler), *_processor()])[:16]}.so"
    try:
        if not file.exists():
            _compile(compiler, file)
        return _declared(ctypes.CDLL(str(file)))
    except (OSError, AttributeError) as error:
        file.unlink(missing_ok=True)  # cut short by a full disk, say: the next job makes it again
        raise Unavailable(f"the compiled kernels cannot be loaded: {error}") from None


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of what its functions take; fused.c says what it is."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    takes = {
        "room": (pointer,),
        "forward": (pointer,) * 11,
        "backward": (pointer,) * 16,
        "take": (*(pointer, integer, integer) * 2, pointer, pointer, integer, pointer),
        "classify": (pointer,) * 6,
        "classify_back": (pointer,) * 8,
        "cross_entropy": (*(integer,) * 3, *(pointer,) * 5),
        "adam": (integer, *(pointer,) * 6, *(ctypes.c_double,) * 5),
    }
    for name, types in takes.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = types, integer if name == "room" else None
    return kernels


@cache
def name() -> str:
    """What provenance calls these kernels: "fused" and a digest of source, flags and compiler.

    Another compiler may round otherwise. Raises Unavailable where there is none.
    """
    return f"fused {digest(_origin(_compiler()))[:8]}"


def _compiler() -> list[str]:
    """The command that $CC names, or the first compiler there is."""
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    looked_for = named[0] if named else ", ".join(COMPILERS)
    raise Unavailable(f"no C compiler ({looked_for})")


def folder() -> Path:
    """The user's own folder for what is compiled, or a reason why there is none."""
    folder = temporary_folder("kernels")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise Unavailable(f"{folder} is another user's")
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror}") from None
    return folder


def _origin(compiler: list[str]) -> list[str]:
    """What decides how the kernels round: their source and what compiles it, with its version."""
    version = _run([*compiler, "--version"]).stdout[:200]
    sources = [file.read_text(encoding="utf-8") for file in SOURCES]
    return [*sources, *compiler[1:], *FLAGS, version]


def _processor() -> list[str]:
    """What tells processors apart that cannot run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [platform.machine(), platform.processor()]
    telling = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return [platform.machine(), *telling[:2]]


def digest(parts: list[str]) -> str:
    """The SHA-256 of some texts together."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _compile(compiler: list[str], file: Path) -> None:
    """Make `file`; several jobs may do so at the same time."""
    with replacing(file) as partial:
        for native in ([NATIVE[0]], [NATIVE[1]], []):
            files = [str(SOURCES[0]), "-lm", "-o", str(partial)]
            done = _run([*compiler, *FLAGS, *native, *files])
            if done.returncode == 0:
                return
        said = (done.stderr.strip() or "it does not say why").splitlines()[0][:200]
        raise Unavailable(f"{compiler[0]} does not compile {SOURCES[0].name}: {said}")


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} cannot be run: {error}") from None
