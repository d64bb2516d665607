"""Prices as people and feeds write them."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from catalog.money import find_currency, to_minor
from catalog.values import RowError, is_empty, parse_number

MAX_PRICE, MAX_PRICE_LENGTH = Decimal(10) ** 12, 100
_AMOUNT = re.compile(r"(\D*?)([.,]?\d[\d.,'’ \u00a0\u202f]*)(\D*)")


def parse_currency(column: str, value: Any) -> str:
    code = "" if is_empty(value) else str(value).strip().upper()
    if code and not re.fullmatch("[A-Z]{3}", code):
        raise RowError(column, value, "expected three letters such as USD")
    return code


def parse_price(column: str, value: Any, named: str, default: str) -> tuple[int | None, str]:
    """Return a price in minor units and its currency; an empty one is not known. Raises RowError.

    `named`: what the row's own column says of the currency, `default`: the shop's.
    """
    if is_empty(value):
        return None, named or default
    if isinstance(value, str):
        amount, words = _split_price(column, value)
        named = named or find_currency(words)
    else:
        amount = Decimal(str(parse_number(column, value, -1e15, 1e15)))
    if not 0 <= amount <= MAX_PRICE:
        raise RowError(column, value, "expected a price from 0 to 1,000,000,000,000")
    return to_minor(amount, named or default), named or default


def _split_price(column: str, text: str) -> tuple[Decimal, str]:
    """Return the amount in '12.99 USD', '€ 1.299,00' or '-$5', and the words around it."""
    found = _AMOUNT.fullmatch(text.strip()) if len(text) <= MAX_PRICE_LENGTH else None
    if not found:
        raise RowError(column, text, "expected a price such as 12.99 or 12.99 USD")
    before, digits, after = found.groups()
    if before[-1:].isalpha():
        digits = digits.lstrip(".,")  # 'Rs.500'
    amount = _parse_amount(column, re.sub(r"['’\s]", "", digits))
    return -amount if set(before) & set("-−–(") else amount, f"{before} {after}"


def _parse_amount(column: str, digits: str) -> Decimal:
    """Return the amount of digits with . and , among them: the last of these parts the decimals."""
    last = max(digits.rfind(","), digits.rfind("."))
    if last >= 0:
        mark, decimals = digits[last], len(digits) - last - 1
        both = "," in digits and "." in digits
        # '1,299' is over a thousand; '1.299' and '12,99' are not.
        is_thousands = digits.count(mark) > 1 or (mark == "," and decimals == 3 and not both and last > 0)
        whole = re.sub("[.,]", "", digits[:last])
        digits = whole + digits[last + 1 :] if is_thousands else f"{whole}.{digits[last + 1 :]}"
    try:
        return Decimal(digits)
    except InvalidOperation as error:
        raise RowError(column, digits, "expected a price such as 12.99 or 12.99 USD") from error
