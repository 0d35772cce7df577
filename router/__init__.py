"""An LLM router for NVIDIA Triton: signals in, a model out."""

__version__ = "0.1.0"
