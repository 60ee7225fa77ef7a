"""Fax: a guard for faxmail in pipe's recipes."""

from transports.fax.guard import FaxGuard, guard_for

__all__ = ["FaxGuard", "guard_for"]
