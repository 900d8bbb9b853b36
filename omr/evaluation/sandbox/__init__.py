"""A model's code, run where it can do no harm: in processes of its own, isolated and limited.

The others call `Sandbox.create(kind, limits)` once for an evaluation, `Sandbox.session()` for each solution,
and `Session.run(code)`, whose Output has the text that the model is shown. session.py is this side of it,
bubblewrap.py makes the command line that isolates, worker.py is what runs inside.
"""

from omr.evaluation.sandbox.limits import Limits, Output, Status
from omr.evaluation.sandbox.session import Sandbox, Session

__all__ = ["Limits", "Output", "Sandbox", "Session", "Status"]
