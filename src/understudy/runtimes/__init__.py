"""What executes files that were exported: each runtime loads a graph and runs it."""

from understudy.runtimes.card import Card, FileInput
from understudy.runtimes.deployed import DeployedModel
from understudy.runtimes.opening import RUNTIMES, open_model, runtimes_for
from understudy.runtimes.session import Port, Session

__all__ = [
    "RUNTIMES",
    "Card",
    "DeployedModel",
    "FileInput",
    "Port",
    "Session",
    "open_model",
    "runtimes_for",
]
