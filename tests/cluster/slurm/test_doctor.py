"""The doctor's rows by a real Slurm: its words are read as they are, and its verdict is asked for."""

import json

import pytest


@pytest.fixture(scope="module")
def judged(site):
    """The rows of `make doctor FOR=train MODEL=micro` under these settings, by name."""

    def judge(*words, **environ):
        environ = {"FOR": "train", "MODEL": "micro", "NAME": "asked", "JSON": "1", "ACCOUNT": "", **environ}
        done = site.run("bin/doctor.py", *words, check=False, **environ)
        assert "Traceback" not in done.stderr, done.stderr
        print(done.stdout, done.stderr)  # beside a failure
        return {each["name"]: each for each in json.loads(done.stdout)}

    return judge


def test_a_chain_that_this_slurm_would_take(judged, site):
    before = site.slurm.call("squeue", "-h", "-t", "all", "-o", "%j")
    found = judged(ASK="1")
    for name in ("slurm", "partition", "nodes", "time limit", "account", "jobs", "inputs", "chain"):
        assert found[name]["state"] == "ok", found[name]
    assert found["partition"]["found"] == "main, the default"
    assert "start" in found["jobs"]["found"] and "in partition main" in found["jobs"]["found"]
    assert (
        found["shared workspace"]["state"] == "ok"
        and "reads and writes it" in found["shared workspace"]["found"]
    )
    assert found["node's clock"]["state"] == "ok", found["node's clock"]
    after = site.slurm.call("squeue", "-h", "-t", "all", "-o", "%j")
    assert sorted(after.split()) == sorted([*before.split(), "omr-doctor"])
    assert not site.folder("asked").root.exists()


@pytest.mark.parametrize(
    ("words", "name", "said", "advice"),
    [
        ({"PARTITION": "mian"}, "partition", "there is no mian (did you mean main?)", "set PARTITION"),
        ({"TIME": "2:00:00"}, "time limit", "over the 1:00:00 of main", "set TIME=1:00:00"),
        ({"NODES": "9"}, "nodes", "a job asks for 9", "set NODES=3"),
        ({"GPUS": "4"}, "nodes", "0 of main's 3 have 4 GPUs", "set GPUS=2"),
        ({"NODES": "9"}, "jobs", "sbatch failed", "NODES"),
    ],
)
def test_what_this_slurm_would_refuse(judged, words, name, said, advice):
    row = judged(**words)[name]
    assert row["state"] == "fix" and said in row["found"] and advice in row["advice"], row
