"""A PyTorch model traced into an OpenVINO network. The only part that loads torch to serve the engine."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import openvino
import torch
from sentence_transformers import SentenceTransformer
from torch.nn.functional import scaled_dot_product_attention

from retrieval.engine.exported import NETWORK, QUERY_TOWER, TOKENIZER, EncoderError, ModelCard
from retrieval.engine.processor import count_cores, has_vnni
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.learning.adapters import load_cross_encoder, load_two_tower, quiet
from retrieval.learning.calibration import measure_span
from retrieval.learning.examples import JudgedPair
from retrieval.learning.sources import Side, is_untied

TEXTS = ["a first text of a few words", "another", "the third is longer than both, so that they are padded " * 4]
PAIRS = [("a query", text) for text in TEXTS]
Features = Mapping[str, torch.Tensor]
Pair = tuple[str, str]
CALIBRATION_PAIRS = 300
TIMED_PAIRS, TIMED_TOKENS, TIMED_TRIES = 24, 128, 8
IN_FLOAT = "it cannot be quantised; set SEARCHSITE_RERANKER_PRECISION=float, or promote it in float"
QUANTIZED_TOLERANCE = 0.5  # coarse: how much ranking it costs is for the gate to say


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

    def to_trace(self) -> SentenceEncoder:
        return self


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

    def to_trace(self) -> PairScorer:
        """Return what computes the same in less time."""
        if self.model.config.model_type != "bert":
            return self
        lean = copy.deepcopy(self)
        layers = lean.model.bert.encoder.layer
        layers[-1] = FirstTokenLayer(layers[-1])
        return lean


class FirstTokenLayer(torch.nn.Module):
    """A BERT's last layer for its first token alone, the only one that a classifier looks at."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *rest: Any, **options: Any
    ) -> torch.Tensor:
        attention, first = self.layer.attention.self, hidden_states[:, :1]
        query, key, value = (
            project(tokens).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
            for project, tokens in (
                (attention.query, first), (attention.key, hidden_states), (attention.value, hidden_states)
            )
        )  # fmt: skip
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        seen = scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)
        output: torch.Tensor = self.layer.feed_forward_chunk(self.layer.attention.output(seen, first))
        return output


def convert(
    kind: str,
    source: Path,
    folder: Path,
    *,
    base: str,
    version: str,
    quantize_with: Sequence[Pair] = (),
    measure_with: Sequence[JudgedPair] = (),
) -> None:
    """Write the network, tokenizer and card of the model in `source` to `folder`.

    `kind`: two-tower or cross-encoder. Of untied towers that for queries goes to a folder within. `quantize_with`:
    pairs of a query and a product's text, with which a cross-encoder's weights and activations become int8.
    `measure_with`: pairs that tell how far apart it scores right and wrong. Raises EncoderError when the model cannot
    be loaded or converted.
    """
    with quiet(), torch.inference_mode():
        try:
            if kind == "two-tower":
                facts = _write_towers(source, folder, base, version)
            else:
                facts = _write_reranker(source, folder, quantize_with)
        except EncoderError:
            raise
        except Exception as error:  # each library beneath has errors of its own for what it cannot use
            raise EncoderError(f"the {kind} model in {source} cannot be converted: {error}") from error
    card = ModelCard(kind=kind, base=base, version=version, **facts)
    card.write(folder)
    if kind == "cross-encoder":
        reader = CrossEncoderReranker(folder)
        replace(card, pair_ms=time_pair(reader), span=round(measure_span(reader, measure_with), 4)).write(folder)


def time_pair(reader: CrossEncoderReranker) -> float:
    """Return the milliseconds that an exported cross-encoder takes for one of many long pairs, on all cores.

    The median of a few tries, by the clock or by the processor's time shared among the cores, whichever is less:
    what else runs on the machine only slows the clock.
    """
    cores, documents = count_cores(), [("", "word " * TIMED_TOKENS)] * TIMED_PAIRS

    def read() -> float:
        clock, processor = perf_counter(), process_time()
        reader.score("a query", documents)
        return min(perf_counter() - clock, (process_time() - processor) / cores) * 1000 / TIMED_PAIRS

    return round(median(read() for _ in range(TIMED_TRIES)), 4)


def _write_towers(source: Path, folder: Path, base: str, version: str) -> dict[str, Any]:
    """Write one tower, or both, and return the facts of the first: that of the products."""
    facts = _write_encoder(source, folder, "product")
    if not is_untied(source):
        return facts
    (folder / QUERY_TOWER).mkdir()
    query_facts = _write_encoder(source, folder / QUERY_TOWER, "query")
    if query_facts["dim"] != facts["dim"]:
        raise EncoderError(
            f"model {source} has towers of {query_facts['dim']} and {facts['dim']} numbers, which cannot be compared"
        )
    ModelCard(kind="two-tower", base=base, version=version, **query_facts).write(folder / QUERY_TOWER)
    return facts | {"towers": "untied"}


def _write_encoder(source: Path, folder: Path, side: Side) -> dict[str, Any]:
    model = load_two_tower(source, side=side)
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


def _write_reranker(source: Path, folder: Path, quantize_with: Sequence[Pair]) -> dict[str, Any]:
    model, tokenizer = load_cross_encoder(source, needs_head=True)
    max_tokens = _limit_tokens(model, tokenizer)
    module, features = PairScorer(model), _tokenize(tokenizer, PAIRS, max_tokens)
    if quantize_with:
        samples = [_tokenize(tokenizer, [pair], max_tokens) for pair in quantize_with[:CALIBRATION_PAIRS]]
        _save_quantized(module, features, samples, folder)
    else:
        _save_network(module, features, folder)
    _save_tokenizer(tokenizer, folder)
    precision = "int8" if quantize_with else "float"
    return {"max_tokens": max_tokens, "dim": 1, "pad_id": tokenizer.pad_token_id or 0, "precision": precision}


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
    """Write the network, weights in half precision; return its number of outputs."""
    openvino.save_model(_trace(module, features), folder / NETWORK, compress_to_fp16=True)
    return _check_network(module, features, folder)


def _save_quantized(module: PairScorer, features: Features, samples: Sequence[Features], folder: Path) -> None:
    """Write the network with weights and activations in int8, their ranges taken from the samples."""
    nncf: Any = import_module("nncf")  # takes 1.5 s, for this alone
    network = _trace(module, features)
    ports = [port.get_any_name() for port in network.inputs]
    data = nncf.Dataset(samples, lambda sample: {name: sample[name].numpy() for name in ports})
    with redirect_stdout(StringIO()):  # its progress bars: standard output is for what a command answers
        quantized = nncf.quantize(
            network,
            data,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
            fast_bias_correction=True,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=_choose_range(nncf)),
        )
    openvino.save_model(quantized, folder / NETWORK, compress_to_fp16=True)
    _check_network(module, features, folder, tolerance=QUANTIZED_TOLERANCE, cure=IN_FLOAT)


def _choose_range(nncf: Any) -> Any:
    """Return how much of int8's range weights may take: half of it where this processor has no VNNI, else None.

    There, sums of two products are clamped to 16 bits. `nncf` is the module.
    """
    return None if has_vnni() else nncf.OverflowFix.ENABLE


def _trace(module: SentenceEncoder | PairScorer, features: Features) -> openvino.Model:
    """Return the network, batch and length left open."""
    network = openvino.convert_model(module.to_trace(), example_input=dict(features))
    for port in network.inputs:
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    network.validate_nodes_and_infer_types()
    return network


def _check_network(
    module: SentenceEncoder | PairScorer,
    features: Features,
    folder: Path,
    tolerance: float = 0.01,
    cure: str = "this kind of model is not supported",
) -> int:
    """Return the network's number of outputs; raises EncoderError unless it does what the model does.

    The texts are other in number and length than those traced: what tracing made a constant shows here.
    """
    network = openvino.Core().compile_model(folder / NETWORK, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    short = int(features["attention_mask"][:2].sum(1).max())
    fewer = {name: tensor[:2, :short] for name, tensor in features.items()}
    expected = module(**fewer).float().numpy()
    found = np.asarray(network([fewer[port.get_any_name()].numpy() for port in network.inputs])[0])
    error = float(np.abs(expected - found).max() / max(np.abs(expected).max(), module.unit))
    if not error < tolerance:
        raise EncoderError(f"the converted network is off by {error:.2%}: {cure}")
    return int(found.shape[1])
