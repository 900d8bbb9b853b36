"""The simulated chain: known cases come out by hand, and each rule helps where it should."""

import statistics
from dataclasses import replace

import pytest

from bench import chain as simulated
from bench.chain import DAY, HOUR, Chain, Failure, Site, Work, simulate
from bench.goodput import PUBLISHED, TOOLKIT, WITHOUT

WORK = Work(steps=1000, step=36.0, save=60.0, period=250, prepare=1800.0)  # 10 hours of steps
QUIET = Site(failures=0.0, start=600.0)


@pytest.fixture
def exact(monkeypatch):
    """Starts and saves take their medians."""
    monkeypatch.setattr(simulated, "SPREAD", 0.0)


def mean(work, site, policy, seeds=60):
    return statistics.mean(outcome.goodput for outcome in simulate(work, site, policy, seeds))


def test_one_job_without_a_limit_loses_start_and_saves_alone(exact):
    site = replace(QUIET, limit=10 * DAY)
    [found] = simulate(WORK, site, TOOLKIT, 1)
    assert found.goodput == pytest.approx(36_000 / (simulated.CHECKED + 600 + 36_000 + 4 * 60))
    assert found.people == 0


def test_a_job_saves_before_its_end(exact):
    chain = Chain(WORK, QUIET, TOOLKIT, 0)
    chain._live(0.0)
    # No save is known: ten minutes before the end, and the step that ends nearest before.
    assert chain.saved == (QUIET.limit - 600 - 660 - 60) // 36 and chain.now < QUIET.limit
    assert chain.longest_save == 60.0


def test_the_published_deadline_comes_too_late_after_a_long_start(exact):
    late = Chain(WORK, replace(QUIET, start=900.0), replace(TOOLKIT, knows_the_end=False), 0)
    late._live(0.0)
    assert late.now == QUIET.limit and late.saved == 250  # the period's save alone
    soon = Chain(WORK, replace(QUIET, start=300.0), replace(TOOLKIT, knows_the_end=False), 0)
    soon._live(0.0)
    assert soon.saved > 250 and soon.now < QUIET.limit


def test_a_chain_that_can_never_save_never_ends(exact):
    rare = replace(WORK, period=1000)
    [found] = simulate(rare, replace(QUIET, start=900.0), PUBLISHED, 1)
    assert found.goodput == 0 and found.days >= simulated.FOREVER / DAY
    assert simulate(rare, replace(QUIET, start=900.0), TOOLKIT, 1)[0].goodput > 0.8


@pytest.mark.parametrize(
    ("failure", "policy", "ended"),
    [
        (Failure(2 * HOUR, "gpu", False, False, False), TOOLKIT, 2 * HOUR),
        (Failure(2 * HOUR, "node", False, False, False), TOOLKIT, 2 * HOUR + 300),
        (Failure(2 * HOUR, "gpu", True, False, False), TOOLKIT, 3 * HOUR),
        (Failure(2 * HOUR, "gpu", True, False, False), WITHOUT["idle engines ended"], 4 * HOUR),
    ],
)
def test_a_failure_ends_a_job_when_it_is_noticed(exact, failure, policy, ended):
    chain = Chain(WORK, QUIET, policy, 0)
    chain.world.failures = [failure]
    chain._live(0.0)
    assert chain.now == ended and chain.saved == 0


def test_an_unfit_node_costs_seconds_once_or_a_start_each_time(exact):
    everywhere = replace(QUIET, pool=64)
    told, blind = (Chain(WORK, everywhere, p, 0) for p in (TOOLKIT, WITHOUT["unfit nodes excluded"]))
    for chain, cost in ((told, simulated.CHECKED), (blind, simulated.CHECKED + 600)):
        chain.unfit = [DAY]
        chain._live(0.0)
        assert chain.now == cost and chain.saved == 0
    assert told.unfit == [] and blind.unfit == [DAY]


def test_what_lasts_is_told_after_two_links_or_burns_the_chain(exact):
    lost = {}
    for policy in (TOOLKIT, WITHOUT["the breaker"]):
        chain = Chain(replace(WORK, steps=4000), QUIET, policy, 0)
        chain.world.lasting = [0.0]
        outcome = chain.outcome()
        lost[policy.breaker] = chain.held
        assert outcome.people >= 1 and outcome.goodput > 0
    assert lost[True] < lost[False]


def test_a_torn_checkpoint_holds_the_run_up_where_nothing_proves_it(exact):
    for policy, torn in ((TOOLKIT, False), (WITHOUT["leases and seals"], True)):
        chain = Chain(WORK, QUIET, policy, 0)
        chain.world.failures = [Failure(2 * HOUR, "node", False, False, True)]
        chain._live(0.0)
        assert chain.torn is torn


def test_the_same_seed_gives_the_same_outcome():
    assert simulate(WORK, Site(), TOOLKIT, 3) == simulate(WORK, Site(), TOOLKIT, 3)
    assert simulate(WORK, Site(), TOOLKIT, 3)[0] != simulate(WORK, Site(), TOOLKIT, 3)[1]


def gains_without(what, seeds=100):
    """What a chain's goodput gains without a rule at ten times the failures: mean, and twice its error."""
    hard = Site(failures=10 * Site().failures)
    ways = (simulate(WORK, hard, policy, seeds) for policy in (WITHOUT[what], TOOLKIT))
    gains = [without.goodput - ours.goodput for without, ours in zip(*ways, strict=True)]
    return statistics.mean(gains), 2 * statistics.stdev(gains) / seeds**0.5


@pytest.mark.parametrize("what", WITHOUT)
def test_no_rule_costs_more_than_chance_explains(what):
    gain, error = gains_without(what)
    assert gain <= error


@pytest.mark.parametrize(
    "what", ["the allocation's end as the deadline", "prepared data", "surplus links cancelled"]
)
def test_what_every_chain_meets_brings_more_than_chance_explains(what):
    gain, error = gains_without(what)
    assert gain < -error


def test_more_failures_longer_starts_and_shorter_jobs_cost():
    usual = Site()
    for worse in ({"failures": 10 * usual.failures}, {"start": 2 * usual.start}, {"limit": usual.limit / 2}):
        assert mean(WORK, replace(usual, **worse), TOOLKIT) < mean(WORK, usual, TOOLKIT)


@pytest.mark.parametrize("policy", [TOOLKIT, PUBLISHED])
def test_goodput_is_a_share(policy):
    hard = Site(failures=30 * Site().failures)
    assert all(0 <= outcome.goodput < 1 for outcome in simulate(WORK, hard, policy, 40))
