"""Names that clients, Envoy and backends know the router by: headers and paths. Every other module reads them here."""

from __future__ import annotations

# --- request headers that the router sets for Envoy and backends ---------------------------------------------------

SELECTED_MODEL = "x-selected-model"
# Envoy chooses the cluster by it.
BASE_MODEL = "x-gateway-base-model-name"

INTERNAL_HEADERS = frozenset({SELECTED_MODEL, BASE_MODEL})
INTERNAL_PREFIX = "x-vsr-"

# Of a request that another candidate can answer: what was tried, and on its way back why that failed.
ATTEMPT = "x-vsr-attempt"
FAILURE = "x-vsr-failure"
RETURNED = frozenset({ATTEMPT, FAILURE})
# Of a request that Envoy has sent to the router again, because its first worker was lost.
REPEATED = "x-vsr-repeated"
# Metadata of the gateway's own calls: such requests come back.
FALLS_BACK = "x-vsr-falls-back"
# What Envoy's router is told of one request.
TRY_TIMEOUT = "x-envoy-upstream-rq-per-try-timeout-ms"
MOST_RETRIES = "x-envoy-max-retries"
RETRIED_STATUSES = "x-envoy-retriable-status-codes"
# Where Envoy has redirected a request from.
REDIRECTED_FROM = "x-envoy-original-url"

# --- request headers with that prefix that a client may send -------------------------------------------------------

CACHE_CONTROL = "x-vsr-cache-control"
DEBUG = "x-vsr-debug"

CLIENT_HEADERS = frozenset({CACHE_CONTROL, DEBUG})

# --- response headers ----------------------------------------------------------------------------------------------

RESPONSE_MODEL = "x-vsr-selected-model"
RESPONSE_PATH = "x-vsr-response-path"
RECIPE = "x-vsr-selected-recipe"
DECISION = "x-vsr-selected-decision"
CONFIDENCE = "x-vsr-selected-confidence"
CATEGORY = "x-vsr-selected-category"
REASONING = "x-vsr-selected-reasoning"
FALLBACK = "x-vsr-fallback"
NO_FALLBACK = "x-vsr-no-fallback"
ADAPTER_FALLBACK = "x-vsr-adapter-fallback"
DEGRADED = "x-vsr-degraded"
IGNORED = "x-vsr-ignored"
GENERATION = "x-vsr-config-generation"
CACHE_HIT = "x-vsr-cache-hit"
CACHE_KEY = "x-vsr-cache-key"
CACHE_SIMILARITY = "x-vsr-cache-similarity"
BLOCKED = "x-vsr-blocked"
WOULD_BLOCK = "x-vsr-would-block"
MASKED = "x-vsr-masked"
LIMITS = "x-vsr-limits"
RESPONSE_WARNINGS = "x-vsr-response-warnings"
REPLAY_ID = "x-vsr-replay-id"
AGE = "age"
SERVER_TIMING = "server-timing"

# --- headers of others ---------------------------------------------------------------------------------------------

# No header: a request's query, handed on among its headers. A client can send none of that name.
QUERY = ":query"
REQUEST_ID = "x-request-id"
TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

# --- models --------------------------------------------------------------------------------------------------------

# What clients of vLLM Semantic Router ask for; it is not listed.
AUTO = "vllm-sr/auto"

# --- paths ---------------------------------------------------------------------------------------------------------

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
RESPONSES_PATH = "/v1/responses"
# Its clients, and those of the paths below it, expect Anthropic's errors.
MESSAGES_PATH = "/v1/messages"
EMBEDDINGS_PATH = "/v1/embeddings"
MODELS_PATH = "/v1/models"
HEALTH_PATH = "/health"
READY_PATH = "/ready"
