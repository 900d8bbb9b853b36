"""The campaign's own parts, and on a real Slurm a short seed of it."""

import contextlib
import json
import re

import pytest

from . import campaign, proof, table, trial, user
from .families import FAMILIES
from .plan import plan
from .proof import Outcome
from .stages import RUN, STAGES, products

PLANNED = [(p.family, p.fault.name, p.stage) for p in plan(1, 100)]


def test_a_seed_decides_the_plan():
    again = [(p.family, p.fault.name, p.stage) for p in plan(1, 100)]
    other = [(p.family, p.fault.name, p.stage) for p in plan(2, 100)]
    assert again == PLANNED != other
    assert [(p.family, p.fault.name, p.stage) for p in plan(1, 30)] == PLANNED[:30]


def test_a_hundred_faults_reach_every_family_and_every_stage():
    assert {family for family, _, _ in PLANNED} == {*FAMILIES}
    assert {stage for _, _, stage in PLANNED} == {*STAGES}
    kinds = {(family, fault.name, fault.stages) for family, faults in FAMILIES.items() for fault in faults}
    drawn = {(p.family, p.fault.name, p.fault.stages) for p in plan(1, 100)}
    assert drawn == kinds and len(kinds) <= 100


@pytest.mark.parametrize("faults", FAMILIES.values(), ids=FAMILIES)
def test_a_fault_names_stages_that_there_are(faults):
    assert all(fault.stages and {*fault.stages} <= {*STAGES} for fault in faults)
    assert len({(fault.name, fault.stages) for fault in faults}) == len(faults)


def test_a_campaign_goes_on_behind_what_is_written_down(tmp_path):
    record = tmp_path / "seed-1.jsonl"
    whole = json.dumps(Outcome(1, "disks", "full disk", "data").__dict__)
    record.write_text(f'{whole}\n{{"number": 2, "fam')
    assert [outcome.number for outcome in campaign.outcomes(record)] == [1]


def test_the_table_counts_what_held_and_what_did_not():
    found = [
        Outcome(1, "disks", "full disk", "data", 2.0, 5.0, noted=True),
        Outcome(2, "disks", "full disk", "eval", 4.0, 9.0, noted=True, false_alarm=True),
        Outcome(3, "clocks", "an hour back", "data", faults=["lost: a"]),
    ]
    *_, disks, clocks, all_ = table.table(found, "make faults").splitlines()
    assert disks == "| disks | 2 | data, eval | 0 | 2 | 4.0 (4.0) | 9.0 (9.0) | 1 | 0 |"
    assert clocks == "| clocks | 1 | data | 0 | 0 | - | - | 0 | 1 |"
    assert all_.startswith("| all | 3 |") and all_.endswith("| 1 | 1 |")


class Calm:
    """An undisturbed run of which only the products are known."""

    def __init__(self, wanted):
        self.products = {"data": wanted}


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lambda root: None, None),
        (lambda root: (root / "data/tiny-round1.jsonl").write_text("other"), "other bytes"),
        (lambda root: (root / "models/micro/config.json").write_text("{}\n"), "made again"),
        (lambda root: (root / "models/micro/config.json").unlink(), "lost"),
        (lambda root: (root / "data/.tiny-round1.jsonl.12.tmp").touch(), "left behind"),
        (lambda root: (root / "logs").joinpath("data-1.log").write_text(f"{TRACE}:\n"), "a traceback"),
    ],
)
def test_what_does_not_hold_is_found(tmp_path, plant, found, monkeypatch):
    root = tmp_path / "w"
    for folder in ("data", "models/micro", "logs", RUN):
        (root / folder).mkdir(parents=True)
    (root / "data/tiny-round1.jsonl").write_text("rows")
    (root / "data/tiny-round1.manifest.json").write_text("{}")
    (root / "models/micro/config.json").write_text("{}")
    (root / "models/micro/manifest.json").write_text("{}")

    class Machine:
        def __init__(self):
            self.env = {}

        def call(self, *command, check=True):
            return ""

    calm = Calm(products(root, STAGES["data"]))
    one = trial.Trial(Machine(), calm, root, STAGES["data"], None)
    monkeypatch.setattr(trial.Trial, "attempt", lambda self: self.whole())
    one.repeated = True  # it is tested below
    before, outcome = proof.finished(root), Outcome(1, "disks", "full disk", "data")
    plant(root)
    proof.judge(one, outcome, before)
    assert [found] if found else outcome.faults == []
    assert any(line.startswith(found) for line in outcome.faults) if found else True


DONE = "a.jsonl: 4 rows (finished already)"


def refuse():
    raise user.Refused("error: no")


@pytest.mark.parametrize(
    ("again", "said", "found"),
    [
        (lambda root: {"data": "2"}, DONE, None),
        (lambda root: {"data": "1"}, DONE, None),  # what is finished may submit nothing
        (lambda root: refuse(), DONE, "was refused when it was run again: error: no"),
        (lambda root: {"data": "9"}, DONE, "run again, ended with {'data': 'FAILED'}"),
        (lambda root: {"data": "2"}, "a.jsonl: 4 rows", 'run again, it did not say "finished already"'),
        (
            lambda root: (root / "data/a.jsonl").write_text("other") and {"data": "2"},
            DONE,
            "made again by",
        ),
    ],
)
def test_what_is_finished_stays_as_it_is(tmp_path, again, said, found, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.jsonl").write_text("rows")
    (tmp_path / "data/a.manifest.json").write_text("{}")
    monkeypatch.setattr(user.User, "__init__", lambda self, cluster, root: setattr(self, "told", said))
    monkeypatch.setattr(user.User, "said", lambda self: "")
    monkeypatch.setattr(user.User, "submit", lambda self, stage: again(tmp_path))
    states = {"1": "CANCELLED", "2": "COMPLETED", "9": "FAILED"}
    monkeypatch.setattr(user.User, "wait", lambda self, jobs: {key: states[i] for key, i in jobs.items()})
    one = trial.Trial(None, None, tmp_path, STAGES["data"], None, jobs={"data": "1"})
    with pytest.raises(AssertionError, match=re.escape(found)) if found else contextlib.nullcontext():
        proof.repeat(one)


TRACE = "Traceback (most recent call last)"


@pytest.mark.slow
@pytest.mark.slurm
def test_a_short_seed(tmp_path):
    """One fault of each family: nothing is lost, made again or other than undisturbed."""
    if lack := campaign.missing():
        pytest.skip(lack)
    said = []
    found = campaign.run(5, len(FAMILIES), tmp_path / "record.jsonl", said.append)
    assert [outcome for outcome in found if outcome.faults] == [], "\n".join(said)
