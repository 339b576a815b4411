"""The documentation is true: generated pages leave nothing out, links lead somewhere, and examples run.

In a `console` block the lines after `$ ` (and `> `, where one goes on) are run, in the order of the page, in a folder of the
page's own; what stands below is what they print, `...` being anything. Here that is one page; test_docs_slow.py has the others.
Every line of any block that begins with `unlearnable` is read by click at least: no page names an option that is not there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from docs_kit import DOCS, HAND_WRITTEN, ROOT, blocks, call, generator, lines, matches, site, steps
from made_pictures import write_tree

import cli
from unlearnable import listing

# --- what is on the generated pages ---


def options(command: click.Command) -> Iterator[str]:
    for param in command.params:
        if isinstance(param, click.Option):
            yield from (*param.opts, *param.secondary_opts)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options(inner)


def test_every_option_of_every_command_is_on_its_page() -> None:
    context = click.Context(cli.cli)
    names = cli.cli.list_commands(context)
    assert {f"commands/{name}.md" for name in names} < site().keys()
    for name in names:
        command = cli.cli.get_command(context, name)
        assert command and f"(commands/{name}.md)" in site()["commands.md"]
        words = set(re.findall(r"(?<![\w-])--?[\w-]+", site()[f"commands/{name}.md"]))
        assert not set(options(command)) - words, f"docs/generate.py leaves options of {name} out"


@pytest.mark.parametrize(
    ("kind", "page"), [("poisons", "methods.md"), ("defences", "countermeasures.md"), ("nets", "networks.md")]
)
def test_everything_that_can_be_named_is_described_with_its_paper(kind: str, page: str) -> None:
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", site()[page], flags=re.M)[1:]}
    found = listing.described(kind)
    assert list(sections) == [one["name"] for one in found]
    for one in found:
        words = sections[one["name"]]
        for number in re.findall(r"\d{4}\.\d{5}", one.get("paper") or ""):
            assert f"https://arxiv.org/abs/{number}" in words
        assert all(f"`{preset}`" in words for preset in one["presets"])
        assert all(f"`{field['name']} = " in words and field["help"][:9] in words for field in one["parameters"])


def test_the_python_page_has_all_that_the_package_offers() -> None:
    import unlearnable

    page = site()["python.md"]
    for name in unlearnable.__all__:
        assert name.startswith("__") or f"\n## {name}\n" in page, name
    for field in vars(unlearnable.Options()):
        assert f"\n`{field}: " in page, field
    assert not [name for name, text in site().items() if generator().describe.NO_WORDS in text], (
        "a help string is missing"
    )


def test_the_release_format_names_every_field_of_the_manifest() -> None:
    from release.manifest import schema

    def fields(part: dict, prefix: str = "") -> Iterator[str]:
        for name, field in part.get("properties", {}).items():
            yield prefix + name
            yield from fields(field.get("items", field), f"{prefix}{name}{'[]' * ('items' in field)}.")

    missing = [name for name in fields(schema()) if f"`{name}`" not in site()["release-format.md"]]
    assert not missing


def test_pages_are_generated_without_anything_heavy(tmp_path: Path) -> None:
    program = (
        "import runpy, sys; sys.argv = ['generate.py', sys.argv[1]]\n"
        f"runpy.run_path({str(DOCS / 'generate.py')!r}, run_name='__main__')\n"
        "heavy = {'torch', 'numpy', 'PIL', 'mkdocs', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=tmp_path, check=True)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(site())


# --- links ---


def anchors(text: str) -> set[str]:
    """Of the headings, as both GitHub and mkdocs make them."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    titles = re.findall(r"^#+ (.+)$", plain, flags=re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def links(text: str) -> list[str]:
    plain = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", plain) if not re.match(r"\w+:", link)]


@pytest.mark.parametrize(
    "path", [*HAND_WRITTEN, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name
)
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    """In the repository as it is read there; a page that only the site has may be meant as well."""
    for link in links(path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        made = site().get(os.path.relpath(target, DOCS))
        assert target.exists() or made is not None, f"{path.name} links to {link}, which is not there"
        if anchor:
            text = made if made is not None else target.read_text(encoding="utf-8")
            assert anchor in anchors(text), f"{path.name} links to {link}: {name} has no such heading"


def test_links_of_the_site_stay_in_the_site() -> None:
    for page, text in site().items():
        for link in links(text) if page.endswith(".md") else ():
            name, _, anchor = link.partition("#")
            target = os.path.normpath(Path(page).parent / name) if name else page
            assert target in site(), f"{page} links to {link}, which the site does not have"
            assert not anchor or anchor in anchors(site()[target]), f"{page} links to {link}: no such heading"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w./-]+\.md", str(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])))
    pages = {page for page in site() if page.endswith(".md") and not page.startswith("commands/")}
    assert pages == listed, "mkdocs.yml, under nav: add the pages that are missing there"


# --- examples ---


def read(words: list[str]) -> None:
    """What click does before a command begins. Raises its errors."""
    command: click.Command | None = cli.cli
    context = click.Context(cli.cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        command = command.get_command(context, name)
        assert command, f"there is no command {name}"
    command.make_context("unlearnable", words, resilient_parsing=False)  # type: ignore[union-attr]


@pytest.mark.parametrize("path", [*HAND_WRITTEN, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_command_line_can_be_read(path: Path) -> None:
    for words in lines(path.read_text(encoding="utf-8")):
        try:
            read(list(words))
        except click.exceptions.Exit as done:  # --help and --version
            assert done.exit_code == 0
        except click.ClickException as why:
            pytest.fail(f"{path.name}: unlearnable {shlex.join(words)}: {why.format_message()}")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl, with which a page verifies a signature")
def test_the_examples_of_the_release_format_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "photos")
    ran = 0
    for command, expected in steps((DOCS / "release-format.md").read_text(encoding="utf-8")):
        if command.startswith("unlearnable "):
            done = CliRunner().invoke(cli.cli, shlex.split(command)[1:])
            code, printed = done.exit_code, done.stdout if done.exit_code == 0 else done.output
        else:
            code, printed = call(command, tmp_path)
        assert code == 0 and matches(printed, expected), f"{command}\n{printed}"
        ran += 1
    assert ran == 6


def test_the_example_of_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "photos")
    (example,) = [block for language, block in blocks(site()["python.md"]) if "import unlearnable" in block]
    exec(compile(example, "python.md", "exec"), {})


def test_every_page_with_console_blocks_is_run() -> None:
    shown = {path.name for path in HAND_WRITTEN if list(steps(path.read_text(encoding="utf-8")))}
    others = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_docs_*.py"))
    named = set(re.findall(r'"([\w-]+\.md)"', others))
    assert shown - {"release-format.md"} <= named, "a page with console blocks needs its place in test_docs_slow.py"
