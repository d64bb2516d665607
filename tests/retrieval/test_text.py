"""Words and sentences: tokens for matching, texts for embedding."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.text import (
    Analyzer,
    document_fields,
    embedding_text,
    expand_word,
    fit_sentences,
    has_digit,
    normalize,
    reader_input,
    reader_text,
    split_sentences,
    split_words,
)
from retrieval.engine.types import EngineError
from tests.fakes import make_document

MEGABYTE = 1_000_000


class WordCounter:
    """Counts words as tokens, and how often and over how much text it was asked to."""

    def __init__(self) -> None:
        self.calls = self.characters = 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        self.characters += len(text)
        return len(text.split())


@pytest.fixture
def count_words():
    return WordCounter()


# --- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Red\tMUG \n", "red mug"),
        ("Ｗｉ－Ｆｉ", "wi-fi"),  # full width
        ("Cafe\u0301", "caf\u00e9"),  # accent as a character of its own
        ("STRASSE Straße", "strasse strasse"),
        ("5 m²", "5 m2"),
        ("red\x00mug", "red mug"),
        ("\xa0", ""),
        ("", ""),
    ],
)
def test_normal_form_has_one_case_one_spelling_and_single_spaces(text, expected):
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("usb-c cable, 27.5 inch", ["usb-c", "cable", "27.5", "inch"]),
        ("802.11n at&t rock'n'roll m+s 9/16", ["802.11n", "at&t", "rock'n'roll", "m+s", "9/16"]),
        ("-mug- (red) . snake_case", ["mug", "red", "snake", "case"]),
        ("größe 猫 😀", ["größe", "猫"]),
        ("???", []),
    ],
)
def test_compounds_are_one_word_and_marks_are_none(text, expected):
    assert split_words(text) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("wi-fi", ("wifi", "wi", "fi")),
        ("usb-c", ("usbc", "usb", "c")),
        ("500ml", ("500ml", "500", "ml")),
        ("27.5", ("27.5",)),
        ("006r90321", ("006r90321",)),
        ("mx-100", ("mx100", "mx", "100")),
        ("802.11n", ("80211n", "802", "11n")),
        ("mug", ("mug",)),
        ("1080p", ("1080p", "1080", "p")),
        ("50inches", ("50inches",)),  # no unit has so many letters
    ],
)
def test_a_word_is_found_joined_and_by_its_parts(word, expected):
    assert expand_word(word) == expected


@pytest.mark.parametrize(("token", "expected"), [("rtx", False), ("rtx2060", True), ("", False), ("٣", True)])
def test_digits_of_every_script_are_seen(token, expected):
    assert has_digit(token) is expected


def test_words_are_stemmed_stopwords_left_out_and_the_order_kept():
    assert Analyzer().tokens("The Mugs for your travels, and a Kettle") == ["mug", "travel", "kettl"]


def test_tokens_with_digits_are_kept_whole():
    assert Analyzer().tokens("HP 006R90321s 4K-Displays") == ["hp", "006r90321s", "4kdisplays", "4k", "display"]


def test_query_and_product_meet_whatever_the_spelling_of_a_compound():
    analyzer = Analyzer()
    assert set(analyzer.tokens("wifi")) <= set(analyzer.tokens("Wi-Fi router"))
    assert set(analyzer.tokens("USB C")) <= set(analyzer.tokens("usb-c cable"))


@pytest.mark.parametrize("text", ["", "???", "the of and", "\x00", "\ud800", "😀"])
def test_a_text_without_words_has_no_tokens(text):
    assert Analyzer().tokens(text) == []


def test_other_languages_stem_by_their_own_rules():
    assert Analyzer("german").tokens("Häuser") == Analyzer("german").tokens("Haus")


def test_unknown_language_is_refused_with_the_choices():
    with pytest.raises(EngineError, match=r"unknown language 'klingon' .* expected one of: .*english"):
        Analyzer("klingon")


def test_threads_share_an_analyzer():
    words = [f"{stem}{ending}" for stem in ("walk", "paint", "boil", "light") for ending in ("s", "ed", "ing", "er")]
    alone = [Analyzer().tokens(word) for word in words]
    for _ in range(5):
        shared = Analyzer()  # nothing remembered yet
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(shared.tokens, words * 20)) == alone * 20


# --- the texts of a product ----------------------------------------------------------------------------


def test_fields_are_the_texts_bm25_weighs():
    document = make_document(
        7, "Kettle", description="Boils.", brand="Wander", category=("Kitchen", "Kettles"), gtin="4006381333931",
        attributes={"colour": "Red", "cordless": "Yes", "whistle": "no", "heats": "True", "smart": "FALSE"},
    )  # fmt: skip
    assert document_fields(document) == {
        "title": "Kettle",
        "brand": "Wander",
        "category": "Kitchen Kettles",
        "attributes": "Red cordless heats",  # a feature is named where the product has it
        "description": "Boils.",
        "code": "SKU-7 4006381333931",
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"title": "Red mug", "description": "Holds tea."}, "Red mug. Holds tea.. SKU-7"),
        ({"title": "Red mug", "description": "Red mug"}, "Red mug. SKU-7"),
        ({"title": "Potta mug", "brand": "POTTA"}, "Potta mug. SKU-7"),
        ({"title": "Mug", "brand": "Potta", "category": ("Kitchen", "Mugs")}, "Mug. Potta. Kitchen Mugs. SKU-7"),
        ({"title": "Mug", "category": ("Mug",), "gtin": "4006381333931"}, "Mug. SKU-7 4006381333931"),
        (
            {
                "title": "Red mug",
                "attributes": {"colour": "red", "size": "340", "for": "tea", "lid": "yes", "hot": "Tea"},
            },
            "Red mug. tea lid. 340. SKU-7",
        ),
        (
            {"title": "Mug", "attributes": {"a": "340", "b": "–", "c": "9 cm"}, "description": "Tea."},
            "Mug. 9 cm. Tea.. 340. SKU-7",
        ),
        ({"title": "", "brand": "Potta"}, "Potta. SKU-7"),
    ],
)
def test_a_reader_is_told_nothing_twice_and_numbers_without_a_unit_last(fields, expected):
    document = make_document(7, **fields)
    assert reader_text(document) == expected
    assert reader_input(replace(document, content_hash="h")) == ("h", expected)


def test_embedded_text_says_title_then_brand_and_category_then_description(count_words):
    document = make_document(
        1, "Red mug", brand="Potta", category=("Kitchen", "Cups"), description="Holds tea. Keeps warm."
    )
    assert embedding_text(document, count_words, 50) == "Red mug, Potta, Cups. Holds tea. Keeps warm"


def test_embedded_text_does_not_repeat_what_the_title_says(count_words):
    document = make_document(1, "POTTA red mug", brand="Potta", category=("Kitchen", "Mug"))
    assert embedding_text(document, count_words, 50) == "POTTA red mug"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Holds tea. Keeps warm!  Why? So; there", ["Holds tea.", "Keeps warm!", "Why?", "So;", "there"]),
        ("• 1.7 l\r\n• Steel  body \n\n•Cordless •", ["1.7 l", "Steel  body", "Cordless"]),
        ("v2.0 of www.example.com", ["v2.0 of www.example.com"]),
        (" \n ", []),
        ("", []),
    ],
)
def test_sentences_end_at_marks_lines_and_bullets(text, expected):
    assert split_sentences(text) == expected


SENTENCES = ["Red mug", "Holds hot tea.", "Keeps it warm.", "Fits the dishwasher."]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (11, "Red mug. Holds hot tea. Keeps it warm. Fits the dishwasher"),
        (10, "Red mug. Holds hot tea. Keeps it warm."),
        (8, "Red mug. Holds hot tea. Keeps it warm."),
        (7, "Red mug. Holds hot tea."),
        (4, "Red mug"),
    ],
)
def test_as_many_whole_sentences_are_kept_as_fit(count_words, budget, expected):
    assert fit_sentences(SENTENCES, count_words, budget) == expected


def test_a_first_sentence_that_is_too_long_is_cut_at_a_word(count_words):
    assert fit_sentences(["A very long  title of a mug", "Holds tea."], count_words, 3) == "A very long"


def test_a_long_text_without_sentence_ends_is_cut_at_a_word(count_words):
    text = " ".join(f"feature{number}" for number in range(100))
    assert fit_sentences(["Red mug", text], count_words, 6) == "Red mug. feature0 feature1 feature2 feature3"


def test_a_long_sentence_behind_enough_whole_ones_is_left_out(count_words):
    assert fit_sentences(["Red mug", "Holds tea.", "word " * 100], count_words, 8) == "Red mug. Holds tea."


def test_a_word_longer_than_the_budget_is_cut_within():
    assert fit_sentences(["猫" * 100], len, 10) == "猫" * 10
    assert fit_sentences(["Cat tree", "猫" * 100], len, 30) == "Cat tree. " + "猫" * 20


def test_no_sentences_give_no_text(count_words):
    assert fit_sentences([], count_words, 10) == fit_sentences([""], count_words, 10) == ""


# The description's size must not show in the work: nothing is counted over and over, nor anything far too long.


@pytest.mark.parametrize(
    "text",
    ["Short one here. " * 62_500, "word " * 200_000, "a" * MEGABYTE, "• " * 500_000, "tea.\n" * 200_000],
    ids=["sentences", "words", "one word", "bullets", "lines"],
)
@pytest.mark.parametrize("place", ["title", "description"])
def test_a_huge_text_is_counted_seldom_and_in_small_pieces(count_words, text, place):
    document = make_document(1, "Mug")
    document = make_document(1, text) if place == "title" else make_document(1, "Mug", description=text)
    embedded = embedding_text(document, count_words, 256)
    assert len(embedded.split()) <= 256
    assert count_words.calls < 60
    assert count_words.characters < MEGABYTE


def test_a_run_of_spaces_is_not_searched_again_from_each_of_them():
    # Were it, this would take the rest of the day.
    assert split_sentences("a" + " " * MEGABYTE + "b") == ["a" + " " * MEGABYTE + "b"]
    assert split_sentences("a" + "\n" * MEGABYTE + "b") == ["a", "b"]


def test_a_huge_text_of_compounds_is_split():
    assert len(split_words("a-" * 500_000)) == 1
    assert len(Analyzer().tokens("x-1/y.2 " * 10_000)) == 50_000


# --- with the real tokenizer ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(default_model):
    return TwoTowerEncoder(default_model, threads=1)


DESCRIPTIONS = {
    "sentences": "The mug keeps 350 ml of tea hot for hours. " * 60,
    "bullets": "• Double-walled steel\n• 350 ml, BPA-free\n" * 60,
    "no ends": "steel mug, double walled, 350 ml, dishwasher safe, " * 60,
    "codes": "006R90321-XYZ/12.5kg_ABC " * 200,
    "chinese": "双层不锈钢保温杯" * 100,
    "accents": "Größenverstellbarer Thermobecher für unterwegs! " * 60,
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
@pytest.mark.parametrize("budget", [16, 128, 256])
def test_the_budget_holds_and_is_used_with_the_real_tokenizer(encoder, kind, budget):
    document = make_document(1, "Thermo mug", brand="Potta", description=DESCRIPTIONS[kind])
    text = embedding_text(document, encoder.count_tokens, budget)
    assert budget / 2 <= encoder.count_tokens(text) <= budget
    assert text.startswith("Thermo mug, Potta")


@pytest.mark.parametrize("kind", ["sentences", "bullets", "no ends", "accents"])
def test_no_word_is_cut_by_the_real_tokenizer_s_budget(encoder, kind):
    document = make_document(1, "Thermo mug", description=DESCRIPTIONS[kind])
    text = embedding_text(document, encoder.count_tokens, 128)
    whole = set(re.split(r"[\s.]+", f"Thermo mug {DESCRIPTIONS[kind]}"))
    assert set(re.split(r"[\s.]+", text)) <= whole


def test_a_short_text_of_many_tokens_keeps_the_budget(encoder):
    # Each of these characters is a token, and two more mark begin and end: one per character is too few.
    text = embedding_text(make_document(1, "猫" * 255), encoder.count_tokens, 256)
    assert encoder.count_tokens(text) == 256
