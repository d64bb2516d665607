"""Models in PyTorch, loaded by name whether their weights are whole or an adapter's, and adapters saved."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch.jit._trace import TracerWarning
from torch.nn import Module, ModuleList
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as _transformers_logging

from retrieval.engine.exported import EncoderError
from retrieval.learning import sources
from retrieval.learning.sources import ADAPTER_WEIGHTS, Side, is_adapter

FACTS = "searchsite.json"  # beside an adapter: the layers of its base that are kept, the tokens it reads
NO_LIMIT = 1_000_000  # what tokenizers without a limit say is above it
transformers_logging: Any = _transformers_logging  # its functions have no types
CrossEncoder = tuple[Any, PreTrainedTokenizerBase]
Loaded = TypeVar("Loaded")


def load_two_tower(name: str | Path, *, side: Side = "product") -> SentenceTransformer:
    """Return two-tower model `name` in float32 on the CPU, adapters merged into the weights.

    `side`: which tower, where they are untied. Raises EncoderError when it cannot be had or is unsafe to load.
    """
    return _load(name, "two-tower", lambda folder: _load_tower(folder, side))


def load_cross_encoder(name: str | Path, *, layers: Sequence[int] = (), needs_head: bool = False) -> CrossEncoder:
    """Return cross-encoder `name` in float32 on the CPU, adapters merged, and its tokenizer.

    A model without a head gets a fresh one of one label, to be learned, unless it `needs_head`. `layers`: those of
    its layers to keep, counted from 0, all by default. Raises EncoderError when it cannot be had, is unsafe to load
    or is no cross-encoder.
    """
    return _load(name, "cross-encoder", lambda folder: _load_scorer(folder, layers, needs_head))


def save_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    base: str,
    layers: Sequence[int] = (),
    max_tokens: int | None = None,
    adapter_name: str = "default",
    strength: float = 1.0,
) -> Path:
    """Write an adapter of model `base`, its weights in half precision, and return its folder.

    `layers`: those of the base that were kept, () for all. `max_tokens`: how many tokens the model reads, what the
    tokenizer says by default. `strength`: how far it goes from the base, 1 for as far as was learned. The tokenizer
    itself stays with the base.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=False)
    halved = {name: weight.detach().to("cpu", torch.float16).contiguous() for name, weight in weights.items()}
    save_file(halved, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    settings: Any = copy.deepcopy(model.peft_config[adapter_name])
    settings.base_model_name_or_path, settings.inference_mode = base, True
    settings.lora_alpha *= strength
    settings.save_pretrained(str(folder))
    limit = max_tokens or min(tokenizer.model_max_length, NO_LIMIT)
    facts = {"layers": list(layers), "max_tokens": limit if limit < NO_LIMIT else None}
    (folder / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return folder


def read_facts(folder: Path) -> tuple[tuple[int, ...], int | None]:
    """Return the layers an adapter keeps of its base, () for all, and the tokens it reads, None for the base's."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        layers, max_tokens = tuple(int(layer) for layer in facts.get("layers") or ()), facts.get("max_tokens")
        return layers, None if max_tokens is None else int(max_tokens)
    except FileNotFoundError:  # saved by peft itself
        return (), None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"{folder / FACTS} cannot be read ({error}); save the adapter again") from error


def keep_layers(model: Any, layers: Sequence[int]) -> None:
    """Leave only these of the transformer's layers, counted from 0; raises EncoderError for others."""
    count = model.config.num_hidden_layers
    if not all(0 <= layer < count for layer in layers) or sorted(set(layers)) != list(layers):
        raise EncoderError(f"layers {list(layers)}: expected different ones from 0 to {count - 1}, in their order")
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, ModuleList) and len(child) == count:
                setattr(module, name, ModuleList([child[layer] for layer in layers]))
                model.config.num_hidden_layers = len(layers)
                return
    raise EncoderError(f"{type(model).__name__} has no list of {count} layers: only whole it can be used")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the libraries say of their own code while models are loaded, wrapped, merged or traced."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        for library in ("torch", "transformers", "sentence_transformers", "peft", "openvino"):
            warnings.filterwarnings("ignore", module=rf"{library}\.")
        warnings.filterwarnings("ignore", category=TracerWarning)
        try:
            yield
        finally:
            transformers_logging.set_verbosity(level)
            transformers_logging.enable_progress_bar()


def _load(name: str | Path, kind: str, load: Callable[[Path], Loaded]) -> Loaded:
    source = sources.fetch(sources.resolve_model(str(name)))
    try:
        with quiet():
            return load(source)
    except EncoderError:
        raise
    except Exception as error:  # each library beneath has errors of its own for files it cannot use
        raise EncoderError(f"the {kind} model in {source} cannot be loaded: {error}") from error


def _load_tower(source: Path, side: Side) -> SentenceTransformer:
    side = side if sources.is_untied(source) else "product"
    folder = sources.find_tower(source, side)
    if not is_adapter(folder):
        options = {"use_safetensors": True, "dtype": torch.float32}
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs=options).eval()
    model = _load_tower(sources.fetch(sources.resolve_base(folder)), side)
    layers, max_tokens = read_facts(folder)
    transformer: Any = model[0]
    transformer.model = _merge(transformer.model, folder, layers)
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    return model.eval()


def _load_scorer(source: Path, layers: Sequence[int], needs_head: bool) -> CrossEncoder:
    folder = sources.find_tower(source)
    if is_adapter(folder):
        model, tokenizer = _load_adapted_scorer(folder, needs_head)
    else:
        model, tokenizer = _load_whole_scorer(folder, needs_head)
    if layers:
        keep_layers(model, layers)
    return model.eval(), tokenizer


def _load_adapted_scorer(folder: Path, needs_head: bool) -> CrossEncoder:
    layers, max_tokens = read_facts(folder)
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as weights:
        brings_head = any(".classifier." in name for name in weights.keys())  # noqa: SIM118
    base = sources.fetch(sources.resolve_base(folder))
    model, tokenizer = _load_scorer(base, (), needs_head and not brings_head)
    if max_tokens is not None:
        tokenizer.model_max_length = max_tokens
    return _merge(model, folder, layers), tokenizer


def _load_whole_scorer(folder: Path, needs_head: bool) -> CrossEncoder:
    folder = sources.list_modules(folder)[0]  # the transformer, without what follows it
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    settings = AutoConfig.from_pretrained(folder, local_files_only=True)
    if not needs_head and not any("SequenceClassification" in name for name in settings.architectures or ()):
        settings.num_labels = 1
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        folder, config=settings, use_safetensors=True, local_files_only=True, output_loading_info=True,
        dtype=torch.float32,
    )  # fmt: skip
    missing = sorted(name for name in loading["missing_keys"] if needs_head or not name.startswith("classifier."))
    if missing:
        raise EncoderError(f"model {folder} is no cross-encoder: it has no {', '.join(missing)}")
    if model.config.num_labels > 2:
        raise EncoderError(f"model {folder} has {model.config.num_labels} labels, expected 1 or 2")
    return model, tokenizer


def _merge(model: Any, folder: Path, layers: Sequence[int]) -> Module:
    """Return the model with what the adapter in `folder` changes, as one with weights of its own."""
    if layers:
        keep_layers(model, layers)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        try:
            adapted = PeftModel.from_pretrained(model, str(folder))
        except UserWarning as error:
            raise EncoderError(f"the adapter in {folder} does not fit its model: {str(error)[:200]}") from error
    merged: Module = adapted.merge_and_unload()
    return merged
