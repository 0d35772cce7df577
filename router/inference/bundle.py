"""The signal bundle's manifest: what the models on Triton are, and how to speak to them."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from triton_router.config import Config
from triton_router.errors import BundleError

# The label of a head that judges pairs.
SAME = "same"


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class Inputs(_Part):
    """Names of the INT64 [batch, length] inputs."""

    ids: str
    mask: str


class EmbeddingOutput(_Part):
    """An FP32 [batch, dimension] output of unit length."""

    output: str
    dimension: int


class Head(_Part):
    """An FP32 output of probabilities: [batch, len(labels)], or [batch, length, len(labels)] ``per_token``."""

    name: str
    output: str
    labels: tuple[str, ...]
    per_token: bool = False


class TokenizerFile(_Part):
    """``file`` is relative to the manifest."""

    file: str
    sha256: str
    pad_id: int
    cls_id: int
    sep_id: int


class TrunkSource(_Part):
    """The published model that the trunk was made from."""

    id: str


class Trunk(_Part):
    """One encoder body with its heads: a single Triton model, a single call."""

    name: str
    model: str
    inputs: Inputs
    source: TrunkSource | None = None
    embedding: EmbeddingOutput | None = None
    """``None`` for a classifier alone."""
    heads: tuple[Head, ...]
    tokenizer: TokenizerFile
    prefix: str = ""
    """What the encoder expects before every text."""
    buckets: tuple[int, ...] = Field(min_length=1)
    max_tokens: int
    max_windows: int
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages that it was measured on; empty: of all, as far as anybody knows."""
    pairs: bool = False
    """It reads two texts at once, and the label ``SAME`` of its one head says whether they ask the same."""

    @model_validator(mode="after")
    def _judges_pairs(self) -> Self:
        if self.pairs and (self.embedding or len(self.heads) != 1 or SAME not in self.heads[0].labels):
            raise ValueError(f"a trunk that reads pairs has one head with a label `{SAME}`, and no embedding")
        return self

    def answers_to(self, name: str) -> bool:
        """Whether a configuration means this trunk by ``name``: its own, the published model's id, or the end of that.

        Upper and lower case are the same, and so is the folder that models are often said to lie in.
        """
        alias = name.strip("/").lower()
        published = self.source.id.lower() if self.source else self.name.lower()
        return alias in (self.name.lower(), published) or alias.rpartition("/")[2] in (
            self.name.lower(),
            published.rpartition("/")[2],
        )

    def reads(self, language: str | None) -> bool:
        """Whether texts in a language (ISO 639-1; ``None``: not known for sure) mean something to it."""
        return not self.languages or language is None or language in self.languages

    def head(self, name: str) -> Head | None:
        return next((head for head in self.heads if head.name == name), None)


class TopicParameters(BaseModel):
    """What ``export/topics.py`` fitted; part of the bundle's manifest. Empty if the bundle only knows its labels.

    ``mean`` and ``axis`` [dimension] describe ordinary prompts, ``label_embeddings`` [labels][dimension] the head's own
    labels; ``weights`` belong to likeness, rival and affinity.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")

    mean: tuple[float, ...] = ()
    axis: tuple[float, ...] = ()
    label_embeddings: tuple[tuple[float, ...], ...] = ()
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bias: float = 0.0
    fitted_on: dict[str, Any] = {}


class Bundle(_Part):
    format: int
    checksum: str
    trunks: tuple[Trunk, ...] = Field(min_length=1)
    topics: dict[str, TopicParameters] = Field(default_factory=dict)
    """By the name of the trunk that they were fitted for."""


def bundle_path(config: Config, repository: Path, file: Path) -> Path:
    """Where the bundle's manifest is: where the configuration in ``file`` says, else in the model repository.

    A relative path counts from the configuration's folder; one that leads nowhere there, from the working directory.
    """
    named = config.global_.inference.bundle
    if named is None:
        return repository / "bundle.json"
    beside = file.absolute().parent / named
    return beside if beside.is_file() else Path(named)


def load_bundle(path: Path) -> tuple[Bundle, dict[str, bytes]]:
    """Read and check a manifest.

    Returns:
        The bundle, and the bytes of each trunk's tokenizer file by trunk name.

    Raises:
        BundleError: a file is missing, does not parse, or its checksum is another.
    """
    try:
        document = json.loads(path.read_bytes())
        bundle = Bundle.model_validate(document)
    except FileNotFoundError as error:
        raise BundleError(
            f"no signal bundle at {path.absolute()}: name the model repository with --repository, or the manifest with "
            "`global.inference.bundle`; `make model` makes both"
        ) from error
    except (OSError, ValueError, ValidationError) as error:
        raise BundleError(f"signal bundle {path}: {error}") from error
    document.pop("checksum", None)
    actual = checksum(document)
    if actual != bundle.checksum:
        raise BundleError(f"signal bundle {path}: checksum is {actual[:12]}…, the file says {bundle.checksum[:12]}…")
    tokenizers = {trunk.name: _tokenizer(path.parent / trunk.tokenizer.file, trunk) for trunk in bundle.trunks}
    return bundle, tokenizers


def checksum(document: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of a manifest without its ``checksum``."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _tokenizer(path: Path, trunk: Trunk) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"tokenizer of trunk {trunk.name}: {error}; `make model` makes it") from error
    if hashlib.sha256(content).hexdigest() != trunk.tokenizer.sha256:
        raise BundleError(f"tokenizer of trunk {trunk.name}: {path} is not the file that the bundle was made with")
    return content
