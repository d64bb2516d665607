"""In which precision a device trains."""

from __future__ import annotations

import pytest
import torch

from retrieval.learning import devices


@pytest.mark.parametrize("is_supported", [True, False])
def test_a_gpu_trains_in_bf16_only_where_it_computes_in_it(monkeypatch, is_supported):
    # In place of a GPU: what PyTorch says of one.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: is_supported)
    monkeypatch.setattr(devices, "has_bf16", lambda: not is_supported)
    assert devices.computes_in_bf16("cuda") is is_supported
    assert devices.computes_in_bf16("cpu") is not is_supported
