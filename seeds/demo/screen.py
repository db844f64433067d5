# SPDX-License-Identifier: Apache-2.0
"""The demo on the terminal: a live table where there is one, a line per change where there is not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from p2pd.host.byte_counts import in_bytes
from seeds.demo.watching import AgentSight

_COLOURS = {"committed": "green", "rolled_back": "yellow", "rolling_back": "yellow", "failed": "red"}


class Screen:
    """Everything that the demo says to people."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._live: Live | None = None
        self._shown: dict[str, tuple[str | None, str]] = {}

    def say(self, text: str) -> None:
        """A line of the story."""
        if not self._quiet:
            self._console.print(text)

    def command(self, text: str) -> None:
        """A command that is being run, as a person would type it."""
        self.say(f"  [dim]$ {text}[/]")

    @contextmanager
    def act(self, title: str) -> Iterator[None]:
        """A part of the story, with its table of agents."""
        self.say(f"\n[bold]{title}[/]")
        if self._quiet or not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=8) as self._live:
            yield
        self._live = None

    def show(self, sights: Sequence[AgentSight]) -> None:
        """The agents now."""
        if self._live is not None:
            self._live.update(agents_table(sights))
            return
        for sight in sights:
            now = (sight.version, sight.state)
            if self._shown.get(sight.name) != now:
                self._shown[sight.name] = now
                self.say(
                    f"  {sight.name}  {sight.version or '-'}  {sight.state}"
                    f"  peers {sight.peers}  LAN {in_bytes(sight.bytes_lan)}  origin {in_bytes(sight.bytes_origin)}"
                    + (f"  {sight.reason}" if sight.reason else "")
                )

    def table(self, table: Table) -> None:
        """A summary."""
        if not self._quiet:
            self._console.print(table)


def agents_table(sights: Sequence[AgentSight]) -> Table:
    """One line per agent."""
    table = Table("agent", "peers", "release", "transfer", "from LAN", "from origin", "state", box=None)
    for sight in sights:
        colour = _COLOURS.get(sight.state, "cyan")
        state = sight.state + (f" ({sight.reason})" if sight.reason else "")
        table.add_row(
            sight.name,
            str(sight.peers),
            sight.version or "-",
            ProgressBar(total=1.0, completed=sight.share, width=24),
            in_bytes(sight.bytes_lan),
            in_bytes(sight.bytes_origin),
            f"[{colour}]{state}[/]",
        )
    return table
