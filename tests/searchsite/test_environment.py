"""Settings from the environment: a wrong value stops the start, naming the variable and the choices."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from searchsite import environment as env


@pytest.fixture
def value(monkeypatch):
    return lambda text: monkeypatch.setenv("SHOP_SETTING", text)


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("Yes", True), ("off", False), ("", True), (" ", True)])
def test_flags(value, text, expected):
    value(text)
    assert env.get_bool("SHOP_SETTING", True) is expected


def test_a_flag_that_is_none_is_named_with_the_choices(value):
    value("maybe")
    with pytest.raises(ImproperlyConfigured, match=r"SHOP_SETTING='maybe' is no flag, expected one of: 1, 0, true"):
        env.get_bool("SHOP_SETTING", True)


@pytest.mark.parametrize("text", ["x", "3", "129", "-5", "4.5"])
def test_numbers_outside_the_range_are_named_with_it(value, text):
    value(text)
    with pytest.raises(ImproperlyConfigured, match=f"SHOP_SETTING='{text}': expected a whole number from 4 to 128"):
        env.get_int("SHOP_SETTING", 16, minimum=4, maximum=128)


def test_numbers_inside_the_range(value):
    value("32")
    assert env.get_int("SHOP_SETTING", 16, minimum=4, maximum=128) == 32
    value("")
    assert env.get_int("SHOP_SETTING", 16, minimum=4, maximum=128) == 16


@pytest.mark.parametrize("text", ["x", "nan", "inf", "2"])
def test_fractions_outside_the_range_are_named_with_it(value, text):
    value(text)
    with pytest.raises(ImproperlyConfigured, match=f"SHOP_SETTING='{text}': expected a number from 0 to 1"):
        env.get_float("SHOP_SETTING", 0.5, minimum=0, maximum=1)


def test_choices_are_named(value):
    value("int4")
    with pytest.raises(ImproperlyConfigured, match="SHOP_SETTING='int4': expected one of: none, int8"):
        env.get_choice("SHOP_SETTING", "none", ("none", "int8"))


def test_rates_name_a_number_and_a_time(value):
    value("20/s")
    assert env.get_rate("SHOP_SETTING", "600/min") == "20/s"
    value("0/min")
    with pytest.raises(ImproperlyConfigured, match="SHOP_SETTING='0/min': expected a number per s, min, hour or day"):
        env.get_rate("SHOP_SETTING", "600/min")


def test_addresses_need_a_known_scheme(value):
    value("mysql://shop")
    with pytest.raises(ImproperlyConfigured, match="expected one of: sqlite://…, postgres://…"):
        env.get_url("SHOP_SETTING", ("sqlite", "postgres"))
    value("postgres:///shop")
    assert env.get_url("SHOP_SETTING", ("sqlite", "postgres")) == "postgres:///shop"


def test_lists_are_split_at_commas(value):
    value("a.org, b.org,,")
    assert env.get_list("SHOP_SETTING") == ["a.org", "b.org"]


def test_a_secret_is_made_once_and_kept_to_its_owner(tmp_path):
    secret = env.get_secret("SHOP_NO_SECRET", tmp_path)
    assert len(secret) > 50
    assert env.get_secret("SHOP_NO_SECRET", tmp_path) == secret
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
