"""`python -m export`: make, check, train and measure the signal bundle; docs/export.md says how to bring a model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from export import commands
from export.commands import Command

COMMANDS = {
    "onnx": Command("export.make_graphs", "fetch the published models and write their graphs"),
    "engine": Command("export.engine", "build TensorRT plans, on the GPU that serves them"),
    "repository": Command(
        "export.make_repository", "write configurations, labels, tokenizers and the bundle's manifest"
    ),
    "verify": Command("export.verify", "compare the export with the original, and check files and configurations"),
    "cross-check": Command(
        "export.cross_check", "compare embedders with Hugging Face Optimum's export of their weights"
    ),
    "report": Command(
        "export.verify_report", "write the export report from the results of `verify` and the measurements"
    ),
    "all": Command("export.make_all", "build everything that serving needs; repeat only steps whose inputs changed"),
    "train-head": Command("export.train_head", "train a head on labelled JSON lines"),
    "train-delta": Command("export.train_delta", "train a low-rank change of the trunk for several heads"),
    "evaluate": Command("export.evaluate", "measure accuracy, calibration, int8 against fp32, latency"),
    "evaluate-bundle": Command("export.evaluate_bundle", "measure labelled rows on the path of a request"),
    "evaluate-personal": Command("export.evaluate_personal", "measure the rules for personal data on labelled texts"),
    "evaluate-disguises": Command("export.evaluate_disguises", "measure which attacks still match in disguise"),
    "fit-centre": Command(
        "export.fit_centre", "fit the vector that is subtracted from embeddings, so that cosines of encoders agree"
    ),
    "fit-topics": Command("export.topics", "fit the scoring of topics that the head does not know"),
    "fit-parts": Command("export.fit_parts", "train the network that recognises a person's words"),
    "evaluate-topics": Command("export.topics_evaluation", "measure the scoring of topics on topics outside the fit"),
}


def main(words: Sequence[str] | None = None) -> int:
    try:
        return commands.run("python -m export", __doc__, COMMANDS, sys.argv[1:] if words is None else words)
    except ValueError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
