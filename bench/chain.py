"""A chain of jobs, simulated by discrete events: nodes fail, a job's time ends, a save takes its time, a person sleeps.

The rules are the toolkit's own (`learned_margin`, `why_to_stop`, the limits of omr/cluster/allocation/supervise.py);
a Policy takes some away. All policies live through the same failures: what happens to the nodes, and when, depends
on the seed alone. Seconds everywhere. bench/goodput.py makes tables of it.
"""

import functools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, exp

from bench import scale
from omr import recipe
from omr.cluster import plan
from omr.cluster.allocation.deadline import learned_margin
from omr.cluster.allocation.supervise import SILENT
from omr.run.chain_state import LinkAttempt, why_to_stop

HOUR, DAY = 3600.0, 86_400.0
# Which failures: 58.7% of Llama 3's unexpected interruptions were a GPU's (arXiv:2407.21783, table 5), which ends
# the processes and leaves the node in Slurm's hands; the others count as a lost node.
GPU_SHARE = 0.587
SLURMD_TIMEOUT = 300  # until Slurm gives up a lost node: slurm.conf's default
# Assumptions. A failure in ten ends nothing: collectives wait. Every second failed GPU stays away until an
# administrator takes the node out, a day later; until then Slurm goes on giving out the node.
HANGS, UNFIT, REPAIRED = 0.1, 0.5, DAY
# Once in two weeks something breaks every start until a person mends it: a full quota, a changed file, a mount.
# A person notices and acts eight hours later; so it is when a chain ran out of jobs. The queue takes an hour.
LASTING, PERSON, QUEUE = 1 / (14 * DAY), 8 * HOUR, 1 * HOUR
SPREAD = 0.25  # of start and save times: a lognormal around their median
CHECKED = 60  # seconds in which a link checks its inputs and nodes, before an engine starts
PUBLISHED_MARGIN = (
    900  # NeMo-Skills: 15 minutes less than the limit, which NeMo-RL counts from its first step
)
TORN = 1 / 64  # share of lost nodes that were a job's first and go on writing beside the next link
SPARE = 1.5  # jobs that a person submits for each that the plan says
FOREVER = 60 * DAY  # a run that takes longer counts as never finished


@dataclass(frozen=True)
class Policy:
    """What a chain does; every field can be taken away by itself."""

    knows_the_end: bool = True  # the last save is timed by the allocation's end; else by PUBLISHED_MARGIN
    breaker: bool = True  # two links without a checkpoint stop the chain, and a person is told
    lease: bool = True  # and seals: a lost node's writer is shut out, a torn checkpoint is not resumed from
    cancels_surplus: bool = True
    excludes_nodes: bool = True  # unfit nodes are found in seconds, and the next links do without
    ends_idle: bool = True  # an engine without a step for SILENT seconds is ended
    data: str = "before"  # when the data is prepared: before the links, in the first link, at every start


@dataclass(frozen=True)
class Site:
    """A cluster."""

    nodes: int = 64  # of a job
    pool: int = 100  # that Slurm may choose from
    failures: float = scale.FAILURES  # of a node in a day
    limit: float = scale.LIMIT
    start: float = plan.START  # median from the job's start to the first step


@dataclass(frozen=True)
class Work:
    """A training."""

    steps: int
    step: float
    save: float  # median
    period: int  # steps between two saves
    prepare: float  # seconds in which NeMo-RL makes its own data set

    @classmethod
    def of(cls, run: recipe.Run) -> "Work":
        """A run of the recipe on the recipe's nodes, with a good file system."""
        found, prepare = scale.numbers(run), scale.TEXT * scale.LINES / scale.UPSTREAM_READY
        save, _ = scale.save_seconds(run)
        schedule = run.schedule
        return cls(schedule.steps, found.step_seconds, save, schedule.save_period, prepare)


@dataclass(frozen=True)
class Outcome:
    """What a chain came to."""

    goodput: float  # useful share of the seconds that its jobs held their nodes; 0 where it never finished
    days: float  # from the first submission to the last step
    people: int  # times that somebody had to act


@dataclass
class Failure:
    """Something that happens to the job's nodes at a moment, if a job runs then."""

    at: float
    kind: str  # gpu, node
    hangs: bool
    unfit: bool  # the node stays away, and Slurm does not know
    torn: bool


class World:
    """What happens whether or not a job runs: the same for every policy, from the seed."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.seed = site, seed
        self.failures, self.lasting = [], []
        dice, at = random.Random(f"failures {seed}"), 0.0
        while site.failures and (at := at + dice.expovariate(site.failures * site.nodes / DAY)) < FOREVER:
            kind = "gpu" if dice.random() < GPU_SHARE else "node"
            rolls = [dice.random() for _ in range(3)]
            unfit, torn = kind == "gpu" and rolls[1] < UNFIT, kind == "node" and rolls[2] < TORN
            self.failures.append(Failure(at, kind, rolls[0] < HANGS, unfit, torn))
        dice, at = random.Random(f"lasting {seed}"), 0.0
        while site.failures and (at := at + dice.expovariate(LASTING)) < FOREVER:
            self.lasting.append(at)

    def next_failure(self, after: float) -> Failure | None:
        """The first failure after a moment."""
        return next((failure for failure in self.failures if failure.at > after), None)

    def nodes(self, link: int) -> random.Random:
        """Dice for which nodes Slurm gives a link."""
        return random.Random(f"nodes {self.seed} {link}")

    def spread(self, what: str, number: int, median: float) -> float:
        """A time around its median; the n-th link's is the same whatever the links before it did."""
        return median * exp(SPREAD * _drawn(what, self.seed, number)[0])

    def queue(self, link: int) -> float:
        """How long a link waits."""
        return QUEUE * _drawn("queue", self.seed, link)[1]


@functools.cache
def _drawn(what: str, seed: int, number: int) -> tuple[float, float]:
    """A number of the standard normal and one of the exponential distribution; every policy meets the same."""
    dice = random.Random(f"{what} {seed} {number}")
    return dice.gauss(0, 1), dice.expovariate(1)


class Chain:
    """A run's jobs, one after another, until the training is complete or nobody waits any longer."""

    def __init__(self, work: Work, site: Site, policy: Policy, seed: int) -> None:
        self.work, self.site, self.policy, self.world = work, site, policy, World(site, seed)
        self.now = self.held = 0.0
        self.saved = self.link = self.people = 0
        self.left = self._submitted()
        self.attempts: list[LinkAttempt] = []
        self.longest_save: float | None = None
        self.unfit: list[float] = []  # until when each unfit node is given out
        self.mended: float | None = (
            None  # when a person will have mended what lasts; None: nobody knows of it
        )
        self.prepared = policy.data == "before"
        self.torn = False

    def _submitted(self) -> int:
        """As many jobs as `make plan` says of what is left, and SPARE: its speed is a guess."""
        usable = self.site.limit - learned_margin(None, self.site.limit) - self.site.start
        return max(2, ceil(SPARE * (self.work.steps - self.saved) * self.work.step / usable))

    def outcome(self) -> Outcome:
        """Live it through."""
        while self.saved < self.work.steps and self.now < FOREVER:
            if not self.left or self._stopped():
                self._person()
            self.now += self.world.queue(self.link)
            self.left -= 1
            self.link += 1
            begin, start = self.now, self.saved
            self._live(begin)
            self.held += self.now - begin
            self.attempts.append(LinkAttempt(str(self.link), start, reached=self.saved))
        days = self.now / DAY
        if not self.policy.cancels_surplus:
            self.held += sum(self.world.spread("start", -n, self.site.start) for n in range(self.left))
        finished = self.saved >= self.work.steps
        return Outcome(finished * self.work.steps * self.work.step / self.held, days, self.people)

    def _stopped(self) -> bool:
        return self.policy.breaker and why_to_stop(self.attempts, self.saved) is not None

    def _person(self) -> None:
        """Somebody looks, mends what lasts, and submits what is left."""
        self.people += 1
        self.now += PERSON
        self._mend(self.now)
        self.torn, self.attempts, self.left = False, [], self._submitted()

    def _mend(self, now: float) -> None:
        self.world.lasting = [at for at in self.world.lasting if at > now]
        self.mended = None

    def _live(self, begin: float) -> None:
        """One link: `now` becomes its end."""
        site, end = self.site, begin + self.site.limit
        failure = self.world.next_failure(begin)
        ready = begin + CHECKED
        if self._unfit_among_nodes(begin):
            if self.policy.excludes_nodes:
                self.now = ready
                self.unfit = []  # named, and left out from now on
                return
            self.now = ready + self.world.spread("start", self.link, site.start)
            return
        ready += self.world.spread("start", self.link, site.start)
        if self._breaks_every_start(begin, ready) or self.torn:
            self.now = ready
            return
        if not self.prepared:
            ready += self.work.prepare
        if failure and failure.at < ready:
            self._fail(failure, end)
            return
        if ready >= end:
            self.now = end
            return
        self.prepared = self.policy.data != "every start"
        self._train(ready, begin, end, failure)

    def _unfit_among_nodes(self, begin: float) -> bool:
        self.unfit = [until for until in self.unfit if until > begin]
        share = self.site.nodes / self.site.pool
        dice = self.world.nodes(self.link)
        return any(dice.random() < share for _ in self.unfit)

    def _breaks_every_start(self, begin: float, ready: float) -> bool:
        """Whether something lasting is broken; a person who was not told looks by himself after a while."""
        if self.mended and begin >= self.mended:
            self._mend(begin)
            self.people += 1
        broken = bool(self.world.lasting) and self.world.lasting[0] <= begin
        if broken and not self.mended:
            self.mended = ready + PERSON
        return broken

    def _train(self, ready: float, begin: float, end: float, failure: Failure | None) -> None:
        """Train from the last save until the run is complete, the deadline, a failure or the end."""
        work, known = self.work, self.policy.knows_the_end
        deadline = end - learned_margin(self.longest_save, end - begin)
        if not known:
            deadline = ready + self.site.limit - PUBLISHED_MARGIN
        cut = min(end, failure.at) if failure else end
        at, step = ready, self.saved
        for number, save in enumerate(self._saves(step, ready, deadline)):
            at += (save - step) * work.step
            took = self.world.spread(f"save {number}", self.link, work.save)
            if at + took > cut:
                break
            at, step, self.saved = at + took, save, save
            self.longest_save = max(took, self.longest_save or 0.0)
            if at >= deadline or save == work.steps:
                self.now = at
                return
        if failure and failure.at < end:
            self._fail(failure, end)
        else:
            self.now = end

    def _saves(self, step: int, at: float, deadline: float) -> Iterator[int]:
        """Steps at which an engine saves that trains on from `step`: each period's end, and the deadline."""
        work = self.work
        while step < work.steps:
            until = min((step // work.period + 1) * work.period, work.steps)
            fits = step + max(1, int((deadline - at) / work.step))  # the step that ends nearest before it
            yield (save := min(until, fits))
            at, step = at + (save - step) * work.step + work.save, save

    def _fail(self, failure: Failure, end: float) -> None:
        """A failure ends the link, at once or when somebody notices."""
        noticed = failure.at + (SLURMD_TIMEOUT if failure.kind == "node" else 0)
        if failure.hangs:
            noticed = failure.at + SILENT if self.policy.ends_idle else end
        self.now = min(noticed, end)
        if failure.unfit:
            self.unfit.append(failure.at + REPAIRED)
        self.torn = self.torn or (failure.torn and not self.policy.lease)
        if failure.kind == "node" and not failure.hangs:
            self.left += 1  # Slurm starts the job again


def simulate(work: Work, site: Site, policy: Policy, seeds: int) -> list[Outcome]:
    """A chain's outcomes, one for each seed."""
    return [Chain(work, site, policy, seed).outcome() for seed in range(seeds)]
