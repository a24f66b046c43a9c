"""Runs that are killed with SIGKILL while their first step is under way, and gone on with."""

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.support.database import until
from tests.support.desk import Desk
from tests.support.forked import Child, Forks

SLOW = 0.4
"""Within so many seconds a resume is killed, where it is."""


@dataclass
class Killer:
    """Begins, resumes and takes back; kills at random times, and counts where a kill fell."""

    desk: Desk
    forks: Forks
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    """`step` and `undo`: while the step or its undo was recorded as begun and not as over;
    `after`: as it was over; `resume`: while a run was gone on with."""
    lasts: dict[bool, float] = field(default_factory=lambda: {False: 0.05, True: 0.05})
    """Within which time of its beginning a step, or an undo, is killed; seconds. It follows what
    the machine needs at the moment, so that most kills fall before the end, and some just after."""

    def opskit(self, *words: str) -> tuple[int, str]:
        """Do something to its end; return its exit status and what it said."""
        child = self._begin(words)
        status = child.end()
        return status, child.out.read_text()

    def run(self, *words: str) -> str:
        """Begin a run, kill it, go on with it until nothing of it is left to do; return its id."""
        self._killed(words, undo=False)
        run = str(self.told()["run"])
        self._settled(run, ("succeeded", "failed"), ())
        assert self.told(run)["state"] == "succeeded", self.opskit("report", run)[1]
        return run

    def undone(self, run: str) -> None:
        """Take a run back, killed on the way."""
        words = ("undo", run, "--yes")
        self._killed(words, undo=True)
        self._settled(run, ("undone",), words)

    def told(self, run: str = "last") -> dict[str, Any]:
        said = self.opskit("status", run, "--json")[1]
        return dict(json.loads(said.splitlines()[-1]))

    def _begin(self, words: tuple[str, ...], *, undo: bool = False) -> Child:
        return self.forks.begin(list(words), self.desk.settings, self.desk.folder, undo=undo)

    def _killed(self, words: tuple[str, ...], *, undo: bool) -> None:
        child = self._begin(words, undo=undo)
        if child.step(1):
            time.sleep(self.chance.random() * self.lasts[undo])
            child.kill()
        status = child.end()
        assert b"s" in child.said, (status, child.out.read_text())
        if status >= 0 or b"e" in child.said:
            assert status <= 0, child.out.read_text()
            self.lasts[undo] *= 0.9
            self.kills["after"] += status < 0
        else:
            self.lasts[undo] *= 1.04
            self.kills["undo" if undo else "step"] += 1

    def _settled(self, run: str, ends: tuple[str, ...], again: tuple[str, ...]) -> None:
        """Go on until it is at its end, killed now and then; `again`: where nothing had begun."""
        for _ in range(20):
            if self.chance.random() < 0.5:  # else what was killed may still be there
                until(lambda: self.desk.db.sessions() == [])
            if self.told(run)["state"] in ends:
                return
            child = self._begin(("resume", run))
            if self.chance.random() < 0.4 and not child.wait(self.chance.random() * SLOW):
                child.kill()
            status = child.end()
            self.kills["resume"] += status < 0
            if status > 0 and again:
                self.opskit(*again)
        raise AssertionError(f"it comes to no end: {self.opskit('report', run)[1]}")
