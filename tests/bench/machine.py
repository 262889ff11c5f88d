"""The machine that numbers were found on."""

import os
import platform
from pathlib import Path

import torch

from clipcore.precision import has_fast_bf16


def machine(device: torch.device) -> dict[str, str]:
    """Return what the numbers depend on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f} over the last minute, before the first benchmark",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": "bf16 autocast" if has_fast_bf16(device) else "fp32",
        "torch": str(torch.__version__),
        "torch threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
