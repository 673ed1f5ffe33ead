from __future__ import annotations

from kinetoscope.core.findings import Finding, any_bad, worst_first

OK = Finding("a", "ok", "tried", "found")
LATER_OK = Finding("0", "ok", "tried", "found")
POOR = Finding("b", "poor", "tried", "found", "hint")
BAD = Finding("c", "bad", "tried", "found", "hint")
SKIPPED = Finding("d", "skipped", "tried", "found")


def test_the_worst_come_first_and_equals_keep_their_order() -> None:
    assert worst_first([SKIPPED, OK, BAD, LATER_OK, POOR]) == [BAD, POOR, OK, LATER_OK, SKIPPED]


def test_only_a_bad_one_stops_a_run() -> None:
    assert any_bad([OK, BAD])
    assert not any_bad([OK, POOR, SKIPPED])
