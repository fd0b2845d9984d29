"""`coe keys`, `coe teams`, `coe usage`: what they print, keep and refuse."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from coe_gateway import cli
from coe_gateway.accounts.sqlite_book import SqliteBook
from tests.accounts_cases import row


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "coe.yaml"
    path.write_text(f"experts: [{{id: parrot, backend: echo}}]\naccounts: {{folder: {tmp_path / 'accounts'}}}\n")
    return path


def coe(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli.app, [*arguments, "--config", str(config)], env={"COLUMNS": "250"})


def made(config: Path, *arguments: str) -> dict:
    return json.loads(coe(config, "keys", "create", *arguments, "--json").stdout)


def test_a_key_is_shown_once_and_its_digest_never(config: Path) -> None:
    key = made(config, "ci", "--rpm", "60", "--usd-per-month", "5", "--model", "auto", "--category", "code")
    assert key["key"].startswith("coe-")
    assert len(key["key"]) == 47
    assert key["limits"] == {"usd_per_month": 5.0, "rpm": 60}
    assert (key["models"], key["categories"]) == (["auto"], ["code"])
    everywhere = "".join(
        coe(config, *command).output
        for command in (
            ["keys", "list"],
            ["keys", "list", "--json"],
            ["keys", "show", "ci"],
            ["keys", "show", "ci", "--json"],
        )
    )
    files = b"".join(path.read_bytes() for path in (config.parent / "accounts").iterdir())
    assert key["key"] not in everywhere
    assert key["key"].encode() not in files
    assert "digest" not in everywhere
    assert key["key"][:10] in everywhere
    assert "usd_per_month $5" in everywhere


def test_keys_are_listed_with_their_state_and_revoked(config: Path) -> None:
    first, second = made(config, "ci"), made(config, "ci", "--expires-days", "1", "--admin")
    clash = coe(config, "keys", "revoke", "ci")
    assert clash.exit_code == 2
    assert "give an id" in clash.output
    assert coe(config, "keys", "revoke", first["id"]).exit_code == 0
    listed = coe(config, "keys", "list").output
    assert "revoked" in listed
    assert "until 20" in listed
    assert "admin" in listed
    assert json.loads(coe(config, "keys", "show", second["id"], "--json").stdout)["admin"] is True
    assert coe(config, "keys", "show", "nobody").exit_code == 2


@pytest.mark.parametrize(
    "wrong", [["--rpm", "0"], ["--usd-total", "-1"], ["--usd-total", "1e8"], ["--team", "nobody"], ["--tpm", "x"]]
)
def test_wrong_options_are_refused_by_name(config: Path, wrong: list[str]) -> None:
    refused = coe(config, "keys", "create", "ci", *wrong)
    assert refused.exit_code == 2
    assert wrong[0].strip("-") in refused.output or wrong[1] in refused.output
    assert json.loads(coe(config, "keys", "list", "--json").stdout) == []


def test_teams_are_made_changed_and_joined(config: Path) -> None:
    team = json.loads(coe(config, "teams", "create", "devs", "--usd-per-day", "3", "--json").stdout)
    again = json.loads(coe(config, "teams", "create", "devs", "--usd-per-day", "4", "--json").stdout)
    assert again["id"] == team["id"]
    assert made(config, "ci", "--team", "devs")["team"] == team["id"]
    assert "usd_per_day 4.0" in coe(config, "teams", "list").output


def test_the_ledger_is_exported_as_csv_and_json(config: Path, tmp_path: Path) -> None:
    key = made(config, "ci")

    async def fill() -> None:
        book = SqliteBook(tmp_path / "accounts" / "accounts.sqlite3")
        await book.append(
            [row("a", key=key["id"], nano_usd=1_500_000_001, model="=1+1"), row("b", 1_800_000_000, request_id='q"')]
        )
        await book.close()

    asyncio.run(fill())
    rows = list(csv.DictReader(io.StringIO(coe(config, "usage", "export", "--until", "2030-01-01").stdout)))
    assert [found["id"] for found in rows] == ["a", "b"]
    assert rows[0]["cost_usd"] == "1.500000001"
    assert rows[0]["time"] == "2023-11-15T12:00:00.000+00:00"
    assert rows[0]["model"] == "'=1+1"
    assert rows[1]["request_id"] == 'q"'
    out = tmp_path / "usage.jsonl"
    arguments = ["--format", "json", "--key", "ci", "--out", str(out), "--since", "2023-01-01", "--until", "2024-01-01"]
    assert coe(config, "usage", "export", *arguments).exit_code == 0
    assert [json.loads(line)["model"] for line in out.read_text().splitlines()] == ["=1+1"]
    shown = json.loads(coe(config, "keys", "show", "ci", "--json").stdout)
    assert shown["spent"]["total"]["tokens"] == 24


def test_a_configuration_without_accounts_says_so(tmp_path: Path) -> None:
    path = tmp_path / "coe.yaml"
    path.write_text("experts: [{id: parrot, backend: echo}]\n")
    refused = coe(path, "keys", "list")
    assert "accounts: is missing" in str(refused.exception)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("accounts: {database: 'postgresql://u:secret@h/d'}", "environment"),
        ("accounts: {redis: 'http://x'}", "accounts.redis"),
        ("accounts: {database: os.environ/URL}", "accounts.hash_key"),
        ("accounts: {prompt_bytes_per_token: 0.5}", "accounts.prompt_bytes_per_token"),
        ("accounts: {if_down: {budgets: maybe}}", "accounts.if_down.budgets"),
        ("accounts: {hash_key: literally}", "accounts.hash_key"),
    ],
)
def test_wrong_settings_are_refused_by_key(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "coe.yaml"
    path.write_text(f"experts: [{{id: parrot, backend: echo}}]\n{line}\n")
    refused = CliRunner().invoke(cli.app, ["validate", str(path)])
    assert says in str(refused.exception)
    assert "secret@" not in str(refused.exception)
