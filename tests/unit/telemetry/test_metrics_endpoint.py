from __future__ import annotations

import logging
import socket
from threading import Thread
from urllib.parse import urlsplit

import pytest

from kinetoscope.core.errors import ConfigError
from kinetoscope.core.settings import metrics_endpoint
from kinetoscope.telemetry.scrape import scrape
from kinetoscope.telemetry.step_metrics import StepMetrics


def test_by_default_only_this_machine_sees_the_metrics() -> None:
    assert metrics_endpoint() == ("127.0.0.1", 0)


def test_the_environment_chooses_address_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_METRICS_ADDRESS", "0.0.0.0")  # noqa: S104 (as pods have it)
    monkeypatch.setenv("KINO_METRICS_PORT", "9464")
    assert metrics_endpoint() == ("0.0.0.0", 9464)  # noqa: S104


@pytest.mark.parametrize("port", ["metrics", "-1", "65536", "94.64"])
def test_what_is_no_port_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINO_METRICS_PORT", port)
    with pytest.raises(ConfigError, match=f"KINO_METRICS_PORT='{port}'"):
        metrics_endpoint()


def test_a_free_port_is_used_as_asked() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with StepMetrics("r", "s") as metrics:
        assert metrics.serve(port) == f"http://127.0.0.1:{port}/metrics"
        assert "kino_run_info" in scrape(f"http://127.0.0.1:{port}/metrics")


def test_metrics_that_are_served_stay_where_they_are() -> None:
    with StepMetrics("r", "s") as metrics:
        url = metrics.serve()
        assert metrics.serve(1) == url
        assert "kino_run_info" in scrape(url)


def test_a_taken_port_is_left_for_a_free_one(caplog: pytest.LogCaptureFixture) -> None:
    with StepMetrics("r", "first") as first, StepMetrics("r", "second") as second:
        taken = urlsplit(first.serve()).port
        assert taken is not None
        with caplog.at_level(logging.WARNING):
            url = second.serve(taken)
        assert urlsplit(url).port != taken
        assert "kino_run_info" in scrape(url)
    assert f"metrics port {taken} of 127.0.0.1 can't be used" in caplog.text


def test_an_address_of_another_machine_does_not_end_the_step(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with StepMetrics("r", "s") as metrics, caplog.at_level(logging.WARNING):
        url = metrics.serve(0, "192.0.2.1")
        assert url.startswith("http://127.0.0.1:")
        assert "kino_run_info" in scrape(url)
    assert "192.0.2.1 can't be used" in caplog.text


def test_the_url_of_all_addresses_is_one_that_others_reach() -> None:
    with StepMetrics("r", "s") as metrics:
        url = urlsplit(metrics.serve(0, "0.0.0.0"))  # noqa: S104
        assert url.hostname != "0.0.0.0"  # noqa: S104
        assert "kino_run_info" in scrape(f"http://127.0.0.1:{url.port}/metrics")


def test_waiting_for_a_scrape_ends_with_it() -> None:
    with StepMetrics("r", "s") as metrics:
        url = metrics.serve()
        scrape(url)  # an earlier one does not count
        assert not metrics.wait_for_scrape(0.3, lambda: False)
        reader = Thread(target=scrape, args=(url,))
        assert metrics.wait_for_scrape(30, lambda: _start_once(reader))
        reader.join()


def test_waiting_for_a_scrape_can_be_given_up() -> None:
    with StepMetrics("r", "s") as metrics:
        metrics.serve()
        assert not metrics.wait_for_scrape(3600, lambda: True)


def _start_once(thread: Thread) -> bool:
    if thread.ident is None:
        thread.start()
    return False
