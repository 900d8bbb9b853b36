"""Which of the two images a stage runs in."""

import pytest

from omr.containers import choose


@pytest.mark.parametrize(
    ("tier", "script", "args", "environ", "expected"),
    [
        ("data", "bin/data.py", ["--model", "7b"], {}, "tools"),
        ("train", "bin/train.py", [], {"MODEL": "7b"}, "train"),
        ("train", "bin/train.py", ["--model", "tiny"], {}, "tools"),
        ("train", "bin/train.py", ["--model=7b", "--engine=trl"], {}, "tools"),
        ("train", "bin/train.py", [], {"MODEL": "7b", "ENGINE": "trl"}, "tools"),
        ("shell", "bash", [], {}, "tools"),
        ("shell", "bash", [], {"STAGE": "train"}, "train"),
    ],
)
def test_which_image(tier, script, args, environ, expected):
    assert choose.stage_of(tier, script, args, environ) == expected


@pytest.mark.parametrize("script", ["bin/eval.py", "bin/serve.py", "bin/ask.py", "bin/validate.py"])
@pytest.mark.parametrize(
    ("args", "environ", "gpus", "expected"),
    [
        ([], {"MODEL": "7b"}, True, "train"),  # vLLM is there
        ([], {"MODEL": "7b"}, False, "tools"),
        (["--model", "32b"], {"MODEL": "tiny"}, True, "train"),
        ([], {"MODEL": "tiny"}, True, "tools"),
        ([], {"MODEL": "7b", "SERVER": "http://there:8000"}, True, "tools"),
        (["--server=http://there:8000"], {"MODEL": "7b"}, True, "tools"),
        ([], {"MODEL": "9b"}, True, "tools"),  # which the script refuses
        ([], {}, True, "tools"),
    ],
)
def test_a_real_model_is_run_where_vllm_and_torch_are(script, args, environ, gpus, expected, monkeypatch):
    monkeypatch.setattr(choose, "machine_has_gpus", lambda: gpus)
    assert choose.stage_of("train", script, args, environ) == expected
