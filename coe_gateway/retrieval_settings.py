"""The `retrieval:` section: where files are kept, which embedding experts there are, what a tenant may send."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import ByteSize, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from coe_gateway.minilm_files import MINILM, MINILM_TOKENIZER
from experts.entry import EXPERT_ID, Entry
from experts.errors import ConfigError
from experts.registry import WeightsEntry  # noqa: TC001 - pydantic reads the annotations
from experts.retrieval.chunking import ChunkSize
from experts.retrieval.documents import DocumentLimits
from experts.retrieval.generation import IndexRules
from experts.retrieval.indexes import CompactionRules
from experts.retrieval.intake import IntakeRules
from experts.retrieval.library import LibraryRules

if TYPE_CHECKING:
    from experts.types import WeightsSpec

MiB: Final = 1024**2
GiB: Final = 1024**3
EMBEDDER_BACKENDS: Final = ("minilm", "onnx", "sentence_transformers", "query_adapter", "hashing")
RESERVED_IDS: Final = ("auto", "bm25")


class HashingEmbedderEntry(Entry):
    """An embedder without a model, for trying things out: it knows equal words only."""

    backend: Literal["hashing"]
    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use")
    dimensions: PositiveInt = Field(default=256, description="length of a vector")


class MiniLmEmbedderEntry(Entry):
    """all-MiniLM-L6-v2, all of its layers, in integers: the general expert, and the base of query adapters."""

    backend: Literal["minilm"]
    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use")
    model: WeightsEntry = Field(default=MINILM, description="ONNX file")
    tokenizer: WeightsEntry = Field(default=MINILM_TOKENIZER, description="tokenizer.json")
    max_tokens: int = Field(default=256, ge=3, le=512, description="longer texts are cut")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; default: every core")


class OnnxEmbedderEntry(Entry):
    """Another sentence encoder, as ONNX; vectors of its own, so every store gets an index for it too."""

    backend: Literal["onnx"]
    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use")
    model: WeightsEntry = Field(description="ONNX file whose first output has a vector for each token")
    tokenizer: WeightsEntry = Field(description="tokenizer.json")
    pooling: Literal["mean", "cls"] = Field(default="mean", description="how one vector is made of a text's")
    max_tokens: int = Field(default=512, ge=3, description="longer texts are cut")
    query_prefix: str = Field(default="", description="put before every query, as its makers trained it")
    document_prefix: str = Field(default="", description="put before every passage")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; default: every core")


class SentenceTransformerEntry(Entry):
    """A model of sentence-transformers; needs the extra `retrieval-st`, and vectors of its own as `onnx`."""

    backend: Literal["sentence_transformers"]
    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use")
    model: str = Field(min_length=1, description="a folder, or a name on a hub")
    max_tokens: PositiveInt | None = Field(default=None, description="longer texts are cut; default: the model's")


class QueryAdapterEntry(Entry):
    """An expert that moves another's queries: it searches the same indexes."""

    backend: Literal["query_adapter"]
    id: str = Field(pattern=EXPERT_ID.pattern, description="the name clients use")
    base: str = Field(min_length=1, description="the embedder it was trained on, configured before it")
    file: Path = Field(description="what `coe train retriever` wrote")


EmbedderEntry = Annotated[
    MiniLmEmbedderEntry | OnnxEmbedderEntry | SentenceTransformerEntry | QueryAdapterEntry | HashingEmbedderEntry,
    Field(discriminator="backend"),
]


class PilotsSettings(Entry):
    """Which expert takes a query, told by examples; without it the general one takes every query of `auto`."""

    file: Path = Field(description="what `coe train pilots` wrote")
    aggregate: Literal["mean", "max"] | None = Field(
        default=None, description="of a query's nearness to an expert's pilots; default: as the file says"
    )
    abstain_below: float | None = Field(
        default=None, ge=0, description="lead over the general one under which that takes it; default: as the file says"
    )


class RerankerEntry(Entry):
    """A cross-encoder, as ONNX, for `rerank`; without one vectors are compared."""

    id: str = Field(pattern=EXPERT_ID.pattern, description="the name that replies give")
    model: WeightsEntry = Field(description="ONNX file with one logit for a pair of texts")
    tokenizer: WeightsEntry = Field(description="tokenizer.json that encodes pairs")
    max_tokens: int = Field(default=512, ge=8, description="longer pairs are cut")
    threads: PositiveInt | None = Field(default=None, description="CPU threads; default: every core")


class RetrievalLimits(Entry):
    """What is taken at most; a file beyond one of these is refused with an error that says which."""

    max_file_bytes: ByteSize = Field(default=ByteSize(32 * MiB), gt=0, description="largest upload")
    max_tenant_bytes: ByteSize = Field(default=ByteSize(10 * GiB), gt=0, description="a tenant's uploads together")
    max_pages: PositiveInt = Field(default=2000, description="of a PDF")
    max_text_chars: PositiveInt = Field(default=20_000_000, description="of a file's text")
    max_unpacked_bytes: ByteSize = Field(default=ByteSize(256 * MiB), gt=0, description="of a DOCX, unpacked")
    max_passages: PositiveInt = Field(default=20_000, description="that a file is cut into")
    parse_timeout_s: PositiveFloat = Field(default=60.0, description="for reading a PDF or a DOCX")
    parse_memory_bytes: ByteSize = Field(default=ByteSize(GiB), gt=0, description="for reading a PDF or a DOCX")
    max_uploads: PositiveInt = Field(default=4, description="received at the same time; they are held in memory")

    def documents(self) -> DocumentLimits:
        """As the readers of documents want them."""
        return DocumentLimits(
            max_bytes=int(self.max_file_bytes),
            max_text_chars=self.max_text_chars,
            max_pages=self.max_pages,
            max_unpacked_bytes=int(self.max_unpacked_bytes),
            parse_timeout_s=self.parse_timeout_s,
            parse_memory_bytes=int(self.parse_memory_bytes),
        )


class IndexSettings(Entry):
    """When indexes are written anew, and in which form."""

    flat_below: PositiveInt = Field(default=20_000, description="passages up to which every vector is compared")
    least_recall: float = Field(
        default=0.99, gt=0, le=1, description="of the flat search's best ten, that an inverted file must find"
    )
    delta_rows: PositiveInt = Field(default=2000, description="new passages in memory from which an index is rewritten")
    delta_share: float = Field(default=0.1, ge=0, le=1, description="or, for a large one, the share of its passages")
    gone_share: float = Field(default=0.2, ge=0, le=1, description="share of deleted passages from which it is, too")
    open_indexes: PositiveInt = Field(default=128, description="kept open at once")

    def rules(self) -> CompactionRules:
        """As the indexes want them."""
        rules = IndexRules(self.flat_below, self.least_recall)
        return CompactionRules(self.delta_rows, self.delta_share, self.gone_share, self.open_indexes, rules)


class RetrievalSettings(Entry):
    """Vector stores, embeddings, and answers from documents; needs the extra `retrieval`."""

    folder: Path | None = Field(default=None, description="default: coe-gateway/retrieval in the user's data folder")
    database: str | None = Field(
        default=None,
        pattern=r"^os\.environ/[A-Za-z_][A-Za-z0-9_]*$",
        description="os.environ/NAME of a postgresql:// URL; default: SQLite in the folder",
    )
    embedders: tuple[EmbedderEntry, ...] = Field(min_length=1, description="embedding experts, the general one first")
    pilots: PilotsSettings | None = Field(default=None, description="none: `auto` is the general expert")
    reranker: RerankerEntry | None = Field(
        default=None, description="none: `rerank` compares the general one's vectors"
    )
    max_chunk_size_tokens: PositiveInt = Field(default=160, description="of a passage, where a client names no size")
    chunk_overlap_tokens: NonNegativeInt = Field(default=32, description="what a passage repeats of its predecessor")
    hybrid: bool = Field(default=True, description="join the search by words where a client says nothing")
    candidates: PositiveInt = Field(default=200, description="passages of each ranking that are fused or ranked anew")
    limits: RetrievalLimits = RetrievalLimits()
    index: IndexSettings = IndexSettings()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            problem = "must not exceed half of max_chunk_size_tokens"
            raise ConfigError("retrieval.chunk_overlap_tokens", self.chunk_overlap_tokens, problem)
        ids = [entry.id for entry in self.embedders]
        for i, expert_id in enumerate(ids):
            if expert_id in RESERVED_IDS:
                raise ConfigError(f"retrieval.embedders[{i}].id", expert_id, "is a name of the gateway's own")
            if expert_id in ids[:i]:
                raise ConfigError(f"retrieval.embedders[{i}].id", expert_id, "is the id of another embedder too")
        for i, entry in enumerate(self.embedders):
            if isinstance(entry, QueryAdapterEntry) and entry.base not in ids[:i]:
                known = ", ".join(ids[:i]) or "none"
                raise ConfigError(
                    f"retrieval.embedders[{i}].base", entry.base, f"is no embedder before it; known: {known}"
                )
        return self

    def files(self) -> list[WeightsSpec]:
        """The files of weights that the embedders need."""
        pulled: list[MiniLmEmbedderEntry | OnnxEmbedderEntry | RerankerEntry] = [
            entry for entry in self.embedders if isinstance(entry, MiniLmEmbedderEntry | OnnxEmbedderEntry)
        ]
        pulled += [self.reranker] if self.reranker is not None else []
        return [file.spec() for entry in pulled for file in (entry.model, entry.tokenizer)]

    @property
    def chunk_size(self) -> ChunkSize:
        """How a file is cut where a client names no size."""
        return ChunkSize(self.max_chunk_size_tokens, self.chunk_overlap_tokens)

    def library_rules(self) -> LibraryRules:
        """As the library wants them."""
        return LibraryRules(int(self.limits.max_tenant_bytes), self.index.rules())

    def intake_rules(self) -> IntakeRules:
        """As the intake wants them."""
        return IntakeRules(file_passages=self.limits.max_passages, documents=self.limits.documents())
