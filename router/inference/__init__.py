"""The encoder on Triton: one call for the embedding and every head."""

from router.inference.bundle import Bundle, BundleError, Trunk, load_bundle
from router.inference.encoder import Encoder, Encoding, Unavailable
from router.inference.prototypes import Prototypes

__all__ = ["Bundle", "BundleError", "Encoder", "Encoding", "Prototypes", "Trunk", "Unavailable", "load_bundle"]
