"""The encoder on Triton: one call for the embedding and every head."""

from router.inference.bundle import Bundle, BundleError, Trunk, load_bundle
from router.inference.encoder import Encoder, Encoding, Unavailable

__all__ = ["Bundle", "BundleError", "Encoder", "Encoding", "Trunk", "Unavailable", "load_bundle"]
