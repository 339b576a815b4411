"""README.md of a release: the dataset card of the Hugging Face Hub.

The first paragraph says that the pixels are perturbed and that models trained on them are expected to fail. What the
owner wrote (names, classes, contact) is escaped: it can never become a heading, a link, HTML or another YAML field.

Our text stands between two comments, so that the owner's own words around it survive every later push (`merged`). The
first comment holds a digest of what follows: text that somebody edited there is not ours to replace.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from release import figures, pages
from release.facts import Facts
from release.manifest import public_verification
from unlearnable.errors import UsageError

TAGS = ("no-ai-training", "unlearnable-examples", "data-protection")

_BEGIN, _END = (
    "<!-- unlearnable {} to the end line is generated: write above or below it -->",
    "<!-- unlearnable end -->",
)
_SECTION = re.compile(r"<!-- unlearnable ([0-9a-f]{12}) [^\n]*-->\n(.*?)\n+<!-- unlearnable end -->", re.DOTALL)
_FRONT = re.compile(r"\ufeff?---[ \t]*\n(.*?)\n?---[ \t]*(?:\n|$)", re.DOTALL)

# Asked of who wants access, where the repository is gated.
_GATE = {
    "extra_gated_prompt": "The pixels of these images carry protective perturbations. They are shared for looking at them, "
    "not for training models.",
    "extra_gated_fields": {"I will not train, fine-tune or distil models on these images": "checkbox"},
}

_MOST_CLASSES = 100  # more names than this make a card nobody reads
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))

# Identifiers the Hub knows; any other licence is "other" with a name, as its documentation asks.
_HUB_LICENCES = frozenset(
    {"apache-2.0", "mit", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"}
    | {"cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0"}
    | {"cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "gfdl"}
    | {"cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "c-uda", "etalab-2.0", "unknown"}
)


def card(facts: Facts) -> str:
    """The whole README.md, front matter included. UTF-8 text, newline at the end."""
    verification = public_verification(facts.verification) if facts.verification else None
    disclosed = facts.disclose and facts.verification
    labels = figures.arm_labels(facts)
    text = (
        # everything that the template prints is escaped for Markdown, unless it is Markup made here
        pages.environment(autoescape=False, finalize=_escape)
        .get_template("card.md")
        .render(
            name=_title(facts),
            budget=figures.budget_text(facts),
            counts=figures.counts_text(facts),
            splits=facts.splits,
            classes=_classes(facts.classes or ()),
            licence=facts.licence,
            verification=verification,
            looks=figures.looks(facts),
            subject=figures.subject(facts),
            noise=labels["noise"][0].lower() + labels["noise"][1:],
            arms=figures.arm_rows(verification["arms"], labels) if verification else (),
            independent=figures.arm_rows(verification.get("independent_labels", {}), labels) if verification else (),
            drop=figures.drop(verification) if verification else "",
            started=figures.started(verification) if verification else "",
            over_all=figures.over_all_rows(verification["arms"], labels) if verification else (),
            plan=figures.plan_words(verification) if verification else "",
            protocol=figures.protocol_rows(verification["protocol"]) if verification else (),
            against=figures.against_rows(facts.verification) if disclosed and facts.verification else (),
            method=figures.method_rows(facts.owner_extra) if facts.disclose else (),
            limits=figures.limits(facts),
            contact=facts.contact,
            arm_table=_arm_table,
        )
    )
    body = re.sub(r"\n{3,}", "\n\n", text).strip()
    return f"---\n{_front_matter(facts)}\n---\n\n{_section(body)}\n"


def merged(theirs: str, ours: str, splits: Mapping[str, int]) -> str:
    """The card of a repository, and in it that of a release (`splits`: its images by split): no word of theirs is lost.

    Front matter key by key: theirs wins, lists are joined, and only the files of a configuration of the same name are
    ours. Our text takes the place of an earlier one, else it comes first, for it discloses the perturbation. Merging
    again changes nothing. Raises UsageError where keeping their words would make a card that is wrong.
    """
    theirs = theirs.replace("\r\n", "\n")
    (their_matter, their_body), (our_matter, our_body) = _parts(theirs), _parts(ours)
    matter = _merged_matter(their_matter, our_matter, splits)
    found = _SECTION.search(our_body)
    section = found[0] if found else _section(our_body)
    earlier = _SECTION.search(their_body)
    if earlier and _digest(earlier[2]) != earlier[1]:
        raise UsageError(
            "README.md on the Hub was edited between the lines that unlearnable writes, and a push would lose that.",
            f"Move your words above or below those lines (the last is {_END}), and restore what was there.",
        )
    words = their_body.strip()
    body = words.replace(earlier[0], section, 1) if earlier else f"{section}\n\n{words}".strip()
    from huggingface_hub.repocard_data import CardData

    return f"---\n{CardData(**matter).to_yaml(original_order=list(matter))}\n---\n\n{body}\n"


def _merged_matter(theirs: Mapping[str, Any], ours: Mapping[str, Any], splits: Mapping[str, int]) -> dict[str, Any]:
    matter = dict(theirs)
    _require_true(theirs.get("dataset_info"), splits)
    for key, value in ours.items():
        given = matter.get(key)
        if given is None and not (key.startswith("license") and theirs.get("license")):
            matter[key] = value
        elif key == "configs" and isinstance(given, list):
            names = {config["config_name"] for config in value}
            others = [
                one for one in given if not isinstance(one, dict) or one.get("config_name", "default") not in names
            ]
            matter[key] = [*value, *others]
        elif isinstance(given, list) and isinstance(value, list) and key != "size_categories":
            matter[key] = [*given, *(item for item in value if item not in given)]
    return matter


def _require_true(infos: Any, splits: Mapping[str, int]) -> None:
    """A card may say how many rows a split has: `datasets` then refuses to load any other number."""
    for info in infos if isinstance(infos, list) else [infos]:
        for split in (info.get("splits") or ()) if isinstance(info, dict) else ():
            name, rows = split.get("name"), split.get("num_examples")
            if rows is not None and splits.get(name) != rows:
                raise UsageError(
                    f"README.md on the Hub says in dataset_info that {name} has {rows} rows; it has {splits.get(name, 0)}.",
                    "Remove dataset_info from that card; the Hub works it out by itself.",
                )


def _parts(text: str) -> tuple[dict[str, Any], str]:
    """Front matter and body. Raises UsageError when the one is no YAML mapping."""
    import yaml  # type: ignore[import-untyped]  # slow to import, and only a merge needs it

    found = _FRONT.match(text)
    if not found:
        return {}, text
    try:
        matter = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError:
        matter = None
    if not isinstance(matter, dict):
        raise UsageError("The front matter of README.md on the Hub cannot be read as YAML.", "Mend it on the website.")
    return matter, text[found.end() :]


def _section(body: str) -> str:
    return f"{_BEGIN.format(_digest(body))}\n{body}\n\n{_END}"


def _digest(body: str) -> str:
    return hashlib.sha256(body.strip().encode("utf-8", "backslashreplace")).hexdigest()[:12]


def _front_matter(facts: Facts) -> str:
    from huggingface_hub import DatasetCardData  # slow to import, and only sealing needs it

    known: dict[str, Any] = {"pretty_name": _title(facts), "tags": list(TAGS)}
    known["size_categories"] = [next((name for top, name in _SIZES if facts.shipped < top), "10M<n<100M")]
    if facts.classes:
        known["task_categories"] = ["image-classification"]
    if facts.licence:
        known |= _licence(facts)
    if facts.configs:
        known["configs"] = [_config(facts)]
    known |= _GATE
    return DatasetCardData(**known).to_yaml(original_order=list(known))


def _config(facts: Facts) -> dict[str, Any]:
    files = [{"split": item["split"], "path": item["path"]} for item in facts.configs]
    config: dict[str, Any] = {"config_name": "default", "data_files": files}
    # Folder names are labels only where the owner has labels; parquet files carry theirs, and refuse the option.
    return config | ({"drop_labels": facts.drop_labels} if facts.layout == "folder" else {})


def _licence(facts: Facts) -> dict[str, str]:
    name = _line(facts.licence or "").lower()
    if name in _HUB_LICENCES:
        return {"license": name}
    slug = re.sub(r"[^a-z0-9.]+", "-", name).strip("-") or "other"
    link = {"license_link": "LICENSE"} if "LICENSE" in facts.documents else {}
    return {"license": "other", "license_name": slug} | link


def _classes(names: Sequence[str]) -> Markup | None:
    if not names:
        return None
    more = f" and {len(names) - _MOST_CLASSES:,} more" if len(names) > _MOST_CLASSES else ""
    return Markup(f"{len(names):,} classes: {', '.join(map(_escape, names[:_MOST_CLASSES]))}{more}.")


def _escape(value: object) -> str:
    """Text for Markdown: one line, HTML as entities, every mark that means something with a backslash."""
    if isinstance(value, Markup | int):
        return str(value)
    text = _line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(re.sub(r"([!\"#$*+=\[\\\]^_`{|}~]|:(?=//)|(?<=www)\.|(?<!\w)@)", r"\\\1", text))


def _title(facts: Facts) -> str:
    return _line(facts.name) or "Protected images"


def _line(text: str) -> str:
    """The same text on one line, without control characters and lone surrogates."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text)
    return " ".join(kept.split())


def _arm_table(rows: Sequence[Mapping[str, str]]) -> Markup:
    head = "| Trained on | Peak test accuracy | 95 % interval | Epoch chosen on other images | Final | Epochs to loss 0.5 |\n"
    head += "|---|---:|---:|---:|---:|---:|\n"
    cells = ("label", "peak", "interval", "selected", "final", "epochs")
    lines = ["| " + " | ".join(row[cell] for cell in cells) + " |\n" for row in rows]
    return Markup(head + "".join(lines))
