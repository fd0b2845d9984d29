"""The ask is the human's: through every harness, retriever and tool loop, and for any JSON at all."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from routers.ask import _NOISE_TAGS, _SPOKEN_TAGS, Ask, ask_from_prompt, extract_ask

ROO_TASK = """<task>
The totals on the invoice page are off by one cent, find out why
</task>

<environment_details>
# VSCode Visible Files
src/invoice.ts

# Current Time
11/21/2025, 9:12:01 PM (Europe/Vienna, UTC+1:00)

# Current Mode
<slug>code</slug>
</environment_details>"""
REMINDER = "<system-reminder>\nThe todo list is empty. Do not mention this to the user.\n</system-reminder>"
LANGCHAIN = """Use the following pieces of context to answer the question at the end. If you don't know, say so.

The dam was finished in 1936. Question: was it late? It was two years early.

Question: How tall is the dam?
Helpful Answer:"""
LLAMA_INDEX = """Context information is below.
---------------------
The museum opens at nine.
---------------------
Given the context information and not prior knowledge, answer the query.
Query: When does the museum open?
Answer: """
CODEX_IDE = """# Context from my IDE setup:

## Active file: src/main.rs

## Open tabs:
- main.rs: src/main.rs

## My request for Codex:
make the parser accept trailing commas
"""
COPILOT = """<context>
The current date is 3 March.
</context>
<editorContext>
The user's current file is /src/app.py.
</editorContext>
<reminderInstructions>
Use the insert_edit tool.
</reminderInstructions>
<userRequest>
Why is the login slow?
</userRequest>"""
CURSOR = "<additional_data>\nfoo.go\n</additional_data>\n\n<user_query>\nwhy does this deadlock?\n</user_query>"
CLAUDE_COMMAND = (
    "<command-message>review is running…</command-message>\n<command-name>/review</command-name>\n"
    "<command-args>the error handling in upload.py</command-args>"
)


def user(*texts: object) -> dict[str, object]:
    return {"role": "user", "content": texts[0] if len(texts) == 1 else list(texts)}


def part(text: object) -> dict[str, object]:
    return {"type": "text", "text": text}


def chat(*turns: object) -> list[dict[str, object]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]


@pytest.mark.parametrize(
    ("turn", "ask"),
    [
        (ROO_TASK, "The totals on the invoice page are off by one cent, find out why"),
        (f"{REMINDER}\nplease rename the module to billing\n{REMINDER}", "please rename the module to billing"),
        (LANGCHAIN, "How tall is the dam?"),
        (LLAMA_INDEX, "When does the museum open?"),
        (CODEX_IDE, "make the parser accept trailing commas"),
        (COPILOT, "Why is the login slow?"),
        (CURSOR, "why does this deadlock?"),
        (CLAUDE_COMMAND, "the error handling in upload.py"),
        ("<context>\nRomans built it.\n</context>\n\nWho built the aqueduct?", "Who built the aqueduct?"),
        ("Question: Who wrote it?\n\nContext: The book is by Ana.\nShe lives in Porto.", "Who wrote it?"),
        ("<files><file path='a.py'>x = 1</file></files>What is x here, and why?", "What is x here, and why?"),
        (
            "[Request interrupted by user for tool use]\nUse pathlib instead of os.path",
            "Use pathlib instead of os.path",
        ),
        ("<document index='1'>law</document> Summarise the document above", "Summarise the document above"),
    ],
)
def test_one_turn_of_a_harness_yields_the_words_of_the_human(turn: str, ask: str) -> None:
    assert extract_ask([user(turn)]) == Ask(ask, turns_used=1)


@pytest.mark.parametrize(
    "text",
    [
        "Write a haiku about the sea, please",
        "Is x < 3 and y > 2 whenever x + y > 5?",
        "What does <context> mean in JSX, and why is <Context> different?".replace("<context>", "context"),
        "Fix: [1, 2, 3][5] raises IndexError: why?",
        "Question: what is the tallest tree?",
        "Wer hat die Brücke über den Bosporus gebaut?",
        "为什么天空是蓝色的 而日落是红色的",
        "Une question: pourquoi la mer est-elle salée ?",
        "def f(x):\n    return x + 1\n\nWhy does f('a') raise?",
    ],
)
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert extract_ask([user(text)]) == Ask(text, turns_used=1)


def test_the_system_prompt_is_never_the_ask() -> None:
    system = {"role": "system", "content": "You are a chemist. Answer only questions about chemistry."}
    assert extract_ask([system]) == Ask("")
    assert extract_ask([{"role": "developer", "content": "Be brief and only speak French."}]) == Ask("")
    assert extract_ask([system, user("Who was the last emperor of Rome?")]).text == "Who was the last emperor of Rome?"


def test_tool_results_are_skipped_in_an_openai_loop() -> None:
    messages = [
        user("Find the three slowest queries of last week"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "sql"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "SELECT * FROM poems WHERE mood = 'sad'"},
        {"role": "function", "name": "sql", "content": "42 rows"},
    ]
    assert extract_ask(messages).text == "Find the three slowest queries of last week"


def test_tool_results_are_skipped_in_an_anthropic_loop() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": [part("total 12\n-rw-r--r-- 1 root")]}
    messages = [
        user(part(REMINDER), part("Why does the build fail on Windows only?")),
        {"role": "assistant", "content": [{"type": "tool_use", "name": "bash", "input": {"command": "ls"}}]},
        user(result, part(REMINDER)),
    ]
    assert extract_ask(messages) == Ask("Why does the build fail on Windows only?", turns_used=1)


def test_tool_results_that_roo_writes_as_text_are_skipped() -> None:
    messages = chat(
        [
            part("<task>\nPort the parser from Java to Kotlin\n</task>"),
            part("<environment_details>x</environment_details>"),
        ],
        "I will read the file.",
        [part("[read_file for 'Parser.java'] Result:"), part("public class Parser { /* a poem */ }")],
    )
    assert extract_ask(messages) == Ask("Port the parser from Java to Kotlin", turns_used=1)


def test_an_answer_among_roo_results_is_the_human_speaking() -> None:
    answered = (
        "[ask_followup_question for 'Which one?'] Result:\n<answer>\nKeep the recursive descent variant\n</answer>"
    )
    assert extract_ask([user(answered)]).text == "Keep the recursive descent variant"
    denied = (
        "[execute_command] Result:\nThe user denied this operation:\n<feedback>\nnever run it as root, ok?\n</feedback>"
    )
    assert extract_ask([user(denied)]).text == "never run it as root, ok?"


def test_a_harness_scolding_is_not_an_ask() -> None:
    scolding = "[ERROR] You did not use a tool in your previous response!\n\n# Reminder: Instructions for Tool Use\n..."
    messages = chat("Explain the scheduler of this kernel", "Sure.", scolding)
    assert extract_ask(messages) == Ask("Explain the scheduler of this kernel", turns_used=1)


def test_a_compaction_summary_serves_only_when_nobody_spoke_since() -> None:
    summary = "This session is being continued from a previous conversation. Primary request: a chess engine."
    assert extract_ask(chat(summary, "ok", "Speed up the move generator")).text == "Speed up the move generator"
    assert extract_ask([user(summary)]) == Ask(summary, turns_used=0)


@pytest.mark.parametrize(
    "short", ["and in German?", "yes", "go on", "make it funnier and shorter, please", "noch mal", "再来一次"]
)
def test_a_leaning_turn_takes_the_one_before_it_along(short: str) -> None:
    messages = chat("Write a limerick about a lazy heron", "There once was…", short)
    assert extract_ask(messages) == Ask(f"Write a limerick about a lazy heron\n{short}", turns_used=2, latest=short)


def test_walking_back_stops_at_the_nearest_informative_turn() -> None:
    messages = chat(
        "Prove that e is irrational", "…", "Translate this menu into Greek", "…", "shorter", "…", "and again"
    )
    expected = "Translate this menu into Greek\nshorter\nand again"
    assert extract_ask(messages) == Ask(expected, turns_used=3, latest="and again")


def test_walking_back_has_an_end() -> None:
    assert extract_ask(chat(*["ok"] * 99)).turns_used == 5


@pytest.mark.parametrize(
    "whole", ["谁在什么时候发明了望远镜", "Is it safe to swim in the Danube?", "Who was Plato's own teacher?"]
)
def test_a_turn_that_stands_alone_takes_nothing_along(whole: str) -> None:
    assert extract_ask(chat("Fix the CSS of my landing page", "Done.", whole)) == Ask(whole, turns_used=1)


def test_min_chars_moves_the_border() -> None:
    messages = chat("Tell me about the moon", "It is grey.", "Who walked on it first?")
    assert extract_ask(messages, min_chars=0).turns_used == 1
    assert extract_ask(messages, min_chars=30).turns_used == 2


def test_images_say_nothing_but_the_words_beside_them_do() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert extract_ask([user(image, part("Which bird is in this picture?"))]).text == "Which bird is in this picture?"
    assert (
        extract_ask(chat("Which bird is in these pictures?", "A wren.", [image])).text
        == "Which bird is in these pictures?"
    )
    assert extract_ask([user({"type": "input_text", "text": "Describe the chart in two lines"})]).turns_used == 1


def test_without_a_user_the_last_words_serve() -> None:
    assert extract_ask([{"role": "assistant", "content": "Once upon a time"}]) == Ask("Once upon a time")
    assert extract_ask([]) == Ask("")
    assert extract_ask([user("")]) == Ask("")


def test_long_code_keeps_its_language_and_its_beginning() -> None:
    code = "\n".join(f"    total += price[{i}] * 3" for i in range(200))
    ask = extract_ask([user(f"fix this code\n```python\ndef total(price):\n{code}\n```\nIt returns None.")])
    assert ask.text.startswith("fix this code\n```python\ndef total(price):\n")
    assert ask.text.endswith("…```\nIt returns None.")
    assert not ask.clipped


def test_short_code_is_left_alone() -> None:
    text = "```go\nfor i := range 3 {\n\tgo f(i)\n}\n```\nIs this a race?"
    assert extract_ask([user(text)]).text == text


def test_logs_and_binary_are_shortened() -> None:
    log = "\n".join(f"2025-11-21 10:00:{i:02} ERROR worker {i} died" for i in range(50))
    assert extract_ask([user(f"what is wrong here?\n{log}\nstarted after the upgrade")]).text.count("ERROR") == 3
    blob = "iVBORw0KGgo" * 400
    assert extract_ask([user(f"what is this? data:image/png;base64,{blob}")]).text == "what is this? …"


def test_a_long_ask_keeps_its_head_and_its_tail() -> None:
    ask = extract_ask(
        [user("Summarise this letter. " + "Dear all, thanks. " * 500 + "Answer in Danish.")], max_chars=200
    )
    assert ask.clipped
    assert len(ask.text) <= 200
    assert ask.text.startswith("Summarise this letter.")
    assert ask.text.endswith("Answer in Danish.")


def test_clipping_splits_no_accent_and_no_emoji() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for limit in range(20, 60):
        text = extract_ask([user(family * 40)], max_chars=limit).text
        head, _, tail = text.partition("…")
        assert not head.rstrip("\n").endswith("\u200d")
        assert not tail.lstrip("\n").startswith("\u200d")
    assert not extract_ask([user("e\u0301" * 300)], max_chars=50).text.partition("…")[2].strip().startswith("\u0301")


def test_half_a_surrogate_can_be_encoded_afterwards() -> None:
    assert extract_ask([user("what is \ud83d in UTF-16, please?")]).text.encode() == b"what is ? in UTF-16, please?"


@pytest.mark.parametrize(
    ("prompt", "ask"),
    [
        ("Once upon a time", "Once upon a time"),
        (["", "Say this is a test", "And this"], "Say this is a test"),
        ([1, 2, 3], ""),
        ([[1, 2], [3]], ""),
        (None, ""),
        ({"text": "no"}, ""),
        ("<system-reminder>x</system-reminder>", ""),
    ],
)
def test_the_ask_of_a_completion(prompt: object, ask: str) -> None:
    assert ask_from_prompt(prompt).text == ask


def test_an_ordinary_chat_takes_microseconds() -> None:
    messages = chat(*["Could you explain how a sailing boat can go against the wind?"] * 21)
    start = time.perf_counter()
    for _ in range(1000):
        extract_ask(messages)
    assert time.perf_counter() - start < 0.25  # 250 us each: five times the budget, for a loaded machine


@pytest.mark.parametrize(
    "hostile",
    ["<context>", "<context ", "</context>", "```x\n", "`", "Question:\n", "\n", "a" * 119 + " ", "[a] Result:\n"],
)
def test_a_hostile_megabyte_takes_linear_time(hostile: str) -> None:
    text = (hostile * (1_000_000 // len(hostile) + 1))[:1_000_000]
    start = time.perf_counter()
    extract_ask([user(f"context: {text}")])
    assert time.perf_counter() - start < 2


TAGS = st.sampled_from(["context", "system-reminder", "files", "file", "task", "user_query", "tool_result", "answer"])
PIECES = st.one_of(
    TAGS.map("<{}>".format),
    TAGS.map("</{}>".format),
    TAGS.map('<{} a="b">'.format),
    st.sampled_from(["```", "```py\n", "\n", "Question: ", "context: ", "[x] Result:\n", "[Request interrupted]"]),
    st.text(max_size=30),
)
TANGLED = st.lists(PIECES, max_size=30).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TANGLED | st.sampled_from(["user", "text", "tool"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
ANY_TAG = re.compile(rf"</?(?:{_NOISE_TAGS}|{_SPOKEN_TAGS})>")


@given(JSON)
def test_any_json_has_an_ask(value: object) -> None:
    assert isinstance(extract_ask(value).text, str)  # type: ignore[arg-type]
    assert isinstance(extract_ask([{"role": "user", "content": value}]).text, str)
    assert isinstance(ask_from_prompt(value).text, str)


@given(st.lists(TANGLED, max_size=6), st.integers(0, 80), st.integers(1, 200))
def test_an_ask_is_bounded_encodable_and_free_of_tags(texts: list[str], min_chars: int, max_chars: int) -> None:
    ask = extract_ask([user(text) for text in texts], min_chars=min_chars, max_chars=max_chars)
    assert len(ask.text) <= max_chars
    assert ask.turns_used <= 5
    assert ask.text == ask.text.strip()
    assert not ANY_TAG.search(ask.text)
    ask.text.encode()


@given(st.text(st.characters(exclude_characters="<`[#:"), max_size=900), st.integers(1, 300))
def test_plain_text_is_stable(text: str, max_chars: int) -> None:
    once = extract_ask([user(text)], max_chars=max_chars)
    assert extract_ask([user(once.text)], max_chars=max_chars).text == once.text


def test_the_shipped_examples_and_the_held_out_prompts_pass_unchanged() -> None:
    here = Path(__file__)
    shipped = yaml.safe_load((here.parents[2] / "routers/defaults/categories.yaml").read_text("utf-8"))["categories"]
    held_out = yaml.safe_load((here.parent / "heldout_prompts.yaml").read_text("utf-8"))
    examples = {category["name"]: category["examples"] for category in shipped}
    assert examples.keys() == held_out.keys()
    for name, prompts in examples.items():
        assert 40 <= len(set(prompts)) == len(prompts) <= 60, name
        assert len(held_out[name]) == 30, name
        assert not set(prompts) & set(held_out[name])
        for prompt in (*prompts, *held_out[name]):
            assert extract_ask([user(prompt)]).text == prompt.strip()
