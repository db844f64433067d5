# SPDX-License-Identifier: Apache-2.0
"""A scene that contenders race in: its payload and its fleet are made once, its lab is built for every run.

Runs are interleaved by whoever asks for them, so that what disturbs the machine disturbs all contenders.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.contenders.contender import Contender, Stage
from bench.lab.administrator import Template, write_random
from bench.lab.network import build
from bench.lab.processes import open_processes
from bench.lab.signalled import run_unless_signalled
from bench.outcome import Outcome
from bench.runner import OnLook, run_once, say_nothing
from bench.scenes import Scene


class Racecourse:
    """One scene and everything in it that can be used again. Made by `racecourse`."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.scene = scene
        self._directory = directory
        self._template: Template | None = None
        self._payload = directory / "payload"

    def run(self, contender: Contender, *, on_look: OnLook = say_nothing) -> Outcome:
        """One run of one contender, from building the lab to taking it down.

        Raises LabError, ProcessFailed, BadInput, and SystemExit on Ctrl-C or SIGTERM.
        """
        if not self._payload.exists():
            write_random(self._payload, self.scene.payload_bytes, seed=self.scene.name)
        place = self._directory / "run"
        place.mkdir()
        try:
            with build(self.scene.topology) as network:
                if self._template is None:
                    self._template = Template(self._directory, network.origin.address)
                prepare = partial(
                    Stage,
                    scene=self.scene,
                    network=network,
                    directory=place,
                    payload=self._payload,
                    template=self._template,
                )

                async def main() -> Outcome:
                    async with open_processes() as processes:
                        return await run_once(contender, prepare(processes=processes), on_look=on_look)

                return run_unless_signalled(main)
        finally:
            shutil.rmtree(place)


@contextmanager
def racecourse(scene: Scene, *, size: int | None = None) -> Iterator[Racecourse]:
    """Where contenders race in `scene`, with a payload of `size` bytes if that is not to be the scene's own."""
    with tempfile.TemporaryDirectory(prefix="p2pd-race-") as name:
        yield Racecourse(replace(scene, payload_bytes=size or scene.payload_bytes), Path(name))
