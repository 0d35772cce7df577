"""The command `train-delta`: a low-rank change of the trunk that several heads learn together, as a recipe says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from export import bundle, delta
from export.checksums import sha256
from export.exporter import needs_torch
from export.labelled import Data, DataFile
from export.manifest import Feature, Language, Name, Section


class TaskRecipe(Section):
    name: Name
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    """`FILE[:WEIGHT][=LABEL]`: a weight of 2 reads each row twice an epoch, 0.5 in every second one."""
    labels: dict[str, str] = Field(default_factory=dict)
    """New names, by what the files call them."""
    share: float = Field(1.0, gt=0)
    """Of the head's loss in the sum."""
    passages: str | None = None
    """Cut texts as the router cuts a conversation; a row of any other label than this one counts by its likeliest
    passage."""


class Recipe(Section):
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    """What the heads read."""
    tasks: Annotated[tuple[TaskRecipe, ...], Field(min_length=1)]
    without: tuple[str, ...] = ()
    """Rows whose `source` starts so are left out."""
    languages: tuple[Language, ...] = ()
    """Rows that say another one are left out."""
    rank: int = Field(16, ge=1)
    layers: int = Field(0, ge=0)
    """So many top layers change; 0: all."""
    fork: int = Field(0, ge=0)
    """A copy of so many top layers changes, for the heads alone."""
    epochs: int = Field(3, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    hold: float = Field(5.0, ge=0)
    """Weight of the term that keeps the embedding."""
    tokens: int = Field(128, ge=8)
    seed: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    bundle.add_model_argument(parser)
    parser.add_argument("--recipe", type=Path, required=True, help="YAML file: the heads, their rows, the settings")
    parser.add_argument(
        "--folder",
        type=Path,
        action="append",
        default=[],
        help="further folder with data files, besides the recipe's own; repeat",
    )
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="DELTA", help="start from this delta, of at most the same rank"
    )
    parser.add_argument("--out", type=Path, required=True, help="delta to write, after each epoch")


def run(arguments: argparse.Namespace) -> None:
    exporter = bundle.exporter(arguments)
    model = bundle.trainable(exporter, arguments)
    recipe = read(arguments.recipe)
    folders = [arguments.recipe.parent, *arguments.folder]
    rows = [data(task, recipe, folders) for task in recipe.tasks]
    needs_torch("a delta is trained", ("torch", "transformers"))
    from export import tuning

    tasks = [
        tuning.Task(task.name, part, task.share, task.passages) for task, part in zip(recipe.tasks, rows, strict=True)
    ]
    training = recipe.model_dump(exclude={"tasks", "without", "languages"})
    settings = tuning.DeltaSettings(pooling=model.pooling, prefix=model.prefix, **training)
    source = exporter.source(model)
    start = delta.load(arguments.start, source.weights_sha256, recipe.fork) if arguments.start else None
    digest = sha256(arguments.start) if arguments.start else ""
    for trained in tuning.train(tasks, settings, source.directory, source.weights_sha256, exporter.progress, start):
        if digest:
            trained.training["start"] = digest
        if tuning.first_process():
            delta.save(trained, arguments.out)
            cosine = trained.training["embedding_cosine"]
            exporter.progress(
                f"{arguments.out}: epoch {trained.training['epoch']}, {arguments.out.stat().st_size} bytes; embedding "
                f"before and after: cosine {cosine['mean']:.4f} on average, {cosine['least']:.4f} at least"
            )


def read(path: Path) -> Recipe:
    """Raises ValueError for a recipe that cannot be used."""
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    except ValidationError as failure:
        problems = (f"{path}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in failure.errors())
        raise ValueError("\n".join(problems)) from failure


def data(task: TaskRecipe, recipe: Recipe, folders: Sequence[Path]) -> Data:
    """Raises ValueError for a file that none of the folders has, or that cannot be read."""
    files = []
    for text in task.data:
        file = DataFile.parse(text)
        path = next((place for folder in folders if (place := folder / file.path).is_file()), None)
        if path is None:
            raise ValueError(f"task {task.name}: no {file.path} in {', '.join(map(str, folders))}")
        files.append(DataFile(path, file.weight, file.label))
    return Data.read(
        files, recipe.without, renamed=task.labels, passages=task.passages is not None, languages=recipe.languages
    )
