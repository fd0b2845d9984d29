"""What is known of each expert beforehand: how big it is and what it charges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from experts.config_file import dotted, nearest_line, read_yaml
from experts.errors import ConfigError, InvalidConfig
from experts.registry import Entry
from routers.row_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from experts.config_file import KeyPath
    from experts.types import ExpertId
    from routers.outcomes import Outcomes

_Billions = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ExpertFacts(Entry):
    """One expert of an experts file; prices are USD per million tokens."""

    id: str = Field(min_length=1, description="its name in the outcome file")
    total_params_b: _Billions = Field(description="its parameters, in billions")
    active_params_b: _Billions = Field(description="those active per token, in billions")
    input_price: _Price | None = Field(default=None, description="USD per million tokens of the prompt")
    output_price: _Price | None = Field(default=None, description="USD per million tokens of the answer")
    description: str = Field(default="", description="what it is good at, one sentence")

    @model_validator(mode="after")
    def _active_are_some_of_all(self) -> Self:
        if self.active_params_b > self.total_params_b:
            raise ValueError(f"active_params_b is above total_params_b = {self.total_params_b:g}")
        return self


class _ExpertsFile(Entry):
    experts: tuple[ExpertFacts, ...] = Field(min_length=1)


def read_expert_facts(path: Path) -> tuple[ExpertFacts, ...]:
    """Read `experts: [{...}, ...]`. Raises: InvalidConfig: naming key, value and line of everything wrong with it."""
    values, lines, problems = read_yaml(path)
    try:
        facts = _ExpertsFile.model_validate(values).experts
        problems += _repeated(facts, lines)
    except ValidationError as error:
        problems += [_problem(item, lines) for item in error.errors()]
        raise InvalidConfig(str(path), problems) from error
    if problems:
        raise InvalidConfig(str(path), problems)
    return facts


def write_expert_facts(path: Path, facts: Iterable[ExpertFacts]) -> None:
    """Write an experts file: a whole file or none."""
    document = {"experts": [fact.model_dump(exclude_defaults=True) for fact in facts]}
    with whole_file(path) as file:
        file.write(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110).encode())


def without_facts(outcomes: Outcomes, facts: Iterable[ExpertFacts]) -> tuple[ExpertId, ...]:
    """The experts with outcomes that `facts` says nothing of."""
    known = {fact.id for fact in facts}
    return tuple(expert for expert in outcomes.experts if expert not in known)


def match(outcomes: Outcomes, facts: Sequence[ExpertFacts]) -> tuple[ExpertFacts, ...]:
    """The facts of each expert with outcomes, in their order; facts of others are left out.

    Raises: ConfigError: naming every expert without facts.
    """
    if missing := without_facts(outcomes, facts):
        raise ConfigError("experts", ", ".join(missing), "outcomes, but no entry in the experts file")
    by_id = {fact.id: fact for fact in facts}
    return tuple(by_id[expert] for expert in outcomes.experts)


_IN_OUR_WORDS: Final = {
    "extra_forbidden": "is not a known key",
    "missing": "is missing",
    "model_type": "must be a mapping",
}


def _problem(item: Mapping[str, object], lines: Mapping[KeyPath, int]) -> ConfigError:
    at, kind, value = item["loc"], item["type"], item.get("input")
    key: KeyPath = at if isinstance(at, tuple) else ()
    message = _IN_OUR_WORDS.get(str(kind), str(item["msg"]))
    shown = None if kind == "missing" else value.get("active_params_b") if isinstance(value, dict) else value
    if kind == "value_error":  # ours: its key is the one the message begins with
        key, message = (*key, "active_params_b"), message.removeprefix("Value error, active_params_b ")
    return ConfigError(dotted(key) or "file", shown, message, line=nearest_line(lines, key))


def _repeated(facts: Sequence[ExpertFacts], lines: Mapping[KeyPath, int]) -> Iterator[ConfigError]:
    first: dict[str, int] = {}
    for i, fact in enumerate(facts):
        if first.setdefault(fact.id, i) != i:
            problem = f"is the id of experts[{first[fact.id]}] too"
            yield ConfigError(f"experts[{i}].id", fact.id, problem, line=lines.get(("experts", i, "id")))
