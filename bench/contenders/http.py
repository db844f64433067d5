# SPDX-License-Identifier: Apache-2.0
"""nginx on the origin, curl on every endpoint: what everybody has. Plain HTTP, and nothing is verified."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bench.contenders.contender import Stage
from bench.contenders.daemons import DaemonsEntry
from bench.lab.network import Host
from bench.lab.processes import LabProcess
from bench.lab.programs import found
from bench.scenes import Scene

PORT = 8080


class Http:
    """The baseline."""

    name = "nginx+curl"
    packages: Mapping[str, str] = {"nginx": "nginx-light", "curl": "curl"}

    def why_not(self, scene: Scene) -> str | None:
        """It takes part in everything."""
        return None

    @asynccontextmanager
    async def prepare(self, stage: Stage) -> AsyncIterator["HttpEntry"]:
        """nginx serves."""
        entry = HttpEntry(stage)
        await entry.serve()
        yield entry


class HttpEntry(DaemonsEntry):
    """One curl per endpoint; it has finished when it has ended well."""

    async def serve(self) -> None:
        """Start nginx."""
        directory = self.stage.directory
        (directory / "nginx.conf").write_text(nginx_config(self.stage.network.origin.address, self.stage.payload))
        argv = [found("nginx"), "-p", str(directory), "-e", "error.log", "-c", "nginx.conf"]
        process = await self.stage.processes.start(
            self.stage.network.origin.argv(argv), log=directory / "nginx.log", name="nginx"
        )
        self.origin_processes.append(process)

    async def launch(self, host: Host) -> LabProcess:
        """curl, which tries again when the server is too busy to take the connection."""
        directory = self.directories[host.name]
        url = f"http://{self.stage.network.origin.address}:{PORT}/{self.stage.payload.name}"
        argv = [found("curl"), "-sSf", "--retry", "5", "--retry-connrefused", "-o", str(directory / "payload"), url]
        return await self.stage.processes.start(
            host.argv(argv), log=directory / "log", name=f"curl of {host.name}", may_end=True
        )

    def finished(self) -> dict[str, float]:
        """Those whose curl has ended well."""
        ended = {name: processes[0] for name, processes in self.endpoint_processes.items()}
        return {
            name: process.ended_unix
            for name, process in ended.items()
            if process.status == 0 and process.ended_unix is not None
        }

    async def origin_payload_bytes(self) -> int | None:
        """Bodies that nginx sent, by its log; of transfers that were broken off it logs nothing before they end."""
        log = self.stage.directory / "access.log"
        return sum(map(int, log.read_text().split())) if log.exists() else None


def nginx_config(address: str, payload: Path) -> str:
    """One worker, sendfile, and a log of nothing but the bytes of bodies."""
    return (
        "daemon off;\n"
        "user root;\n"
        "worker_processes 1;\n"
        "pid nginx.pid;\n"
        "events { worker_connections 1024; }\n"
        "http {\n"
        "  log_format bytes '$body_bytes_sent';\n"
        "  access_log access.log bytes;\n"
        "  sendfile on;\n"
        "  server {\n"
        f"    listen {address}:{PORT};\n"
        f"    root '{payload.parent}';\n"
        "  }\n"
        "}\n"
    )
