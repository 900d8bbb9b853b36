"""NOTIFY from the jobs of a real chain, which read it in .env: once at its end, once when it is cancelled."""

import json

from .cluster import wait


def test_the_end_of_a_chain_is_told_once(site, tmp_path_factory):
    place = tmp_path_factory.mktemp("told")
    teller = place / "teller"
    teller.write_text(f'#!/bin/sh\nprintf "%s|%s|%s\\n" "$1" "$2" "$3" >>{place}/told\n')
    teller.chmod(0o755)
    env = place / "env"
    env.write_text(f"NOTIFY={teller}\n")
    env.chmod(0o600)
    environ = {"OMR_ENV_FILE": str(env)}

    site.train("told", links=3, **environ)
    site.train("stopped", links=1, **environ, OMR_STEP_DELAY="0.5")
    site.running("stopped", "train-1")
    site.run("bin/cancel.py", "--model", "micro", "--name", "stopped", **environ)
    site.finish("told")
    wait(lambda: (place / "told").read_text().count("\n") == 2, 60, f"not told twice: {site.story('told')}")
    lines = sorted(line.split("|") for line in (place / "told").read_text().splitlines())
    cancelled, finished = lines
    assert cancelled[0] == "micro round1-stopped cancelled" and "by make cancel" in cancelled[1]
    average = site.ids("told")["average"]
    assert finished == [
        "micro round1-told finished",
        f"micro round1-told finished: its last job {average} is done",
        str(site.folder("told").final),
    ]
    for name in ("told", "stopped"):
        chain = json.loads(site.folder(name).jobs_json.read_text())["chain"]
        assert [path.name for path in site.folder(name).root.glob(".told-*")] == [f".told-{chain}"]
        for path in [*site.folder(name).logs.glob("*.log"), site.folder(name).event_log]:
            assert str(teller) not in path.read_text(errors="replace")
