"""A release reaches the Hub whole, private and gated, or not at all; here a Hub on 127.0.0.1 and the real clients."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_push_server import running
from hub_state import TOKEN, Fault, Hub
from huggingface_hub import constants
from made_release import make_facts, verification

from release import _hub, hashing, keyring, layout
from release.check import check
from release.push import push, require_target
from release.seal import seal
from unlearnable.errors import HubError, IntegrityError, UnlearnableError, UsageError

ROOT = Path(__file__).resolve().parents[2]
REPO = "owner/herbarium"
DATA = "data/train/cat/1.png"


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """An empty Hub that this process talks to, with a good token; a subprocess is told by the environment instead."""
    fresh = Hub(server.address)
    server.__dict__.update(fresh.__dict__)
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return server


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited, here and in the client."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return made(tmp_path / "out")


def made(out: Path, **changes: Any) -> Path:
    out.mkdir()
    seal(out, layout.owner_folder(out), make_facts(out, **changes))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in hashing.walk(folder)}


def on_hub(hub: Hub) -> dict[str, bytes]:
    return {path: data for path, data in hub.repos[REPO].files.items() if path != ".gitattributes"}


def refused(kind: type[UnlearnableError], words: str, *args: Any, **options: Any) -> UnlearnableError:
    with pytest.raises(kind, match=words) as caught:
        push(*args, **options)
    assert caught.value.hint, "every refusal says the way out"
    assert TOKEN not in str(caught.value)
    return caught.value


def test_a_release_arrives_whole_private_and_gated_in_one_commit(hub: Hub, release: Path) -> None:
    before = contents(release)
    told: list[tuple[str, int, int]] = []
    document = push(release, REPO, tell=lambda *what: told.append(what))
    repo = hub.repos[REPO]
    assert on_hub(hub) == contents(release) == before
    assert (repo.private, repo.gated, len(repo.commits)) == (True, "manual", 2)
    assert document["url"] == f"{hub.address}/datasets/{REPO}" and document["private"] and document["gated"] == "manual"
    assert document["files"] == document["sent"] == len(before) and document["commit"] == repo.commits[-1][0]
    assert told[-1] == ("sending", len(before), len(before))
    settings = hub.asked.index(hub.asked_for("PUT .*/settings")[0])
    assert settings < hub.asked.index(hub.asked_for("PUT /lfs/")[0]), "it is gated before a file is there"


def test_nothing_of_the_owner_is_ever_sent(hub: Hub, release: Path) -> None:
    push(release, REPO)
    kept = keyring.require().secrets()
    keys = [kept.root, kept.seed, kept.root.hex().encode(), kept.seed.hex().encode()]
    private = [*keys, b"secret-surrogate", b"4242", b"/home/owner"]
    sent = b"".join(path.encode() + body for _, path, body in hub.asked) + b"".join(on_hub(hub).values())
    assert b"PNG" in sent
    for secret in (*private, TOKEN.encode(), str(release).encode()):
        assert secret not in sent


def test_pushing_again_sends_nothing(hub: Hub, release: Path) -> None:
    push(release, REPO)
    hub.asked.clear()
    assert push(release, REPO)["sent"] == 0
    assert not hub.asked_for("PUT /lfs/|/commit/") and len(hub.repos[REPO].commits) == 2


PROGRAM = """
import hashlib, json, sys
from datasets import Image, load_dataset
from huggingface_hub import snapshot_download
name, folder = sys.argv[1:]
found = load_dataset(name)
raw = {s: [hashlib.sha256(row["image"]["bytes"] or open(row["image"]["path"], "rb").read()).hexdigest()
           for row in found[s].cast_column("image", Image(decode=False))] for s in found}
pixels = {s: [hashlib.sha256(row["image"].convert("RGB").tobytes()).hexdigest() for row in found[s]] for s in found}
snapshot_download(name, repo_type="dataset", local_dir=folder)
print(json.dumps([raw, pixels]))
"""


def fresh(command: list[str], hub: Hub, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A new process, for which the environment alone says where the Hub is."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = {"HF_HOME": str(home), "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN}
    env |= {"HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], env=clean | env | environment, capture_output=True, text=True, cwd=home, check=False
    )


def test_what_a_reader_loads_has_the_same_pixels_and_checks(hub: Hub, release: Path, tmp_path: Path) -> None:
    from PIL import Image

    home = tmp_path / "home"
    home.mkdir()
    done = fresh([str(ROOT / "cli.py"), "push", str(release), REPO, "--json"], hub, home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["url"].endswith(REPO)
    hub.page = 3  # lists come in pages
    done = fresh(["-c", PROGRAM, REPO, str(tmp_path / "copy")], hub, home)
    assert done.returncode == 0, done.stderr
    raw, pixels = json.loads(done.stdout.splitlines()[-1])
    for split, count in (("train", 3), ("test", 1)):
        files = [path for path in sorted(release.rglob("*.png")) if f"/{split}/" in str(path)]
        assert sorted(raw[split]) == sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
        expected = [hashlib.sha256(Image.open(path).convert("RGB").tobytes()).hexdigest() for path in files]
        assert sorted(pixels[split]) == sorted(expected) and len(files) == count
    copy = tmp_path / "copy"
    assert (copy / ".gitattributes").exists() and (copy / ".cache/huggingface").exists()
    assert check(copy).ok, "what the Hub and its client add is not extra"
    for name in (".cache/other", ".hidden", "data/.gitattributes", "data/.cache/huggingface/x"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("x")
        assert check(copy).extra == (name,)
        (copy / name).unlink()


def test_public_needs_a_second_word_and_comes_last(hub: Hub, release: Path) -> None:
    refused(UsageError, "everybody", release, REPO, public=True)
    assert not hub.asked
    document = push(release, REPO, public=True, yes=True, gated="auto")
    assert (hub.repos[REPO].private, hub.repos[REPO].gated, document["private"]) == (False, "auto", False)
    settings = [json.loads(body).get("visibility") for _, _, body in hub.asked_for("PUT .*/settings")]
    assert settings == ["private", "public"]
    opened = hub.asked.index(hub.asked_for("PUT .*/settings")[-1])
    assert opened > hub.asked.index(hub.asked_for("POST .*/commit/")[0]), "it opens when everything was read back"


def test_a_public_repository_is_not_used_by_mistake(hub: Hub, release: Path) -> None:
    hub.made(REPO, private=False)
    refused(UsageError, "is public", release, REPO)
    assert len(hub.repos[REPO].commits) == 1
    push(release, REPO, public=True, yes=True)
    assert hub.repos[REPO].gated == "manual"


def test_a_gate_that_the_owner_chose_is_kept(hub: Hub, release: Path) -> None:
    hub.made(REPO, gated="auto")
    assert push(release, REPO)["gated"] == "auto"
    assert push(release, REPO, gated="off")["gated"] is False
    refused(UsageError, "one of auto, manual, off", release, REPO, gated="sometimes")


def test_a_hub_that_ignores_the_settings_gets_no_file(hub: Hub, release: Path) -> None:
    hub.faults = [Fault("PUT .*/settings", "status", 200)]
    refused(HubError, "should be private and gated", release, REPO)
    assert not hub.asked_for("PUT /lfs/")


def test_a_release_that_does_not_check_is_refused(hub: Hub, release: Path) -> None:
    (release / DATA).write_bytes(b"other")
    assert refused(IntegrityError, f"not as it was sealed .{DATA}", release, REPO).exit_code == 5
    assert not hub.repos


@pytest.mark.parametrize(
    ("told", "receipt", "words"),
    [
        (None, {}, "was not verified"),
        (verification() | {"relative_accuracy_drop": {"mean": 0.1, "low": -0.1, "high": 0.3}}, {}, "may lose nothing"),
        (verification(), {"min_drop": 0.9}, "below --min-drop 0.9"),
    ],
)
def test_an_unproven_release_is_pushed_on_request_alone(
    hub: Hub, tmp_path: Path, told: dict[str, Any] | None, receipt: dict[str, Any], words: str
) -> None:
    release = made(tmp_path / "out", verification=told)
    state = layout.owner_folder(release) / layout.STATE
    state.mkdir()
    (state / layout.RECEIPT).write_text(json.dumps(receipt))
    (state / layout.VERIFICATION).write_text(json.dumps({"worst_case": {"relative_accuracy_drop": {"low": 0.7}}}))
    refused(UsageError, words, release, REPO)
    assert not hub.repos
    assert push(release, REPO, allow_unproven=True)["sent"]


def test_a_release_above_its_least_drop_is_pushed(hub: Hub, release: Path) -> None:
    state = layout.owner_folder(release) / layout.STATE
    state.mkdir()
    (state / layout.RECEIPT).write_text(json.dumps({"min_drop": 0.6}))
    (state / layout.VERIFICATION).write_text(json.dumps({"worst_case": {"relative_accuracy_drop": {"low": 0.7}}}))
    assert push(release, REPO)["sent"]


def test_a_repository_with_other_files_is_refused_with_both_ways_out(hub: Hub, release: Path) -> None:
    for name, data in (("data/train/cat/9.png", b"clean"), (DATA, b"the original"), ("notes.txt", b"x")):
        hub.made(REPO, {name: data})
        hint = refused(UsageError, f"other files, such as {name}", release, REPO).hint
        assert "fresh repository" in hint and "super_squash_history" in hint
        assert len(hub.repos[REPO].commits) == 1


def test_a_clean_history_is_refused_although_the_files_are_gone(hub: Hub, release: Path) -> None:
    repo = hub.made(REPO, {"data/train/cat/1.png": b"the original"})
    repo.commit({".gitattributes": b"", "README.md": b"# Mine"})
    assert "super_squash" in refused(UsageError, "history .* holds other files.*1.png", release, REPO).hint
    del repo.commits[0]  # what squashing does
    assert push(release, REPO)["sent"]


def test_a_history_that_is_too_long_to_look_through_is_refused(hub: Hub, release: Path) -> None:
    repo = hub.made(REPO)
    for n in range(60):
        repo.commit({".gitattributes": b"", "README.md": b"%d" % n})
    refused(UsageError, "over 50 commits", release, REPO)


@pytest.mark.parametrize("name", ["herbarium", "a/b/c", "a b/c", "../x", ""])
def test_a_name_that_is_none_is_refused(hub: Hub, release: Path, name: str) -> None:
    refused(UsageError, "OWNER/NAME", release, name)
    assert not hub.asked


def test_without_a_token_nothing_is_even_read(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    assert refused(HubError, "no Hub token", tmp_path / "no release", REPO).exit_code == 6
    with pytest.raises(HubError, match="no Hub token"):
        require_target(REPO)
    assert not hub.asked


@pytest.mark.parametrize("token", ["hf_wrongwrongwrong", "hf_señorseñor"])
def test_a_wrong_token_is_never_shown(hub: Hub, release: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert token not in str(refused(HubError, "token", release, REPO))


def test_a_token_that_may_only_read_is_refused_at_once(hub: Hub, release: Path) -> None:
    hub.role = "read"
    refused(HubError, "may only read", release, REPO)
    assert not hub.repos


def test_somebody_elses_namespace_is_refused(hub: Hub, release: Path) -> None:
    refused(HubError, "does not allow it for stranger/x", release, "stranger/x")


def test_offline_is_refused(hub: Hub, release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(HubError, "HF_HUB_OFFLINE", release, REPO)


def test_without_a_network_one_sentence_comes_at_once(
    hub: Hub, release: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused(HubError, "cannot be reached", release, REPO)
    assert not waits


BUSY = {"status": 429, "headers": {"Retry-After": "7"}}
BROKEN = {"status": 503}
DROPPED = {"kind": "drop"}  # before any work that is told at once, so `whoami` is not among them


@pytest.mark.parametrize("fault", [BUSY, BROKEN, DROPPED], ids=["429", "503", "dropped"])
@pytest.mark.parametrize("which", ["repos/create", "/settings", "/tree/", "/commit/", "PUT /lfs/"])
def test_a_fault_that_passes_is_waited_out(
    hub: Hub, release: Path, waits: list[float], which: str, fault: dict[str, Any]
) -> None:
    hub.faults = [Fault(which, **fault, times=2)]
    push(release, REPO)
    assert on_hub(hub) == contents(release) and hub.faults[0].times == 0
    assert len(waits) == 2
    if fault.get("status") == 429:
        assert min(waits) >= 7, "as long as the server says"
    assert len(hub.repos[REPO].commits) == 2


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub: Hub, release: Path, waits: list[float]) -> None:
    hub.faults = [Fault("/commit/", "lost")]
    push(release, REPO)
    assert len(hub.repos[REPO].commits) == 2 and on_hub(hub) == contents(release)


@pytest.mark.parametrize("which", ["/commit/", "PUT /lfs/", "/tree/"])
def test_waiting_ends_and_a_rerun_goes_on(hub: Hub, release: Path, waits: list[float], which: str) -> None:
    hub.faults = [Fault(which, status=500, times=200)]
    message = str(refused(HubError, "500", release, REPO))
    assert len(waits) <= 36 and "kept" in message and "\n" not in message
    hub.faults.clear()
    there = set(hub.objects)
    hub.asked.clear()
    push(release, REPO)
    sent = {path.removeprefix("/lfs/") for _, path, _ in hub.asked_for("PUT /lfs/")}
    assert not sent & there, "what was sent is not sent again"
    assert on_hub(hub) == contents(release)


def test_a_server_that_wants_an_hour_is_not_waited_for(hub: Hub, release: Path, waits: list[float]) -> None:
    hub.faults = [Fault("/settings", status=429, headers={"Retry-After": "3600"}, times=9)]
    refused(HubError, "429", release, REPO)
    assert not waits


@pytest.mark.parametrize("path", [DATA, layout.MANIFEST])
def test_what_reads_back_otherwise_is_named_and_mended_by_a_rerun(hub: Hub, release: Path, path: str) -> None:
    hub.corrupt = {path}
    error = refused(IntegrityError, f"such as {path}", release, REPO)
    assert error.exit_code == 5 and hub.repos[REPO].private
    hub.corrupt.clear()
    assert push(release, REPO)["sent"] == 0


def test_public_waits_for_the_hashes(hub: Hub, release: Path) -> None:
    hub.corrupt = {DATA}
    refused(IntegrityError, DATA, release, REPO, public=True, yes=True)
    assert hub.repos[REPO].private


def test_an_existing_card_is_merged_and_signed_anew(hub: Hub, release: Path) -> None:
    before = contents(release)
    card = "---\nlicense: mit\ntags: [herbs]\n---\n# My herbs\n\nCollected since 1987.\n"
    hub.made(REPO, {layout.CARD: card.encode()})
    push(release, REPO)
    there = on_hub(hub)
    text = there[layout.CARD].decode()
    assert "Collected since 1987." in text and "license: mit" in text and "- herbs" in text
    assert text.index("protective perturbations") < text.index("# My herbs")
    assert contents(release) == before, "the release is only read"
    changed = {path for path in before if there[path] != before[path]}
    assert changed == {layout.CARD, layout.MANIFEST, layout.SUMS, layout.ATTESTATION}
    copy = release.with_name("copy")
    for path, data in there.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(data)
    assert check(copy, release / layout.PUBLIC_KEY).ok
    assert push(release, REPO)["sent"] == 0, "a merged card is merged already"


def test_words_that_the_owner_adds_on_the_website_stay(hub: Hub, release: Path) -> None:
    push(release, REPO)
    repo = hub.repos[REPO]
    repo.commit(repo.files | {layout.CARD: repo.files[layout.CARD] + b"\n## News\n\nA second box was found.\n"})
    push(release, REPO)
    assert b"A second box was found." in repo.files[layout.CARD] and repo.files[layout.CARD].count(b"# Herbarium") == 1


def test_a_card_edited_while_files_are_sent_is_not_overwritten(
    hub: Hub, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.made(REPO)

    def edited(self: Any, operations: Any) -> None:
        repo.commit(repo.files | {layout.CARD: b"# Mine\n"})

    monkeypatch.setattr(_hub.Remote, "_upload", edited)
    refused(HubError, "changed by someone else", release, REPO)
    assert repo.files[layout.CARD] == b"# Mine\n"


def test_without_the_owners_key_a_card_cannot_be_merged(
    hub: Hub, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.made(REPO, {layout.CARD: b"# Mine\n"})
    monkeypatch.setenv(keyring.FOLDER, str(tmp_path / "elsewhere"))
    refused(UsageError, "cannot be signed", release, REPO)
    assert keyring.current() is None, "no key is drawn in its place"
    keyring.new(None)
    refused(UsageError, "cannot be signed", release, REPO)
    assert on_hub(hub) == {layout.CARD: b"# Mine\n"}


def test_the_command_line_tells_one_sentence_and_never_the_token(hub: Hub, release: Path, tmp_path: Path) -> None:
    hub.faults = [Fault("/settings", status=400, times=9)]
    command = [str(ROOT / "cli.py"), "push", str(release), REPO]
    done = fresh(command, hub, tmp_path)
    assert done.returncode == 6 and done.stderr.count("\n") == 2 and "change the settings" in done.stderr
    done = fresh([*command, "--json"], hub, tmp_path, HF_DEBUG="1")  # the client's own log is asked for
    assert json.loads(done.stdout)["error"]["code"] == 6 and "Request" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_protect_refuses_a_push_that_cannot_be_before_its_work(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    hub.made(REPO, {"data/cat.png": b"clean"})
    command = [str(ROOT / "cli.py"), "protect", "photos", "out", "--push", REPO]
    done = fresh(command, hub, tmp_path)
    assert done.returncode == 2 and "already holds other files" in done.stderr
    done = fresh([*command, "--verify", "none"], hub, tmp_path)
    assert done.returncode == 2 and "verified" in done.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.owner").exists()


@pytest.mark.parametrize(("low", "code", "there"), [(0.7, 0, True), (0.2, 4, False)])
def test_protect_pushes_what_it_made_unless_it_fell_short(
    hub: Hub, release: Path, monkeypatch: pytest.MonkeyPatch, low: float, code: int, there: bool
) -> None:
    from click.testing import CliRunner

    import cli
    from unlearnable import api

    made = {
        **{
            "release": str(release),
            "owner": f"{release}.owner",
            "method": "r16",
            "eps": 8,
            "seconds": 1.0,
            "skipped": [],
        },
        "images": {"total": 5, "protected": 5, "skipped": 0},
        "verification": {"worst_case": {"relative_accuracy_drop": {"low": low}}},
    }
    monkeypatch.setattr(api, "protect", lambda *_, **__: dict(made))
    words = ["protect", "photos", str(release), "--push", REPO, "--min-drop", "0.5", "--json"]
    done = CliRunner().invoke(cli.cli, words)
    assert done.exit_code == code, done.output
    assert (REPO in hub.repos) is there
    assert (json.loads(done.stdout).get("push") or {}).get("url") == (
        f"{hub.address}/datasets/{REPO}" if there else None
    )


def test_a_push_that_fails_after_protect_says_that_the_release_is_there(
    hub: Hub, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unlearnable.commands import protect

    def fail(*_: object, **__: object) -> None:
        raise HubError("The Hub is busy.", "Later.")

    with pytest.raises(HubError, match=r"is finished.*Then: unlearnable push"):
        protect._pushed_after(fail, release, REPO, None)
