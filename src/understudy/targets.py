"""What a network may cost, as people write it: ``latency<2ms``, ``params<1M``, ``bytes<4MB``, ``macs<100M``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from understudy.errors import InputError, listing, nearest

Measure = Literal["latency", "params", "bytes", "macs"]

_NAMES: dict[str, Measure] = {
    "latency": "latency",
    "latency_ms": "latency",
    "time": "latency",
    "params": "params",
    "parameters": "params",
    "bytes": "bytes",
    "size": "bytes",
    "size_bytes": "bytes",
    "macs": "macs",
}
_TIMES = {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3}
_COUNTS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
_SIZES = {
    "B": 1.0,
    "bytes": 1.0,
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
_UNITS: dict[Measure, dict[str, float]] = {"latency": _TIMES, "params": _COUNTS, "bytes": _SIZES, "macs": _COUNTS}
_EXAMPLES: dict[Measure, str] = {
    "latency": "latency<2ms",
    "params": "params<1M",
    "bytes": "bytes<4MB",
    "macs": "macs<100M",
}
_LIMIT = re.compile(r"\s*(?P<name>\w+)\s*(?P<sign><=|<|≤)\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[A-Za-zµμ]*)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """What a network may cost at the most.

    Attributes:
        measure: of what: ``latency`` of one sample in milliseconds, ``params``, ``bytes`` on disk, ``macs`` of one
            sample.
        most: in that unit.
        written: as the user wrote it.
    """

    measure: Measure
    most: float
    written: str

    def excess(self, value: float) -> float:
        """How many times too much a value is; 1 or less where it is within the limit."""
        return value / self.most


def parse_target(text: str) -> tuple[Limit, ...]:
    """Read what a network may cost; several limits, which all hold, are separated by commas.

    Args:
        text: such as ``latency<2ms`` or ``params<=1M, size<4MB``. Times in us, ms, s; bytes in kB, MB, GB (thousands)
            or KiB, MiB, GiB; counts in k, M, G. ``<`` and ``<=`` mean the same.

    Raises:
        InputError: naming the part that cannot be read, and what was expected.

    Example:
        >>> [(limit.measure, limit.most) for limit in parse_target("latency<2ms, size<4MB")]
        [('latency', 2.0), ('bytes', 4000000.0)]
    """
    limits = [_limit(part, text) for part in text.split(",")]
    measures = [limit.measure for limit in limits]
    if doubles := sorted({measure for measure in measures if measures.count(measure) > 1}):
        raise InputError(f"the target {text!r} limits {listing(doubles)} twice; keep the lower one")
    return tuple(limits)


def shown_cost(measure: Measure, value: float) -> str:
    """A cost in words: ``1.83 ms``, ``11.2 M``, ``44.8 MB``.

    Args:
        measure: of what.
        value: in milliseconds, bytes, or a number.

    Example:
        >>> shown_cost("latency", 1.8342), shown_cost("params", 11_200_000), shown_cost("bytes", 512)
        ('1.83 ms', '11.2 M', '512 B')
    """
    if measure == "latency":
        return f"{value:.3g} ms"
    scales = (("G", 1e9), ("M", 1e6), ("k", 1e3))
    unit, scale = next(((unit, scale) for unit, scale in scales if value >= 0.9995 * scale), ("", 1.0))
    number = f"{value / scale:.3g}"
    return f"{number} {unit}{'B' if measure == 'bytes' else ''}".rstrip()


def _limit(part: str, text: str) -> Limit:
    examples = ", ".join(_EXAMPLES.values())
    if not part.strip():
        raise InputError(f"the target {text!r} has an empty part; expected limits such as {examples}")
    found = _LIMIT.fullmatch(part)
    if found is None:
        raise InputError(f"the target {part.strip()!r} cannot be read; expected a limit such as {examples}")
    name, unit = found["name"], found["unit"]
    measure = _NAMES.get(name.lower())
    if measure is None:
        raise InputError(
            f"the target {part.strip()!r} limits {name!r}{nearest(name.lower(), _NAMES)}; expected one of {examples}"
        )
    scale = _scale(measure, unit)
    if scale is None:
        known = listing([unit for unit in _UNITS[measure] if unit], most=10)
        raise InputError(
            f"the target {part.strip()!r} has the unit {unit!r}; {measure} has {known}, as in {_EXAMPLES[measure]}"
        )
    most = float(found["number"]) * scale
    if most <= 0.0:
        raise InputError(
            f"the target {part.strip()!r} allows nothing; expected more than 0, as in {_EXAMPLES[measure]}"
        )
    return Limit(measure, most, part.strip())


def _scale(measure: Measure, unit: str) -> float | None:
    """What one unit is; a letter's case matters only where it could mean two things."""
    units = _UNITS[measure]
    if unit in units:
        return units[unit]
    return {known.lower(): scale for known, scale in units.items()}.get(unit.lower()) if unit else None
