"""Adapters of the same base made one, by the mean of what each changes: better than any of them, and no slower."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

from retrieval.engine.exported import EncoderError
from retrieval.learning.adapters import FACTS, read_facts
from retrieval.learning.sources import ADAPTER, ADAPTER_WEIGHTS, is_adapter, read_adapter

Weights = Mapping[str, torch.Tensor]
# What must be the same, or weights of one name do not mean the same.
COMMON = ("base_model_name_or_path", "target_modules", "modules_to_save", "use_rslora", "use_dora")
MOST_RANKS = 2  # of the highest rank that was trained: more of them would only make the mean larger
A, B = ".lora_A.", ".lora_B."


def check_averageable(folder: Path, base: str) -> None:
    """Raise EncoderError unless `folder` holds a LoRA adapter of model `base`."""
    if not is_adapter(folder):
        raise EncoderError(f"{folder} holds no adapter, and only adapters of the same base can be averaged")
    own = read_adapter(folder).get("base_model_name_or_path")
    if own != base:
        raise EncoderError(f"the adapter in {folder} changes model {own!r}, not {base!r}: train both from one base")


def average_adapters(folders: Sequence[Path], target: Path) -> Path:
    """Write the mean of LoRA adapters to the new folder `target` and return it.

    The mean of products B·A is one product of all ranks together: A's below each other, B's beside each other, each
    by its share. Of many, the best MOST_RANKS times the highest rank are kept. What was trained in full, such as a
    head, is averaged itself. Wortsman et al. 2022, "Model soups". Raises EncoderError for adapters that do not fit
    each other.
    """
    settings, weights = [read_adapter(folder) for folder in folders], [_read(folder) for folder in folders]
    for folder, other, found in zip(folders[1:], settings[1:], weights[1:], strict=True):
        differs = next((name for name in COMMON if other.get(name) != settings[0].get(name)), None)
        if read_facts(folder) != read_facts(folders[0]):
            differs = "layers or max_tokens"
        if differs or found.keys() != weights[0].keys():
            raise EncoderError(
                f"the adapters in {folders[0]} and {folder} differ in {differs or 'their weights'}: only alike ones "
                "can be averaged"
            )
    scales = [one["lora_alpha"] / one["r"] for one in settings]
    unfinished = target.with_name(f".unfinished-{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    merged = {name: _average(name, [found[name] for found in weights], scales) for name in weights[0]}
    ranks = [one["r"] for one in settings]
    rank = min(sum(ranks), MOST_RANKS * max(ranks))
    if rank < sum(ranks):
        merged |= {
            name: weight for first in merged if A in first for name, weight in _shorten(first, merged, rank).items()
        }
    merged = {name: weight.to(weights[0][name].dtype).contiguous() for name, weight in merged.items()}
    save_file(merged, unfinished / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (unfinished / ADAPTER).write_text(json.dumps(settings[0] | {"r": rank, "lora_alpha": rank}, indent=2))
    if (folders[0] / FACTS).is_file():
        (unfinished / FACTS).write_text((folders[0] / FACTS).read_text(encoding="utf-8"), encoding="utf-8")
    return unfinished.rename(target)


def _read(folder: Path) -> Weights:
    return load_file(folder / ADAPTER_WEIGHTS)


def _average(name: str, found: Sequence[torch.Tensor], scales: Sequence[float]) -> torch.Tensor:
    count, full = len(found), [weight.float() for weight in found]
    if A in name:
        return torch.cat(full, dim=0)
    if B in name:
        return torch.cat([weight * (scale / count) for weight, scale in zip(full, scales, strict=True)], dim=1)
    return torch.stack(full).mean(dim=0)


def _shorten(name: str, merged: Weights, rank: int) -> Weights:
    """Return both parts of the product that A `name` belongs to, of this rank and as near to it as can be.

    The singular value decomposition of B·A, without making the product: that of the small factors' own triangles.
    """
    other = name.replace(A, B)
    left, right = torch.linalg.qr(merged[other]), torch.linalg.qr(merged[name].T)
    inner, values, outer = torch.linalg.svd(left.R @ right.R.T, full_matrices=False)
    roots, missing = values[:rank].sqrt(), max(rank - len(values), 0)  # of a matrix smaller than the rank
    first, second = roots[:, None] * (outer[:rank] @ right.Q.T), left.Q @ inner[:, :rank] * roots
    return {name: pad(first, (0, 0, 0, missing)), other: pad(second, (0, missing))}
