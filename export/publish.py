"""A bundle on the Hugging Face Hub, with its README.md as the model card: what would be sent, and sending it.

huggingface_hub does the talking, and is imported where it is used: its client takes a quarter of a second, which
`run` and `verify` need not wait for. The token is the one that it finds: HF_TOKEN, or that of `hf auth login`.
"""

import base64
import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from export.cases import BrokenFileError, grouped
from export.layout import FILES

CARD = "README.md"
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"

# What the Hub's answers mean here, and what to do.
ANSWERS = {
    401: ("the Hub does not accept the token", f"{LOGIN} to a token that is valid"),
    403: ("the token may not write there", "use one that may"),
    404: ("the Hub finds nothing there", "check the name, and that the token may see it"),
    409: ("it was changed meanwhile", "run the command again"),
    412: ("it was changed meanwhile", "run the command again"),
    429: ("the Hub has had too many requests", "try again later"),
}


class HubError(RuntimeError):
    """The Hub, or the way to it, did not do what was asked; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Commit:
    """What became of a publication: where it is now, and what the Hub had to say about its card.

    `made` is False where the repo had all of it already, so that there was nothing to commit.
    """

    url: str
    made: bool
    deleted: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Publication:
    """What goes to a repo of the Hub: files by name, with the very bytes; `commit` is None until they are sent.

    `renewed` is empty where these are the bytes of the bundle. Else all are written anew, and it gives, by name, the
    files that could not be checked, and why.
    """

    repo: str
    private: bool
    message: str
    files: Mapping[str, bytes]
    front_matter: str
    metadata: Mapping[str, Any]
    renewed: Mapping[str, str]
    commit: Commit | None = None

    @property
    def outdated(self) -> list[str]:
        """Files that an older bundle may have left in the repo: there, they would contradict the new manifest."""
        return sorted(FILES - {*self.files})

    def to_dict(self) -> dict[str, Any]:
        commit = self.commit and {
            "url": self.commit.url,
            "made": self.commit.made,
            "deleted": list(self.commit.deleted),
            "remarks": list(self.commit.remarks),
        }
        return {
            "repo": self.repo,
            "type": "model",
            "private": self.private,
            "message": self.message,
            "files": [
                {"path": name, "size": len(content), "sha256": _sha256(content)} for name, content in self.files.items()
            ],
            "renewed": dict(self.renewed),
            "outdated": self.outdated,
            "card": dict(self.metadata),
            "commit": commit,
        }

    def report(self) -> list[tuple[int, str]]:
        """All of it for people: lines, each with its indentation."""
        visible = "private" if self.private else "public"
        files = [f"{_sha256(content)}, {len(content)} bytes: {name}" for name, content in self.files.items()]
        return [
            (0, f"model repo {self.repo}, created {visible} if it does not exist"),
            (0, f"commit message: {self.message}"),
            *([(0, f"all files are written anew; not checked: {grouped(self.renewed)}")] if self.renewed else []),
            (0, "files, with sha256 and size:"),
            *((2, each) for each in files),
            *([(0, f"deleted if the repo has them: {', '.join(self.outdated)}")] if self.outdated else []),
            (0, f"metadata of the model card, {CARD}:"),
            *((2 + len(each) - len(each.lstrip()), each.lstrip()) for each in self.front_matter.splitlines()),
            *((0, each) for each in self._outcome()),
        ]

    def _outcome(self) -> list[str]:
        if self.commit is None:
            return ["dry run: nothing was sent"]
        deleted = f", which deleted {', '.join(self.commit.deleted)}" if self.commit.deleted else ""
        made = f"sent: {self.commit.url}{deleted}"
        same = f"nothing has changed since {self.commit.url}; no commit was made"
        return [*(f"the Hub remarks: {each}" for each in self.commit.remarks), made if self.commit.made else same]


def is_address(text: str) -> bool:
    """Whether HF_ENDPOINT can be that; huggingface_hub would stumble over some that cannot when it is imported."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, and the like
        return False


def is_repo_name(name: str) -> bool:
    """Whether the Hub could have a repo of that name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def prepare(found: Mapping[str, Any], repo: str, private: bool) -> Publication:
    """What is to be sent of a bundle that `export.child` found publishable; asks nobody."""
    files = {name: base64.b64decode(content) for name, content in sorted(found["files"].items())}
    message = f"Bundle of Live Nets: {found['name']}, seed {found['seed']}"
    return Publication(repo, private, message, files, *_card(files[CARD]), found["unchecked"])


def _card(content: bytes) -> tuple[str, dict[str, Any]]:
    """The model card's front matter as it stands there, and as what huggingface_hub reads in it.

    Only ever of a card that this program has written: aliases of a foreign one's YAML may stand for gigabytes.
    """
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    text = content.decode()
    block = REGEX_YAML_BLOCK.search(text)
    assert block, "the bundle's writer gives each card its metadata"
    return block.group(2), ModelCard(text).data.to_dict()  # type: ignore[no-untyped-call]


def send(publication: Publication) -> Publication:
    """Send it, in one commit; the repo is created if need be. Returns it with its commit.

    Raises BrokenFileError for a model card that the Hub refuses, before anything else is sent; HubError for the rest.
    """
    from huggingface_hub import get_token
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]

    # The command has its own progress bar, and log lines of retries would show signed addresses of the Hub's storage.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    token = ""
    try:
        token = get_token() or ""
        if not re.fullmatch("[!-~]+", token):  # else it would be quoted, escaped, in the HTTP client's refusal
            why = "there is no token" if not token else "the token holds characters that no token has"
            raise HubError(f"{publication.repo} could not be published: {why}; {LOGIN}.")
        with disable_progress_bars():
            return replace(publication, commit=_commit(publication, token))
    except (BrokenFileError, HubError):
        raise
    except Exception as error:
        # Servers, proxies and three libraries can fail in any way, and may repeat what they were given.
        what = _told(error).replace(token or "\0", "(token)")
        raise HubError(f"{publication.repo} could not be published: {what}.") from error


def _commit(publication: Publication, token: str) -> Commit:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard

    try:
        ModelCard(publication.files[CARD].decode()).validate(repo_type="model")
    except ValueError as error:
        raise BrokenFileError(CARD, f"is refused by the Hub: {_one_line(str(error))}") from error
    api = HfApi(token=token)  # of constants.ENDPOINT, like the card's validation
    repo = api.create_repo(publication.repo, private=publication.private, repo_type="model", exist_ok=True).repo_id
    before = api.model_info(repo)
    if publication.private and not before.private:
        raise HubError(
            f"{repo} could not be published: it exists and is public, and --private is for repos that are created;"
            " make it private in its settings, or leave --private out."
        )
    there = {each.rfilename for each in before.siblings or ()}
    additions = [CommitOperationAdd(name, content) for name, content in publication.files.items()]
    deleted = tuple(name for name in publication.outdated if name in there)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("ignore")  # what libraries have to say to each other
        warnings.filterwarnings("always", "Warnings while validating metadata", UserWarning)
        # A .gitignore in the repo would make huggingface_hub leave files out without a word: ignore nothing.
        api.preupload_lfs_files(repo, additions, gitignore_content="!*\n", free_memory=False)
        commit = api.create_commit(
            repo,
            [*additions, *(CommitOperationDelete(name, is_folder=False) for name in deleted)],
            commit_message=publication.message,
            parent_commit=before.sha,  # what was looked at: else a file that came since might be lost
        )
    return Commit(
        url=commit.commit_url,
        made=commit.oid != before.sha,
        deleted=deleted,
        remarks=tuple(_one_line(str(each.message)) for each in remarks),
    )


def _told(error: BaseException) -> str:
    """What went wrong and what to do."""
    import httpx2  # huggingface_hub's own HTTP client
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and error.__cause__:  # "Error while uploading", which does not say why
        return _told(error.__cause__)
    match error:
        case HfHubHTTPError():
            status = error.response.status_code
            unknown = (
                ("the Hub fails", "try again later") if status >= 500 else ("the Hub refuses it", "check the name")
            )
            what, advice = ANSWERS.get(status, unknown)
            said = f": {_one_line(error.server_message).rstrip('.')}" if error.server_message else ""
            return f"{what} ({status}{said}); {advice}"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set; unset it"
        case httpx2.TimeoutException():
            return "the Hub does not answer in time; try again later"
        case httpx2.TransportError() | httpx2.InvalidURL():
            where = f"the Hub cannot be reached at {constants.ENDPOINT} ({_one_line(str(error))})"
            return f"{where}; check the connection, and HF_ENDPOINT if it is set"
        case _:
            return f"it failed unexpectedly, by {type(error).__name__}: {_one_line(str(error)).rstrip('.')}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
