"""Practice fleets: hosts with their own SSH server, a service and a balancer, on one machine."""

from opskit.lab.fixtures import Amount
from opskit.lab.fleet import Lab, down, up
from opskit.lab.servers import Wish

__all__ = ["Amount", "Lab", "Wish", "down", "up"]
