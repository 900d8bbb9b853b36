"""The processes of one training: this one's rank among them, and a number that the first tells the others."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those that torchrun started for one training."""

    rank: int  # from 0
    size: int  # processes

    @classmethod
    def from_environment(cls) -> "ProcessGroup":
        """From torchrun's RANK and WORLD_SIZE; without them this process is the only one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages for all of them."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def broadcast(self, number: int = 0) -> int:
        """The first process's `number`, in every process; each waits here until the first has come."""
        if self.is_alone:
            return number
        import torch
        from torch import distributed

        _join()
        numbers = torch.tensor([number])
        distributed.broadcast(numbers, 0)
        return int(numbers)

    def close(self) -> None:
        """Leave the group: a process that exits inside it may be aborted by the group's threads."""
        if self.is_alone:
            return
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


def _join() -> None:
    """Join the group that torchrun started, once a process: NCCL between GPUs, gloo between CPUs."""
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
