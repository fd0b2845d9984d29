"""LiteLLM's `model_list` shape, read as ours. What has no counterpart here is refused by name, never ignored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experts.config_file import ConfigDocument, dotted
from experts.errors import ConfigError, InvalidConfig

if TYPE_CHECKING:
    from experts.config_file import KeyPath

_PROVIDERS = ("openai/", "hosted_vllm/", "text-completion-openai/", "custom_openai/")
_OPENAI_URL = "https://api.openai.com/v1"
_PARAMS = {"api_base": "base_url", "api_key": "api_key", "timeout": "idle_timeout_s"}
_LITELLM_SECTIONS = frozenset({"model_list", "router_settings", "litellm_settings", "general_settings", "coe"})


def translate(document: ConfigDocument) -> ConfigDocument:
    """A LiteLLM document as ours; any other document unchanged. Raises: InvalidConfig."""
    if "model_list" not in document.values:
        return document
    problems = [
        _problem(document, (name,), "is not a section of LiteLLM's shape; put ours under `coe`")
        for name in document.values.keys() - _LITELLM_SECTIONS
    ]
    ours = document.values.get("coe") or {}
    values: dict[str, object] = dict(ours) if isinstance(ours, dict) else {}
    lines: dict[KeyPath, int] = {key[1:]: n for key, n in document.lines.items() if key[0] == "coe" and len(key) > 1}
    model_list = document.values["model_list"]
    experts = []
    for i, item in enumerate(model_list if isinstance(model_list, list) else []):
        experts.append(_expert(document, i, item, problems))
        lines |= {("experts", *key[1:]): n for key, n in document.lines.items() if key[:2] == ("model_list", i)}
    own = values.get("experts")
    values["experts"] = experts + (own if isinstance(own, list) else [])
    gateway = values.get("gateway")
    values["gateway"] = dict(gateway) if isinstance(gateway, dict) else {}
    _settings(document, values["gateway"], problems)
    if problems:
        raise InvalidConfig(str(document.path), problems)
    return ConfigDocument(document.path, values, lines)


def _expert(document: ConfigDocument, i: int, item: object, problems: list[ConfigError]) -> dict[str, object]:
    match item:
        case {"model_name": str(name), "litellm_params": {"model": str(model), **params}, **rest}:
            pass
        case _:
            problems.append(_problem(document, ("model_list", i), "needs model_name and litellm_params.model"))
            return {}
    at: KeyPath = ("model_list", i, "litellm_params")
    expert: dict[str, object] = {"id": name, "backend": "openai"}
    provider = next((p for p in _PROVIDERS if model.startswith(p)), None)
    if provider is None or (provider != "openai/" and "api_base" not in params):
        problems.append(_problem(document, (*at, "model"), "needs an api_base and one of: " + ", ".join(_PROVIDERS)))
        return {}
    expert["model"] = model.removeprefix(provider)
    if model.startswith("openai/"):
        expert["base_url"] = _OPENAI_URL
    for key, value in params.items():
        if (ours := _PARAMS.get(str(key))) is None:
            problems.append(_problem(document, (*at, str(key)), "has no counterpart here"))
        else:
            expert[ours] = value
    unknown = [str(key) for key in rest if key != "model_info"]
    problems += [_problem(document, ("model_list", i, key), "has no counterpart here") for key in unknown]
    return expert | _model_info(document, i, rest.get("model_info"), problems)


def _model_info(document: ConfigDocument, i: int, info: object, problems: list[ConfigError]) -> dict[str, object]:
    known = {"params_b": "total_params_b", "context_window": "context_tokens", "description": "description"}
    prices = {"input_cost_per_token": "input_price", "output_cost_per_token": "output_price"}
    ignored = {"id", "mode", "capabilities"}
    expert: dict[str, object] = {}
    for key, value in info.items() if isinstance(info, dict) else ():
        if key in known:
            expert[known[key]] = value
        elif key in prices:
            expert[prices[key]] = round(value * 1e6, 6) if isinstance(value, int | float) else value
        elif key not in ignored:
            problems.append(_problem(document, ("model_list", i, "model_info", key), "has no counterpart here"))
    return expert


def _settings(document: ConfigDocument, gateway: object, problems: list[ConfigError]) -> None:
    if not isinstance(gateway, dict):
        return
    for section, known in (
        ("general_settings", {"master_key"}),
        ("router_settings", {"timeout"}),
        ("litellm_settings", {"cache"}),
    ):
        values = document.values.get(section)
        for key, value in values.items() if isinstance(values, dict) else ():
            if key not in known or (key == "cache" and value):
                problems.append(_problem(document, (section, key), "has no counterpart here"))
            elif key == "master_key":
                gateway["api_keys"] = [value]
            elif key == "timeout":
                gateway["request_timeout_s"] = value


def _problem(document: ConfigDocument, key: KeyPath, problem: str) -> ConfigError:
    value: object = document.values
    for part in key:
        value = value[part] if isinstance(value, dict | list) else None  # type: ignore[index]
    shown = None if isinstance(value, dict | list) else value
    return ConfigError(dotted(key), shown, problem, line=document.line_of(key))
