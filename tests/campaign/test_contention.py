"""Eight writers and four readers at one database, for a moment."""

from __future__ import annotations

import pytest

from tests.campaign.contention import contend


@pytest.mark.slow
def test_no_row_is_lost_or_doubled() -> None:
    figures = contend(4)
    assert not figures.findings, vars(figures.findings)
    assert figures.acknowledged > 50
    assert figures.ingests > 0
    assert figures.reports
