"""What the device that models are trained on can do."""

from __future__ import annotations

import torch

from retrieval.engine.processor import has_bf16


def computes_in_bf16(device_type: str) -> bool:
    """Return whether this device, cuda or cpu, computes in bf16 itself: emulated, it is slower than float32."""
    if device_type == "cuda":
        is_supported: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return is_supported
    return has_bf16()
