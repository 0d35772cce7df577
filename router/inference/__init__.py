"""The encoders on Triton: one call a trunk, for its embedding and every head."""

from triton_router.errors import Unavailable
from triton_router.inference.bundle import Bundle, BundleError, TopicParameters, Trunk, load_bundle
from triton_router.inference.encoder import Encoder, Encoding
from triton_router.inference.encoders import Encoders
from triton_router.inference.prototypes import Prototypes

__all__ = [
    "Bundle",
    "BundleError",
    "Encoder",
    "Encoders",
    "Encoding",
    "Prototypes",
    "TopicParameters",
    "Trunk",
    "Unavailable",
    "load_bundle",
]
