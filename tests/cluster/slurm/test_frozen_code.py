"""The checkout changes while a chain runs: its links run the code that the run began with, same bytes."""

import subprocess
import sys

from omr.run import snapshot
from omr.settings import ROOT

from .conftest import weights
from .test_faults import STEP, sigkill


def train(site, checkout, links, **env):
    """make train of the chain, from a checkout of its own."""
    words = ("--model", "micro", "--name", "frozen", "--num_training_jobs", str(links))
    command = [sys.executable, str(checkout / "bin/train.py"), *words]
    env = {**site.env, **STEP, "PYTHONPATH": str(checkout), "OMR_VENV": sys.prefix, **env}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def drive_an_edited_checkout(site):
    kept = snapshot.keep(site.root / "checkout", ROOT)
    checkout = kept.rename(site.root / "checkout" / "omr")
    for file in snapshot.code_files(checkout):
        file.chmod(0o755)
    train(site, checkout, links=2)
    site.reached("frozen", 8)
    job = site.ids("frozen")["train-1"]
    shown = site.slurm.call("scontrol", "show", "job", job)
    good = (checkout / "omr/cli.py").read_text()
    for name in ("omr/cli.py", "slurm/train.sbatch", "omr/training/trl/trainer.py"):
        (checkout / name).write_text("exit(1)\n")
    sigkill(site, job)
    site.reached("frozen", 16)
    site.run("bin/cancel.py", "--model", "micro", "--name", "frozen")
    states = site.finish("frozen")
    # The checkout works again, and is another one than the run began with.
    for name in ("slurm/train.sbatch", "omr/training/trl/trainer.py"):
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    (checkout / "omr/cli.py").write_text(good + "\n# as of tomorrow\n")
    again = train(site, checkout, links=1)
    return shown, states, again, site.finish("frozen")


def test_an_edited_checkout(campaign, site, reference):
    shown, states, again, ended = campaign.result("an_edited_checkout")
    folder = site.folder("frozen")
    [kept] = (folder.root / "code").iterdir()
    assert f"Command={kept}/slurm/train.sbatch" in shown
    assert states["train-1"] == "FAILED" and states["train-2"] == "CANCELLED", site.story("frozen")
    assert "note: omr/cli.py of the toolkit differ since the run began; it goes on with its own code" in again
    assert ended["train-1"] == "COMPLETED", site.story("frozen") + site.logs("frozen")
    assert weights(site, "frozen") == reference


def test_recode(campaign, site, reference):
    """RECODE=1 takes the code of now and says so; here it computes the same."""
    told, states = campaign.result("recode")
    folder = site.folder("recoded")
    assert "from now on, was" in told and "from now on, was" in site.story("recoded")
    assert len(list((folder.root / "code").iterdir())) == 2
    assert states["train-1"] == "COMPLETED", site.story("recoded") + site.logs("recoded")
    assert weights(site, "recoded") == reference


def drive_recode(site):
    site.train("recoded", links=1, **STEP)
    site.reached("recoded", 8)
    site.run("bin/cancel.py", "--model", "micro", "--name", "recoded")
    site.finish("recoded")
    checkout = snapshot.keep(site.root / "other", ROOT)
    (checkout / "omr/cli.py").chmod(0o755)
    with (checkout / "omr/cli.py").open("a") as file:
        file.write("\n# as of tomorrow\n")
    words = ("--model", "micro", "--name", "recoded")
    env = {**site.env, **STEP, "PYTHONPATH": str(checkout), "OMR_VENV": sys.prefix, "RECODE": "1"}
    command = [sys.executable, str(checkout / "bin/train.py"), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, site.finish("recoded")
