"""What an owner hands to a lawyer after a trace: signed evidence, the record of every question, and a page in plain words.

    OUT.owner/trace/TIME/evidence.json   DSSE envelope, in-toto Statement v1: commitment, nonce, plan, questions, results
                         answers.csv     one row for every question; evidence.json signs its digest
                         report.html     the same for people, and what it does not prove

All of it is private (0600 in a folder of 0700): the plan opens this release's secret pairing or canary labels. It holds no
key, of this or another archive: an expert who is to recompute the pictures is given the key file itself. `read` verifies
evidence without the release: the signature, that the opened plan is what the manifest committed to, and the answers.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from securesystemslib import exceptions
from securesystemslib.dsse import Envelope

from release import keyring, layout, pages, sign
from release.files import encoded
from release.manifest import utc_now
from unlearnable.errors import IntegrityError, disk_error
from unlearnable.keys import commitment
from unlearnable.version import __version__

PREDICATE = "https://unlearnable/trace/v1"  # a name, as in-toto allows; nothing is served there
SCHEMA_VERSION = 1
ENVELOPE, ANSWERS, PAGE = "evidence.json", "answers.csv", "report.html"
COLUMNS = ("test", "shown", "picture_sha256", "wanted", "answer", "score")

Row = tuple[str, str, str, int, int, float]


def write(
    root: Path,
    manifest: bytes,
    plan: Mapping[str, Any],
    nonce: bytes,
    document: Mapping[str, Any],
    rows: Sequence[Row],
) -> dict[str, Any]:
    """Writes the three files into a new folder; the document of `trace --json`, which names that folder.

    manifest: the bytes of the release's; rows: (test, what was shown, digest, wanted, answer, score) of every question.
    Raises UnlearnableError in one sentence when the disk fails.
    """
    owner = layout.owner_folder(root)
    answers = table(rows)
    full = {
        "schema_version": SCHEMA_VERSION,
        "created": utc_now(),
        "tool": __version__,
        **document,
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
        "commitment": commitment(plan, nonce),
        "answers_sha256": hashlib.sha256(answers).hexdigest(),
    }
    try:
        folder = _new_folder(owner / layout.TRACED, full["created"])
        # who signed the release signs the evidence, also after the keys were rotated
        key = keyring.signer_of((root / layout.PUBLIC_KEY).read_bytes(), owner) or keyring.signer(owner)
        envelope = attest(key, {**full, "nonce": nonce.hex(), "plan": plan})
        sign.write_new(folder / ANSWERS, answers, 0o600)
        sign.write_new(folder / ENVELOPE, envelope, 0o600)
        page = report(full, plan)
        sign.write_new(folder / PAGE, encoded(page), 0o600)
    except OSError as why:
        raise disk_error(why, owner) from why
    return full | {"evidence": str(folder)}


def attest(key: Any, predicate: Mapping[str, Any]) -> bytes:
    """The signed statement: its subjects are the release's manifest and the table of answers."""
    statement = {
        "_type": sign.STATEMENT,
        "subject": [
            {"name": ANSWERS, "digest": {"sha256": predicate["answers_sha256"]}},
            {"name": layout.MANIFEST, "digest": {"sha256": predicate["manifest_sha256"]}},
        ],
        "predicateType": PREDICATE,
        "predicate": dict(predicate),
    }
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    envelope = Envelope(text.encode("ascii"), sign.PAYLOAD_TYPE, {})
    envelope.sign(key)
    return (json.dumps(envelope.to_dict(), sort_keys=True, indent=1) + "\n").encode("ascii")


def read(envelope: bytes, answers: bytes, manifest: bytes, public_pem: bytes) -> dict[str, Any]:
    """What evidence says, once everything about it holds. Raises IntegrityError, naming the first thing that does not."""
    try:
        opened = Envelope.from_dict(json.loads(envelope))
        opened.verify([sign.public_key(public_pem)], threshold=1)
        statement = json.loads(opened.payload)
        said: dict[str, Any] = statement["predicate"]
        kind, nonce = statement["predicateType"], bytes.fromhex(said["nonce"])
        published, opens = json.loads(manifest)["trace_commitment"]["sha256"], commitment(said["plan"], nonce)
    except (exceptions.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as why:
        raise IntegrityError(f"The evidence does not hold a signature by this key ({type(why).__name__}).") from why
    for holds, what in (
        (kind == PREDICATE, "It is no evidence of a trace"),
        (hashlib.sha256(manifest).hexdigest() == said["manifest_sha256"], "It is about another release"),
        (opens == published, "Its plan is not what the release committed to"),
        (hashlib.sha256(answers).hexdigest() == said["answers_sha256"], f"{ANSWERS} is not what was signed"),
    ):
        if not holds:
            raise IntegrityError(f"{what}.")
    return said


def table(rows: Sequence[Row]) -> bytes:
    """answers.csv."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue().encode("utf-8")


def report(document: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """The page. It shows no key, no nonce and no secret of the plan."""
    tests = [{**document["primary"], "role": "Chosen before publication", "p_holm": None}]
    tests += [{**each, "role": "Further test, corrected for their number"} for each in document["secondary"]]
    context = {
        "document": document,
        "tests": [{**each, "shown": _figures(each)} for each in tests],
        "style": pages.raw("report.css"),
        "created": document["created"].replace("T", " ").replace("Z", " UTC"),
        "method": plan["method"]["preset"],
        "found": document["finding"] in ("evidence", "secondary evidence"),
    }
    return pages.html("evidence.html", context)


def _figures(test: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few figures of a test that a reader can use."""
    if test["not_run"]:
        return [("Not run", test["not_run"])]
    rows = [("Chance of this or more, if the model has nothing to do with the release", _chance(test["p"]))]
    if test["p_holm"] is not None:
        rows.append(("The same, corrected for the number of further tests", _chance(test["p_holm"])))
    rows.append(("What was measured", f"{test['statistic']:.4g}"))
    rows.append(("What it is for secrets that nobody used", f"{test['by_chance']:.4g}"))
    if "decoys_highest" in test["figures"]:
        rows.append(("The highest of those", f"{test['figures']['decoys_highest']:.4g}"))
    rows.append(("Questions asked", f"{test['queries']:,}"))
    return rows


def _chance(p: float) -> str:
    return f"{p:.3g}" + (f" (1 in {round(1 / p):,})" if 1e-12 < p <= 0.1 else "")


def _new_folder(traced: Path, created: str) -> Path:
    """trace/2026-01-31T120000Z, with a number behind it where that is taken."""
    traced.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = created.replace(":", "")
    for number in range(1, 10_000):
        folder = traced / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"{traced} is full")
