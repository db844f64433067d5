# SPDX-License-Identifier: Apache-2.0
"""Tests of p2pd.host.telemetry."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry, Gauge

from p2pd.host.telemetry import configure_logging, log, metrics_app
from signing.errors import BadInput
from signing.reasons import Reason

_logger = log("made.before.configuration")


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**before)


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    output = captured.readouterr()
    assert output.out == ""
    return [json.loads(line) for line in output.err.splitlines()]


def test_nothing_goes_to_stdout_before_configuration() -> None:
    script = "from p2pd.host.telemetry import log; log('x').info('not told'); log('x').warning('told', port=5)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "event='told' port=5\n"


def test_json_is_one_object_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True, level="info")
    _logger.info("installed\nit", product="tzdata", reason=Reason.RECALLED)
    (line,) = lines(capsys)
    assert line["event"] == "installed\nit"
    assert line["level"] == "info"
    assert line["logger"] == "made.before.configuration"
    assert line["product"] == "tzdata"
    assert line["reason"] == "recalled"
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)


def test_the_level_holds_for_us_and_for_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True, level="warning")
    _logger.info("no")
    logging.getLogger("some.library").info("no")
    _logger.warning("ours")
    logging.getLogger("some.library").warning("theirs: %s", 5)
    assert [line["event"] for line in lines(capsys)] == ["ours", "theirs: 5"]


def test_chatty_libraries_are_heard_from_warning_up(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True, level="debug")
    logging.getLogger("httpx").info("HTTP Request: GET …")
    logging.getLogger("httpx").warning("worth knowing")
    assert [line["event"] for line in lines(capsys)] == ["worth knowing"]


def fail_with(passphrase: str) -> None:
    raise RuntimeError(f"failed with {len(passphrase)} characters")


@pytest.mark.parametrize("as_json", [True, False])
def test_tracebacks_carry_no_local_variables(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    configure_logging(json=as_json, level="info")
    try:
        fail_with("".join(["hunter", "2"]))
    except RuntimeError:
        _logger.exception("it failed")
        logging.getLogger("some.library").exception("it failed too")
    text = capsys.readouterr().err
    assert text.count("RuntimeError: failed with 7 characters") == 2
    assert "hunter2" not in text
    if as_json:
        assert len([json.loads(line) for line in text.splitlines()]) == 2


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=False, level="info")
    _logger.info("installed", product="tzdata")
    text = capsys.readouterr().err
    assert "installed" in text
    assert "product=tzdata" in text
    assert "\x1b" not in text  # no colours where there is no terminal


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(json=True, level="error")
    configure_logging(json=True, level="info")
    _logger.info("once")
    assert len(lines(capsys)) == 1


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(BadInput, match="unknown level 'loud'; valid are: debug, info"):
        configure_logging(json=True, level="loud")


async def test_metrics_are_prometheus_text() -> None:
    registry = CollectorRegistry()
    Gauge("p2pd_peers", "Peers.", registry=registry).set(3)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": b"", "headers": []}
    await metrics_app(registry)(scope, receive, send)
    start, body = sent
    assert start["status"] == 200
    (content_type,) = [value for name, value in start["headers"] if name.lower() == b"content-type"]
    assert content_type.startswith(b"text/plain")
    assert b"p2pd_peers 3.0\n" in body["body"]
