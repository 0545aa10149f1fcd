"""What ingest found out about a graph, as `audit.json` keeps it."""

from typing import Any

from snag_dist.config import Config
from snag_dist.kg.audit_report import AuditReport
from snag_dist.kg.repair import RepairManifest


class Findings(Config):
    """The audit of a store, and of its source where a repair stands between them."""

    source: AuditReport | None = None
    """Of the splits as they came, where they were repaired."""
    repair: RepairManifest | None = None
    """What the repair dropped and moved."""
    stored: AuditReport | None = None
    """Of the splits as they are stored; none in a store of an earlier version that was too large for it."""

    def lines(self) -> list[str]:
        """Return the findings as plain lines."""
        lines: list[str] = []
        if self.source is not None:
            lines += ["source:", *self.source.lines()]
        if self.repair is not None:
            lines += ["repair:", *self.repair.lines()]
        if self.stored is not None:
            lines += ["store:", *self.stored.lines()]
        return lines

    def summary(self) -> dict[str, Any]:
        """Return the headline numbers, for the manifest."""
        return {
            "repaired": self.repair is not None,
            "source_problems": [] if self.source is None else self.source.problems(),
            "problems": None if self.stored is None else self.stored.problems(),
        }
