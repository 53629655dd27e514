"""Pages: what was computed elsewhere, made easy to see. Nothing here computes."""

from hapgop.studio.card import write_card
from hapgop.studio.report import write_report

__all__ = ["write_card", "write_report"]
