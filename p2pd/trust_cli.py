# SPDX-License-Identifier: Apache-2.0
"""`p2pd trust`: the daemon's trust client on the command line, against any TUF repository over http or https.

The commands, options and exit codes are those of the public TUF conformance suite (CLIENT-CLI.md of
theupdateframework/tuf-conformance): 0 when all was done, 1 for every failure, wrong usage included.
HTTPS servers are checked against the system's certificates, or those in SSL_CERT_FILE.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from signing.errors import SigningError

if TYPE_CHECKING:
    from p2pd.adapters.tuf_fetchers import HttpFetcher
    from signing.trust import TrustClient

T = TypeVar("T")


class _WrongUsage(click.ClickException):
    """Shown as click shows it, but with exit code 1 where click would say 2."""

    exit_code = 1

    def __init__(self, problem: click.UsageError) -> None:
        super().__init__(problem.message)
        self._problem = problem

    def show(self, file: IO[Any] | None = None) -> None:
        self._problem.show(file)


class _ExitOneGroup(click.Group):
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as problem:
            raise _WrongUsage(problem) from problem

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as problem:
            raise _WrongUsage(problem) from problem


@click.group(cls=_ExitOneGroup)
@click.option("--metadata-dir", type=click.Path(path_type=Path), required=True, help="Where trusted metadata is kept.")
@click.option("--metadata-url", help="Where the repository serves its metadata.")
@click.option("--target-name", "target_names", multiple=True, help="Path of a target to download; may repeat.")
@click.option("--target-base-url", help="Where the repository serves its targets.")
@click.option("--target-dir", type=click.Path(path_type=Path), help="Where downloaded targets are put.")
@click.pass_context
def trust(ctx: click.Context, /, **options: Any) -> None:
    """Verify any TUF repository with the daemon's own trust client."""
    ctx.obj = options


@trust.command()
@click.argument("root", metavar="ROOT.json", type=click.Path(path_type=Path))
@click.pass_obj
def init(options: dict[str, Any], root: Path) -> None:
    """Trust ROOT.json as the first root of a repository."""
    from signing.durable_file import read_at_most
    from signing.trust import TrustClient
    from signing.trust_anchor import MAX_ROOT_BYTES

    try:
        TrustClient.bootstrap(options["metadata_dir"], read_at_most(root, MAX_ROOT_BYTES))
    except (SigningError, OSError) as problem:
        _fail(problem)


@trust.command()
@click.pass_obj
def refresh(options: dict[str, Any]) -> None:
    """Bring the trusted metadata up to date."""
    _require(options, "metadata_url")
    try:
        _run(options, lambda client: client.refresh())
    except (SigningError, OSError) as problem:
        _fail(problem)


@trust.command()
@click.pass_obj
def download(options: dict[str, Any]) -> None:
    """Bring the metadata up to date, then download and verify the named targets."""
    _require(options, "metadata_url", "target_names", "target_base_url", "target_dir")

    def fetch(client: "TrustClient") -> list[SigningError]:
        client.refresh()
        failures = []
        for name in options["target_names"]:
            try:
                client.download(name, options["target_dir"])
            except SigningError as problem:
                failures.append(problem)
        return failures

    try:
        failures = _run(options, fetch)
    except (SigningError, OSError) as problem:
        _fail(problem)
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise SystemExit(1)


def _run(options: dict[str, Any], work: "Callable[[TrustClient], T]") -> T:
    import trio

    from signing.trust import TrustClient

    def with_client(fetcher: "HttpFetcher") -> T:
        directory = options["metadata_dir"]
        client = TrustClient(
            directory,
            options["target_dir"] or directory / "targets",
            fetcher,
            metadata_url=options["metadata_url"],
            targets_url=options["target_base_url"] or "",
            now=_now,
        )
        return work(client)

    return trio.run(_fetching, with_client)


async def _fetching(work: "Callable[[HttpFetcher], T]") -> T:
    import ssl

    import httpx
    import trio

    from p2pd.adapters.tuf_fetchers import HttpFetcher

    async with httpx.AsyncClient(verify=ssl.create_default_context(), headers={"User-Agent": "p2pd"}) as client:
        return await trio.to_thread.run_sync(work, HttpFetcher(client))


def _now() -> datetime:
    return datetime.now(UTC)


def _require(options: dict[str, Any], *names: str) -> None:
    flags = {"target_names": "--target-name"}
    for name in names:
        if not options[name]:
            raise click.UsageError(f"Missing option '{flags.get(name, '--' + name.replace('_', '-'))}'.")


def _fail(problem: Exception) -> NoReturn:
    raise click.ClickException(str(problem)) from problem


if __name__ == "__main__":
    trust(prog_name="p2pd trust")
