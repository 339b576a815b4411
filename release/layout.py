"""Every file name inside a release and beside it, spelled once.

OUT/            README.md, croissant.json, manifest.json, attestation.json, SHA256SUMS, report.html, data/ ...
OUT.owner/      0700: key, signing key, receipt, full report and its plots, log, state for a resumed run. Never inside OUT/.
.OUT.partial/   the release while it is being written; renamed to OUT when it is whole
"""

from __future__ import annotations

from pathlib import Path

DATA = "data"
CARD = "README.md"
PUBLIC_KEY = "public-key.pem"  # also in the owner folder
MANIFEST = "manifest.json"
ATTESTATION = "attestation.json"
SUMS = "SHA256SUMS"
REPORT = "report.html"
CROISSANT = "croissant.json"

# What a download from the Hub adds beside a release; everything else that the manifest does not list is extra.
FOREIGN = (".git", ".gitattributes", ".gitignore", ".cache/huggingface")

KEY = "key"
ARCHIVE = "archive.json"  # its id, and the fingerprint of the owner's signing key
SIGNING_KEY = "signing-key.pem"  # of releases up to 0.1; now it is the owner's, see release.keyring
OWNER_REPORT = "report.html"
PLOTS = "plots"  # NAME.png and NAME.json of every plot of that report
VERIFIED = "verification.html"  # the report of the last `verify`; its document is VERIFICATION beside it
VERIFIED_PLOTS = "verification-plots"
LOG = "log.jsonl"  # what every run did; appended to
PART_LOG = "log-{}-of-{}.jsonl"  # of a run with --shard: several at once, maybe on other machines
STATE = "state"  # of the finished release ...
UNFINISHED = (
    "state.unfinished"  # ... and of a run that is under way; the one becomes the other when the release is there
)

# inside a state folder
PLAN = "plan.json"  # what the run was asked, so that a rerun knows whether it may continue
FIT = "fit.pt"  # what the poison's `fit` found
FITTED = "fit.json"  # digest of that and of MARKS, and what it was fitted on: every shard is made with the same
AUTO = "auto.json"  # the evidence of `auto`
SHARDS = "shards"  # one done-mark a shard, written last
VERIFICATION = "verification.json"
VERIFIED_ROWS = "verified.json"  # digest of what that is about
CELLS = "cells"  # one file for every training of a verification that is finished
RECEIPT = "receipt.json"
TRACE = "trace.json"  # the plan that the manifest commits to, with its nonce
MARKS = "marks.pt"  # marked images and the secret to find them by

TRACED = "trace"  # in the owner folder: evidence, one folder for every `trace`


def owner_folder(out: Path) -> Path:
    return out.with_name(out.name + ".owner")


def staging_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


def absolute(path: str | Path) -> Path:
    """The path from the root, links in its parents resolved, its own name as given."""
    path = Path(path).expanduser()
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
