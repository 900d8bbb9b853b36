"""The families of faults: FAULTS of each file is what may happen, to which stages, and how it is done."""

from . import clocks, damage, disks, hubs, nodes, signals, users
from .base import Fault

FAMILIES: dict[str, tuple[Fault, ...]] = {
    "signals": signals.FAULTS,
    "disks": disks.FAULTS,
    "damage": damage.FAULTS,
    "clocks": clocks.FAULTS,
    "nodes": nodes.FAULTS,
    "users": users.FAULTS,
    "hubs": hubs.FAULTS,
}
