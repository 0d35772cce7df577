"""`request_params`: limits on what a client may ask of the model."""

from __future__ import annotations

from router.chat import ChatRequest
from router.config.schema import RequestParamsSettings

# Both bound the same thing; a cap that forgets one of them is none.
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
# Without them there is no request.
NEVER_REMOVED = frozenset({"model", "messages", "stream"})

# Members of a chat request that OpenAI's API or vLLM's knows.
KNOWN = NEVER_REMOVED | frozenset(
    """
    audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata
    modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort response_format
    safety_identifier seed service_tier stop store stream_options temperature tool_choice tools top_logprobs top_p
    user verbosity web_search_options add_generation_prompt add_special_tokens allowed_token_ids bad_words
    cache_salt chat_template chat_template_kwargs continue_final_message documents echo guided_choice
    guided_decoding_backend guided_grammar guided_json guided_regex guided_whitespace_pattern ignore_eos
    include_reasoning include_stop_str_in_output kv_transfer_params length_penalty logits_processors min_p
    min_tokens mm_processor_kwargs priority prompt_logprobs repetition_penalty request_id return_token_ids
    return_tokens_as_token_ids skip_special_tokens spaces_between_special_tokens stop_token_ids structural_tag
    structured_outputs top_k truncate_prompt_tokens use_beam_search vllm_xargs
    """.split()  # noqa: SIM905  # as a list it would fill a page
)


def limit_params(settings: RequestParamsSettings, request: ChatRequest) -> None:
    """Take out what is blocked, cap what is limited. What the router itself sets comes later and stays."""
    blocked = set(settings.blocked_params)
    if settings.strip_unknown:
        blocked |= request.members.keys() - KNOWN
    for name in blocked - NEVER_REMOVED:
        request.remove(name)
    if settings.max_tokens_limit is not None:
        _cap_tokens(request, settings.max_tokens_limit)
    if settings.max_n is not None and _exceeds(request.get("n"), settings.max_n):
        request.set("n", settings.max_n)


def _cap_tokens(request: ChatRequest, limit: int) -> None:
    given = [name for name in TOKEN_LIMITS if request.get(name) is not None]
    for name in given:
        if _exceeds(request.get(name), limit):
            request.set(name, limit)
    if not given:
        # Saying nothing would ask for as much as the model's context holds.
        request.set("max_tokens", limit)


def _exceeds(value: object, limit: int) -> bool:
    """Whether ``value`` is over ``limit``, or nothing that could be compared with it."""
    if value is None:
        return False
    return isinstance(value, bool) or not isinstance(value, int | float) or value > limit
