"""The processes of one training: this one's rank among them, and a number that they agree on."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """This process among those of torchrun."""

    rank: int
    size: int

    @classmethod
    def of_environment(cls) -> "World":
        """As torchrun set it; without torchrun the only one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this one writes and speaks for all."""
        return self.rank == 0


def agree(value: int | None) -> int:
    """The first process's number, in every process."""
    import torch
    from torch import distributed

    join()
    told = torch.tensor([value or 0])
    distributed.broadcast(told, 0)
    return int(told)


def join() -> None:
    """Become one of the group that torchrun started; once."""
    import torch
    from torch import distributed

    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


@contextlib.contextmanager
def leaving(world: World) -> Iterator[None]:
    """Leave the group at the end: a process that exits inside it may be aborted by its threads."""
    try:
        yield
    finally:
        if world.size > 1:
            from torch import distributed

            if distributed.is_initialized():
                distributed.destroy_process_group()
