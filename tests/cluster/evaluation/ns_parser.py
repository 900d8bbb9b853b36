"""NeMo-Skills' own parsers on its command lines, without the packages of a cluster that it imports.

`python ns_parser.py` reads commands as JSON on stdin, and prints for each what its parsers made of it: the
options by typer, the keys by the dataclass that Hydra fills. Packages that are not here are stood in for by
modules that have any name: only what runs on a cluster uses them.
"""

import copy  # noqa: F401 (it looks for a package of Jython, as others do: before the stand-ins come)
import dataclasses
import importlib
import importlib.machinery
import importlib.metadata
import json
import sys
import types

import datasets  # noqa: F401
import math_verify  # noqa: F401
import rich  # noqa: F401
import transformers  # noqa: F401
import typer
import yaml


class Anything(type):
    """A class that has any attribute, and returns what it decorates."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})

    def __call__(cls, *args, **_):
        return args[0] if len(args) == 1 and callable(args[0]) else Anything("anything", (), {})


class StandIn(types.ModuleType):
    """A module that is not here."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})


class Finder:
    """Finds what nothing else found."""

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top == name or isinstance(sys.modules.get(top), StandIn):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


def main():
    sys.meta_path.append(Finder())
    for command in ("eval", "prepare_data"):  # a module makes its command known
        importlib.import_module(f"nemo_skills.pipeline.{command}")
    from nemo_skills.inference.generate import GenerateSolutionsConfig
    from nemo_skills.inference.model.code_execution import CodeExecutionConfig
    from nemo_skills.pipeline.app import app

    typer.main.get_command_name = lambda name: name
    programs = typer.main.get_command(app).commands
    found = []
    for _, name, *words in json.load(sys.stdin):
        with programs[name].make_context(name, [*map(spelling, words)]) as context:
            given, rest = context.params, context.args
        answer = {"options": {key: str(getattr(value, "value", value)) for key, value in given.items()}}
        if name == "eval":
            assert all(word.startswith("++") for word in rest), rest
            keys = nested(word.removeprefix("++").split("=", 1) for word in rest)
            server = {"server_type": "sglang", "model": given["model"], **keys.pop("server", {})}
            CodeExecutionConfig(**server.get("code_execution", {}))
            filled = {"input_file": "i", "output_file": "o", "server": server, **keys}
            answer["keys"] = dataclasses.asdict(GenerateSolutionsConfig(_init_nested=True, **filled))
        else:
            answer["rest"] = rest
        found.append(answer)
    print(json.dumps(found, default=str))


def spelling(word):
    """From 0.29 on typer wants dashes, which NeMo-Skills' own way round no longer changes."""
    old = tuple(map(int, importlib.metadata.version("typer").split(".")[:2])) < (0, 29)
    option, equals, value = word.partition("=")
    return word if old or not option.startswith("--") else option.replace("_", "-") + equals + value


def nested(pairs):
    """`a.b=1` as {"a": {"b": 1}}, values read as YAML, as Hydra does."""
    found = {}
    for key, value in pairs:
        *path, last = key.split(".")
        place = found
        for name in path:
            place = place.setdefault(name, {})
        place[last] = yaml.safe_load(value)
    return found


if __name__ == "__main__":
    main()
