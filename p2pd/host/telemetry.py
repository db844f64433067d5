# SPDX-License-Identifier: Apache-2.0
"""Logs and metrics: one JSON object a line on stderr, and Prometheus text over ASGI."""

import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from prometheus_client import CollectorRegistry, make_asgi_app

from p2pd.host.lean_imports import unavailable
from signing.errors import BadInput

with unavailable("rich"):  # we want plain tracebacks: see `configure_logging`
    import structlog

AsgiApp = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]

LEVELS = ("debug", "info", "warning", "error", "critical")

# These tell every request or packet at INFO; their warnings are worth having.
_CHATTY = ("httpx", "httpcore", "hypercorn", "zeroconf", "tuf", "urllib3", "securesystemslib")


def configure_logging(*, json: bool, level: str) -> None:
    """Send our logs, and those of libraries, to stderr: JSON for machines, aligned text for people.

    Raises BadInput if `level` is no level. Calling it again replaces the earlier configuration.
    """
    if level not in LEVELS:
        raise BadInput("log level", f"unknown level {level!r}", f"valid are: {', '.join(LEVELS)}")
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    # Plain tracebacks: the richer ones of structlog show local variables, and so could show secrets.
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # modules make their loggers at import, before anything is configured
    )


def _stay_off_stdout() -> None:
    """Until `configure_logging` is called: warnings to stderr, where the standard library sends them.

    structlog's own default prints to stdout, which belongs to the answers of commands.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


_stay_off_stdout()


def log(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of the module `name`: events are short sentences, facts are keyword arguments."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


def metrics_app(registry: CollectorRegistry) -> AsgiApp:
    """Return an ASGI application that shows the metrics of `registry` in Prometheus' text format."""
    return cast("AsgiApp", make_asgi_app(registry))
