"""Nodes that are not fit, or do not answer, told apart from a request that no node could serve."""

import pytest

from omr.cluster.allocation import node_check
from omr.errors import OmrError
from omr.workspace import RunFolder


@pytest.mark.parametrize(
    ("said", "count", "error", "names", "line"),
    [
        ("error: node n2: has no /raid\n", 4, node_check.UnfitNodes, ("n2",), "node n2: has no /raid"),
        (
            "error: node n2: a\nsrun: error: n2: task 1: Exited\nerror: node n3: b\n",
            4,
            node_check.UnfitNodes,
            ("n2", "n3"),
            "node n2: a (2 of 4 nodes complain)",
        ),
        ("error: node n1: a\nerror: node n2: a\n", 2, OmrError, None, "node n1: a (2 of 2 nodes complain)"),
        ("error: node n1: a\n", 1, OmrError, None, "node n1: a"),
        (
            "srun: error: Task launch failed on n4\n",
            4,
            node_check.UnfitNodes,
            (),
            "srun: error: Task launch failed on n4",
        ),
        ("", 4, node_check.UnfitNodes, (), "the nodes do not answer"),
    ],
)
def test_some_nodes_or_all(said, count, error, names, line):
    with pytest.raises(OmrError) as found:
        node_check.raise_complaints(said, count)
    assert type(found.value) is error and str(found.value) == line
    assert names is None or found.value.names == names


@pytest.mark.slow
def test_nodes_that_do_not_answer(tmp_path, monkeypatch):
    tool = tmp_path / "srun"
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    monkeypatch.setenv("OMR_ROOT", "/omr")
    monkeypatch.setattr(node_check, "PATIENCE", 0.5)
    with pytest.raises(node_check.UnfitNodes, match="the 4 nodes did not answer"):
        node_check.check_nodes(RunFolder(tmp_path))
