# SPDX-License-Identifier: Apache-2.0
"""What `p2pd status`, `peers`, `why` and `verify` print for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from p2pd.host.byte_counts import in_bytes


def show_status(answer: Mapping[str, Any], console: Console) -> None:
    """One endpoint at a glance."""
    metadata = answer["metadata"]
    console.print(
        f"[bold]{escape(answer['device'])}[/] · segment {escape(answer['segment'])} · site {escape(answer['site'])}"
        f" · {answer['peers']} peers"
    )
    if metadata.get("expires"):
        role, when = min(metadata["expires"].items(), key=lambda item: str(item[1]))
        console.print(f"metadata {metadata['timestamp_version']}, fresh until {when} ({role})")
    for problem in filter(None, (answer["network"]["problem"], metadata["problem"], answer["installer"]["problem"])):
        console.print(f"[yellow]{problem['reason']}: {escape(problem['sentence'])}[/]")
        console.print(f"  {escape(problem['detail'])}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("product", "in use", "before", "attempt", "state", "LAN", "origin"):
        table.add_column(title, no_wrap=title in ("state", "LAN", "origin"), overflow="fold")
    table.add_column("reason", overflow="fold")
    for product in answer["products"]:
        attempt = product["attempt"] or {}
        table.add_row(
            product["product"],
            product["version"] or "-",
            product["previous_version"] or "-",
            attempt.get("version", "-"),
            attempt.get("state", "-"),
            in_bytes(attempt.get("bytes_lan", 0)),
            in_bytes(attempt.get("bytes_origin", 0) + attempt.get("bytes_web", 0)),
            attempt.get("reason") or "",
        )
    if answer["products"]:
        console.print(table)
    else:
        console.print("nothing installed by p2pd yet")


def show_peers(peers: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The endpoints of this site that announce themselves now; `link`: connected for how many torrents, or why not."""
    if not peers:
        console.print("no peer of this site has shown itself on the configured interfaces")
        return
    table = Table("device", "address", "port", "shares", "link", "latency", "in", "out", "metadata")
    for peer in sorted(peers, key=lambda entry: str(entry["device"])):
        metadata = "other than ours" if peer["other_metadata"] else "same as ours"
        latency = f"{peer['latency_ms']:.1f} ms" if peer["latency_ms"] is not None else "-"
        where = (peer["device"], peer["address"], str(peer["port"]), str(peer["shares"]))
        table.add_row(*where, _link(peer), latency, in_bytes(peer["bytes_in"]), in_bytes(peer["bytes_out"]), metadata)
    console.print(table)


def _link(peer: Mapping[str, Any]) -> str:
    if not peer["torrents"]:
        return "-"
    state = f"{peer['connected']} of {peer['torrents']}" if peer["connected"] else "not connected"
    return f"{state}: {peer['reason']}" if peer["reason"] else state


def show_why(answer: Mapping[str, Any], console: Console) -> None:
    """Every offered release and where it stands, with the reason in words."""
    for problem in answer["problems"]:
        console.print(f"[yellow]{problem['reason']}: {escape(problem['sentence'])}[/]")
        console.print(f"  {escape(problem['detail'])}")
    if not answer["releases"]:
        console.print("no such release is offered to this endpoint")
    for release in answer["releases"]:
        console.print(f"[bold]{escape(release['product'])} {escape(release['version'])}[/]: {release['state']}")
        if release["reason"]:
            console.print(f"  {release['reason']}: {escape(release['sentence'])}")
        if release["detail"]:
            console.print(f"  {escape(release['detail'])}")
