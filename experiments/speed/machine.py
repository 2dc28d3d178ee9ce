"""What a result was measured with."""

import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import pyrovae as pv

PACKAGES = ("torch", "pyro-ppl", "numpyro", "jax", "jaxlib", "pythae", "numpy")


def about(*, command, seed, data, seconds):
    """Command, seed, versions and hardware, for a section of the results."""
    return {
        "command": command,
        "seed": seed,
        "data": data,
        "seconds": seconds,
        "date": date.today().isoformat(),
        "processor": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "pyrovae": pv.__version__,
            **{name: installed(name) for name in PACKAGES},
        },
    }


def processor():
    """The processor's name as the system says it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores():
    """How many cores this process may use; JAX uses as many, PyTorch says its threads itself."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def installed(package):
    """Its version, or that it is absent."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
