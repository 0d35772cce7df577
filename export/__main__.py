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
    "verify": Command("export.verify", "check that nothing was lost on the way, and that files and configurations fit"),
    "cross-check": Command(
        "export.cross_check", "compare embedders with what Hugging Face's Optimum makes of their weights"
    ),
    "report": Command("export.verify_report", "write the export report from what `verify` and the measurements left"),
    "all": Command("export.make_all", "everything that serving needs; does again only what changed"),
    "train-head": Command("export.train_head", "train a head on labelled JSON lines"),
    "train-delta": Command("export.train_delta", "train a low-rank change of the trunk for several heads"),
    "evaluate": Command("export.evaluate", "measure accuracy, calibration, int8 against fp32, latency"),
    "evaluate-bundle": Command("export.evaluate_bundle", "measure what becomes of labelled rows, as a request goes"),
    "evaluate-personal": Command("export.evaluate_personal", "measure the rules for personal data on labelled texts"),
    "evaluate-disguises": Command("export.evaluate_disguises", "measure which attacks are still matched in disguise"),
    "fit-centre": Command("export.fit_centre", "fit what is taken off embeddings, so that cosines mean the same"),
    "fit-topics": Command("export.topics", "fit how topics are scored that the head does not know"),
    "fit-parts": Command("export.fit_parts", "fit how a person's words are told from a program's without marks"),
    "evaluate-topics": Command("export.topics_evaluation", "measure that on topics that nothing was fitted on"),
}


def main(words: Sequence[str] | None = None) -> int:
    try:
        return commands.run("python -m export", __doc__, COMMANDS, sys.argv[1:] if words is None else words)
    except ValueError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
