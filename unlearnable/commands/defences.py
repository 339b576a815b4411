"""`defences`: what a scraper may try."""

from __future__ import annotations

from unlearnable.commands._listing import listing

command = listing("defences", "defences", "countermeasures that --against can try")
