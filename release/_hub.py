"""One dataset repository on the Hugging Face Hub, through `huggingface_hub`: asked patiently, and never showing a token.

The client retries the upload of files by itself; everything else it asks once. `Remote` repeats what a busy server (429,
5xx) or a broken connection spoilt, a bounded number of times, waiting as long as the server says. What cannot be mended
becomes one sentence without the chain of exceptions below it, which could print an address or a header.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from release._patience import AGAIN, TRIES, cause, pause, status, without_bars
from unlearnable.errors import HubError, UnlearnableError, UsageError

T = TypeVar("T")

_TOGETHER = 256  # files of which the client asks in one request
_WRITE_TOKEN = "Make one with write permission on huggingface.co/settings/tokens and run: hf auth login"


@dataclass(frozen=True)
class Blob:
    """A file as the Hub lists it. sha256: of its content where it is stored in LFS or Xet; git: its Git object id."""

    size: int
    git: str
    sha256: str | None


@dataclass(frozen=True)
class Look:
    """A repository as it was when it was looked at; commit is the head of main."""

    commit: str
    private: bool
    gated: str | bool
    files: Mapping[str, Blob]


def same(blob: Blob, size: int, sha256: str, content: Callable[[], bytes]) -> bool:
    """Whether a listed file is the one of this size and SHA-256; `content` is read where Git's hash alone is listed."""
    if blob.size != size:
        return False
    if blob.sha256 is not None:
        return blob.sha256 == sha256
    data = content()
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return git == blob.git and hashlib.sha256(data).hexdigest() == sha256


class Remote:
    """The repository `name` ("owner/name"), seen with the token that `huggingface_hub` finds.

    Every method raises HubError in one sentence when the Hub refuses or cannot be reached.
    """

    def __init__(self, name: str) -> None:
        """Asks nothing of the network. Raises UsageError for a name that is none, HubError without a token or offline."""
        from huggingface_hub import HfApi, constants, get_token
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

        from unlearnable.version import __version__

        try:
            validate_repo_id(name)
        except HFValidationError:
            name = ""
        if name.count("/") != 1:
            raise UsageError(
                "A repository on the Hub is named OWNER/NAME.", "Letters, digits, '-', '_' and '.' are allowed."
            )
        if constants.HF_HUB_OFFLINE:
            raise HubError("The Hub is switched off by HF_HUB_OFFLINE.", "Unset it to push.")
        token = get_token()
        if not token:
            raise HubError("There is no Hub token, so nothing can be pushed.", f"{_WRITE_TOKEN} (or set HF_TOKEN).")
        if not re.fullmatch(r"[!-~]+", token):
            raise HubError("The Hub token that was found holds characters that no token has.", _WRITE_TOKEN)
        self.name = name
        self.url = f"{constants.ENDPOINT}/datasets/{name}"
        self._token = token
        self._api = HfApi(token=token, library_name="unlearnable", library_version=__version__)
        # the client's own errors derive from those of the HTTP library, whichever one it uses
        self._network: type[Exception] = HfHubHTTPError.__bases__[0]

    def require_writer(self) -> None:
        """One request, not repeated when there is no network: it comes before all work."""
        found = self._ask("tell whose token this is", self._api.whoami, patient=False)
        if found.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise HubError("The Hub token may only read.", _WRITE_TOKEN)

    def look(self) -> Look | None:
        """What is there, or None when this token sees no such repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        def info() -> Any:
            try:
                return self._api.repo_info(self.name, repo_type="dataset")
            except RepositoryNotFoundError:
                return None

        found = self._ask("show the repository", info)
        if found is None:
            return None
        return Look(found.sha, found.private, found.gated, self.files(found.sha))

    def files(self, revision: str) -> dict[str, Blob]:
        """Every file of a commit."""
        from huggingface_hub.hf_api import RepoFile

        def listed() -> dict[str, Blob]:
            tree = self._api.list_repo_tree(self.name, recursive=True, revision=revision, repo_type="dataset")
            return {
                item.path: Blob(item.size, item.blob_id, item.lfs.sha256 if item.lfs else None)
                for item in tree
                if isinstance(item, RepoFile)
            }

        return self._ask("list the files", listed)

    def past(self, head: str, most: int) -> list[str] | None:
        """The commits that can be reached from any branch or tag, but for the head; None when there are over `most`."""

        def commits() -> set[str]:
            refs = self._api.list_repo_refs(self.name, repo_type="dataset")
            names = {ref.name for ref in (*refs.branches, *refs.tags)}
            found = (self._api.list_repo_commits(self.name, revision=name, repo_type="dataset") for name in names)
            return {commit.commit_id for of_one in found for commit in of_one}

        found = self._ask("show the history", commits) - {head}
        return sorted(found) if len(found) <= most else None

    def read(self, path: str, revision: str) -> bytes:
        """A small file's content, as of a commit; no cache keeps it."""
        from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

        def fetched() -> bytes:
            headers = {"Authorization": f"Bearer {self._token}"}
            answer = get_session().get(
                f"{self.url}/resolve/{revision}/{quote(path)}", headers=headers, follow_redirects=True
            )
            hf_raise_for_status(answer)
            content: bytes = answer.content
            return content

        return self._ask(f"give {path}", fetched)

    def create(self) -> None:
        """Makes the repository, private. One that was made meanwhile is left as it is."""
        self._ask(
            "make the repository",
            lambda: self._api.create_repo(self.name, repo_type="dataset", private=True, exist_ok=True),
        )

    def settings(self, *, private: bool, gated: str | bool) -> None:
        """Sets both, and reads back that they are so."""
        self._ask(
            "change the settings",
            lambda: self._api.update_repo_settings(
                self.name,
                repo_type="dataset",
                private=private,
                gated=gated,  # type: ignore[arg-type]  # checked by the caller
            ),
        )
        found = self._ask("show the settings", lambda: self._api.repo_info(self.name, repo_type="dataset"))
        if (found.private, found.gated) != (private, gated):
            raise HubError(
                f"{self.name} should be {_words(private, gated)}, but the Hub says it is "
                f"{_words(bool(found.private), found.gated or False)}.",
                "Set it on the website, then repeat the push.",
            )

    def send(self, files: Mapping[str, Path | bytes], message: str, parent: str, tell: Callable[[int], None]) -> None:
        """Uploads files, then commits them together onto `parent`; `tell` hears how many are there.

        What the Hub stores already is not sent again. Raises Moved when the head is no longer `parent`: also when a commit
        was made but its answer lost, so that only the list of files can tell.
        """
        from huggingface_hub import CommitOperationAdd

        operations = [CommitOperationAdd(path, source) for path, source in sorted(files.items())]
        waiting: Iterator[CommitOperationAdd] = iter(operations)
        done = 0
        with without_bars():
            while together := list(islice(waiting, _TOGETHER)):
                self._ask("take the files", lambda some=together: self._upload(some))  # type: ignore[misc]
                done += len(together)
                tell(done)
            self._ask(
                "make the commit",
                lambda: self._api.create_commit(
                    self.name, operations, commit_message=message, parent_commit=parent, repo_type="dataset"
                ),
            )

    def _upload(self, operations: Sequence[Any]) -> None:
        self._api.preupload_lfs_files(self.name, operations, repo_type="dataset", free_memory=False)

    def _ask(self, what: str, call: Callable[[], T], *, patient: bool = True) -> T:
        """The call's result, repeated while that may help. `what` completes "The Hub did not ..."."""
        for tried in range(1, TRIES + 1):
            try:
                return call()
            except (self._network, ConnectionError, TimeoutError, ValueError, RuntimeError) as raised:
                why = raised
            wait = pause(why, tried, self._network, patient)
            if wait is None or tried == TRIES:
                break
            time.sleep(wait)
        raise self._explained(what, why)

    def _explained(self, what: str, why: Exception) -> UnlearnableError:
        first = cause(why, self._network)
        code = status(first)
        if code in (401, 403):
            return HubError(f"The Hub did not {what}: the token does not allow it for {self.name}.", _WRITE_TOKEN)
        if code in (409, 412):
            return Moved(f"{self.name} was changed by someone else during the push.", "Repeat the command.")
        if code in AGAIN:
            return Busy(f"The Hub did not {what}: it answered {code} again and again.", _LATER)
        if code is None and isinstance(first, self._network | ConnectionError | TimeoutError):
            said = f" ({self.without_secrets(first)})" if str(first) else ""
            return Busy(f"The Hub cannot be reached to {what}{said}.", f"Is there a network? {_LATER}")
        return HubError(f"The Hub did not {what} ({self.without_secrets(first)}).", _LATER)

    def without_secrets(self, why: Exception) -> str:
        """The first line of what it says, without the token or anything that looks like one."""
        text = str(why).replace(self._token, "***").strip().partition("\n")[0].rstrip(".")
        return re.sub(r"hf_\w{8,}", "hf_***", re.sub(r"://[^/\s@]+@", "://", text))


_LATER = "Repeat the command later: what was sent is kept."


class Busy(HubError):
    """The Hub, or the way to it, failed in a manner that passes."""


class Moved(HubError):
    """The repository is no longer as it was when it was looked at."""


def _words(private: bool, gated: str | bool) -> str:
    return f"{'private' if private else 'public'} and {f'gated ({gated})' if gated else 'not gated'}"
