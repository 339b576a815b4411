"""What the command line prints: one summary, one table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from release import figures


def protected(document: dict[str, Any]) -> None:
    """The result of `protect` for people."""
    out = Console(highlight=False)
    images = document["images"]
    if document["verification"]:
        verification(document["verification"])
    out.print(
        f"\n{images['protected']:,} images protected with {document['method']} "
        f"({figures.budget_words(document['eps'])}) in {document['seconds']:.0f} s."
    )
    if images.get("unprotected"):
        out.print(f"{images['unprotected']:,} images of other classes ship unprotected, as asked.")
    for item in document["skipped"][:5]:
        _say(f"  skipped: {_reason(item)}")
    if images["skipped"] > 5:
        out.print(f"  ... {images['skipped']} skipped in all; the owner's report lists them.")
    if 0 < document["without_opt_out"] < images["protected"]:  # none has it where it was not asked for
        out.print(f"  {document['without_opt_out']:,} files cannot say `no data mining`: their formats hold no XMP.")
    _say(f"Release:     {document['release']}")
    _say(f"Your report: {document['owner']}/report.html")
    _say(f"Keep {document['owner']} to yourself: it holds the key.")


def part(document: dict[str, Any]) -> None:
    """What `protect --fit-only` or `--shard` did, and what comes next."""
    out, images, sealed = Console(highlight=False), document["images"], document["release"]
    if "part" not in document:
        out.print(f"{document['method']} is fitted: {images['total']:,} images in {document['shards']:,} shards.")
        following = f"--shard i/n in place of --fit-only, for i from 0 to n - 1; then: unlearnable merge {sealed}"
    else:
        out.print(
            f"Part {document['part']}: {images['protected']:,} images in {document['shards']:,} shards protected with "
            f"{document['method']} in {document['seconds']:.0f} s."
        )
        following = f"unlearnable merge {sealed}, when all parts are done"
    if images.get("skipped"):
        out.print(
            f"  {images['skipped']:,} images skipped; the first: {document['skipped'][0]['reason']}", markup=False
        )
    _say(f"Next: {following}")


def forecast(document: dict[str, Any]) -> None:
    """The plan of `protect --dry-run`."""
    images, told, seconds = document["images"], document["forecast"], document["forecast"]["seconds"]
    formats = ", ".join(f"{each['images']:,} {name}" for name, each in images["formats"].items())
    _say(f"{images['total']:,} images to protect ({formats}), {_size(images['bytes'])}.")
    for item in document["skipped"]:
        _say(f"  left out: {item['count']:,} x {item['reason']}")
    if document["sidecars"]:
        _say(f"  {document['sidecars']:,} sidecars to copy where nothing of an original is in them.")
    for item in document["probe"]["unprotectable"][:5]:
        _say(f"  of {document['probe']['images']} tried: {_reason(item)}")
    for stage, words in _STAGES.items():
        _say(f"{words}: " + ("unknown before the run" if seconds[stage] is None else f"about {seconds[stage]:,.0f} s"))
    if not document["probe"]["exact"]:
        _say("The probe used a stand-in: crafting the images themselves may take longer.")
    disk = document["disk"]
    free = f" of {_size(disk['free'])} that are free." + (" It will not fit." * (not disk["enough"])) if disk else "."
    _say(f"Space: about {_size(told['bytes'])}{free}")
    _say(f"Memory: about {_size(told['memory'])}.")
    _say(f"Release: {document['release']} ({document['layout']}); yours alone: {document['owner']}")
    _say("Nothing was written.")


def previewed(document: dict[str, Any]) -> None:
    """The result of `preview`."""
    out = Console(highlight=False)
    out.print(f"{document['images']} images under {document['method']}. {document['note']}", markup=False)
    _say(f"Preview: {document['preview']} (it shows originals)")


_STAGES = {"learn": "Looking at the images", "write": "Writing", "verify": "Verifying", "finish": "Reports and seal"}


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def verification(document: dict[str, Any]) -> None:
    """The arms, countermeasures and verdict of one verification."""
    out = Console(highlight=False)
    protocol = document["protocol"]
    table = Table(
        title=f"{protocol['victim']} network, {protocol['train_images']:,} training images, {protocol['epochs']} epochs, "
        f"{len(protocol['seeds'])} seeds; tested on {protocol['test_images']:,} clean images"
        + (" of the protected classes" if "protected_classes" in protocol else ""),
        title_justify="left",
    )
    for heading in ("trained on", "peak accuracy", "final accuracy", "epochs to loss 0.5"):
        table.add_column(heading, justify="left" if heading == "trained on" else "right")

    def row(words: str, arm: dict[str, Any], epochs: str = "") -> None:
        table.add_row(words, _stat(arm["peak"]), _stat(arm["final"]), epochs)

    for name, arm in document["arms"].items():
        noise = f" ±{protocol['noise_levels']}" if name == "noise" and "noise_levels" in protocol else ""
        row(_ARMS[name] + noise, arm, _epochs(arm["epochs_to_half_loss"]))
    for name, arm in document.get("independent_labels", {}).items():
        row(f"{_ARMS[name]}, other labels", arm)
    victims = document.get("victims") or {"": document}
    for number, (victim, found) in enumerate(victims.items()):
        if number:
            table.add_section()
            for name, arm in found["arms"].items():
                row(f"{_ARMS[name]}, {victim}", arm, _epochs(arm["epochs_to_half_loss"]))
        for name, pair in found["against"].items():
            under = name + (f", {victim}" if number else "")
            for which, arm in pair.items():
                row(f"{_ARMS[which]}, {under}", arm)
            beside = pair["protected"].get("figures", {})
            if "clean_alone_peak" in beside:  # the null that the row above has to beat
                row(f"its clean part alone, {under}", {key: beside[f"clean_alone_{key}"] for key in ("peak", "final")})
    out.print(table)
    ranges = {_ARMS[name]: arm["peak"] for name, arm in document["arms"].items() if arm["peak"].get("interval")}
    if ranges:
        out.print(
            f"95 % intervals of the peaks: {', '.join(f'{words} {_interval(of)}' for words, of in ranges.items())}."
        )
    drop = document["relative_accuracy_drop"]
    out.print(
        f"Relative accuracy drop {drop['mean']:.0%} (95 % interval {drop['low']:.0%} to {drop['high']:.0%}); "
        f"guessing gives {protocol['chance']:.0%}."
    )
    chosen = {_ARMS[name]: arm["selected"] for name, arm in document["arms"].items() if arm.get("selected")}
    if chosen:
        shares = ", ".join(f"{words} {_stat(stat)}" for words, stat in chosen.items())
        out.print(f"With the epoch chosen on other clean images: {shares}.")
    out.print(document["verdict"] + " " + document["worst_case"]["words"], markup=False)
    if document.get("within_noise"):
        out.print(f"No difference beyond noise to plain training: {', '.join(document['within_noise'])}.", markup=False)
    for flag in document["flags"]:
        out.print(f"  {flag['name']}: {flag['meaning']}", markup=False)
    if "diagnosis" in document:
        _diagnosis(out, document["diagnosis"])
    if "report" in document:
        _say(f"Your report: {document['report']}")


def planned(document: dict[str, Any]) -> None:
    """The plan of `verify --dry-run`."""
    plan, protocol = document["plan"], document["protocol"]
    kept = f", of which {plan['kept']} are kept from before" if plan["kept"] else ""
    out = Console(highlight=False)
    out.print(
        f"{plan['trainings']} trainings of {protocol['epochs']} epochs on {protocol['train_images']:,} images{kept}. "
        f"With the cost of countermeasures, {plan['epochs']:g} epochs of plain training."
    )
    for victim, seconds in plan["seconds_per_epoch"].items():
        out.print(f"{victim}: {seconds:.3g} s an epoch on {protocol['device']}.", markup=False)
    if plan["pictures"]["words"]:
        out.print(f"{plan['pictures']['words']}.")
    out.print(f"About {plan['seconds']:.0f} s.")


def _diagnosis(out: Console, found: dict[str, Any]) -> None:
    """A few lines on what the perturbation looks like from outside."""
    mean = {"these networks on average,": found["transfer_mean"]} if len(found["transfer"]) > 1 else {}
    tables = found["transfer"] | mean
    for victim, arms in tables.items():
        shares = ", ".join(f"{_ARMS[name]} {_stat(stat)}" for name, stat in arms.items())
        out.print(f"Misread by {victim} trained on the originals: {shares}.", markup=False)
    for name, probe in found["linear_probe"].items():
        out.print(
            f"Linear classifier of the change alone, {_ARMS[name]}: {probe['train']:.1%} of what it was fitted on, "
            f"{probe['held_out']:.1%} of the rest."
        )
    power = found["frequency"]["protected"]
    peak = max(range(len(power)), key=power.__getitem__)
    out.print(f"The change is strongest at {found['frequency']['cycles_per_pixel'][peak]:.3g} cycles a pixel.")


def checked(found: dict[str, Any]) -> None:
    """The result of `check` for people."""
    for kind in ("changed", "missing", "extra"):
        for path in found[kind]:
            _say(f"{kind}: {path}")
    _say(f"signature: {found['signature']}")
    if found.get("signer"):
        _say(f"signer: {found['signer']}")
    if "source" not in found:
        _say("Every file is as it was signed." if found["ok"] else "This is not the release that was signed.")
    elif found["source"] is None:
        _say("This is not the release that was signed, so it was not compared with the originals.")
    else:
        _compared(found["source"])


def _compared(source: dict[str, Any]) -> None:
    """What the originals say of a release."""
    for each in source["findings"]:
        row = "" if each["row"] is None else f", row {each['row']}"
        _say(f"{each['kind']}: {each['path']}{row} {each['reason']}")
    for kind, words in (("lossless", "losslessly"), ("lossy", "as JPEG or AVIF")):
        part = source[kind]
        if part["images"] and part["linf"] is not None:
            mean = f", {part['psnr']:.1f} dB on average" if part["psnr"] is not None else ""
            _say(f"{part['images']:,} pictures stored {words}: pixels change by at most {part['linf']}{mean}.")
    if source["unprotected"]:
        _say(f"{source['unprotected']:,} pictures are of classes that were not to be protected.")
    if source["splits_left_out"]:
        _say(f"Not in the release: {', '.join(source['splits_left_out'])}.")
    count = len(source["findings"])
    _say(
        f"{source['images']:,} pictures compared with their originals: {f'{count:,} findings' if count else 'nothing leaks'}."
    )


def pushed(document: dict[str, Any]) -> None:
    """The result of `push` for people."""
    out = Console(highlight=False)
    gate = f"gated ({document['gated']})" if document["gated"] else "not gated"
    out.print(
        f"{document['files']:,} files read back as they were sealed; {document['sent']:,} of them were sent now "
        f"({document['bytes']:,} bytes)."
    )
    _say(f"{'Private' if document['private'] else 'Public'}, {gate}: {document['url']}")


def traced(document: dict[str, Any]) -> None:
    """The result of `trace` for people: the verdict, each test, and where the evidence lies."""
    out = Console(highlight=False)
    _say(document["verdict"])
    table = Table("Test", "p", "corrected", "measured", "by chance", "questions")
    for test in (document["primary"], *document["secondary"]):
        if test["not_run"]:
            table.add_row(test["test"], "not run", "", test["not_run"], "", "")
            continue
        corrected = "" if test.get("p_holm") is None else f"{test['p_holm']:.2g}"
        figures = (f"{test['statistic']:.3g}", f"{test['by_chance']:.3g}", f"{test['queries']:,}")
        table.add_row(test["test"], f"{test['p']:.2g}", corrected, *figures)
    out.print(table)
    out.print(f"Chosen beforehand: {document['primary']['test']}, to be read at {document['alpha']:g}.", markup=False)
    _say(f"Signed evidence, private: {document['evidence']}")


def queried(document: dict[str, Any]) -> None:
    """What `trace --write-queries` wrote, for people."""
    _say(
        f"{document['queries']:,} pictures and queries.csv are in {document['folder']}. Write the label that the service "
        "gives to each picture beside its name, and pass that file as --model."
    )


def keys(document: dict[str, Any]) -> None:
    """The owner's keys, for people."""
    _say(f"Your keys:   {document['file']}, {'with a' if document['passphrase'] else 'without'} passphrase")
    _say(f"Fingerprint: {document['fingerprint']}")
    for old in document["retired"]:
        _say(f"Retired:     {old['fingerprint']} in {old['file']}")
    _say("Keep a copy of that file in a safe place: nobody can make it again.")


def _say(text: str) -> None:
    """A line as it is: paths and names keep their brackets, and break nowhere, so that they can be copied."""
    Console(highlight=False).print(text, markup=False, soft_wrap=True)


def _reason(item: dict[str, Any]) -> str:
    """Why an image is left out, with its name where the reason does not say it."""
    return item["reason"] if item["id"] in item["reason"] else f"{item['id']}: {item['reason']}"


_ARMS = {"clean": "originals", "noise": "with random noise", "protected": "protected copy"}


def _stat(stat: dict[str, Any]) -> str:
    spread = f" ± {stat['std']:.1%}" if stat["std"] is not None else ""
    return f"{stat['mean']:.1%}{spread}"


def _interval(stat: dict[str, Any]) -> str:
    return f"{stat['interval']['low']:.0%} to {stat['interval']['high']:.0%}"


def _epochs(stat: dict[str, Any]) -> str:
    runs = ["never" if run is None else str(run) for run in stat["runs"]]
    return ", ".join(runs)
