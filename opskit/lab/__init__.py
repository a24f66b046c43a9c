"""Practice fleets: hosts with their own SSH server, a service and a balancer, on one machine."""

from opskit.lab.fleet import Lab, down, up

__all__ = ["Lab", "down", "up"]
