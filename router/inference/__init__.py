"""The encoders on Triton: one call a trunk, for its embedding and every head."""

from triton_router.inference.bundle import Bundle, TopicParameters, Trunk, bundle_path, load_bundle
from triton_router.inference.encoder import Encoder, Encoding
from triton_router.inference.encoders import Encoders
from triton_router.inference.prototypes import Prototypes

__all__ = [
    "Bundle",
    "Encoder",
    "Encoders",
    "Encoding",
    "Prototypes",
    "TopicParameters",
    "Trunk",
    "bundle_path",
    "load_bundle",
]
