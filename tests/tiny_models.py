"""Models of one layer with random weights, in the form the real ones have: made in a blink, nothing downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer
from transformers.utils import logging

WORDS = ["red", "blue", "green", "steel", "mug", "kettle", "sofa", "travel", "cup", "for", "of", ".", ",", ":"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
MAX_TOKENS = 48

logging.disable_progress_bar()
torch.set_num_threads(1)  # its threads wait for each other at full speed: on shared cores one is quicker


def make_tokenizer() -> Any:
    return BertTokenizer(vocab={word: code for code, word in enumerate(VOCABULARY)}, model_max_length=MAX_TOKENS)


def make_config(*, spread: float = 0.2, **settings: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, initializer_range=spread, **settings,
    )  # fmt: skip


def save_cross_encoder(folder: Path, *, seed: int = 1, labels: int = 1, spread: float = 0.2) -> Path:
    torch.manual_seed(seed)
    BertForSequenceClassification(make_config(num_labels=labels, spread=spread)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def save_two_tower(folder: Path, *, seed: int = 1, prompts: dict[str, str] | None = None) -> Path:
    torch.manual_seed(seed)
    transformer = folder.with_name(f"{folder.name}-transformer")
    BertModel(make_config()).save_pretrained(transformer)
    make_tokenizer().save_pretrained(transformer)
    modules = [Transformer(str(transformer)), Pooling(32)]
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder), create_model_card=False)
    return folder
