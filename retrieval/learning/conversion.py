"""A PyTorch model traced into an OpenVINO network. The only part that loads torch to serve the engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from sentence_transformers import SentenceTransformer
from torch.jit._trace import TracerWarning
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as _transformers_logging

from retrieval.engine.exported import NETWORK, TOKENIZER, EncoderError, ModelCard

TEXTS = ["a first text of a few words", "another", "the third is longer than both, so that they are padded " * 4]
PAIRS = [("a query", text) for text in TEXTS]
Features = Mapping[str, torch.Tensor]
transformers_logging: Any = _transformers_logging  # its functions have no types


class SentenceEncoder(torch.nn.Module):
    """All of a sentence-transformers model: transformer, pooling and whatever else it has."""

    unit = 1e-6  # outputs are compared with their own size, whatever it is

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.model({"input_ids": input_ids, "attention_mask": attention_mask})[
            "sentence_embedding"
        ]
        return output


class PairScorer(torch.nn.Module):
    """A sequence classifier that gives only the logit of its last label."""

    unit = 1.0  # of logits near 0, half precision keeps few digits, and few are needed

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits[:, -1:]


def convert(kind: str, source: Path, folder: Path, *, base: str, version: str) -> None:
    """Write the network, tokenizer and card of the model in `source` to `folder`.

    `kind`: two-tower or cross-encoder. Raises EncoderError when the model cannot be loaded or converted.
    """
    write = {"two-tower": _write_encoder, "cross-encoder": _write_reranker}[kind]
    with _quiet(), torch.inference_mode():
        try:
            facts = write(source, folder)
        except EncoderError:
            raise
        except Exception as error:  # each library beneath has errors of its own for files it cannot use
            raise EncoderError(f"the {kind} model in {source} cannot be converted: {error}") from error
    ModelCard(kind=kind, base=base, version=version, **facts).write(folder)


def _write_encoder(source: Path, folder: Path) -> dict[str, Any]:
    model = SentenceTransformer(
        str(source), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True, "dtype": torch.float32}
    ).eval()
    prompts = model.prompts or {}
    if any(prompts.values()) and not all(getattr(module, "include_prompt", True) for module in model):
        raise EncoderError(f"model {source} leaves its prompt out of pooling, which is not supported")
    max_tokens = _limit_tokens(model, model.tokenizer)
    features = _tokenize(model.tokenizer, TEXTS, max_tokens)
    names = ("input_ids", "attention_mask")
    dim = _save_network(SentenceEncoder(model), {name: features[name] for name in names}, folder)
    _save_tokenizer(model.tokenizer, folder)
    product_prompts = [prompts.get(name) for name in ("document", "passage", "corpus")]
    return {
        "max_tokens": max_tokens,
        "dim": dim,
        "pad_id": model.tokenizer.pad_token_id or 0,
        "query_prompt": prompts.get("query") or "",
        "product_prompt": next(filter(None, product_prompts), ""),
    }


def _write_reranker(source: Path, folder: Path) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        source, use_safetensors=True, local_files_only=True, output_loading_info=True, dtype=torch.float32
    )
    if loading["missing_keys"]:
        raise EncoderError(
            f"model {source} is no cross-encoder: it has no {', '.join(sorted(loading['missing_keys']))}"
        )
    if model.config.num_labels > 2:
        raise EncoderError(f"model {source} has {model.config.num_labels} labels, expected 1 or 2")
    max_tokens = _limit_tokens(model, tokenizer)
    _save_network(PairScorer(model.eval()), _tokenize(tokenizer, PAIRS, max_tokens), folder)
    _save_tokenizer(tokenizer, folder)
    return {"max_tokens": max_tokens, "dim": 1, "pad_id": tokenizer.pad_token_id or 0}


def _tokenize(tokenizer: Any, texts: list[Any], max_tokens: int) -> dict[str, torch.Tensor]:
    features = tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    return {name: features[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in features}


def _limit_tokens(model: torch.nn.Module, tokenizer: Any) -> int:
    """Return how many tokens the model takes: what its tokenizer says, at most its positions."""
    limits = [int(min(tokenizer.model_max_length, 1_000_000))]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            # RoBERTa and its kin count positions from behind the padding's.
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    return min(limits) if min(limits) < 1_000_000 else 512


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise EncoderError(f"tokenizer {type(tokenizer).__name__} has no fast form (tokenizer.json), which is needed")
    tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))


def _save_network(module: SentenceEncoder | PairScorer, features: Features, folder: Path) -> int:
    """Write the network, batch and length left open, weights in half precision; return its number of outputs."""
    network = openvino.convert_model(module, example_input=dict(features))
    for port in network.inputs:
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    network.validate_nodes_and_infer_types()
    openvino.save_model(network, folder / NETWORK, compress_to_fp16=True)
    return _check_network(module, features, folder)


def _check_network(module: SentenceEncoder | PairScorer, features: Features, folder: Path) -> int:
    """Return the network's number of outputs; raises EncoderError unless it does what the model does.

    The texts are other in number and length than those traced: what tracing made a constant shows here.
    """
    network = openvino.Core().compile_model(folder / NETWORK, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    short = int(features["attention_mask"][:2].sum(1).max())
    fewer = {name: tensor[:2, :short] for name, tensor in features.items()}
    expected = module(**fewer).float().numpy()
    found = np.asarray(network([fewer[port.get_any_name()].numpy() for port in network.inputs])[0])
    error = float(np.abs(expected - found).max() / max(np.abs(expected).max(), module.unit))
    if not error < 0.01:
        raise EncoderError(f"the converted network is off by {error:.2%}: this kind of model is not supported")
    return int(found.shape[1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what tracing says of the libraries' own code: the check at the end is what counts."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with warnings.catch_warnings():
        for library in ("torch", "transformers", "sentence_transformers", "openvino"):
            warnings.filterwarnings("ignore", module=rf"{library}\.")
        warnings.filterwarnings("ignore", category=TracerWarning)
        try:
            yield
        finally:
            transformers_logging.set_verbosity(level)
            transformers_logging.enable_progress_bar()
