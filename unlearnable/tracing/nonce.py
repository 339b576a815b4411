"""What a test draws beside the owner's secret, all from the committed nonce: nothing is left to choose later."""

from __future__ import annotations

from unlearnable.keys import Key


def draws(nonce: bytes) -> Key:
    """Labelled generators, as from an owner's key."""
    return Key(nonce)


def decoy(nonce: bytes, number: int) -> Key:
    """The decoy key of a number: without relation to the owner's key."""
    return Key(draws(nonce).rng("trace", "decoy", number).bytes(32))


def order(nonce: bytes, count: int) -> list[int]:
    """In which order secrets are asked about: a model that changes with time, or counts, must not know the true one."""
    return [int(number) for number in draws(nonce).rng("trace", "order").permutation(count)]
