"""A small shop with models beside each other, for tests of what serves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from retrieval import indexing
from retrieval.live import MODELS_DIR
from tests.factories import make_product

TITLES = ["Red mug", "Blue mug", "Green mug", "Steel kettle", "Red sofa", "Blue travel cup"]


@dataclass(frozen=True)
class Towers:
    """Names of three two-tower models, and their versions: all exported."""

    names: list[str]
    versions: list[str]


@pytest.fixture(scope="session")
def towers(tmp_path_factory) -> Towers:
    from retrieval.learning.export import export_encoder
    from tests.tiny_models import save_two_tower  # brings torch

    folder = tmp_path_factory.mktemp("towers")
    names = [str(save_two_tower(folder / f"tower-{number}", seed=number)) for number in (1, 2, 3)]
    return Towers(names, [export_encoder(name, MODELS_DIR).name for name in names])


@pytest.fixture
def live(shop, towers, settings) -> str:
    """A shop of six products indexed by the first model, which the settings name; its version."""
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": towers.names[0], "RERANKER": ""}
    for title in TITLES:
        make_product(title)
    return indexing.rebuild().model_version
