"""What the doctor says: one line per finding, with how it was seen and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from understudy.errors import InputError

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a distillation, or that its user should know.

    Attributes:
        check: name of the check that found it, such as ``class_order``.
        severity: ``error``: training as it stands would be worthless; ``warning``: it is likely to disappoint;
            ``note``: worth knowing, may well be meant.
        message: what is the case, and what was expected.
        seen: how it was seen: the numbers, the layers, the samples.
        remedy: what to do about it.
    """

    check: str
    severity: Severity
    message: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity} ({self.check}): {self.message}. Seen: {self.seen}. To do: {self.remedy}"

    def to_json(self) -> dict[str, str]:
        """The finding as a JSON object."""
        return asdict(self)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; otherwise in the order given."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def render(findings: Sequence[Finding]) -> str:
    """All findings for a terminal, one line each, the worst first, under a line that counts them."""
    if not findings:
        return "The doctor found nothing wrong."
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in _ORDER}
    counted = ", ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count)
    return "\n".join([f"The doctor found {counted}.", *map(str, by_severity(findings))])


def to_json(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """All findings as a JSON array of objects with the fields of :class:`Finding`."""
    return [finding.to_json() for finding in findings]


def raise_errors(findings: Sequence[Finding]) -> list[Finding]:
    """Stop for errors; what is left, warnings and notes, is handed back.

    Raises:
        InputError: naming every finding that is an error, one line each.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise InputError("\n".join(map(str, errors)))
    return list(findings)
