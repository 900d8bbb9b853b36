"""What the values of settings may look like."""

import pytest

from omr.errors import RequestError
from omr.settings.table import SETTINGS


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "ACCOUNT",
            ["a", "my-account_1", "nvr.llm", "x@y"],
            ["a b", "a,b", "-a", "größe", "a;b", "$(id)", "a\n"],
        ),
        ("PARTITION", ["batch", "a,b", "gpu-a100,gpu_h100"], ["a, b", "a,,b", ",a", "a,", "a b", "'a'"]),
        ("CPU_PARTITION", ["cpu"], ["cpu partition"]),
        ("QOS", ["normal", "a,b"], ["normal "]),
        (
            "TIME",
            ["90", "4:00:00", "2-12:30", "UNLIMITED"],
            ["soon", "4h", "1:2:3:4", "1-", "-5", "4:", "٣", "4:00:00\n"],
        ),
        (
            "MEMORY",
            ["8G", "1.5g", "512"],
            ["inf", "infG", "1e3M", "-4G", "4GB", "4 G", "G", "4X", "nan", ".5G"],
        ),
        ("MARGIN", ["0", "600"], ["soon", "-1", "1.5", "10m"]),
        (
            "DEADLINE",
            ["90", "0.5", "2026-01-31T18:00", "2026-01-31"],
            ["nan", "inf", "-5", "tomorrow", "18:00"],
        ),
        ("NAME", ["a", "a.b-c_1", "_", "x" * 40], ["x" * 41, "-a", "a/b", "a b", ".", "größe"]),
        (
            "IMAGE",
            ["omr", "reg.example.org:5000/team/omr", "a/b-c"],
            ["omr:latest", "OMR", "a b", "/omr", "omr/"],
        ),
        ("TOOLS_BASE", ["nvcr.io/a/b:1@sha256:00"], ["a b"]),
        (
            "MOUNTS",
            ["/a:/b", "/a", "/a:/b:ro,/c:/d:rw", "/a:/b, /c"],
            ["a:b", "/a:b", "/a:/b:rx", "/a:/b:ro:x"],
        ),
        (
            "HF_ENDPOINT",
            ["https://hub.example.org", "http://h:8080/x"],
            ["hub.example.org", "https://", "https://a b"],
        ),
        ("APT_MIRROR", ["http://m/ubuntu"], ["m/ubuntu", "file"]),
        ("WANDB_PROJECT", ["openmathreasoning", "a b", "größe"], ["a/b", "a#b", "x" * 129]),
        ("REPO", ["org/model", "me/7b_round2.x"], ["model", "a/b/c", "a/", "-a/b", "a/b c", "https://x/a/b"]),
        ("WANDB_ENTITY", ["my-team"], ["my team"]),
        ("RUNNER", ["slurm"], ["slrum"]),
        ("DRY_RUN", ["1", "no"], ["perhaps"]),
    ],
)
def test_the_values_that_a_setting_can_have(name, good, bad):
    for value in good:
        SETTINGS[name].check(value)
    for value in bad:
        with pytest.raises(RequestError, match=f"^here: {name}=") as refused:
            SETTINGS[name].check(value, "here: ")
        assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("value", ["“a”", "‘a’", "„a“", "«a»", "a”", "“"])
@pytest.mark.parametrize("name", ["ACCOUNT", "RAW", "OVERRIDES", "WANDB_API_KEY"])
def test_typographic_quotes_are_told_of_any_setting(name, value):
    with pytest.raises(RequestError, match=r"has a typographic quote \(.\), which quotes nothing") as refused:
        SETTINGS[name].check(value)
    assert SETTINGS[name].secret is (f"={value}" not in str(refused.value))


def test_a_quote_within_a_text_is_no_quote():
    SETTINGS["RAW"].check("/data/l’été")
