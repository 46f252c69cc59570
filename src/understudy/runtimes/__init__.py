"""What executes files that were exported: each runtime loads a graph and runs it."""

from understudy.runtimes.card import Card, FileInput
from understudy.runtimes.deployed import DeployedModel
from understudy.runtimes.session import Port, Session, reason

__all__ = ["Card", "DeployedModel", "FileInput", "Port", "Session", "reason"]
