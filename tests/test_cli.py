"""What a person meets at the prompt: help, sentences, exit codes, JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from made_pictures import write_tree

import cli
from release import layout
from unlearnable import registry


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


@pytest.mark.parametrize("name", registry.names("commands"))
def test_every_command_and_option_has_help(name: str) -> None:
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command and command.help, f"{name} is missing its help"
    for option in command.params:
        assert option.param_type_name == "argument" or getattr(option, "help", None), f"{name}: {option.name}"
    assert run(name, "--help").exit_code == 0


def test_the_list_of_commands_has_whole_sentences() -> None:
    _, _, listed = run("--help").stdout.partition("Commands:")
    assert "..." not in listed and all(f"  {name} " in listed for name in registry.names("commands"))


def test_protect_prints_the_verdict_and_where_things_are(tree: Path, tmp_path: Path) -> None:
    done = run("protect", tree, tmp_path / "out", "--preset", "r16", "--seeds", "1", "-q")
    assert done.exit_code == 0, done.output
    for words in (
        "peak accuracy",
        "originals",
        "with random noise",
        "protected copy",
        "60 images protected",
        "report.html",
    ):
        assert words in done.stdout
    assert run("check", tmp_path / "out").exit_code == 0


def test_protect_json_is_one_document_with_the_documented_keys(tree: Path, tmp_path: Path) -> None:
    done = run("protect", tree, tmp_path / "out", "--preset", "r16", "--verify", "none", "--json")
    document = json.loads(done.stdout)
    assert list(document) == [
        *("release", "owner", "method", "eps", "images", "without_opt_out", "seconds", "verification")
    ]
    assert document["verification"] is None


def test_check_names_what_changed_and_exits_with_5(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("protect", tree, out, "--preset", "r16", "--verify", "none")
    victim = out / "data" / "across" / "003.png"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\0")
    (out / "data" / "down" / "001.png").unlink()
    (out / "data" / "new.png").write_bytes(b"x")
    done = run("check", out)
    assert done.exit_code == 5
    for line in ("changed: data/across/003.png", "missing: data/down/001.png", "extra: data/new.png"):
        assert line in done.stdout
    found = json.loads(run("check", out, "--json").stdout)
    assert not found["ok"] and found["changed"] == ["data/across/003.png"]


def test_min_drop_exits_with_4_and_still_seals(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("protect", tree, out, "--preset", "r16", "--seeds", "1", "--min-drop", "0.999", "-q")
    assert done.exit_code == 4, done.output
    assert run("check", out).exit_code == 0


def test_skipped_images_exit_with_3_and_are_named(tree: Path, tmp_path: Path) -> None:
    (tree / "across" / "empty.png").write_bytes(b"")
    (tree / "notes.txt").write_text("not an image, and no gap in the protection")
    done = run("protect", tree, tmp_path / "out", "--preset", "r16", "--verify", "none", "--labels", "folders")
    assert done.exit_code == 3 and "empty.png" in done.stdout, done.output


BAD = {
    "missing source": (["{tmp}/nowhere", "{out}"], "nowhere"),
    "empty source": (["{tmp}/empty", "{out}"], "no images"),
    "only text": (["{tmp}/text", "{out}"], "not an image"),
    "one class": (["{tmp}/one", "{out}"], "--labels none"),
    "two images in a class": (["{tmp}/tiny", "{out}", "--preset", "r16"], "few"),
    "output not empty": (["{tree}", "{tmp}/text"], "not empty"),
    "output inside source": (["{tree}", "{tree}/out"], "in one another"),
    "source inside output": (["{tree}/across", "{tree}"], "in one another"),
    "output is a file": (["{tree}", "{tmp}/text/a.txt"], "is a file"),
    "no parent for output": (["{tree}", "{tmp}/no/such/out"], "does not exist"),
    "unknown method": (["{tree}", "{out}", "--method", "regoins"], "Did you mean 'regions'"),
    "unknown preset": (["{tree}", "{out}", "--preset", "r17"], "Did you mean"),
    "unknown parameter": (["{tree}", "{out}", "--method", "regions", "--set", "cuont=4"], "Did you mean 'count'"),
    "parameter without method": (["{tree}", "{out}", "--set", "count=4"], "--method"),
    "malformed parameter": (["{tree}", "{out}", "--method", "regions", "--set", "count"], "NAME=VALUE"),
    "preset of another method": (["{tree}", "{out}", "--method", "targeted", "--preset", "r16"], "belongs to regions"),
    "unknown countermeasure": (["{tree}", "{out}", "--preset", "r16", "--against", "jpg"], "Known"),
    "unknown victim": (["{tree}", "{out}", "--preset", "r16", "--victim", "resnet81"], "Did you mean 'resnet18'"),
    "unknown split": (["{tree}", "{out}", "--preset", "r16", "--split", "tset"], "split"),
    "unknown layout": (["{tree}", "{out}", "--preset", "r16", "--layout", "zip"], "layout"),
    "budget of nothing": (["{tree}", "{out}", "--eps", "0"], "grey levels"),
    "budget of 300": (["{tree}", "{out}", "--eps", "300"], "grey levels"),
    "images of 2000 pixels": (["{tree}", "{out}", "--size", "2000"], "--size is 8 to 1024 pixels, not 2000"),
    "no such device": (["{tree}", "{out}", "--preset", "r16", "--device", "tpu"], "device"),
    "output is a link": (["{tree}", "{tmp}/link"], "is a link"),
    "output is a folder of the owner's": (["{tree}", "{tmp}/text", "--overwrite"], "not a release"),
    "source is the owner folder": (["{tmp}/o.owner", "{tmp}/o", "--preset", "r16"], "in one another"),
    "no such key": (["{tree}", "{out}", "--preset", "r16", "--key", "{tmp}/no.key"], "key"),
    "labels file missing": (["{tree}", "{out}", "--preset", "r16", "--labels", "{tmp}/no.csv"], "no.csv"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_a_way_out_and_exit_code_2(case: str, tree: Path, tmp_path: Path) -> None:
    for name in ("empty", "text", "one/only"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "text" / "a.txt").write_text("hello")
    shutil.copy(tree / "across" / "000.png", tmp_path / "one" / "only" / "a.png")
    shutil.copy(tree / "across" / "001.png", tmp_path / "one" / "only" / "b.png")
    write_tree(tmp_path / "tiny", classes=2, each=2)
    shutil.copytree(tree, tmp_path / "o.owner")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    words, expected = BAD[case]
    places = {"tmp": tmp_path, "tree": tree, "out": tmp_path / "out"}
    filled = [word.format(**places) for word in words]
    done = run("protect", *filled)
    assert done.exit_code == 2, done.output
    assert "Error: " in done.stderr and expected in done.stderr and "Traceback" not in done.output
    assert done.stdout == "" and not (tmp_path / "out").exists() and not (tree / "out").exists()
    error = json.loads(run("protect", *filled, "--json").stdout)["error"]
    assert error["code"] == 2 and error["message"]


def test_interrupted_says_how_to_go_on_and_exits_with_130(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from release import build

    monkeypatch.setattr(build, "_write_mark", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    words = ("protect", tree, tmp_path / "out", "--preset", "r16", "--verify", "none")
    done = run(*words)
    assert done.exit_code == 130 and "repeat the same command" in done.stderr
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert run(*words).exit_code == 0


def test_names_with_spaces_accents_and_dots_survive(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "my pictures", each=4)
    for number, name in enumerate(
        ["a b.png", "straße ü.png", "..hidden not.png", "x.y.z.PNG", "-flag.png", "[1]*?.png"]
    ):
        shutil.copy(source / "down" / f"{number % 4:03d}.png", source / "down" / name)
    done = run("protect", source, tmp_path / "out", "--preset", "r16", "--verify", "none")
    assert done.exit_code == 0, done.output
    shipped = {p.name for p in (tmp_path / "out/data/down").iterdir()}
    assert {"a b.png", "straße ü.png", "x.y.z.PNG", "-flag.png", "[1]*?.png"} <= shipped


def test_methods_lists_presets_parameters_and_papers() -> None:
    assert "regions (r1, r2" in run("methods").stdout
    text = run("methods", "regions").stdout
    assert "arXiv 2204.08615" in text and "--set count=16" in text and "preset r4" in text
    methods = {method["name"]: method for method in json.loads(run("methods", "--json").stdout)}
    assert all(methods[name]["unbounded"] is False for name in ("regions", "targeted", "random_noise"))
    assert methods["targeted"]["trains"] and not methods["regions"]["trains"]
    assert all(method["parameters"] is not None and method["cost"] for method in methods.values())


def test_verify_needs_the_owner_folder(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("protect", tree, out, "--preset", "r16", "--verify", "none")
    done = run("verify", out)
    assert done.exit_code == 2 and "--verify none" in done.stderr
    shutil.rmtree(layout.owner_folder(out))
    done = run("verify", out)
    assert done.exit_code == 2 and "owner folder" in done.stderr


@pytest.mark.parametrize("words", ["push {} me/mine", "verify {}", "trace {} --model m.pt", "merge out {}"])
def test_what_works_on_files_here_says_so_of_a_release_in_a_bucket(words: str) -> None:
    done = run(*words.format("s3://bucket/out").split())
    assert done.exit_code == 2 and "s3://bucket/out lies on remote storage. Bring a copy here" in done.stderr


def test_the_documented_json_is_the_printed_json(tree: Path, tmp_path: Path) -> None:
    """Every field that docs/output.md names is there, and none is there that it does not name."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "output.md").read_text(encoding="utf-8")

    def documented(section: str) -> set[str]:
        table = text.partition(f"## `{section}`\n")[2].partition("\n## ")[0]
        cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
        return {name.strip(" `") for cell in cells for name in cell.split(",")}

    done = run(
        "protect", tree, tmp_path / "out", "--preset", "r16", "--seeds", "1", "--against", "blur1", "--json", "-q"
    )
    document = json.loads(done.stdout)
    assert set(document) == documented("protect")
    assert set(document["verification"]) == documented("verify") - {"independent_labels"}
    assert set(document["verification"]["against"]) == {"blur1"}


def test_clicks_own_errors_are_json_too() -> None:
    done = run("protect", "a", "b", "--eps", "abc", "--json")
    assert done.exit_code == 2 and json.loads(done.stdout)["error"]["code"] == 2
    assert run("protect").exit_code == 2 and run("nonsense").exit_code == 2


def test_a_fault_of_the_tool_is_said_and_exits_with_1(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearnable import api

    monkeypatch.setattr(api, "protect", lambda *a, **k: 1 // 0)
    done = run("protect", tree, tmp_path / "out", "--json")
    assert done.exit_code == 1 and "ZeroDivisionError" in json.loads(done.stdout)["error"]["message"]


def test_a_listing_tells_all_about_one_by_name_or_preset() -> None:
    every = run("methods").stdout
    assert "regions (r1, r2" in every and "one_pixel (ops): not bounded, visible" in every and "--set" not in every
    for name in ("regions", "r16"):
        one = run("methods", name).stdout
        assert one.startswith("regions: ") and "arXiv 2204.08615" in one and "--set count=16" in one
    assert [each["name"] for each in json.loads(run("methods", "r16", "--json").stdout)] == ["regions"]
    assert "11.0 plain trainings" in run("defences", "adversarial8").stdout
    wrong = run("methods", "regoins")
    assert wrong.exit_code == 2 and "Did you mean 'regions'?" in wrong.stderr
