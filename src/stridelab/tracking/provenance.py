"""Where a run comes from: code, environment, machine. Plain dictionaries and text; the run writes them."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stridelab import names
from stridelab.system.memory import total_mib
from stridelab.system.processes import usable_cores

from .settings import redact, redact_word
from .signature import PACKAGE

ENVIRONMENT = re.compile(
    r"(OMP|MKL|OPENBLAS|KMP|GOMP|NUMEXPR)_\w+|(ONEDNN|DNNL)_(MAX_CPU_ISA|PRIMITIVE_CACHE_CAPACITY)|ATEN_CPU_CAPABILITY"
    r"|CUDA_VISIBLE_DEVICES|CUDA_LAUNCH_BLOCKING|CUBLAS_WORKSPACE_CONFIG|NVIDIA_TF32_OVERRIDE|PYTORCH_CUDA_ALLOC_CONF"
    r"|PYTHONHASHSEED|PYTHONOPTIMIZE|MALLOC_ARENA_MAX|TZ|LANG|LC_ALL"
)
"""Variables that can change a result or its speed. No other is ever stored: environments hold passwords."""
CUBLAS, TF32_OVERRIDE = "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"
DECIDING_ON_GPU = {CUBLAS: ":4096:8", TF32_OVERRIDE: "not set"}
"""Those that choose a GPU's kernels, and what it means that they are not set."""
DECIDING = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")
"""Environment variables that choose other kernels."""
WHEEL = re.compile(r"^(torch|nvidia-cu(?:dnn|blas)[\w-]*|nvidia-cuda-runtime[\w-]*)==(.+)$", re.MULTILINE)
"""Packages whose version decides bits; the latter on a GPU."""
SOURCE_SUFFIXES = (".py", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".lock", ".sh", ".md")
VALUE = re.compile(r"""^([+\- ][\s-]*["']?[\w.-]+["']?[ \t]*[:=][ \t]*)(\S.*://.*)$""", re.MULTILINE)
"""A line of a diff with a key and an address."""
MAX_DIFF_BYTES = 1_000_000
MAX_NEW_FILE_BYTES = 200_000
GIT_TIMEOUT_S = 20


def provenance(package: Path = PACKAGE) -> dict[str, str]:
    """File name -> content, for every run of this process."""
    files = {
        names.PROVENANCE_FILE: json.dumps(
            {
                "argv": command_line(),
                "git": git_state(package),
                "python": python_facts(),
                "machine": machine(),
                "environment": environment(),
            },
            indent=1,
        ),
        names.REQUIREMENTS_FILE: "".join(f"{name}=={version}\n" for name, version in packages().items()),
    }
    diff = git_diff(package)
    return files | ({names.DIFF_FILE: diff} if diff else {})


def command_line() -> list[str]:
    return [redact_word(word) for word in sys.argv]


def packages() -> dict[str, str]:
    """Every installed distribution and its version."""
    from importlib import metadata

    files = [one.metadata for one in metadata.distributions()]  # parsed anew at every look
    found = {file["Name"]: file["Version"] for file in files if file["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    variables = os.environ if variables is None else variables
    return {name: variables[name] for name in sorted(variables) if ENVIRONMENT.fullmatch(name)}


def python_facts() -> dict[str, str]:
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
    }


def machine() -> dict[str, Any]:
    """What bits and speed depend on; no host name, no user."""
    cpu = cpu_facts()
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "cpu": cpu["model"] or platform.processor(),
        "cpu_flags": cpu["flags"],
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_mib": total_mib(),
        "gpus": gpus(),
    }


def cpu_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Model, and those flags that decide which kernels run."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return {"model": "", "flags": []}
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.M)
    deciding = re.compile(r"sse4_2|avx\w*|fma|f16c|amx\w*|neon|asimd\w*|sve\w*|bf16|i8mm")
    names = sorted({flag for flag in flags.group(1).split() if deciding.fullmatch(flag)}) if flags else []
    return {"model": model.group(1).strip() if model else "", "flags": names}


def gpus() -> list[str]:
    """`name, driver, memory` of each, as nvidia-smi says."""
    text = _output(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    return text.splitlines() if text else []


def gpu_column(lines: Sequence[str], number: int) -> str:
    """Of what `gpus` found: all names (0) or drivers (1), each once."""
    columns = (line.split(", ") for line in lines)
    return "; ".join(sorted({cells[number] for cells in columns if len(cells) > number}))


def torch_facts(device: str = "cpu") -> dict[str, Any]:
    """Of the torch that this process has loaded, and the device that it trains on, by its own name; empty when it has
    loaded none."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "version": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32": tf32_of(torch),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def tf32_of(torch: Any) -> bool:
    """Whether a GPU uses it throughout. Read through the newer of PyTorch's interfaces, which never raises."""
    return {torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision} == {"tf32"}


def git_state(package: Path = PACKAGE) -> dict[str, Any]:
    """commit, branch and dirty of the tree that the package runs from; empty and false when installed."""
    top = _source_tree(package)
    if top is None:
        return {"commit": "", "branch": "", "dirty": False}
    return {
        "commit": git(top, "rev-parse", "--verify", "--quiet", "HEAD").strip(),
        "branch": git(top, "symbolic-ref", "--quiet", "--short", "HEAD").strip(),
        "dirty": bool(git_diff(package)),
    }


def git_diff(package: Path = PACKAGE) -> str:
    """A patch of all that is not committed, without passwords; of new files those of code, and of the package. Cut
    after 1 MB, which it then says."""
    top = _source_tree(package)
    if top is None:
        return ""
    style = ("--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--src-prefix=a/", "--dst-prefix=b/")
    parts = [git(top, "diff", *style, "HEAD")]
    size = len(parts[0])
    for name in _new_sources(top, package):
        if size <= MAX_DIFF_BYTES:
            parts.append(git(top, "diff", *style, "--no-index", "--", "/dev/null", name))
            size += len(parts[-1])
    text = "".join(map(_redact_file, re.split(r"^(?=diff --git )", "".join(parts), flags=re.MULTILINE)))
    if len(text) <= MAX_DIFF_BYTES:
        return text
    return text[:MAX_DIFF_BYTES].rpartition("\n")[0] + "\n# cut here: the whole is longer than 1 MB\n"


def _new_sources(top: Path, package: Path) -> list[str]:
    listed = git(top, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    ours = f"{package.resolve().relative_to(top.resolve()).as_posix()}/"
    kept = [name for name in sorted(listed) if name.endswith(".py") or name.startswith(ours)]
    return [name for name in kept if name.endswith(SOURCE_SUFFIXES) and _is_small_file(top / name)]


def _redact_file(diff: str) -> str:
    """Of one file. In what is no code, a key's value goes to the end of its line, whatever a password in it holds."""
    if ".py" in diff.partition("\n")[0]:
        return redact(diff, is_code=True)
    return redact(VALUE.sub(lambda found: found[1] + redact_word(found[2]), diff))


def _is_small_file(path: Path) -> bool:
    try:
        return path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_NEW_FILE_BYTES
    except OSError:
        return False


def _source_tree(package: Path) -> Path | None:
    """The top of the git tree that tracks the package: not of one that merely has an environment inside."""
    if not git(package, "ls-files", "--error-unmatch", "__init__.py"):
        return None
    return Path(git(package, "rev-parse", "--show-toplevel").rstrip("\n"))


def git(folder: Path, *words: str) -> str:
    return _output(["git", "-C", str(folder), "-c", "core.quotepath=off", *words])


def _output(command: Sequence[str]) -> str:
    """What a command prints; empty when it is absent, fails or hangs. (`git diff --no-index` exits with 1.)"""
    calm = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=GIT_TIMEOUT_S, env=calm, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode in (0, 1) else ""


def platform_of(files: Mapping[str, str], *, accelerator: str) -> dict[str, str]:
    """What the bits of a run with this `trainer.accelerator` depend on beside its configuration (which says whether
    TF32 is used), from the files of `provenance()`; empty when they are missing. On a GPU the processor only draws
    initial weights and orders, which have digests of their own."""
    if names.PROVENANCE_FILE not in files:
        return {}
    origin = json.loads(files[names.PROVENANCE_FILE])
    machine, variables = origin["machine"], origin["environment"]
    wheels = dict(WHEEL.findall(files.get(names.REQUIREMENTS_FILE, "")))
    found = {"torch": wheels.get("torch", "")} | {name: variables[name] for name in DECIDING if name in variables}
    if accelerator not in ("gpu", "auto") or not machine["gpus"]:
        return {"CPU": machine["cpu"], "CPU flags": " ".join(machine["cpu_flags"])} | found
    cards = {"GPU": gpu_column(machine["gpus"], 0), "driver": gpu_column(machine["gpus"], 1)}
    libraries = {name: version for name, version in sorted(wheels.items()) if name != "torch"}
    return cards | found | libraries | {name: variables.get(name, unset) for name, unset in DECIDING_ON_GPU.items()}


def stored_platform(folder: Path, *, accelerator: str) -> dict[str, str]:
    """Of the run in a folder."""
    paths = [folder / name for name in (names.PROVENANCE_FILE, names.REQUIREMENTS_FILE)]
    try:
        return platform_of({path.name: path.read_text() for path in paths if path.exists()}, accelerator=accelerator)
    except (OSError, ValueError, KeyError):
        return {}


def platform_difference(one: Mapping[str, str], other: Mapping[str, str]) -> str:
    """`torch 2.14.0, here 2.14.1`; empty when they are the same, or one is not known."""
    if not one or not other:
        return ""
    keys = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key, 'not set')}, here {other.get(key, 'not set')}" for key in keys)
