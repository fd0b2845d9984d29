from __future__ import annotations

import pytest

from eval.retrieval.collection import Collection, Document
from eval.retrieval.pairs import judged_pairs, made_pairs
from experts.errors import ConfigError

TEXT = "The wing bends in a strong wind. See fig. It then returns to where it was before. Nothing else moves at all."
DOCUMENTS = (Document("d1", "Wings", TEXT), Document("d2", "", "Too short."), Document("d3", "Empty", ""))


def test_judged_queries_keep_the_rows_of_their_documents() -> None:
    collection = Collection(
        "aero", DOCUMENTS, {"q1": "wings?", "q2": "gone?"}, {"q1": {"d3": 1, "d1": 2}, "q2": {"d9": 1}}
    )
    pairs = judged_pairs(collection)
    assert pairs.queries == ("wings?",)
    assert pairs.relevant == ((2, 0),)


def test_a_title_asks_for_a_document_that_has_text() -> None:
    pairs = made_pairs(DOCUMENTS, ["title"], 0)
    assert (pairs.queries, pairs.relevant) == (("Wings",), ((0,),))


def test_a_cloze_is_a_whole_sentence_of_some_length() -> None:
    drawn = {made_pairs(DOCUMENTS, ["cloze"], seed).queries for seed in range(40)}
    assert drawn == {
        ("The wing bends in a strong wind.",),
        ("It then returns to where it was before.",),
        ("Nothing else moves at all.",),
    }


def test_a_span_is_some_words_in_a_row() -> None:
    document = Document("d", "", " ".join(f"w{i}" for i in range(60)))
    for seed in range(20):
        (query,) = made_pairs([document], ["span"], seed).queries
        words = query.split()
        assert 8 <= len(words) < 20
        first = int(words[0][1:])
        assert words == [f"w{i}" for i in range(first, first + len(words))]


def test_same_seed_same_queries() -> None:
    assert made_pairs(DOCUMENTS, ["title", "cloze"], 3) == made_pairs(DOCUMENTS, ["title", "cloze"], 3)


def test_refuses_by_name() -> None:
    with pytest.raises(ConfigError, match="--make = 'guess': is none of title, cloze, span"):
        made_pairs(DOCUMENTS, ["guess"], 0)
    with pytest.raises(ConfigError, match="no document gives"):
        made_pairs(DOCUMENTS[1:], ["cloze"], 0)
