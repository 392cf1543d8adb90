"""Define the address of a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """The address and the ports of a server."""

    host: str = "127.0.0.1"
    """The address or name of this machine."""
    port: int = 8000
    """Port for HTTP; 0: any that is free."""
    wyoming: int | None = None
    """Port for the Wyoming protocol; None: it is not served."""
    wyoming_language: list[str] | None = None
    """Languages that the models recognise, for the Wyoming protocol; None: English."""
