"""The images on a real engine: built, tested from inside, and every stage in them as on the host."""

import filecmp
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from omr import files, recipe
from omr.containers import run as container
from omr.models import convert
from omr.request import TrainRequest
from omr.run import frozen
from omr.tiny import corpus as tiny
from omr.tiny import model
from omr.workspace import Workspace

from .helpers import TRUSTED, run

SECRET = "hf_never_to_be_seen"
USER = 4711


# ---- the tools image ----


def test_it_builds_from_nothing(tools, checkout):
    context = re.search(r"build context to Docker daemon +([\d.]+) ?([kM]?B)", tools.stderr)
    if context:  # the classic builder says it; BuildKit does not
        assert float(context[1]) * {"B": 1, "kB": 1e3, "MB": 1e6}[context[2]] < 5e6
    assert "in place of nvcr.io/nvidia/base/ubuntu:noble-20251013" in tools.stderr
    assert "not checked against docker/pins.env" in tools.stderr
    assert re.search(
        r"^omr:tools: [\d.]+ [MG]B, [\d.]+ [MG]B of it beside the base", tools.stderr, re.MULTILINE
    )
    assert tools.stderr.count("WITHOUT nemo-skills") >= 2, "said loudly, and again at the end"
    assert not (checkout.root / "build/site").exists(), "what the site adds is gone after the build"


def test_its_labels_name_where_it_comes_from(tools, checkout):
    labels = json.loads(
        checkout.docker("image", "inspect", "--format", "{{json .Config.Labels}}", "omr:tools").stdout
    )
    head = run("git", "-C", checkout.root, "rev-parse", "HEAD").stdout.strip()
    assert labels["org.opencontainers.image.revision"] == head
    assert labels["omr.code"] == container.code_id(checkout.root)
    assert labels["omr.tier"] == "data" and labels["omr.nemo-skills"].endswith("from none")


def test_it_tests_itself(tools, checkout):
    done = checkout.make("image-check", "STAGE=tools")
    assert done.stdout.count("declined  torch") == done.stdout.count("declined  nemo-skills") == 2
    assert "ok        data lock" in done.stdout and "missing" not in done.stdout
    assert "nobody (65534:65534)" in done.stdout, "also as a user whom it does not know"


def test_what_is_missing_fails_the_self_test_by_name(tools, checkout):
    broken = "cd /opt/omr/venv/lib/python3*/site-packages; rm -r tokenizers tokenizers-*"
    text = f"FROM omr:tools\nRUN {broken}\nENV OMR_IMAGE='tools tier=data nemo-skills=unreachable'\n"
    line = ["docker", "build", "--quiet", "--tag", "broken", "-"]
    run(*line, input=text, env=checkout.environ)
    done = checkout.docker(
        "run", "--rm", "broken", container.PYTHON, "/opt/omr/bin/image_check.py", "tools", check=False
    )
    assert done.returncode == 1
    assert re.search(r"missing   data lock +tokenizers==\S+ is 0", done.stdout)
    assert re.search(r"missing   nemo-skills +not in this image", done.stdout)


def test_nothing_of_the_site_stays_in_a_layer(tools, checkout):
    history = checkout.docker("history", "--no-trunc", "omr:tools").stdout
    inspect = checkout.docker("image", "inspect", "omr:tools").stdout
    assert TRUSTED not in history + inspect
    # Layers are tar files, or compressed ones, in a tar file.
    save = subprocess.Popen(["docker", "save", "omr:tools"], env=checkout.environ, stdout=subprocess.PIPE)
    with save, tarfile.open(fileobj=save.stdout, mode="r|") as parts:
        for member in filter(tarfile.TarInfo.isfile, parts):
            data = parts.extractfile(member).read()
            data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
            assert TRUSTED.encode() not in data, member.name


def test_a_change_of_the_code_is_noticed_and_built_in_seconds(tools, checkout):
    init = checkout.root / "omr" / "__init__.py"
    before = init.read_text()
    init.write_text(before + "# changed\n")
    try:
        stale = checkout.make("model", "MODEL=tiny", "RUNNER=docker", check=False)
        assert "holds another state of the code than this checkout; run make image" in stale.stderr
        begin = time.monotonic()
        checkout.make("image", "STAGE=tools")
        seconds = time.monotonic() - begin
        assert seconds < max(15, tools.seconds / 4), (
            f"{seconds:.1f} s after {tools.seconds:.1f} s from nothing"
        )
    finally:
        init.write_text(before)
        checkout.make("image", "STAGE=tools")


@pytest.mark.parametrize(("opened", "said"), [(True, "42"), (False, "bwrap: ")])
def test_bubblewrap_isolates_in_an_evaluations_container_alone(tools, checkout, opened, said):
    code = """
import subprocess
from omr.evaluation.sandbox import Limits, bubblewrap
line = bubblewrap.command(bubblewrap.USER, Limits())
line[-3:] = ["-c", "print(6 * 7)"]
done = subprocess.run(line, env=bubblewrap.environment(), capture_output=True, text=True)
print(done.stdout + done.stderr)
"""
    start = container.Start("omr:tools", [container.PYTHON, "-c", code], [], [], sandbox=opened)
    done = run(*container.argv(container.Engine("docker"), start), env=checkout.environ)
    assert done.stdout.strip().startswith(said)


# ---- the stages in it ----


def trained(root: Path) -> None:
    """A trained run without the training: four converted steps of other weights, and its frozen request."""
    from safetensors.numpy import save_file

    workspace, train = Workspace(root), recipe.run("tiny", 1)
    folder = workspace.run(train)
    folder.root.mkdir(parents=True)
    frozen.freeze(folder, frozen.inputs(TrainRequest.of(train), workspace))
    for step in train.schedule.averaged:
        with files.building(folder.hf_step(step)) as aside:
            shutil.copytree(workspace.model("tiny"), aside, dirs_exist_ok=True)
            (aside / "manifest.json").unlink()
            save_file(model.random_weights(step), aside / "model.safetensors", metadata={"format": "pt"})
            convert.finish_step(train, aside, {"checkpoint": {}})


def results(root: Path) -> dict[str, Path]:
    """What the stages made, by name; manifests and locks name versions, processes and paths, and stay out."""
    kept = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(root)): p for p in kept if "manifest" not in p.name and p.name != "run.json"}


@pytest.fixture(scope="session")
def on_the_host(tools, checkout, tmp_path_factory):
    """A workspace made on the host: data, model, average."""
    root = tmp_path_factory.mktemp("host") / "workspace"
    stages(checkout, root, RUNNER="host")
    return root


def stages(checkout, root, prefix=(), **environ):
    """data, model and average into `root`; the outputs of `make`, stage by stage."""
    environ = {"WORKSPACE": str(root), **environ}
    said = [checkout.make("data", "DATASET=tiny", prefix=prefix, **environ)]
    said.append(checkout.make("model", "MODEL=tiny", prefix=prefix, **environ))
    trained(root)
    if prefix:
        run("chown", "-R", f"{USER}:{USER}", root)
    said.append(checkout.make("average", "MODEL=tiny", prefix=prefix, **environ))
    return said


def same(one: Path, other: Path) -> None:
    """Byte-identical results, and at least those that the stages are for."""
    left, right = results(one), results(other)
    assert left.keys() == right.keys()
    assert {"data/tiny-round1.jsonl", "models/tiny/model.safetensors"} <= left.keys()
    assert "runs/tiny/round1/final/model.safetensors" in left
    # The average's card tells the workspace's own path.
    different = [name for name in left if not filecmp.cmp(left[name], right[name], shallow=False)]
    assert [name for name in different if not name.endswith("README.md")] == []


def test_as_on_the_host_in_a_path_with_a_space(on_the_host, checkout, tmp_path):
    root = tmp_path / "my workspace"
    stages(checkout, root, RUNNER="docker")
    same(on_the_host, root)
    again = checkout.make("data", "DATASET=tiny", RUNNER="docker", WORKSPACE=str(root))
    assert "finished already" in again.stdout


@pytest.fixture
def open_path():
    """A folder that another user can reach; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="omr "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_as_on_the_host_for_another_user(on_the_host, checkout, open_path):
    """Files belong to the caller; the user may read where root's Python lives, and write nowhere but here."""
    for parent in (root := open_path / "theirs", home := open_path / "home"):
        parent.mkdir()
        os.chown(parent, USER, USER)
    socket = Path(checkout.environ["DOCKER_HOST"].removeprefix("unix://"))
    group = socket.stat().st_gid
    if group == 0:
        os.chown(socket, 0, USER)
        group = USER
    reads = "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"
    prefix = ("setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={group}", *reads, "--")
    stages(checkout, root, prefix, RUNNER="docker", HOME=str(home), HF_HOME=str(home / "hf"))
    same(on_the_host, root)
    owners = {(p.stat().st_uid, p.stat().st_gid) for p in root.rglob("*")}
    assert owners == {(USER, USER)}


def many_rows(source: Path, target: Path, times: int) -> None:
    """A corpus of `times` the tiny one's rows in `source`, and links to its shards in `target`."""
    counts = recipe.CORPORA["tiny"].rows
    target.mkdir()
    for shard in tiny.write_corpus(source, rows={split: times * count for split, count in counts.items()}):
        (target / shard.name).symlink_to(shard)


def running(checkout, name="omr-data"):
    """Names of the containers that run."""
    return checkout.docker("ps", "--format", "{{.Names}}", "--filter", f"name={name}").stdout.split()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
    return found


def test_an_interrupt_stops_the_container_and_the_next_run_goes_on(tools, checkout, tmp_path):
    # Links to the shards, which lie elsewhere: the container has to see through them.
    many_rows(tmp_path / "elsewhere", tmp_path / "raw", 10)
    corpus = ("DATASET=tiny", f"RAW={tmp_path / 'raw'}", "ALLOW=rows")
    words = ["make", "--directory", str(checkout.root), "data", *corpus]
    environ = {**checkout.environ, "RUNNER": "docker", "WORKSPACE": str(tmp_path / "ws")}
    output = tmp_path / "ws" / "data" / "tiny-round1.jsonl"
    process = subprocess.Popen(words, env=environ, start_new_session=True, stderr=subprocess.PIPE, text=True)
    until(lambda: output.parent.is_dir() and any(p.is_dir() for p in output.parent.iterdir()))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode != 0 and "interrupted; run the same command again to go on" in said, said
    until(lambda: not running(checkout), 15)
    assert not output.exists()
    checkout.make("data", *corpus, RUNNER="docker", WORKSPACE=str(tmp_path / "ws"))
    checkout.make("data", *corpus, RUNNER="host", WORKSPACE=str(tmp_path / "host"))
    assert filecmp.cmp(output, tmp_path / "host" / "data" / output.name, shallow=False)
    assert [p.name for p in output.parent.iterdir() if p.is_dir()] == []


def test_exit_codes_and_lines_come_through(tools, checkout, tmp_path):
    line = [checkout.root / "docker/run", "data", "bin/data.py", "--dataset", "nope"]
    done = run(*line, check=False, env={**checkout.environ, "RUNNER": "docker", "WORKSPACE": str(tmp_path)})
    assert done.returncode == 2 and done.stderr.startswith("error: DATASET=nope is unknown")
    line = [checkout.root / "docker/run", "shell", "bash", "-c", "exit 37"]
    assert run(*line, check=False, env={**checkout.environ, "WORKSPACE": str(tmp_path)}).returncode == 37


def test_no_value_of_env_file_is_seen_from_outside(tools, checkout, tmp_path):
    env_file = tmp_path / ".env"
    env_file.write_text(f"HF_TOKEN={SECRET}\nHF_HUB_OFFLINE=1\n")
    env_file.chmod(0o600)
    environ = {**checkout.environ, "OMR_ENV_FILE": str(env_file), "WORKSPACE": str(tmp_path / "ws")}
    script = 'printf "%s %s %s" "$HF_TOKEN" "$HF_HUB_OFFLINE" "$HF_HOME"; sleep 20.25'
    line = [str(checkout.root / "docker/run"), "shell", "bash", "-c", script]
    process = subprocess.Popen(line, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        name = until(lambda: running(checkout, "omr-bash"))[0]
        # The program itself, and no command line that names it: then all is printed.
        until(lambda: b"sleep 20.25" in run("ps", "-eo", "args", text=False).stdout.splitlines())
        outside = checkout.docker("inspect", name).stdout
        outside += checkout.docker("history", "--no-trunc", "omr:tools").stdout
        outside += checkout.docker("image", "inspect", "omr:tools").stdout
        outside += run("ps", "-eo", "args").stdout
    finally:
        checkout.docker("stop", "--time", "1", name, check=False)
        inside = process.communicate(timeout=30)[0]
    assert SECRET not in outside
    assert inside == f"{SECRET} 1 {checkout.environ['HF_HOME']}"


# ---- the train image ----


@pytest.fixture(scope="session")
def train(nemo_rl_base, checkout):
    """The train image on its stand-in."""
    return checkout.make("image", "STAGE=train")


def test_the_train_image_knows_its_base_and_leaves_it_alone(train, checkout):
    done = checkout.make("image-check", "STAGE=train")
    for name in ("NeMo-RL", "NeMo-RL's keys", "uv run", "ray", "workers", "data lock"):
        assert done.stdout.count(f"ok        {name:<17}") == 2, done.stdout
    assert "missing" not in done.stdout and "/opt/nemo_rl_venv" in done.stdout
    look = ("run", "--rm", "--entrypoint", "find")
    listing = ("/opt/nemo-rl", "/opt/nemo_rl_venv", "/opt/ray_venvs", "-printf", "%p %s %T@\n")
    ours, theirs = (
        checkout.docker(*look, name, *listing).stdout for name in ("omr:train", "stand-in/nemo-rl:1")
    )
    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())


def test_the_commands_of_a_link_resolve_in_it(train, checkout, tmp_path):
    """As slurm/lib.sh and the conversion say them: in NeMo-RL's folder, its environment as built."""
    link = "cd /opt/nemo-rl && uv run --no-sync examples/run_sft.py --config x.yaml && ray symmetric-run"
    line = [checkout.root / "docker/run", "shell", "bash", "-c", link]
    done = run(*line, env={**checkout.environ, "STAGE": "train", "WORKSPACE": str(tmp_path)})
    assert "run_sft --config x.yaml" in done.stdout and "symmetric-run" in done.stdout


@pytest.mark.parametrize(
    ("env_file", "said", "expected"),
    [("", None, "0"), ("RAY_USAGE_STATS_ENABLED=1\n", None, "1"), ("RAY_USAGE_STATS_ENABLED=1\n", "2", "2")],
)
def test_the_images_own_environment_does_not_win(train, checkout, tmp_path, env_file, said, expected):
    """The base sets RAY_USAGE_STATS_ENABLED=0: .env wins over that, and the caller over .env."""
    (tmp_path / "my.env").write_text(env_file)
    environ = {
        **checkout.environ,
        "STAGE": "train",
        "WORKSPACE": str(tmp_path),
        "OMR_ENV_FILE": str(tmp_path / "my.env"),
    }
    if said:
        environ["RAY_USAGE_STATS_ENABLED"] = said
    line = [checkout.root / "docker/run", "shell", "bash", "-c", 'echo "$RAY_USAGE_STATS_ENABLED"']
    assert run(*line, env=environ).stdout.strip() == expected
