"""The heads of the signal bundle for other routers: vLLM Semantic Router 0.4's remote classifiers (`http_classify`).

They post ``{"inputs": TEXT}`` to `/classify` of a host and say nothing else. So the host's first name says which
classifier is meant, or the path does: a head gives `label_distribution.v1`, `HEAD--LABEL` `score.v1`, and `pii`
`token_spans.v1`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from triton_router import offload, personal, tagged
from triton_router.api.responses import json_response
from triton_router.config.report import nearest
from triton_router.errors import Refusal, Unavailable
from triton_router.inference import Encoder, Encoders
from triton_router.inference.language import identify
from triton_router.personal import Finding
from triton_router.signals.pii import beside

Handler = Callable[[Request], Awaitable[Response]]

PII = "pii"
# Characters of a text whose personal data is looked for in a few milliseconds.
ON_LOOP = 16_384


class Inputs(BaseModel):
    """What is asked of a remote classifier."""

    inputs: str = Field(max_length=200_000)


class RemoteClassifiers:
    """The handlers; ``encoders`` gives those of the bundle that is served."""

    def __init__(self, encoders: Callable[[], Encoders | None]) -> None:
        self._encoders = encoders

    async def answer(self, request: Request) -> Response:
        """What the classifier says that the path or the host names."""
        body = Inputs.model_validate_json(await request.body())
        name = request.path_params.get("name") or str(request.url.hostname).partition(".")[0]
        return json_response(await classified(self._encoders(), name, body.inputs))

    def or_else(self, other: Handler) -> Handler:
        """:meth:`answer` for bodies with `inputs`, and ``other`` for those without."""

        async def either(request: Request) -> Response:
            return await (self.answer if b'"inputs"' in await request.body() else other)(request)

        return either


async def classified(encoders: Encoders | None, name: str, text: str) -> Any:
    """What the classifier ``name`` says of ``text``, in the form of its contract.

    Raises:
        Refusal: there is no such classifier.
        Unavailable: Triton did not answer, or no trunk reads the text's language.
    """
    if name == PII:
        return {"spans": [_span(text, *each) for each in await _spans(encoders, text)]}
    head, _, label = name.partition("--")
    readers = encoders.readers(head) if encoders is not None else None
    labels = _labels(readers, head)
    if not labels or (label and _plain(label) not in map(_plain, labels)):
        raise _unknown(encoders, name)
    assert readers is not None
    language = identify(text)
    encoder = next(iter(readers.reading(language)))
    if not encoder.trunk.reads(language):
        raise Unavailable("language", f"no head `{head}` reads texts in `{language}`")
    probabilities = (await encoder.encode(text, background=True)).heads[head]
    scores = {each: float(value) for each, value in zip(labels, probabilities, strict=True)}
    if label:
        return {"score": next(value for each, value in scores.items() if _plain(each) == _plain(label))}
    return [{"label": each, "score": scores[each]} for each in sorted(scores, key=lambda each: -scores[each])]


def classifiers(encoders: Encoders | None) -> list[str]:
    """Their names: `pii`, and the heads that judge a text."""
    heads = {head.name for each in encoders or () for head in each.trunk.heads if not head.per_token}
    return [PII, *sorted(heads - {PII})]


async def _spans(encoders: Encoders | None, text: str) -> list[tuple[Finding, float]]:
    """What rules find for certain; and what a tagger finds, with the least probability that counts for it."""
    rules = await offload.run(len(text) > ON_LOOP, personal.find, text)
    tagger = next((each for each in encoders or () if _tags(each)), None)
    if tagger is None:
        return [(each, 1.0) for each in rules]
    head = tagger.trunk.head(tagged.HEAD)
    assert head is not None
    pieces = list(tagged.windows(text))
    taggings = await tagger.tag([piece for _, piece in pieces], tagged.HEAD, background=True)
    tags = [
        tag._replace(start=tag.start + place, end=tag.end + place)
        for (place, piece), each in zip(pieces, taggings, strict=True)
        for tag in tagged.tags(piece, [tagged.Tagging(*one) for one in each], head.labels)
    ]
    names = beside(text, rules, tagged.findings(text, tags))
    least = [(each, tagged.PERSON if each.type == "PERSON" else tagged.ADDRESS) for each in names]
    return sorted([*((each, 1.0) for each in rules), *least])


def _tags(encoder: Encoder) -> bool:
    head = encoder.trunk.head(tagged.HEAD)
    return head is not None and head.per_token


def _span(text: str, finding: Finding, score: float) -> dict[str, Any]:
    start, end, type = finding
    return {"label": type, "score": score, "start": start, "end": end, "text": text[start:end]}


def _labels(readers: Encoders | None, head: str) -> tuple[str, ...]:
    described = next((each.trunk.head(head) for each in readers or ()), None)
    return described.labels if described is not None and not described.per_token else ()


def _plain(label: str) -> str:
    """A label as the name of a host can have it."""
    return label.casefold().replace("_", "-").replace(" ", "-")


def _unknown(encoders: Encoders | None, name: str) -> Refusal:
    available = classifiers(encoders)
    hint = f" Did you mean `{close}`?" if (close := nearest(name, available)) else ""
    message = f"There is no classifier `{name}`; there are {', '.join(available)}.{hint}"
    return Refusal(404, message, code="classifier_not_found")
