"""What a shopper typed, and what was probably meant."""

import pytest

from retrieval.engine.lexicon import build_lexicon
from retrieval.engine.query import MAX_LENGTH, ParsedQuery, contains_phrases, correct_query, parse_query
from retrieval.engine.text import Analyzer
from tests.fakes import make_document

ANALYZER = Analyzer()
LEXICON = build_lexicon(
    [
        make_document(1, "Gaming keyboard", description="With backlights."),
        make_document(2, "Leather pouch"),
        make_document(3, "USB stick"),
        make_document(4, "WiFi router"),
        make_document(5, "Denim shirt"),
        make_document(6, "Coffee machine MX100"),
    ],
    ANALYZER,
)


def correct(text: str, known: tuple[str, ...] = ()) -> tuple[str, str]:
    corrected, offered = correct_query(parse_query(text), LEXICON, ANALYZER, known.__contains__)
    return corrected.text, offered


# --- parsing -------------------------------------------------------------------------------------------


def test_a_query_is_read_in_normal_form():
    assert parse_query("  Red\tＭＵＧ ") == ParsedQuery("red mug")
    assert parse_query("  Red\tＭＵＧ ").words == ["red", "mug"]


@pytest.mark.parametrize(
    ("text", "plain", "phrases"),
    [
        ('"Ceramic Mug" red', "ceramic mug red", ("ceramic mug",)),
        ("„große Tasse“ rot", "grosse tasse rot", ("grosse tasse",)),
        ("« grande tasse » rouge", "grande tasse rouge", ("grande tasse",)),
        ('"red" "mug"', "red mug", ("red", "mug")),
        ('"24" monitor"', "24 monitor", ("24",)),
        ('"unclosed mug', "unclosed mug", ()),
        ('""', "", ()),
        ('"?!" mug', "?! mug", ()),
        ('24" monitor', "24 monitor", ()),
        ('8" x 10" frame', "8 x 10 frame", ()),  # inches, not a phrase ' x 10'
        ("5' 10\" pole or 6' 2\"", "5' 10 pole or 6' 2", ()),
    ],
)
def test_quoted_words_are_phrases_and_inches_are_not(text, plain, phrases):
    assert parse_query(text) == ParsedQuery(plain, phrases)


@pytest.mark.parametrize(
    ("text", "code"),
    [(" 006R90321 ", "006r90321"), ("sku-5", "sku-5"), ("mug", ""), ("mx 100", ""), ("", ""), ('"4006381"', "4006381")],
)
def test_one_word_with_a_digit_may_be_a_code(text, code):
    assert parse_query(text).code == code


@pytest.mark.parametrize(
    "text",
    ["", "\x00", "\ud800", "😀", "'; DROP TABLE x; --", "<script>alert(1)</script>", '"' * 9_999, "%_*?[", "\u202e"],
)
def test_hostile_text_is_read_as_words_or_as_none(text):
    parsed = parse_query(text)
    assert all(word.strip() for word in parsed.words)
    assert correct_query(parsed, LEXICON, ANALYZER, lambda word: False)[0].phrases == parsed.phrases


def test_endless_text_is_cut():
    assert parse_query("a" * 10_000).text == "a" * MAX_LENGTH
    # One character may become 18 in normal form.
    assert len(parse_query("\ufdfa" * 10_000).text) <= 18 * MAX_LENGTH


def test_words_made_to_look_like_patterns_are_replaced_as_they_stand():
    assert correct("keybord (a+)+$ \\1 [") == ("keyboard (a+)+$ \\1 [", "")


# --- correction ----------------------------------------------------------------------------------------


def test_misspelt_words_are_replaced_by_the_catalogue_s():
    assert correct("gamin keybord") == ("gaming keyboard", "")


def test_a_word_the_model_knows_is_offered_a_correction_but_kept():
    assert correct("pouck", known=("pouck",)) == ("pouck", "pouch")
    assert correct("pouck") == ("pouch", "")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gaimng", ("gaming", "")),  # two neighbours swapped are one edit
        ("gaimgn", ("gaimgn", "gaming")),
        ("couch", ("couch", "pouch")),  # another first letter
        ("keybaodr", ("keyboard", "")),  # two edits of eight letters
        ("lkeyboard", ("keyboard", "")),
        ("laetherr", ("leather", "")),
        ("laethre", ("laethre", "leather")),  # two of seven
    ],
)
def test_what_is_less_near_than_a_slip_is_only_offered(typed, expected):
    assert correct(typed) == expected


def test_one_word_may_be_replaced_and_another_offered():
    assert correct("couch keybord", known=("couch",)) == ("couch keyboard", "pouch keyboard")


def test_a_word_given_twice_is_replaced_twice():
    assert correct("keybord for keybord") == ("keyboard for keyboard", "")


def test_only_whole_words_are_replaced():
    assert correct("xkeybord2 keybord keybord2") == ("xkeybord2 keyboard keybord2", "")


@pytest.mark.parametrize(
    "text",
    [
        '"keybord"',  # quoted: meant so
        "mx101",  # a code
        "keyboards",  # its stem is known
        "backlight",  # known from a description
        "wi-fi",  # known joined: wifi
        "usb-stick",  # known in parts
        "t-shirt",  # a part too short to be misspelt
        "made-from-leather",  # stopwords are known
        "zzyzx",  # near nothing
        "mgu",  # too short
    ],
)
def test_what_is_known_quoted_short_or_a_code_stays_as_typed(text):
    assert correct(text) == (text.strip('"'), "")


def test_a_misspelt_part_of_a_compound_is_seen():
    lexicon = build_lexicon([make_document(1, "Keyboard-tray")], ANALYZER)
    corrected, _ = correct_query(parse_query("keybord-tray"), lexicon, ANALYZER, lambda word: False)
    assert corrected.text == "keyboard-tray"


def test_phrases_are_kept_through_a_correction():
    parsed, _ = correct_query(parse_query('"leather pouch" keybord'), LEXICON, ANALYZER, lambda word: False)
    assert parsed == ParsedQuery("leather pouch keyboard", ("leather pouch",))


# --- phrases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("A red ceramic mug.", "ceramic mug", True),
        ("Ceramic MUGS, red", "ceramic mug", True),  # by their stems
        ("A mug, ceramic", "ceramic mug", False),
        ("Semiceramic mug", "ceramic mug", False),  # whole words
        ("USB-C cable", "usb c cable", True),
        ("A mug with the handle", "mug handle", True),  # stopwords say nothing
        ("mug", "the", True),  # nor do they ask for anything
        ("", "mug", False),
        ("14 mm", "4 mm", False),
    ],
)
def test_a_phrase_stands_word_by_word(text, phrase, expected):
    assert contains_phrases(text, (phrase,), ANALYZER) is expected


def test_every_phrase_must_stand():
    assert contains_phrases("red ceramic mug", ("red", "ceramic mug"), ANALYZER)
    assert not contains_phrases("red ceramic mug", ("blue", "ceramic mug"), ANALYZER)
    assert contains_phrases("red", (), ANALYZER)
