"""How one message is to be received: receive_override_options, and what the restrictions have decided already."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config import Settings


@dataclass(frozen=True, slots=True)
class IntakeOptions:
    """``internal``: made by the gateway itself (notices, forwarded copies): no checks, no blind copies."""

    header_body_checks: bool = True
    address_mappings: bool = True
    milters: bool = True
    internal: bool = False
    hold: bool = False
    discard: bool = False
    copies: tuple[str, ...] = field(default=())
    """Addresses that get a blind copy (access(5), BCC)."""
    chain: object = None
    """The milters of the SMTP session that the message comes by (gateway.content.milter.chain)."""
    keep_header: bool = False
    """Whoever hands the message in gives its header back if it is refused: see Intake.header."""
    internal_class: str = ""
    """"bounce" or "notify": what internal_mail_filter_classes calls mail of the gateway's own making."""

    @classmethod
    def of(cls, settings: Settings) -> IntakeOptions:
        """What receive_override_options of a service says."""
        words = set(settings.words("receive_override_options"))
        return cls(
            header_body_checks="no_header_body_checks" not in words,
            address_mappings="no_address_mappings" not in words,
            milters="no_milters" not in words,
        )


DEFAULT = IntakeOptions()
INTERNAL = IntakeOptions(header_body_checks=False, internal=True)
