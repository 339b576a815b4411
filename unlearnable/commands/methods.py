"""`methods`: what protects."""

from __future__ import annotations

from unlearnable.commands._listing import listing

command = listing("methods", "poisons", "protection methods and their presets")
