"""What report pages and exports show of a report."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.models import StoredReport
from experiments.report_pages import ReportPage
from tests.experiments.log_factories import make_experiment

pytestmark = pytest.mark.django_db


def make_page(*, variants: tuple[str, ...] = ("a", "b"), **content: Any) -> ReportPage:
    """Return the page of a report with this content."""
    experiment = make_experiment("ranking", *variants)
    facts = {"state": "not yet", "sentence": "Not yet.", "variants": list(variants)} | content
    report = StoredReport.objects.create(experiment=experiment, content=facts)
    return ReportPage(experiment, facts, report.made_at)


def compare(metric: str, p_value: float, adjusted: float, low: float = 0.01) -> dict[str, Any]:
    """Return a comparison as reports keep it, of a lift of 10 %."""
    interval = {"low": low, "high": 0.09, "p_value": p_value, "alpha": 0.05}
    return {
        "variant": "b", "metric": metric, "champion_value": 0.5, "variant_value": 0.55, "lift": 0.1, "note": "",
        "difference": {"estimate": 0.05}, "interval": interval, "lift_interval": interval, "adjusted_p_value": adjusted,
        "variance_cut": 0.0,
    }  # fmt: skip


def test_a_line_is_called_better_only_where_its_own_p_value_says_so():
    lines = [compare("conversion", 0.02, 0.16), compare("ctr", 0.02, 0.16), compare("add_rate", 0.001, 0.008)]
    rows = {row.label: (row.p_value, row.verdict) for row in make_page(comparisons=lines).rows}
    assert rows == {
        "visitors who buy": ("0.020", "better"),  # it decides
        "searches with a click": ("0.160", ""),
        "visitors who add to the cart": ("0.008", "better"),
    }


def test_the_p_value_of_what_decides_allows_for_the_variants_as_its_interval_does():
    [row] = make_page(variants=("a", "b", "c"), comparisons=[compare("conversion", 0.03, 0.04, low=-0.01)]).rows
    assert (row.p_value, row.verdict) == ("0.060", "")


def test_no_line_is_called_better_while_its_interval_holds_zero():
    [row] = make_page(variants=("a", "b", "c"), comparisons=[compare("ctr", 0.03, 0.04, low=-0.01)]).rows
    assert (row.p_value, row.verdict) == ("0.040", "")
