"""Models as the engine runs them: a folder with an OpenVINO network, its tokenizer and a card of facts."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from retrieval.engine.types import EngineError

CARD, NETWORK, TOKENIZER, REGISTER = "model.json", "openvino_model.xml", "tokenizer.json", "exported.json"
QUERY_TOWER = "query"  # the folder within, of a model whose towers are untied
CURE = "run: manage.py reindex"


class EncoderError(EngineError):
    """A model that cannot be found, exported, loaded or run."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What must be known to run an exported model. `version` changes with its weights, tokenizer and settings."""

    kind: str  # two-tower or cross-encoder
    base: str  # the name or path it was exported from
    version: str
    max_tokens: int  # special tokens and prompt included
    dim: int  # numbers the network gives per text: 1 for a cross-encoder
    pad_id: int = 0
    query_prompt: str = ""
    product_prompt: str = ""
    towers: str = "tied"  # untied: queries have a network of their own, in QUERY_TOWER
    precision: str = "float"  # or int8
    pair_ms: float = 0.0  # milliseconds a cross-encoder takes for one of many long pairs, on the machine it was made on
    span: float = 0.0  # how far apart a cross-encoder scores what answers a query from what does not; 0: not known

    def write(self, folder: Path) -> None:
        (folder / CARD).write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Return the card in `folder`; raises EncoderError when it cannot be read."""
        try:
            return cls(**json.loads((folder / CARD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise EncoderError(f"model folder {folder} has no readable {CARD} ({error}); {CURE}") from error


def is_complete(folder: Path) -> bool:
    """Return whether the folder has all its files, and a card that can be read."""
    weights = (folder / NETWORK).with_suffix(".bin")
    try:
        card = ModelCard.read(folder)
    except EncoderError:
        return False
    has_files = all(path.is_file() for path in (folder / TOKENIZER, folder / NETWORK, weights))
    return has_files and (card.towers == "tied" or is_complete(folder / QUERY_TOWER))


def read_register(models_dir: Path) -> dict[str, str]:
    """Return which folder each model name was last exported to; empty when there is no readable register."""
    try:
        register = json.loads((models_dir / REGISTER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return register if isinstance(register, dict) else {}  # a damaged register costs one export


def register_key(kind: str, name: str, precision: str = "float") -> str:
    """Return what a model stands under in the register."""
    return f"{kind}:{name}" if precision == "float" else f"{kind}:{name}+{precision}"


def name_of_key(key: str) -> str:
    """Return the model's name in a key of the register, of the snapshot of its files too."""
    return re.sub(r"(\+int8)?(@\w+)?$", "", key.partition(":")[2])


def find_exported(kind: str, name: str, models_dir: Path, *precisions: str) -> Path:
    """Return the folder that model `name` was last exported to, in the first of `precisions` that there is.

    `kind`: two-tower or cross-encoder. `precisions`: float unless given. Raises EncoderError with the cure when it is
    not there.
    """
    register, precisions = read_register(models_dir), precisions or ("float",)
    for precision in precisions:
        folder = register.get(register_key(kind, name, precision))
        if folder is not None and is_complete(models_dir / folder):
            return models_dir / folder
    wanted = kind if precisions[0] == "float" else f"{precisions[0]} {kind}"
    raise EncoderError(f"the {wanted} model {name!r} has not been exported to {models_dir} yet; {CURE}")
