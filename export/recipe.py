"""What the bundle is made of: names, lengths, precisions. The only place to change them."""

from __future__ import annotations

TRUNK = "minilm"
TOKENIZER_MODEL = "minilm_tokenizer"
TEXT_MODEL = "minilm_text"

# Requests of one padded length batch together, others never do; see docs/model-report.md for the times.
BUCKETS = (16, 32, 64, 128, 256)
MAX_TOKENS = 256
MAX_WINDOWS = 3
MAX_BATCH = 8
# Batch sizes that get a CUDA graph each per bucket.
GRAPH_BATCHES = (1, 2, 4, 8)

# Measured in docs/model-report.md.
CPU_PRECISION = "int8"
GPU_PRECISION = "fp16"
CPU_INSTANCES = 2
GPU_INSTANCES = 2
# MiniLM has read English: of other scripts it knows single characters, and what it says of them is noise.
LATIN_ONLY = True
