"""The catalogue's words: rarity, spelling, completion."""

from math import log

import pytest

from retrieval.engine.lexicon import Lexicon, build_lexicon, spoken_words
from retrieval.engine.text import Analyzer
from tests.fakes import make_document

SHOP = [
    make_document(1, "Gaming keyboard", brand="Typa", category=("Computers", "Keyboards")),
    make_document(2, "Wireless keyboard", description="A keyboard without wires: peripheral."),
    make_document(3, "Wi-Fi router 500ml", brand="Ñandú"),
]


def lexicon_of(words: dict[str, int], document_count: int = 10) -> Lexicon:
    return Lexicon(document_count, {}, words, {})


# --- counts --------------------------------------------------------------------------------------------


def test_products_are_counted_once_for_each_stem_they_have():
    lexicon = build_lexicon(SHOP, Analyzer())
    assert lexicon.document_count == 3
    assert lexicon.stems["keyboard"] == 2
    assert lexicon.stems["peripher"] == 1


def test_spoken_words_come_from_title_brand_and_category_as_written():
    words = build_lexicon(SHOP, Analyzer()).words
    assert (words["keyboard"], words["keyboards"], words["typa"], words["ñandú"]) == (2, 1, 1, 1)
    assert "peripheral" not in words


def test_compounds_are_spoken_whole_joined_and_in_parts():
    assert spoken_words("Wi-Fi 500ml") == {"wi-fi", "wifi", "wi", "fi", "500ml", "500", "ml"}


def test_average_lengths_are_the_mean_number_of_tokens():
    lengths = build_lexicon(SHOP, Analyzer()).average_lengths
    # Titles: 2, 2, and 'wifi wi fi router 500ml 500 ml'.
    assert lengths["title"] == pytest.approx((2 + 2 + 7) / 3)
    assert lengths["brand"] == pytest.approx(2 / 3)
    assert lengths["attributes"] == 0


def test_an_empty_catalogue_has_a_lexicon(tmp_path):
    lexicon = build_lexicon([], Analyzer())
    assert (lexicon.document_count, lexicon.stems, lexicon.words, lexicon.average_lengths) == (0, {}, {}, {})
    assert lexicon.correct_word("keybord") == "keybord"
    assert lexicon.complete_word("k") == []
    assert lexicon.idf("mug") == log(2)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, log(1 + 10.5 / 0.5)), (1, log(1 + 9.5 / 1.5)), (10, log(1 + 0.5 / 10.5))]
)
def test_idf_is_robertsons(count, expected):
    assert Lexicon(10, {"mug": count}, {}, {}).idf("mug") == pytest.approx(expected)


def test_merging_adds_the_counts_and_keeps_the_lengths():
    merged = Lexicon(2, {"mug": 2}, {"mugs": 1}, {"title": 2.0}).merge(
        Lexicon(1, {"mug": 1, "sofa": 1}, {"sofa": 1}, {"title": 9.0})
    )
    assert merged == Lexicon(3, {"mug": 3, "sofa": 1}, {"mugs": 1, "sofa": 1}, {"title": 2.0})


# --- spelling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("keybord", "keyboard"),
        ("keyborad", "keyboard"),  # two neighbours swapped are one edit
        ("kyebaord", "keyboard"),
        ("wireles", "wireless"),
        ("qeyboard", "keyboard"),  # the first letter may be wrong too
        ("keyboard", "keyboard"),
        ("kybrdd", "kybrdd"),  # three edits are another word
        ("muug", "mug"),
        ("mgu", "mgu"),  # too short to know
        ("sofaaa", "sofa"),
        ("soofaa", "sofa"),
        ("sfoaa", "sfoaa"),  # five letters: one edit
        ("keyb0rd", "keyb0rd"),  # a code
        ("rtx206", "rtx206"),
        ("from", "from"),  # a stopword, not a misspelt 'form'
        ("", ""),
    ],
)
def test_words_are_corrected_within_one_edit_or_two(word, expected):
    lexicon = lexicon_of({"keyboard": 5, "wireless": 3, "mug": 9, "sofa": 4, "rtx2060": 8, "form": 7})
    assert lexicon.correct_word(word) == expected


def test_the_nearer_word_wins_over_the_more_frequent():
    assert lexicon_of({"monitor": 1, "monitors": 100}).correct_word("moniter") == "monitor"


def test_among_equally_near_words_the_more_frequent_wins():
    assert lexicon_of({"table": 3, "cable": 3, "sable": 50}).correct_word("yable") == "sable"
    assert lexicon_of({"tables": 2, "tablet": 9}).correct_word("tablez") == "tablet"


def test_the_same_first_letter_outweighs_frequency():
    assert lexicon_of({"couch": 100, "pouch": 5}).correct_word("pouhc") == "pouch"
    assert lexicon_of({"light": 1, "night": 900}).correct_word("lighr") == "light"


def test_the_most_frequent_of_very_many_near_words_wins():
    # More of them, and it the last, than any list of the best could keep by luck.
    near = {f"ab{x}{y}ef": 1 for x in "cdghijklmnop" for y in "cdghijklmnop"}
    assert lexicon_of(near | {"abzzef": 2}).correct_word("abqqef") == "abzzef"


def test_words_as_near_and_as_frequent_are_told_apart_the_same_way_every_time():
    words = ["tablet", "tables", "tabled"]
    orders = [words, words[::-1], sorted(words)]
    assert {lexicon_of(dict.fromkeys(order, 3)).correct_word("tableq") for order in orders} == {"tabled"}


def test_words_seen_once_correct_nothing_in_a_large_catalogue():
    words = {"keyboard": 1, "keynotes": 2}
    assert lexicon_of(words, document_count=499).correct_word("keybord") == "keyboard"
    assert lexicon_of(words, document_count=500).correct_word("keybord") == "keybord"


# --- completion ----------------------------------------------------------------------------------------


def test_words_are_completed_most_frequent_first_then_by_alphabet():
    lexicon = lexicon_of({"keyboard": 3, "keys": 1, "key": 3, "kettle": 9, "mug": 9, "keyrings": 1})
    assert lexicon.complete_word("key") == ["key", "keyboard", "keyrings", "keys"]
    assert lexicon.complete_word("ke", limit=2) == ["kettle", "key"]
    assert lexicon.complete_word("keyz") == []


def test_prefixes_of_every_script_are_completed():
    lexicon = lexicon_of({"größe": 1, "grün": 2, "猫爬架": 1, "😀": 1})
    assert lexicon.complete_word("gr") == ["grün", "größe"]
    assert lexicon.complete_word("猫") == ["猫爬架"]


# --- files ---------------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded(tmp_path):
    lexicon = build_lexicon(SHOP, Analyzer())
    lexicon.save(tmp_path)
    assert Lexicon.load(tmp_path) == lexicon


def test_odd_characters_survive_saving(tmp_path):
    words = {"größe": 1, "猫": 2, "😀": 3, "\ud800half": 4, 'q"uote\\\n': 5, "\u2028": 6}
    lexicon_of(words).save(tmp_path)
    assert Lexicon.load(tmp_path).words == words
