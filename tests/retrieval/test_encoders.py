"""The encoder in OpenVINO: the default model beside PyTorch, and a tiny one where any will do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from retrieval.engine.encoders import WINDOW, EncoderError, TwoTowerEncoder, scale_to_unit
from retrieval.engine.exported import CARD, NETWORK, TOKENIZER, ModelCard
from retrieval.engine.network import BATCH_SIZE, choose_precision, split_evenly
from retrieval.engine.processor import has_bf16
from retrieval.learning import sources
from retrieval.learning.export import export_encoder
from tests.tiny_models import save_two_tower

WEIGHTS = str(Path(NETWORK).with_suffix(".bin"))


def product_texts(count: int) -> list[str]:
    """Return texts as products have them, 3 to 100 words long."""
    random = np.random.default_rng(3)
    words = ["red", "steel", "travel", "mug", "1.7 l", "wireless", "KX-200", "für", "Größe", "sofa,", "with.", "USB-C"]
    lengths = random.geometric(0.1, count).clip(3, 100)
    return [" ".join(random.choice(words, size=length)) for length in lengths]


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return (left * right).sum(1)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def encoder(default_model):
    return TwoTowerEncoder(default_model, precision="f32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a tiny exported encoder without prompts."""
    folder = tmp_path_factory.mktemp("tiny")
    return export_encoder(str(save_two_tower(folder / "plain")), folder / "models")


@pytest.fixture(scope="module")
def prompted(tmp_path_factory):
    """The folders of a tiny encoder with prompts, in PyTorch and exported."""
    folder = tmp_path_factory.mktemp("prompted")
    source = save_two_tower(folder / "prompted", prompts={"query": "travel: ", "document": "steel: "})
    return source, export_encoder(str(source), folder / "models")


# --- the default model ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_vectors_are_those_of_pytorch(encoder):
    model = SentenceTransformer(str(sources.resolve_model("default")), device="cpu")
    texts = [*product_texts(196), "", "猫爬架", "😀", "x" * 300]
    expected = model.encode(texts, normalize_embeddings=True)
    assert cosines(encoder.encode_products(texts), expected).min() >= 0.999


@pytest.mark.slow
@pytest.mark.skipif(not has_bf16(), reason="this processor would only emulate bf16")
def test_half_precision_gives_nearly_the_same_vectors(default_model, encoder):
    texts = product_texts(200)
    halved = TwoTowerEncoder(default_model, precision="bf16").encode_products(texts)
    assert cosines(halved, encoder.encode_products(texts)).min() >= 0.999


@pytest.mark.slow
def test_meaning_is_near(encoder):
    query = encoder.encode_queries(["couch"])
    sofa, pouch = encoder.encode_products(["Three seat sofa in grey velvet", "Leather pouch for coins"])
    assert query[0] @ sofa > query[0] @ pouch + 0.2


@pytest.mark.slow
def test_facts_of_the_default_model(encoder):
    assert (encoder.dim, encoder.max_tokens) == (384, 256)
    assert encoder.model_version.startswith("all-minilm-l6-v2-")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("couch", True),
        ("Couch", True),
        ("keybord", False),
        ("usb-c", False),
        ("", False),
        ("ꙮꙮꙮꙮ", False),  # one token, but that for what is unknown
        ("x" * 200, False),  # as is this
        ("[MASK]", False),
    ],
)
def test_a_word_is_one_the_vocabulary_holds_whole(encoder, word, expected):
    assert encoder.is_word(word) is expected


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "a mug", "Größe 猫 😀", "word " * 1000, "006R90321-XYZ " * 300])
def test_tokens_are_counted_as_if_none_were_cut(default_model, encoder, text):
    tokenizer = Tokenizer.from_file(str(default_model / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert encoder.count_tokens(text) == len(tokenizer.encode(text).ids)


@pytest.mark.slow
def test_a_long_text_is_cut_at_the_model_s_limit(encoder):
    long = "mug " * 5000
    fitting = "mug " * (encoder.max_tokens - 2)
    assert np.allclose(encoder.encode_products([long]), encoder.encode_products([fitting]), atol=1e-5)


@pytest.mark.slow
def test_a_batch_gives_what_single_texts_give(encoder):
    texts = product_texts(40)
    single = np.concatenate([encoder.encode_products([text]) for text in texts])
    assert cosines(encoder.encode_products(texts), single).min() >= 0.9999


@pytest.mark.slow
def test_fewer_dimensions_are_the_first_ones_scaled_to_unit_length(default_model, encoder):
    texts = product_texts(5)
    short = TwoTowerEncoder(default_model, dims=64, precision="f32")
    assert np.allclose(short.encode_queries(texts), scale_to_unit(encoder.encode_queries(texts)[:, :64]), atol=1e-5)
    assert short.dim == 64
    assert short.model_version == f"{encoder.model_version}-64d"


# --- any model -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_encoder(tiny):
    return TwoTowerEncoder(tiny, precision="f32")


TEXTS = ["red mug", "blue kettle of steel", "", "sofa", "a b c d e f g", "?"]


def test_vectors_have_unit_length(tiny_encoder):
    vectors = tiny_encoder.encode_products(TEXTS)
    assert vectors.shape == (len(TEXTS), tiny_encoder.dim) == (6, 32)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("encode", ["encode_queries", "encode_products"])
def test_no_texts_give_no_vectors_of_the_right_shape(tiny, tiny_encoder, encode):
    assert getattr(tiny_encoder, encode)([]).shape == (0, 32)
    assert getattr(TwoTowerEncoder(tiny, dims=8), encode)([]).shape == (0, 8)


def test_the_order_is_that_of_the_texts_whatever_their_lengths(tiny_encoder):
    texts = [" ".join(["mug", "red", "steel"][: n % 4] + ["sofa"] * (n * 7 % 20)) for n in range(5 * BATCH_SIZE + 3)]
    single = np.concatenate([tiny_encoder.encode_products([text]) for text in texts])
    assert np.allclose(tiny_encoder.encode_products(texts), single, atol=1e-4)


def test_more_texts_than_a_window_are_encoded_in_order_and_reported(tiny_encoder):
    done: list[int] = []
    texts = [TEXTS[n % len(TEXTS)] for n in range(WINDOW + 20)]
    vectors = tiny_encoder.encode_products(texts, done.append)
    assert np.allclose(vectors[WINDOW:], tiny_encoder.encode_products(texts[WINDOW:]), atol=1e-4)
    assert done == sorted(done)
    assert done == sorted(done)
    assert (len(done) >= WINDOW // BATCH_SIZE + 2, done[-1]) == (True, WINDOW + 20)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 20, 33, 500])
@pytest.mark.parametrize("streams", [1, 2, 8])
def test_all_streams_get_as_much_to_do(count, streams):
    parts = split_evenly(range(count), streams)
    sizes = [len(part) for part in parts]
    assert [place for part in parts for place in part] == list(range(count))
    assert max(sizes, default=0) <= BATCH_SIZE
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    if count > streams:
        assert len(parts) % streams == 0


def test_threads_share_an_encoder(tiny_encoder):
    texts = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("mug", "sofa", "cup of steel")]
    expected = np.concatenate([tiny_encoder.encode_queries([text]) for text in texts])
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda text: tiny_encoder.encode_queries([text])[0], texts * 20))
        batches = list(threads.map(lambda _: tiny_encoder.encode_products(texts * 5), range(8)))
    assert np.allclose(found, np.tile(expected, (20, 1)), atol=1e-4)
    assert all(np.allclose(batch, np.tile(expected, (5, 1)), atol=1e-4) for batch in batches)


@pytest.mark.parametrize("text", ["\ud800 mug", "\x00", "\u202e", "a" * 100_000, "\n" * 1000, "😀" * 1000])
def test_hostile_text_is_a_text(tiny_encoder, text):
    assert np.isfinite(tiny_encoder.encode_queries([text, "mug"])).all()
    assert tiny_encoder.count_tokens(text) >= 2


@pytest.mark.parametrize(("value", "name"), [(None, "NoneType"), (7, "int"), (b"mug", "bytes"), (["mug"], "list")])
@pytest.mark.parametrize("kind", ["tiny", "prompted"])
def test_what_is_no_text_is_refused_by_name(request, kind, value, name):
    folder = request.getfixturevalue(kind)
    encoder = TwoTowerEncoder(folder if kind == "tiny" else folder[1])
    for encode in (encoder.encode_queries, encoder.encode_products):
        with pytest.raises(EncoderError, match=rf"cannot encode .*: expected a str, got {name}"):
            encode(["mug", value])


def test_a_single_text_is_not_taken_for_a_list_of_letters(tiny_encoder):
    with pytest.raises(EncoderError, match="cannot encode 'mug': expected a list of texts, got one"):
        tiny_encoder.encode_queries("mug")


def test_prompts_are_put_before_queries_and_products(prompted):
    source, folder = prompted
    model, encoder = SentenceTransformer(str(source), device="cpu"), TwoTowerEncoder(folder, precision="f32")
    queries = model.encode(["red mug"], prompt_name="query", normalize_embeddings=True)
    products = model.encode(["red mug"], prompt_name="document", normalize_embeddings=True)
    assert cosines(encoder.encode_queries(["red mug"]), queries).min() >= 0.999
    assert cosines(encoder.encode_products(["red mug"]), products).min() >= 0.999
    assert cosines(queries, products).max() < 0.999
    assert encoder.count_tokens("red mug") == 2 + 2 + 2  # begin and end, prompt, text


# --- what cannot be loaded -----------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [0, -1, 33])
def test_dimensions_the_model_does_not_have_are_refused(tiny, dims):
    with pytest.raises(EncoderError, match=rf"dims={dims}, expected 1 to 32"):
        TwoTowerEncoder(tiny, dims=dims)


def test_wrong_settings_are_refused_with_the_choices(tiny):
    with pytest.raises(EncoderError, match="threads=-1, expected 0 for all cores or more"):
        TwoTowerEncoder(tiny, threads=-1)
    with pytest.raises(EncoderError, match="unknown precision 'int4', expected one of: auto, f32, bf16"):
        TwoTowerEncoder(tiny, precision="int4")  # type: ignore[arg-type]
    assert choose_precision("auto") in ("f32", "bf16")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage", [Path.unlink, truncate, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\xff{}")],
    ids=["missing", "cut short", "empty", "no text"],
)  # fmt: skip
@pytest.mark.parametrize("name", [CARD, TOKENIZER, NETWORK, WEIGHTS])
def test_a_damaged_model_folder_is_refused_with_the_cure(tiny, tmp_path, name, damage: Callable[[Path], None]):
    folder = shutil.copytree(tiny, tmp_path / "damaged")
    damage(folder / name)
    with pytest.raises(EncoderError, match=r"model folder .*damaged .*run: manage.py reindex"):
        TwoTowerEncoder(folder)


@pytest.mark.parametrize("card", ["[]", "null", '{"kind": "two-tower"}', '{"kind": 1, "size": 2}'])
def test_a_card_of_another_form_is_refused_with_the_cure(tiny, tmp_path, card):
    folder = shutil.copytree(tiny, tmp_path / "damaged")
    (folder / CARD).write_text(card)
    with pytest.raises(EncoderError, match=r"model folder .* has no readable model.json .*run: manage.py reindex"):
        TwoTowerEncoder(folder)


def test_a_missing_folder_is_refused_with_the_cure(tmp_path):
    with pytest.raises(EncoderError, match=r"nowhere has no readable model.json .*run: manage.py reindex"):
        TwoTowerEncoder(tmp_path / "nowhere")


def test_another_kind_of_model_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "other")
    card = (folder / CARD).read_text().replace("two-tower", "cross-encoder")
    (folder / CARD).write_text(card)
    assert ModelCard.read(folder).kind == "cross-encoder"
    with pytest.raises(EncoderError, match="holds a cross-encoder model, expected a two-tower one"):
        TwoTowerEncoder(folder)


def test_weights_that_give_no_numbers_are_noticed(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "damaged")
    weights = folder / WEIGHTS
    weights.write_bytes(b"\xff" * weights.stat().st_size)  # nan in every precision
    with pytest.raises(EncoderError, match=r"not finite|cannot be loaded"):
        TwoTowerEncoder(folder).encode_queries(["mug"])


# --- the web process -----------------------------------------------------------------------------------

WEB_PROCESS = """
import os, sys, django
os.environ["DJANGO_SETTINGS_MODULE"] = "searchsite.settings"
django.setup()
import retrieval.engine.pipeline, retrieval.setup
from pathlib import Path
from typing import Any
from retrieval.engine.encoders import TwoTowerEncoder
TwoTowerEncoder(Path(sys.argv[1])).encode_queries(["mug"])
print(sorted({"torch", "sentence_transformers", "transformers"} & sys.modules.keys()))
"""


def test_encoding_a_query_loads_no_torch(tiny):
    found = subprocess.run(
        [sys.executable, "-c", WEB_PROCESS, str(tiny)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (found.stdout, found.returncode) == ("[]\n", 0), found.stderr


def test_a_query_asked_again_gets_the_vector_it_had(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TwoTowerEncoder(tiny, precision="f32")
    first = encoder.encode_queries(["red mug"])
    monkeypatch.setattr(encoder._queries, "run", pytest.fail)
    assert encoder.encode_queries(["red mug"]) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1.0


@pytest.mark.parametrize("texts", ["m", [None], [["red"]]])
def test_a_single_text_that_is_none_is_refused_each_time(tiny: Path, texts: Any) -> None:
    encoder = TwoTowerEncoder(tiny, precision="f32")
    encoder.encode_queries(["m"])
    for _ in range(2):
        with pytest.raises(EncoderError):
            encoder.encode_queries(texts)
