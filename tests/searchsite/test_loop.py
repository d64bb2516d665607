"""Once around the loop, as small as it goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from experiments.models import Experiment
from retrieval.live import TWO_TOWER, find_live
from retrieval.models import ModelVersion
from retrieval.setup import forget_pipelines, get_store
from searchsite.loop import CHALLENGER
from tests.tiny_models import save_two_tower

SMALL = (
    "--products", "200", "--queries", "200", "--visitors", "120", "--mixed", "20", "--tested", "20", "--broken", "700",
    "--steps", "2",
)  # fmt: skip
STEPS = [
    "shop", "shoppers of the champion", "judgements by the click model", "gate, by held-out clicks",
    "gate, by true grades", "interleaving", "A/B test", "promoted", "a broken ranking",
]  # fmt: skip


@pytest.fixture
def tiny_shop(db, tmp_path, settings) -> Iterator[Path]:
    """The data folder of an empty shop with two towers of one layer."""
    settings.DATA_DIR = tmp_path
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": str(save_two_tower(tmp_path / "tiny")), "RERANKER": ""}
    get_store.cache_clear()
    forget_pipelines()
    yield tmp_path
    forget_pipelines()
    get_store.cache_clear()


@pytest.mark.slow
def test_the_loop_goes_around_stops_what_is_broken_and_promotes_nothing_that_has_not_won(tiny_shop):
    output = StringIO()
    call_command("close_loop", *SMALL, "--json", stdout=output)
    rows = {row["step"]: row["result"] for row in json.loads(output.getvalue())["rows"]}
    assert list(rows) == STEPS
    assert rows["shop"].startswith("200 products")
    assert rows["promoted"].startswith("nothing")
    assert rows["a broken ranking"].startswith("challenger was stopped: guardrail zero_results")
    assert find_live(TWO_TOWER).version != ModelVersion.objects.get(name=CHALLENGER).exported
    assert not Experiment.objects.running().exists()
    with pytest.raises(CommandError, match=f"{CHALLENGER} is there from an earlier loop"):
        call_command("close_loop", *SMALL)
