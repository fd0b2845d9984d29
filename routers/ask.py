"""What the human asked: the words a router should embed, without what harnesses, tools and retrievers put around them.

Coding agents speak in the user's name: reminders, open tabs, file contents and tool results all arrive as user turns.
A router that embeds them sends every prompt of an agent the same way. Pure and total: any JSON has an ask, maybe "".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from unicodedata import category

if TYPE_CHECKING:
    from collections.abc import Iterator

# A small encoder reads 128 tokens, which is about this much English; what it would not see is better cut here, where
# the tail can be kept.
DEFAULT_MAX_CHARS: Final = 512
# Shorter than this, and a turn seldom says what it is about.
DEFAULT_MIN_CHARS: Final = 20

_USER_ROLES: Final = frozenset({"user", "human"})
_VOICELESS_ROLES: Final = frozenset({"system", "developer", "tool", "function"})
_TEXT_PARTS: Final = ("text", "input_text", None)  # compared, not hashed: a part's type may be any JSON
_MAX_TURNS: Final = 5
_ELISION: Final = "\n…\n"

# Blocks that no human typed: they go with all they hold.
_NOISE_TAGS: Final = (
    r"system[-_]reminder|reminderInstructions|environment_(?:details|context|info)|user_instructions|INSTRUCTIONS"
    r"|context|editorContext|workspace_info|additional_data|ide_opened_file|ide_selection|file_content|files?"
    r"|current_file|open_and_recently_viewed_files|attachments|attached_files|tool_result|tool_response"
    r"|function_results|task_metadata|task-notification|command-message|command-name|bash-(?:input|stdout|stderr)"
    r"|local-command-(?:stdout|stderr|caveat)|available-deferred-tools|user-prompt-submit-hook|transcript"
    r"|chat_history|timestamp|documents?|sources|search_results|retrieved_context"
)
# Envelopes around the human's own words. Beside one of the first group nothing else in the turn is the ask; the names
# of the second are ordinary enough that a human may write about them, so only the tags go.
_ASK_TAGS: Final = r"user_query|userRequest|user_request|user_message|user_question"
_SPOKEN_TAGS: Final = _ASK_TAGS + r"|task|feedback|answer|command-args"
_ATTRIBUTES: Final = r"(?:[ \t][^<>\n]*)?"

_NOISE: Final = re.compile(rf"<({_NOISE_TAGS}){_ATTRIBUTES}>")
_ASKED: Final = re.compile(rf"<({_ASK_TAGS})>")
_SPOKEN: Final = re.compile(rf"<({_SPOKEN_TAGS})>")
_STRAY_TAG: Final = re.compile(rf"</?(?:{_NOISE_TAGS}|{_SPOKEN_TAGS}){_ATTRIBUTES}/?>")
_HARNESS_LINE: Final = re.compile(
    r"^(?:\[Request interrupted|\[TASK RESUMPTION\]|Caveat: The messages below|# AGENTS\.md instructions)[^\n]*$",
    re.MULTILINE,
)
_HARNESS_TAIL: Final = re.compile(
    r"^(?:\[ERROR\] You did not use a tool|# Reminder: Instructions for Tool Use|# \*SEARCH/REPLACE block\* Rules)",
    re.MULTILINE,
)
_COMPACTION: Final = "This session is being continued from a previous conversation"
# Cline and Roo Code report tool results as text: "[read_file for 'a.py'] Result:", then anything.
_SPOKEN_RESULT: Final = re.compile(r"^\[\w+(?: for [^\n]*)?\] Result:", re.MULTILINE)
_RETRIEVAL: Final = re.compile(r"\b(?:context|documents?|passages?|sources|excerpts|search results)\b", re.IGNORECASE)
_RETRIEVAL_SPAN: Final = 400
_QUESTION: Final = re.compile(
    r"^[ \t#*]*(?:(?:user(?:'s)? )?(?:question|query|request|input)|my request for codex|frage|pregunta)[ *]*:[ *]*",
    re.IGNORECASE | re.MULTILINE,
)
_AFTER_QUESTION: Final = re.compile(
    r"^[ \t#*]*(?:(?:helpful |final |your )?answer|response|context|documents|passages|sources|search results)\b"
    r"[^\n:]{0,40}:",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE: Final = re.compile(r"```([^\n`]*)\n(.*?)(?:```|\Z)", re.DOTALL)
_FENCE_LINES, _FENCE_CHARS = 5, 200
_BLOB_CHARS: Final = 120  # no word of a language is as long; base64 and tokens are
_BLOB: Final = re.compile(rf"(?:data:[\w/+.-]+;base64,)?(?<![\w+/=-])[A-Za-z0-9+/=_-]{{{_BLOB_CHARS},}}+")
_LOG: Final = re.compile(
    r"(?:^[ \t]*(?:\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d:\d\d|[A-Z][a-z]{2} +\d+ \d\d:|at [\w.$<]+|File \"|"
    r"\[?(?:INFO|WARN|WARNING|DEBUG|ERROR|TRACE)\b|[A-Za-z0-9+/=]{60,}$)[^\n]*(?:\n|\Z)){6,}",
    re.MULTILINE,
)
_LOG_LINES: Final = 3
# Past the blocks and tool results, only this much of either end is looked at: a pasted book costs what a page does.
_WINDOW_CHARS: Final = 4000
# A turn that leans on the one before it, in the languages that the shipped categories know.
_LEANING: Final = re.compile(
    r"(?:and|but|also|then|now|ok|okay|yes|yep|no|again|same|instead|what about|how about|et|aber|und|mais|y|pero|и)\b"
    r"|(?:please |can you |could you )?(?!(?:is|are|was|were|does|did|will|has|have|why|how|what)\b)"
    r"\w+ (?:it|them|(?:that|this)(?=\W*$| (?:again|more|less|in|into|to|for|with)\b))\b",
    re.IGNORECASE,
)
_LEANING_CHARS: Final = 48
_WIDE: Final = "\u2e80"  # from here on, scripts say in one character what Latin says in about three


@dataclass(frozen=True, slots=True)
class Ask:
    """The text to route on, how many user turns it was taken from, and whether its middle was cut out.

    latest: the last of several turns by itself; empty where the text is a single one.
    """

    text: str
    turns_used: int = 0
    clipped: bool = False
    latest: str = ""


def extract_ask(
    messages: Sequence[Mapping[str, object]],
    *,
    min_chars: int = DEFAULT_MIN_CHARS,
    max_chars: int = DEFAULT_MAX_CHARS,
) -> Ask:
    """Find the human ask in a chat: its last user turn with words, and those before it that this one leans on.

    Turns shorter than `min_chars` ("and in German?") take earlier ones along, back to the nearest that says what the
    chat is about. Without any user's words it is the last message that has words; a system prompt or a tool's result
    never is. At most `max_chars` long: head and tail stay. Never raises on JSON-shaped input.
    """
    turns: list[str] = []
    for text in _user_turns_backwards(messages):
        turns.append(text)
        if len(turns) == _MAX_TURNS or not _leans(text, min_chars):
            break
    if len(turns) > 1:
        return replace(
            _clip("\n".join(reversed(turns)), len(turns), max_chars), latest=_clip(turns[0], 1, max_chars).text
        )
    if turns:
        return _clip(turns[0], 1, max_chars)
    return _clip(next(_others_backwards(messages), ""), 0, max_chars)


def ask_from_prompt(prompt: object, *, max_chars: int = DEFAULT_MAX_CHARS) -> Ask:
    """Find the ask in a `/v1/completions` prompt; of several prompts the first with words, of token ids none."""
    prompts = prompt if isinstance(prompt, list) else [prompt]
    text = next((t for p in prompts if isinstance(p, str) and (t := _human_text(p))), "")
    return _clip(text, 1 if text else 0, max_chars)


def _user_turns_backwards(messages: object) -> Iterator[str]:
    for role, content in _backwards(messages):
        if role in _USER_ROLES and (text := _human_text(_flatten(content))) and not text.startswith(_COMPACTION):
            yield text


def _others_backwards(messages: object) -> Iterator[str]:
    for role, content in _backwards(messages):
        if role not in _VOICELESS_ROLES and (text := _human_text(_flatten(content))):
            yield text


def _backwards(messages: object) -> Iterator[tuple[str, object]]:
    if not isinstance(messages, Sequence):
        return
    for message in reversed(messages):
        if isinstance(message, Mapping):
            role = message.get("role")
            yield role if isinstance(role, str) else "", message.get("content")


def _flatten(content: object) -> str:
    """Join the text of a message's parts; images, tool results and unknown parts say nothing."""
    if not isinstance(content, list | tuple):
        return _part_text(content)
    texts = (_part_text(part) for part in content)
    return "\n".join(text for text in texts if text)


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return ""
    text = part.get("text")
    return text if isinstance(text, str) and part.get("type") in _TEXT_PARTS else ""


def _human_text(text: str) -> str:
    """Keep what a human wrote of one turn. Each step costs one search for a character on a turn that has none of it."""
    if "<" in text:
        text = _without_blocks(text)
        text = _inside(text, _ASKED) or text
    if "] Result:" in text:
        text = _before_tool_results(text)
    if len(text) > 2 * _WINDOW_CHARS:
        text = text[:_WINDOW_CHARS] + _ELISION + text[-_WINDOW_CHARS:]
    if "<" in text:
        text = _STRAY_TAG.sub(" ", text)
    if "[" in text or "#" in text or "Caveat" in text:
        text = _HARNESS_LINE.sub("", text)
        if tail := _HARNESS_TAIL.search(text):
            text = text[: tail.start()]
    if ":" in text:
        text = _question(text)
    return _condense(text).strip()


def _without_blocks(text: str) -> str:
    """Cut out every closed noise block, in one pass: a tag that is never closed is looked for once, not once a tag."""
    kept: list[str] = []
    unclosed: set[str] = set()
    at = 0
    for tag in _NOISE.finditer(text):
        if tag.start() < at or tag[1] in unclosed:
            continue
        end = text.find(f"</{tag[1]}>", tag.end())
        if end < 0:
            unclosed.add(tag[1])
            continue
        kept.append(text[at : tag.start()])
        at = end + len(tag[1]) + 3
    kept.append(text[at:])
    return "\n".join(kept) if len(kept) > 1 else text


def _inside(text: str, opening: re.Pattern[str]) -> str:
    """Collect what stands inside of the envelopes that `opening` finds."""
    said: list[str] = []
    at = 0
    while tag := opening.search(text, at):
        end = text.find(f"</{tag[1]}>", tag.end())
        if end < 0:
            break
        said.append(text[tag.end() : end].strip())
        at = end
    return "\n".join(filter(None, said))


def _before_tool_results(text: str) -> str:
    """Keep what precedes the tool results written as text, and a human's answer among them."""
    result = _SPOKEN_RESULT.search(text)
    if result is None:
        return text
    return text[: result.start()] + _inside(text[result.start() :], _SPOKEN)


def _question(text: str) -> str:
    """Of a retrieval prompt that marks its question, keep the question."""
    marks = list(_QUESTION.finditer(text))
    if not marks or not _RETRIEVAL.search(text, 0, _RETRIEVAL_SPAN):
        return text
    return _AFTER_QUESTION.split(text[marks[-1].end() :], maxsplit=1)[0].strip() or text


def _condense(text: str) -> str:
    """Shorten code, logs and binary to as much of their beginning as tells what they are."""
    if "```" in text:
        text = _FENCE.sub(_short_fence, text)
    if len(text) >= _BLOB_CHARS and any(len(word) >= _BLOB_CHARS for word in text.split()):
        text = _BLOB.sub("…", text)
    if text.count("\n") >= _LOG_LINES:
        text = _LOG.sub(_short_log, text)
    return text


def _short_fence(fence: re.Match[str]) -> str:
    language, body = fence[1], fence[2]
    if len(body) <= _FENCE_CHARS + 2 and body.count("\n") <= _FENCE_LINES + 1:
        return fence[0]
    kept = "\n".join(body[:_FENCE_CHARS].split("\n", _FENCE_LINES)[:_FENCE_LINES])
    return f"```{language}\n{kept}\n…```"


def _short_log(log: re.Match[str]) -> str:
    return "".join(log[0].splitlines(keepends=True)[:_LOG_LINES]) + "…\n"


def _leans(text: str, min_chars: int) -> bool:
    """Whether a turn is too short to say what it is about, or begins as an afterthought does."""
    if len(text) > max(_LEANING_CHARS, min_chars):
        return False
    weight = len(text) if text.isascii() else sum(3 if char >= _WIDE else 1 for char in text)
    return weight < min_chars or (len(text) <= _LEANING_CHARS and _LEANING.match(text) is not None)


def _clip(text: str, turns_used: int, max_chars: int) -> Ask:
    """Cut the middle of a text longer than `max_chars`: instructions stand at both ends. Half a surrogate goes too."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # the tokenizer refuses a lone surrogate
    if len(text) <= max_chars:
        return Ask(text, turns_used)
    room = max_chars - len(_ELISION)
    tail_chars = max(room // 3, 0)
    head = text[: _boundary(text, max(room - tail_chars, 0))].rstrip()
    tail = text[len(text) - tail_chars :].lstrip() if tail_chars else ""
    while tail and _extends(tail[0]):
        tail = tail[1:]
    return Ask(f"{head}{_ELISION}{tail}"[: max(max_chars, 0)].strip(), turns_used, clipped=True)


def _boundary(text: str, at: int) -> int:
    """Move a cut left until it splits neither an accent from its letter nor an emoji from its parts."""
    while 0 < at < len(text) and (_extends(text[at]) or text[at - 1] == "\u200d"):
        at -= 1
    return at


def _extends(char: str) -> bool:
    return char == "\u200d" or "\U0001f3fb" <= char <= "\U0001f3ff" or category(char).startswith("M")
