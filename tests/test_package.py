"""The toolkit as a package: which code runs, what a wheel holds, and a tree without links or .git."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from omr import manifest, settings
from omr.settings import ROOT

PRINT = "import omr; print(omr.__file__)"


def package(folder):
    """A checkout of nothing but an `omr` package; returns its __init__.py."""
    (folder / "omr").mkdir(parents=True)
    (folder / "omr" / "__init__.py").touch()
    return folder / "omr" / "__init__.py"


def test_there_is_no_link_in_the_tree():
    """An archive, a wheel and a file system without links all have the same code."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--stage"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git repository here")
    assert [line for line in listed.stdout.splitlines() if line.startswith("120000")] == []


@pytest.mark.parametrize("inherited", [None, "/of/the/image"])
def test_an_image_runs_the_checkout_that_is_mounted(tmp_path, inherited):
    """RUNNER=slurm with CONTAINER: the image has a copy of the code, OMR_ROOT names the job's own."""
    image, mounted = tmp_path / "opt/omr", package(tmp_path / "checkout")
    (image / "docker").mkdir(parents=True)
    shutil.copy2(ROOT / "docker/entry.sh", image / "docker")
    # Stands for `python -P -m omr.settings exec COMMAND…`, which becomes COMMAND.
    (image / "venv/bin").mkdir(parents=True)
    (image / "venv/bin/python").write_text('#!/bin/sh\nshift 4\nexec "$@"\n')
    (image / "venv/bin/python").chmod(0o755)
    environ = {**os.environ, "OMR_ROOT": str(tmp_path / "checkout")}
    environ.pop("PYTHONPATH", None)
    environ |= {"PYTHONPATH": inherited} if inherited else {}
    command = [image / "docker/entry.sh", sys.executable, "-P", "-c", PRINT]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(mounted)


def test_a_job_runs_the_checkout_that_it_was_submitted_from(tmp_path):
    mounted = package(tmp_path / "checkout")
    script = f'source {ROOT}/slurm/lib.sh; "{sys.executable}" -P -c "{PRINT}"'
    environ = {**os.environ, "OMR_ROOT": str(tmp_path / "checkout"), "PYTHONPATH": "/of/a/module/system"}
    done = subprocess.run(["bash", "-euc", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(mounted)


def test_docker_run_runs_the_code_beside_it(tmp_path):
    """Two checkouts share an environment, which knows one of them: each still runs its own code."""
    copy = tmp_path / "checkout"
    for name in ("bin", "docker", "omr"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "bin" / "recipes.py").write_text(PRINT)
    environ = {**os.environ, "OMR_VENV": sys.prefix, "OMR_ENV_FILE": "/dev/null", "PYTHONPATH": str(ROOT)}
    line = [copy / "docker/run", "cli", "bin/recipes.py"]
    done = subprocess.run(line, env=environ, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == str(copy / "omr" / "__init__.py")


def test_without_a_repository_the_revision_is_the_version(tmp_path, monkeypatch):
    monkeypatch.delenv("OMR_REVISION", raising=False)
    monkeypatch.setattr(manifest, "ROOT", tmp_path)
    shutil.copy2(ROOT / "pyproject.toml", tmp_path)
    assert manifest.code_revision() == "0.1.0 (no git)"
    # A repository around the folder is not ours.
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    shutil.copy2(ROOT / "pyproject.toml", unpacked)
    monkeypatch.setattr(manifest, "ROOT", unpacked)
    assert manifest.code_revision() == "0.1.0 (no git)"


def test_the_help_answers_before_anything_is_installed(tmp_path):
    environ = {"PATH": os.environ["PATH"], "OMR_ENV_FILE": "/dev/null"}
    command = [sys.executable, "-I", "-S", ROOT / "bin/help.py"]  # no site-packages at all
    done = subprocess.run(command, env=environ, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "make demo" in done.stdout and ".env is shown after the first stage" in done.stdout


@pytest.mark.slow
def test_a_wheel_holds_code_prompts_keys_and_templates(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    shutil.copytree(ROOT / "omr", source / "omr", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    (source / "tests").mkdir()
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", tmp_path], cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {str(p.relative_to(source)) for p in (source / "omr").rglob("*") if p.is_file()}
    assert {
        "omr/reports/pages/page.html.j2",
        "omr/reports/pages/page.css",
        "omr/training/nemo_rl/keys.txt",
    } <= held
    assert any(Path(name).match("omr/tiny/prompts/**/*.yaml") for name in held)


def test_every_setting_of_a_script_is_found_by_its_spellings():
    assert settings.spellings("NUM_TRAINING_JOBS") == ["--num_training_jobs", "--num-training-jobs"]
    assert settings.spellings("MODEL") == ["--model"]
