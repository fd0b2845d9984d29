"""What accounts add to a request's path, in microseconds: `python -m eval.serving.accounts_bench`.

Each figure is the median of `--rounds` rounds of `--requests` requests, one after the other, in this process: the key's
hash, reserve and journal, then journal and settle, with a book that writes meanwhile. They are processor time of the
thread that serves, so that other programs on the machine do not count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from pathlib import Path
from time import thread_time
from typing import TYPE_CHECKING

import msgspec

from coe_gateway.accounts.accounts import Asked
from coe_gateway.accounts.keys import new_key, new_secret, new_team
from coe_gateway.accounts.metering import Used
from coe_gateway.accounts.opening import build_accounts
from coe_gateway.accounts.settings import AccountsSettings
from coe_gateway.accounts.types import Limits
from coe_gateway.metrics import Metrics
from coe_gateway.wire import ChatRequest
from experts.types import ExpertId, ExpertSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coe_gateway.accounts.accounts import Accounts

_BODY = msgspec.json.encode({"model": "e", "messages": [{"role": "user", "content": "word " * 60}], "max_tokens": 64})
_SPEC = ExpertSpec(ExpertId("e"), "echo", "e", input_price=0.15, output_price=0.6)


async def _round(accounts: Accounts, secret: str, requests: int) -> dict[str, float]:
    """Microseconds a request spends in each step."""
    body = msgspec.json.decode(_BODY, type=ChatRequest)
    spent = {"key": 0.0, "reserve": 0.0, "settle": 0.0}
    for i in range(requests):
        begun = thread_time()
        account = accounts.account(secret)
        known = thread_time()
        charge = await accounts.charge(account, Asked(body, _BODY, [("e",)], "code", f"r{i}"))
        reserved = thread_time()
        with charge:
            charge.add("e", Used(80, 60), told=True)
        settled = thread_time()
        spent["key"] += known - begun
        spent["reserve"] += reserved - known
        spent["settle"] += settled - reserved
        if i % 100 == 0:
            await asyncio.sleep(0)
    return {step: seconds / requests * 1e6 for step, seconds in spent.items()}


async def measure(folder: Path, rounds: int, requests: int) -> dict[str, float]:
    """Median microseconds by step, for a key with four limits in a team with two."""
    accounts = build_accounts(AccountsSettings(folder=folder), [_SPEC], Metrics(), {})
    await accounts.start()
    team = new_team("t", 0.0, Limits(usd_per_month=1e6, rpm=10**9))
    secret = new_secret()
    limits = Limits(usd_per_day=1e6, tokens_total=10**12, rpm=10**9, tpm=10**12)
    await accounts.put_team(team)
    await accounts.put_key(new_key("k", secret, accounts.hash_key, 0.0, team=team.id, limits=limits))
    found = []
    for _ in range(rounds):
        found.append(await _round(accounts, secret, requests))
        await asyncio.sleep(0.2)
    await accounts.close()
    return {step: round(statistics.median(r[step] for r in found), 2) for step in found[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="eval.serving.accounts_bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=3000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), options.rounds, options.requests))
    sys.stdout.write(json.dumps({"microseconds": found}) + "\n")


if __name__ == "__main__":
    main()
