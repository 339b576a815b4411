"""What the code and the results write themselves: commands, methods, countermeasures, networks, Python, benchmarks.

A hook of mkdocs (mkdocs.yml): it is made whenever the site is, so that none of it can be stale, and lies nowhere else. Pages
of docs/ say by a mark, `<!-- made here: methods -->`, where it goes. It comes from click and from the text of files; nothing
heavy is imported, and a site needs mkdocs-material alone. To read the pages without one: python docs/generate.py FOLDER
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import describe  # noqa: E402
import scale_tables  # noqa: E402
from describe import RESULTS, ROOT, defined, linked, prose, text_of  # noqa: E402

import cli  # noqa: E402 - the project need not be installed to describe itself
from unlearnable import listing, registry  # noqa: E402


def results() -> list[Path]:
    return sorted(path for path in RESULTS.iterdir() if path.suffix in (".md", ".json"))


# Files of the repository that pages link to, and where the site has them.
MIRRORED = {
    "../README.md": "index.md",
    "../CHANGELOG.md": "changelog.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../benchmarks/README.md": "benchmarks.md",
    **{f"../benchmarks/results/{path.name}": f"results/{path.name}" for path in results()},
    **{f"../release/{path.name}": path.name for path in sorted(ROOT.glob("release/manifest.schema*.json"))},
}


def pages() -> dict[str, str]:
    """Every page that is not in docs/, path in the site -> Markdown, or JSON of a schema."""
    made = {f"commands/{name}.md": command_page(name, command) for name, command in commands()}
    made |= {f"{name.lower()}.md": local(text_of(f"{name}.md")) for name in ("CHANGELOG", "CONTRIBUTING")}
    made |= {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("release/manifest.schema*.json"))}
    return made | {f"results/{path.name}": path.read_text(encoding="utf-8") for path in results()}


def filled(text: str) -> str:
    """A page of docs/ as the site has it: marks become what is made here, links out of docs/ lead to the site's copies."""
    text = re.sub(r"<!-- made here: ([\w ]+) -->", lambda mark: MADE[mark[1]](), text)
    return re.sub(r"\]\((\.\./[^)#]+)", lambda link: f"]({MIRRORED.get(link[1], link[1])}", text)


def on_config(config: Any) -> Any:
    """mkdocs has read its settings: every command gets its place in the navigation."""
    for section in config["nav"]:
        for entry in next(iter(section.values())) if isinstance(section, dict) else ():
            if "Commands" in entry:
                entry["Commands"] = ["commands.md", *(f"commands/{name}.md" for name, _ in commands())]
    return config


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks for the site's files: adds the generated ones."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return filled(markdown)


def local(text: str) -> str:
    """A document of the repository's root as a page: its links into docs/ and to other documents."""
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\]\(([\w./-]+)", lambda link: f"]({MIRRORED.get('../' + link[1], link[1])}", text)


# --- commands ---


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli.cli)
    for name in cli.cli.list_commands(context):
        command = cli.cli.get_command(context, name)
        assert command
        yield name, command


def command_list() -> str:
    return "".join(
        f"[`{name}`](commands/{name}.md)\n:   {prose(first_sentence(command.help or ''))}\n\n"
        for name, command in commands()
    )


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0]


def command_page(name: str, command: click.Command) -> str:
    return f"# {name}\n\n{command_text(f'unlearnable {name}', command)}"


def command_text(name: str, command: click.Command) -> str:
    """Usage, help and options of a command, and of the commands in it."""
    context = click.Context(command, info_name=name)
    blocks = [f"```text\n{name} {' '.join(command.collect_usage_pieces(context))}\n```"]
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        kept = block.startswith("\b")  # click keeps such a block as it is: examples
        blocks.append("```sh\n" + block.removeprefix("\b\n") + "\n```" if kept else prose(block))
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found
            blocks.append(f"## {inner}\n\n{command_text(f'{name} {inner}', found)}")
    options = [p.get_help_record(context) for p in command.params if isinstance(p, click.Option)]
    entries = "".join(defined(record[0], prose(record[1])) for record in options if record)
    return "\n\n".join([*blocks, *([f"**Options**\n\n{entries}"] if entries else [])])


# --- methods, countermeasures, networks ---


def sections(kind: str) -> str:
    return "".join(described(kind))


def described(kind: str) -> Iterator[str]:
    """A section for every file of a kind, in its own words."""
    for one in listing.described(kind):
        summary, _, rest = registry.describe(kind, one["name"]).text.partition("\n")
        yield f"## {one['name']}\n\n**{prose(summary)}**\n\n{facts(kind, one)}\n\n{prose(rest)}\n\n{presets(one)}"
        if one["parameters"]:
            yield "Parameters:\n\n"
            for field in one["parameters"]:
                yield defined(f"{field['name']} = {field['default']}", prose(field["help"]))


def facts(kind: str, one: dict[str, Any]) -> str:
    said = [f"Paper: {linked(one['paper'])}."] if one.get("paper") else []
    if kind == "poisons":
        said.append(f"Crafting: {one['cost']}.")
        said.append("A pattern for a class." if one["level"] == "class" else "A perturbation for every image.")
        said += ["Works without labels."] * (not one["needs_labels"])
        said += ["**Not bounded: the change is visible.**"] * bool(one["unbounded"])
        said += ["Nothing in it is drawn from the key."] * (one.get("keyed") is False)
    elif kind == "defences":
        said.append(f"Takes {one.get('cost', 1.0):g} times a plain training.")
        said += ["In `--against cheap`."] * bool(one.get("cheap"))
        said += ["Uses clean images of the scraper's own: never the worst case of a release."] * bool(
            one.get("own_clean")
        )
        said += [f"Needs `{one.get('needs')}`."] * bool(one.get("needs"))
    else:
        said.append(f"{one['cost'][0].upper()}{one['cost'][1:]}.")
        said += ["No weights fit it: always trained from scratch."] * (one.get("weights") is False)
    return " ".join(said)


def presets(one: dict[str, Any]) -> str:
    rows = [
        f"| `{name}` | {', '.join(f'`{key}={value}`' for key, value in values.items()) or 'as it is'} |\n"
        for name, values in one["presets"].items()
    ]
    return "| preset | sets |\n|---|---|\n" + "".join(rows) + "\n" if rows else ""


# the marks of the pages in docs/
MADE: dict[str, Callable[[], str]] = {
    "commands": command_list,
    "methods": lambda: sections("poisons"),
    "countermeasures": lambda: sections("defences"),
    "networks": lambda: sections("nets"),
    "python": lambda: describe.python_sections(dict(commands())["protect"]),
    "manifest fields": describe.manifest_fields,
    "main job": describe.main_job,
    "main job under countermeasures": describe.under_countermeasures,
    "longer tables": describe.longer_tables,
    "benchmark commands": describe.benchmark_commands,
    "forecasts": scale_tables.forecasts,
    "forecast and run": scale_tables.checked,
    "engines": scale_tables.engines,
}


def main(folder: Path) -> None:
    written = {path.name: filled(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "docs").glob("*.md"))}
    for name, text in (pages() | written).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
