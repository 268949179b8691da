"""Which device, which precision, how many threads."""

import os
from pathlib import Path

import torch
from torch import nn

from sslnb.core.checks import expect


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def best_precision(device: torch.device) -> str:
    """``"bf16"`` where the device computes in it, else ``"float32"``."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capable = torch.cpu.get_capabilities()
    return "bf16" if capable.get("avx512_bf16") or capable.get("amx_bf16") else "float32"


def training_layout(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Memory format in which a network's weights are learned fastest: channels last, where that is sound.

    On a CPU the backward pass of a strided pointwise convolution with fewer input channels than a vector register has
    numbers writes past its workspace (oneDNN 3.13, issue 6035): wrong gradients, or a crash.
    """
    register = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
    narrow = any(
        module.kernel_size == (1, 1) and max(module.stride) > 1 and module.in_channels // module.groups < register
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    return torch.contiguous_format if device.type == "cpu" and narrow else torch.channels_last


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast context of a precision, ``"bf16"`` or ``"float32"``."""
    expect(precision in ("bf16", "float32"), "precision", "'bf16' or 'float32'", repr(precision))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def describe() -> dict[str, str | int]:
    """Hardware of this run, for provenance: processor, cores, threads, memory, accelerator."""
    facts: dict[str, str | int] = {
        "cpu": str(torch.cpu.get_capabilities().get("cpu_name", "unknown")),
        "cores": os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
    }
    if hasattr(os, "sysconf"):
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    if Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        facts["cpu"] = models[0].partition(":")[2].strip() if models else facts["cpu"]
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts
