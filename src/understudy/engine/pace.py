"""Parts of a network that train at a pace of their own: slower, later or not at all, or held near where they began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, final

from torch import Tensor, nn

from understudy.errors import InputError, listing, nearest
from understudy.sources.cache import content_digest
from understudy.taps import unwrapped

BatchNorms = Literal["trained", "all", "none"]


@dataclass(frozen=True)
class Pace:
    """How the parts of a network train. All names are those of ``network.named_parameters()``.

    Attributes:
        factors: of the learning rate; 1 for parameters that are not named. 0 freezes: such a parameter gets no
            gradient, no state of the optimizer and no weight decay.
        begins: the part of the training, 0 to below 1, before which a parameter stays as it is; 0 for all others.
        anchors: what parameters are pulled towards, of their shapes.
        pull: how strongly: the gradient of α/2 · ‖w − w⁰‖² is added at each step, α is this.
        batch_norms: whose running statistics move: of the layers that train at the time, of all, or of none.

    References:
        Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML 2018
        (arXiv:1802.01483), L2-SP, for the pull.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    begins: Mapping[str, float] = field(default_factory=dict)
    anchors: Mapping[str, Tensor] = field(default_factory=dict)
    pull: float = 0.0
    batch_norms: BatchNorms = "trained"

    def __post_init__(self) -> None:
        for name, factor in self.factors.items():
            if not factor >= 0.0:
                raise InputError(f"the factor of {name!r} is {factor}; expected 0 (frozen) or more")
        for name, begin in self.begins.items():
            if not 0.0 <= begin < 1.0:
                raise InputError(f"{name!r} begins to train at {begin}; expected a part of the training, 0 to below 1")
        if not self.pull >= 0.0:
            raise InputError(f"the pull is {self.pull}; expected 0 or more")

    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to be gone on with, as JSON."""
        return {
            "factors": dict(self.factors),
            "begins": dict(self.begins),
            "anchors": {name: content_digest(tensor) for name, tensor in self.anchors.items()} if self.pull else {},
            "pull": self.pull,
            "batch_norms": self.batch_norms,
        }

    def check(self, network: nn.Module) -> None:
        """See that it is about this network.

        Raises:
            InputError: for a name or a shape that it does not have, or when nothing is left to train.
        """
        own = dict(unwrapped(network).named_parameters())
        named = {*self.factors, *self.begins, *self.anchors}
        if strange := sorted(named - own.keys()):
            raise InputError(f"the network has no parameter {strange[0]!r}{nearest(strange[0], own)}")
        shapes = [name for name, tensor in self.anchors.items() if tensor.shape != own[name].shape]
        if shapes:
            raise InputError(f"what to pull towards has another shape for {listing(shapes)}")
        if own and not any(self.factors.get(name, 1.0) > 0 and each.requires_grad for name, each in own.items()):
            raise InputError("every parameter of the network is frozen, so there is nothing to train; leave some free")


@final
class Pacer:
    """Keeps a network to its pace, step by step.

    Args:
        pace: of its parts.
        network: on its device.
        all_gradients: whether those of parameters that wait are computed and thrown away, instead of not at all: where
            processes wait for each other's, and where a term reads layers, which may be among those that wait.
    """

    def __init__(self, pace: Pace, network: nn.Module, *, all_gradients: bool) -> None:
        network = unwrapped(network)
        own = dict(network.named_parameters())
        self._all_gradients, self._batch_norms = all_gradients, pace.batch_norms
        self._waiting = {
            own[name]: begin for name, begin in pace.begins.items() if begin > 0 and own[name].requires_grad
        }
        self._pulled = [
            (own[name], anchor.detach().to(own[name])) for name, anchor in pace.anchors.items() if pace.pull
        ]
        self._pull = pace.pull
        self._norms = list(_norms(network))
        for parameter in () if all_gradients else self._waiting:
            parameter.requires_grad_(False)

    def at(self, progress: float) -> None:
        """Let those parameters begin whose time has come.

        Args:
            progress: part of the training that was made.
        """
        if self._waiting:
            begun = [parameter for parameter, begin in self._waiting.items() if begin <= progress + 1e-9]
            for parameter in begun:
                del self._waiting[parameter]
                parameter.requires_grad_(True)
            if begun:
                self.set_modes()

    def set_modes(self) -> None:
        """Put normalisations into eval mode whose statistics stay; all others are left as they are."""
        if self._batch_norms == "all":
            return
        for norm, parameters in self._norms:
            still = self._batch_norms == "none" or not any(self._trains(parameter) for parameter in parameters)
            norm.train(not still)

    @property
    def changes_gradients(self) -> bool:
        """Whether :meth:`change_gradients` has anything to do."""
        return bool(self._pulled or (self._waiting and self._all_gradients))

    def change_gradients(self) -> None:
        """After the backward pass: take the gradients of those that wait, and pull the others."""
        for parameter in self._waiting:
            parameter.grad = None
        for parameter, anchor in self._pulled:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self._pull)

    def _trains(self, parameter: nn.Parameter) -> bool:
        return parameter.requires_grad and parameter not in self._waiting


@contextmanager
def kept_frozen(pace: Pace | None, network: nn.Module) -> Iterator[None]:
    """Inside, what a pace freezes needs no gradient; afterwards everything needs one that did before.

    Raises:
        InputError: when the pace is about another network.
    """
    if pace is None:
        yield
        return
    pace.check(network)
    free = {name: each for name, each in unwrapped(network).named_parameters() if each.requires_grad}
    for name, parameter in free.items():
        if pace.factors.get(name, 1.0) == 0:
            parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in free.values():
            parameter.requires_grad_(True)


def _norms(network: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """Layers with running statistics, and the parameters that say whether they train: their parent's, without own."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats:
            own = list(module.parameters())
            yield module, own or list(network.get_submodule(name.rpartition(".")[0]).parameters())
