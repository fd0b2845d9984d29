"""What can be set about the admin port."""

from __future__ import annotations

from ipaddress import ip_address

from pydantic import Field, field_validator

from experts.registry import Entry


class AdminSettings(Entry):
    """The admin port. Without this section there is none."""

    host: str = Field(default="127.0.0.1", description="address to listen on; of this machine alone")
    port: int = Field(default=8081, ge=0, le=65535, description="port to listen on; 0 picks a free one")

    @field_validator("host")
    @classmethod
    def _is_of_this_machine(cls, value: str) -> str:
        try:
            loopback = ip_address(value).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError("must be a loopback address, such as 127.0.0.1: reach it by ssh, or put a proxy before it")
        return value
