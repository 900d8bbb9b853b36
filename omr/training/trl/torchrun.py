"""torchrun without its page of text about a failed worker.

    python -m omr.training.trl.torchrun COUNT SCRIPT [ARG…]

The worker that failed has said why in one line; this exits with that worker's code.
"""

import logging
import sys


def main(count: str, *command: str) -> int:
    """Run `command` in `count` processes; returns the exit code of the first that failed, or 0."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    logging.disable(logging.CRITICAL)
    try:
        run(parse_args(["--standalone", f"--nproc-per-node={count}", *command]))
    except ChildFailedError as error:
        return abs(error.get_first_failure()[1].exitcode) or 1
    except SignalException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
