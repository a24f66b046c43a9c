"""The order of a run: preflight, batches, undo where it is due, always, the end."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby

from opskit.errors import Exit
from opskit.execute.attempt import Attempt
from opskit.execute.book import ASKED, DECIDED, FAILED, TRIPPED, Book
from opskit.execute.ending import Ending
from opskit.execute.fall import is_lost
from opskit.execute.offers import LEFT, OFFERS, after_falls
from opskit.execute.question import Question
from opskit.execute.saying import say_again
from opskit.execute.send import Outside
from opskit.execute.stop import GRACE
from opskit.execute.walk import Walk
from opskit.execute.waves import waves
from opskit.model.event import Entry, Event
from opskit.model.plan import Action, Plan, Stage
from opskit.model.states import RunState
from opskit.model.value import Json
from opskit.model.work import Notify
from opskit.plan import ALWAYS, PREFLIGHT, reverse

_THREADS = 256
"""So many threads look at hosts, where a host is looked at by several."""


def execute(
    plan: Plan,
    past: Iterable[Entry],
    outside: Outside,
    facts: Mapping[str, Json],
    *,
    pause_after_batch: bool = False,
) -> RunState:
    """Carry out a plan from where its record stands; return how the run stands now.

    `facts` is what templates see as `run`. Nothing is asked and nothing printed: when a person is
    needed the run is left *waiting*, with the question in the record.
    """
    book = Book(plan, past, dict(facts))
    with ThreadPoolExecutor(_threads(plan), thread_name_prefix="target") as pool:
        outside.stop.arm(lambda: outside.targets.stop(grace=GRACE))
        return Course(plan, book, outside, pool).run(pause_after_batch=pause_after_batch)


def _threads(plan: Plan) -> int:
    """Return how many actions of a plan may be under way at once; those too many wait."""
    targets = len({a.target for a in plan.actions})
    lanes = max((stage.at_once for stage in plan.stages.values()), default=1)
    return max(1, min(targets * lanes, max(targets, _THREADS)))


def _beside(stage: Stage) -> bool:
    """Tell whether a step may be done beside others: what it saves, the next ones may use."""
    return stage.at_once > 1 and stage.save is None


def take_back(
    plan: Plan,
    past: Iterable[Entry],
    outside: Outside,
    facts: Mapping[str, Json],
    hosts: Collection[str] | None = None,
) -> RunState:
    """Undo what a run did, as its record has it; return how the run stands now.

    What an earlier call left undone is gone on with. The run may be left *waiting*.
    """
    book = Book(plan, past, dict(facts))
    threads = max(1, len(plan.hosts) + 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="target") as pool:
        outside.stop.arm(lambda: outside.targets.stop(grace=GRACE))
        course = Course(plan, book, outside, pool)
        course.undo(hosts, ASKED)
        if course.interrupted() or course.waiting():
            return "waiting"
        return course.end(exit_status=course.gone_back())


def settle(plan: Plan, past: Iterable[Entry], outside: Outside, facts: Mapping[str, Json]) -> None:
    """Ask targets what became of changes that were lost from sight; nothing follows from it yet."""
    book = Book(plan, past, dict(facts))
    lost = [
        one for action in plan.actions for one in (action, *action.undo) if is_lost(plan, book, one)
    ]
    if not lost:
        return
    with ThreadPoolExecutor(len({a.target for a in lost}), thread_name_prefix="target") as pool:
        outside.stop.arm(lambda: outside.targets.stop(grace=GRACE))
        Walk(plan, Attempt(plan, book, outside), pool).rejoin(lost)


def clear(
    plan: Plan, past: Iterable[Entry], outside: Outside, facts: Mapping[str, Json]
) -> RunState:
    """Settle what is unknown of a run that a person has ended, and carry out nothing more of it.

    Returns "aborted" once all is settled; how the run ended is recorded by whoever ends it.
    """
    book = Book(plan, past, dict(facts))
    threads = max(1, len({a.target for a in plan.actions}))
    with ThreadPoolExecutor(threads, thread_name_prefix="target") as pool:
        outside.stop.arm(lambda: outside.targets.stop(grace=GRACE))
        return Course(plan, book, outside, pool).clear()


class Course:
    """One execution: walks forward, and back where that is due."""

    def __init__(self, plan: Plan, book: Book, outside: Outside, pool: ThreadPoolExecutor) -> None:
        self.plan = plan
        self.book = book
        self.outside = outside
        self.pool = pool
        self.attempt = Attempt(plan, book, outside)
        self.walk = Walk(plan, self.attempt, pool, book.scope, book.excluded)
        self.undo_failed: set[str] = set()

    def run(self, *, pause_after_batch: bool) -> RunState:
        """Go forward, settle what failed, do `always`, end the run."""
        say_again(self.plan, self.book, self.outside)
        if self.book.taking_back:
            return self._give_up()
        last = len(self.plan.batches) - 1
        for batch, actions in groupby(self.plan.actions, key=lambda a: a.batch):
            if batch == ALWAYS:
                break
            within = list(actions)
            fresh = any(self.book.state(a) == "planned" for a in within)
            self._go(within)
            if self.interrupted() or self.waiting():
                return "waiting"
            if self.walk.tripped:
                break
            self._undo_fallen(batch)
            if pause_after_batch and fresh and PREFLIGHT < batch < last:
                return self._pause(batch)
        if self.walk.tripped:
            self.walk.look_ahead([a for a in self.plan.actions if a.batch != ALWAYS])
            if self.interrupted() or self.waiting():
                return "waiting"
            self._trip()
        if self.interrupted() or self.waiting():
            return "waiting"
        self._always()
        return "waiting" if self.interrupted() or self.waiting() else self.end()

    def _go(self, within: Sequence[Action]) -> None:
        """Walk through a batch; before it, and after each of its waits, look at the clock."""
        if not self.plan.windows and not self.plan.freezes:
            self.walk.go(within)
            return
        from opskit.execute.hours import held, stretches  # few inventories have any

        for some in stretches(self.plan, within):
            coming = [action for action in some if self.walk.lives(action)]
            self.walk.question = self.walk.question or held(self.plan, self.book, coming)
            if self.walk.halted:
                return
            self.walk.go(some)

    def _give_up(self) -> RunState:
        """Take back what was done, as a person has decided, do `always`, end the run."""
        self.walk.rejoin([a for a in self.plan.actions if is_lost(self.plan, self.book, a)])
        if self.interrupted():
            return "waiting"
        self.undo(self.book.scope, DECIDED)
        if self.interrupted() or self.waiting():
            return "waiting"
        self._always()
        return "waiting" if self.interrupted() or self.waiting() else self.end()

    def clear(self) -> RunState:
        """Ask of all that is unknown: its host, `done_when`, in the end a person."""
        everyone = Walk(self.plan, self.attempt, self.pool)  # hosts that were left out, too
        every = [one for action in self.plan.actions for one in (action, *action.undo)]
        everyone.rejoin([a for a in every if is_lost(self.plan, self.book, a)])
        for action in every:
            if self.outside.stop.pressed:
                break
            if self.book.state(action) == "unknown" and not self.attempt.settled(action):
                self.walk.doubt(action, LEFT)
                break
        return "waiting" if self.interrupted() or self.waiting() else "aborted"

    def gone_back(self) -> Exit:
        """Return the exit status of an undo: 0 when what was asked for is what happened."""
        ending = self.ending()
        if "unknown" in ending.hosts().values() and ending.state() == "unknown":
            return Exit.UNKNOWN
        return Exit.FAILED if self.undo_failed else Exit.OK

    def interrupted(self) -> bool:
        """Record, if a person stopped the run, that it waits to be resumed."""
        if not self.outside.stop.pressed:
            return False
        data: dict[str, Json] = {"why": "interrupted", "question": "", "choices": []}
        ended = self.outside.stop.outcome()
        if ended:
            data["stopped"] = dict(ended)
        self.attempt.post(Event(kind="waiting", data=data))
        return True

    def waiting(self) -> bool:
        """Record the question that the run has come to, if there is one."""
        question = self.walk.question
        if question is None:
            return False
        action = question.action
        stage = self.plan.stage(action).name if action else ""
        self.attempt.post(
            Event(
                kind="waiting",
                key=action.key if action else "",
                host=(action.host or action.target) if action else "",
                step=stage,
                data=question.data,
            )
        )
        return True

    def _pause(self, batch: int) -> RunState:
        text = f"batch {batch + 1} of {len(self.plan.batches)} is done"
        data: dict[str, Json] = {"why": "pause", "question": text}
        data["choices"] = list(OFFERS["pause"])
        self.attempt.post(Event(kind="waiting", data=data))
        return "waiting"

    # --- undo ---

    def _undo_fallen(self, batch: int) -> None:
        """Take back the hosts of a batch that failed within the budget, if their rules say so."""
        hosts = [
            host
            for host, fall in self.walk.fallen.items()
            if (fall.policy == "undo" or host in self.book.going_back) and fall.state != "unknown"
            and (batch < 0 or host in self.plan.batches[batch])
        ]  # fmt: skip
        if hosts:
            self.undo(hosts, FAILED)

    def _trip(self) -> None:
        """Do what the rules say once too many hosts fell out."""
        failed: list[Json] = list(self.walk.fallen)
        data: dict[str, Json] = {"failed": failed, "limit": self.plan.max_failures}
        if not self.book.tripped:
            self.attempt.post(Event(kind="budget tripped", data=data))
        policies = {fall.policy for fall in self.walk.fallen.values()}
        policy = "undo" if "undo" in policies or self.book.undoing else self.plan.on_failure
        choice = self.book.choices.get("budget", "")
        if policy == "ask" and not choice:
            self.walk.question = Question(
                action=None,
                why="budget",
                text=f"{len(failed)} hosts fell out, more than {self.plan.max_failures}",
                choices=after_falls(self.plan, self.book, self.walk.fallen),
                hosts=tuple(self.walk.fallen),
            )
        elif "undo" in (policy, choice):
            self.undo(self.book.scope, TRIPPED)

    def undo(self, hosts: Collection[str] | None, why: str) -> None:
        """Take back what was done on these hosts (None: everywhere), last first.

        What was done on hosts that were left out stays, unless a person wants the run undone.
        """
        without = () if why == ASKED else self.book.excluded
        back = reverse(self.plan, self.book.records, hosts, without=without)
        if not back.actions:
            return
        names: list[Json] = list(dict.fromkeys(a.host or a.target for a in back.actions))
        only: dict[str, Json] = {} if hosts is None else {"only": sorted(hosts)}
        self.attempt.post(Event(kind="undo began", data={"hosts": names, "why": why, **only}))
        walk = Walk(
            back, Attempt(back, self.book, self.outside, self.attempt.reach.opened), self.pool
        )
        walk.go(back.actions)
        self.walk.question = self.walk.question or walk.question
        self.undo_failed |= walk.fallen.keys()

    # --- the end ---

    def _always(self) -> None:
        """Do the steps that come whatever happened; the failure of one doesn't stop the next."""
        always = [action for action in self.plan.actions if action.batch == ALWAYS]
        if not always:
            return
        self.book.facts = {**self.book.facts, "status": self.ending().state()}
        plan = replace(self.plan, max_failures=len(self.plan.hosts))
        for beside, group in groupby(waves(always), lambda wave: _beside(plan.stage(wave[0]))):
            together = list(group)
            if beside and len(together) > 1:
                with ThreadPoolExecutor(len(together), thread_name_prefix="always") as pool:
                    questions = list(pool.map(partial(self._late, plan), together))
            else:
                questions = [self._late(plan, wave) for wave in together]
            self.walk.question = next(filter(None, [self.walk.question, *questions]), None)

    def _late(self, plan: Plan, wave: Sequence[Action]) -> Question | None:
        """Do one step of `always`; return the question that it has come to."""
        walk = Walk(plan, self.attempt, self.pool, spared=self.book.excluded)
        if not all(isinstance(action.work, Notify) for action in wave):  # a message needs no host
            walk.fallen = {h: f for h, f in self.walk.fallen.items() if f.state == "unreachable"}
        walk.go(wave)
        return walk.question

    def ending(self) -> Ending:
        """Judge the run as it stands."""
        return Ending(plan=self.plan, book=self.book, stuck=self.undo_failed)

    def end(self, *, exit_status: Exit | None = None) -> RunState:
        """Record how the run ended, once all that it says has an outcome."""
        self.outside.messenger.settle(self.outside)
        ending = self.ending()
        state = ending.final()
        hosts: dict[str, Json] = dict(ending.hosts())
        code = ending.exit(state) if exit_status is None else exit_status
        data: dict[str, Json] = {"status": state, "hosts": hosts, "exit": int(code)}
        data["plan"] = self.plan.digest
        self.attempt.post(Event(kind="run ended", data=data))
        return state
