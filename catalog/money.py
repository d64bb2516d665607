"""Prices in minor units: 12.99 USD is 1299, 500 JPY is 500, 1.250 KWD is 1250. ISO 4217."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

NO_DECIMALS = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"]
)
THREE_DECIMALS = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])
# The currencies in use.
CODES = frozenset([
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BHD",
    "BIF", "BMD", "BND", "BOB", "BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CLP", "CNY",
    "COP", "CRC", "CUP", "CVE", "CZK", "DJF", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP",
    "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR",
    "IQD", "IRR", "ISK", "JMD", "JOD", "JPY", "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT",
    "LAK", "LBP", "LKR", "LRD", "LSL", "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR",
    "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK",
    "PHP", "PKR", "PLN", "PYG", "QAR", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD",
    "SHP", "SLE", "SOS", "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TND", "TOP", "TRY",
    "TTD", "TWD", "TZS", "UAH", "UGX", "USD", "UYU", "UZS", "VES", "VND", "VUV", "WST", "XAF", "XCD", "XOF",
    "XPF", "YER", "ZAR", "ZMW", "ZWG",
])  # fmt: skip
# Signs that stand for one currency only; $ and ¥ stand for several.
SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "R$": "BRL", "US$": "USD", "zł": "PLN", "₺": "TRY", "₴": "UAH",
         "₪": "ILS", "₫": "VND", "₽": "RUB", "฿": "THB", "Kč": "CZK"}  # fmt: skip
SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "KRW": "₩", "BRL": "R$", "PLN": "zł"}


def count_decimals(currency: str) -> int:
    """Return how many digits of an amount are minor units."""
    return 0 if currency in NO_DECIMALS else 3 if currency in THREE_DECIMALS else 2


def to_minor(amount: Decimal, currency: str) -> int:
    """Return a finite `amount` in minor units, rounded half up."""
    return int((amount * 10 ** count_decimals(currency)).quantize(Decimal(1), ROUND_HALF_UP))


def to_major(minor: int, currency: str) -> Decimal:
    """Return the amount of so many minor units, with all its decimals."""
    return Decimal(minor).scaleb(-count_decimals(currency))


def format_price(minor: int, currency: str) -> str:
    """Return the price as people read it: '$1,299.00', '1,299.00 CHF'."""
    amount = f"{to_major(minor, currency):,f}"
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{amount}" if symbol else f"{amount} {currency}".strip()


def find_currency(text: str) -> str:
    """Return the currency that the words around an amount name, such as 'eur' or '€ incl.'; '' if they name none."""
    codes = [word.upper() for word in re.findall("[A-Za-z]+", text) if word.upper() in CODES]
    signs = [code for sign, code in SIGNS.items() if sign in text]
    return next(iter(codes + signs), "")
