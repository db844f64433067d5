# SPDX-License-Identifier: Apache-2.0
"""A simulated repository behind a real HTTP server on loopback, and the `p2pd trust` command pointed at it."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from click.testing import CliRunner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata

from p2pd import trust_cli
from tests.signing.repository_simulator import RepositorySimulator


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_GET(self) -> None:
        try:
            body = self.server.repository.answer(self.path.removeprefix("/"))
        except DownloadHTTPError as refusal:
            self.send_error(refusal.status_code)
            return
        self.send_response(200)
        self.end_headers()
        try:
            for chunk in body:
                self.wfile.write(chunk)
        except ConnectionError:
            pass  # the client had seen enough

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class names it so)
        """Tests look at the simulator's list of requests."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    repository: RepositorySimulator


@contextmanager
def serving(repository: RepositorySimulator, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve `repository` on a free port of the loopback address; the value is its base URL."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.repository = repository
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class TrustLab:
    """One user of `p2pd trust` with directories of their own. Commands return exit codes."""

    def __init__(self, directory: Path, repository: RepositorySimulator, url: str) -> None:
        self.repository = repository
        self.url = url
        self.metadata_dir = directory / "metadata"
        self.targets_dir = directory / "targets"
        self.said = ""  # on stderr, by the last command
        self._root_file = directory / "initial.json"

    def init(self, root: bytes | None = None) -> int:
        self._root_file.write_bytes(self.repository.files["metadata/1.root.json"] if root is None else root)
        return self.run("--metadata-dir", str(self.metadata_dir), "init", str(self._root_file))

    def refresh(self) -> int:
        return self.run(*self._metadata_options(), "refresh")

    def download(self, *names: str) -> int:
        named = [part for name in names for part in ("--target-name", name)]
        base = ("--target-base-url", f"{self.url}/targets/")
        return self.run(*self._metadata_options(), *named, *base, "--target-dir", str(self.targets_dir), "download")

    def run(self, *arguments: str) -> int:
        result = CliRunner().invoke(trust_cli.trust, arguments)
        self.said = result.stderr
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert (result.exit_code == 0) == (result.stderr == "")  # every failure is explained, and nothing else
        return result.exit_code

    def trusted(self) -> dict[str, int]:
        """The versions of all metadata that the client shows as trusted."""
        files = sorted(self.metadata_dir.glob("*.json"))
        return {file.name.removesuffix(".json"): Metadata.from_file(str(file)).signed.version for file in files}

    def downloaded(self) -> list[bytes]:
        """The contents of all downloaded files."""
        files = self.targets_dir.rglob("*") if self.targets_dir.exists() else ()
        return sorted(file.read_bytes() for file in files if file.is_file())

    def asked(self) -> list[str]:
        """The requests since the last call, without the folders."""
        asked = [path.removeprefix("metadata/") for path in self.repository.requests]
        self.repository.requests.clear()
        return asked

    def _metadata_options(self) -> tuple[str, ...]:
        return ("--metadata-dir", str(self.metadata_dir), "--metadata-url", f"{self.url}/metadata/")


class FutureClock:
    """Stands for the system's clock, some days ahead."""

    def __init__(self) -> None:
        self.days = 0

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self.days)
