#!/usr/bin/env python3
"""Goodput of a chain: which share of the GPU-hours that its jobs hold becomes steps of the finished model?

    .venv/bin/python bench/goodput.py [--seeds 100]        # the tables of docs/scale.md

The chain is simulated (bench/chain.py): this toolkit's, each of its rules taken away, and the published one, which is
NeMo-Skills' at the pinned commit.
"""

import argparse
import statistics
import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import scale  # noqa: E402
from bench.chain import DAY, HOUR, Outcome, Policy, Site, Work, simulate  # noqa: E402
from bench.measure import table  # noqa: E402
from omr import recipe  # noqa: E402
from omr.cluster import plan  # noqa: E402

TOOLKIT = Policy()
PUBLISHED = Policy(False, False, False, False, False, False, "first link")
WITHOUT = {
    "the allocation's end as the deadline": replace(TOOLKIT, knows_the_end=False),
    "prepared data": replace(TOOLKIT, data="every start"),
    "the breaker": replace(TOOLKIT, breaker=False),
    "surplus links cancelled": replace(TOOLKIT, cancels_surplus=False),
    "unfit nodes excluded": replace(TOOLKIT, excludes_nodes=False),
    "idle engines ended": replace(TOOLKIT, ends_idle=False),
    "leases and seals": replace(TOOLKIT, lease=False),
}


def percent(values: list[float]) -> str:
    """Mean and its 95% confidence interval over the seeds, in percent."""
    half = 196 * statistics.stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {half:.1f}"


def _means(outcomes: list[Outcome]) -> list[str]:
    """Goodput, days and the times that a person acts, of all seeds."""
    days, people = ([o.days for o in outcomes], [o.people for o in outcomes])
    return [
        percent([o.goodput for o in outcomes]),
        f"{statistics.mean(days):.1f}",
        f"{statistics.mean(people):.1f}",
    ]


def by_model(seeds: int) -> str:
    """Goodput of round 1 of each model: this toolkit, the published chain, and each rule taken away."""
    works = {run.model.name: Work.of(run) for run in scale.runs() if run.round.number == 1}
    ways = {"this toolkit": TOOLKIT, "the published chain": PUBLISHED}
    ways |= {f"without {what}": policy for what, policy in WITHOUT.items()}
    last, usual = list(works)[-1], Site()
    tenfold = replace(usual, failures=10 * usual.failures)
    rows = []
    for what, policy in ways.items():
        means = [_means(simulate(work, usual, policy, seeds)) for work in works.values()]
        hard = _means(simulate(works[last], tenfold, policy, seeds))
        rows.append([what, *(goodput for goodput, _, _ in means), *means[-1][1:], hard[0]])
    header = ["goodput in %", *works, f"{last}: days", f"{last}: calls for a person"]
    return table([*header, f"{last}, ten times the failures"], rows)


def sensitivity(seeds: int) -> str:
    """32b's round 1 where a number that we do not know is another."""
    work, usual = Work.of(recipe.run("32b")), Site()
    tenfold = replace(usual, failures=10 * usual.failures)
    # What `make plan` advises where a save period is long: one of at most two hours that divides it.
    hours = plan.AT_RISK * HOUR
    periods = [n for n in range(1, work.period) if work.period % n == 0 and n * work.step <= hours]
    often = replace(work, period=max(periods))
    cases = {
        "as above": (work, usual),
        "a start of 10 minutes": (work, replace(usual, start=600)),
        "a start of 5 minutes": (work, replace(usual, start=300)),
        "jobs of 24 hours": (work, replace(usual, limit=DAY)),
        "no failures": (work, replace(usual, failures=0.0)),
        "twice the failures": (work, replace(usual, failures=2 * usual.failures)),
        "ten times the failures": (work, tenfold),
        f"ten times, and a save every {often.period:,} steps": (often, tenfold),
    }
    rows = []
    for what, (each, site) in cases.items():
        ours, theirs = (_means(simulate(each, site, policy, seeds)) for policy in (TOOLKIT, PUBLISHED))
        rows.append([what, ours[0], theirs[0], ours[1], theirs[1]])
    header = ["32b round 1", "this toolkit", "the published chain", "days", "days, published"]
    return table(header, rows)


SEEDS = 100  # of the page: seconds of work
TABLES = {"goodput": lambda: by_model(SEEDS), "sensitivity": lambda: sensitivity(SEEDS)}


def main() -> None:
    """Print both tables."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--seeds", type=int, default=SEEDS)
    seeds = options.parse_args().seeds
    print(by_model(seeds), sensitivity(seeds), sep="\n\n")


if __name__ == "__main__":
    main()
