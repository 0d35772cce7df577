"""Models that clients name: the one that is meant, or the error for a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from triton_router.errors import Refusal
from triton_router.selection.adapters import LoadedAdapters
from triton_router.selection.model import ListedModel, ModelCatalog, Selection


def named_model(catalog: ModelCatalog, adapters: LoadedAdapters, name: str) -> Selection:
    """The model or adapter called ``name``. Raises ``Refusal``."""
    selection = catalog.concrete(name, adapters)
    if selection is None:
        raise unknown_model(catalog, adapters, name)
    return selection


def unknown_model(catalog: ModelCatalog, adapters: LoadedAdapters, name: str) -> Refusal:
    """The error for a ``name`` that nothing has."""
    if catalog.is_auto(name):
        message = (
            f"The model `{name}` is not available for this request, which lacks the headers that its entrypoints "
            f"require."
        )
        return Refusal(404, message, code="model_not_found", param="model")
    nearest = _nearest(name, catalog.listed(adapters))
    message = f"The model `{name}` does not exist." + (f" Did you mean `{nearest}`?" if nearest else "")
    return Refusal(404, message, code="model_not_found", param="model")


def _nearest(name: str, listed: Sequence[ListedModel]) -> str | None:
    """The listed name that ``name`` most likely means: in other letters, behind a provider's prefix, or misspelt."""
    names = {entry.name.casefold(): entry.name for entry in listed}
    folded = name.casefold()
    for each in (folded, folded.rpartition("/")[2]):
        if each in names:
            return names[each]
    close = difflib.get_close_matches(folded, names, n=1)
    return names[close[0]] if close else None
