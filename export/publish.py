"""Upload of a bundle to the Hugging Face Hub, with its README.md as the model card.

huggingface_hub is imported inside functions, because that takes 0.25 s, which `run` and `verify` do not need. It
provides the token: HF_TOKEN, or that of `hf auth login`.
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

# Cause and advice by HTTP status of the Hub's response.
STATUS_MESSAGES = {
    401: ("the Hub does not accept the token", f"{LOGIN} to a token that is valid"),
    403: ("the token has no write permission there", "use one with write permission"),
    404: ("the repo was not found", "check the name, and that the token has access"),
    409: ("the repo was changed during the upload", "run the command again"),
    412: ("the repo was changed during the upload", "run the command again"),
    429: ("the Hub received too many requests", "try again later"),
}


class HubError(RuntimeError):
    """Failed request to the Hub. The message is one sentence with the cause and advice."""


@dataclass(frozen=True)
class Commit:
    """Result of an upload: URL of the commit, deleted files, and the Hub's warnings about the model card.

    `made` is False if the repo already had the same content, so that no commit was created.
    """

    url: str
    made: bool
    deleted: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Publication:
    """Upload to a repo of the Hub: the content of files by name; `commit` is None until it is sent.

    `renewed` is empty if the files are those of the bundle. Otherwise all files were regenerated, and it maps the
    files that could not be checked to the reasons.
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
        """Files that a previous bundle may have left in the repo, where they would contradict the new manifest."""
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
        """The upload as lines of text, each with its indentation."""
        visible = "private" if self.private else "public"
        files = [f"{_sha256(content)}, {len(content)} bytes: {name}" for name, content in self.files.items()]
        return [
            (0, f"model repo {self.repo}, created {visible} if it does not exist"),
            (0, f"commit message: {self.message}"),
            *([(0, f"all files were regenerated; not checked: {grouped(self.renewed)}")] if self.renewed else []),
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
    """Whether `text` is valid as HF_ENDPOINT. Importing huggingface_hub would fail with some invalid values."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        return False


def is_repo_name(name: str) -> bool:
    """Whether `name` is a valid repo name on the Hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def prepare(found: Mapping[str, Any], repo: str, private: bool) -> Publication:
    """Create the upload of a bundle from the result of `export.child`, without network access."""
    files = {name: base64.b64decode(content) for name, content in sorted(found["files"].items())}
    message = f"Bundle of Live Nets: {found['name']}, seed {found['seed']}"
    return Publication(repo, private, message, files, *_card(files[CARD]), found["unchecked"])


def _card(content: bytes) -> tuple[str, dict[str, Any]]:
    """Return the model card's front matter as text, and as parsed by huggingface_hub.

    Only for cards that this program wrote: YAML aliases in an untrusted card can expand to gigabytes.
    """
    from huggingface_hub import ModelCard
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    text = content.decode()
    block = REGEX_YAML_BLOCK.search(text)
    assert block, "every model card has a front matter"
    return block.group(2), ModelCard(text).data.to_dict()  # type: ignore[no-untyped-call]


def send(publication: Publication) -> Publication:
    """Upload in one commit, creating the repo if it does not exist, and return the publication with its commit.

    Raises BrokenFileError if the Hub refuses the model card, before anything else is sent, and HubError otherwise.
    """
    from huggingface_hub import get_token
    from huggingface_hub.utils import disable_progress_bars, logging  # type: ignore[attr-defined]

    # The command has its own progress bar, and log messages of retries contain signed URLs of the Hub's storage.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    token = ""
    try:
        token = get_token() or ""
        if not re.fullmatch("[!-~]+", token):  # otherwise the HTTP client's error would quote it, escaped
            why = "there is no token" if not token else "the token contains invalid characters"
            raise HubError(f"{publication.repo} could not be published: {why}; {LOGIN}.")
        with disable_progress_bars():
            return replace(publication, commit=_commit(publication, token))
    except (BrokenFileError, HubError):
        raise
    except Exception as error:
        # Servers, proxies and three libraries can raise any error, and its message may contain the token.
        what = _error_message(error).replace(token or "\0", "(token)")
        raise HubError(f"{publication.repo} could not be published: {what}.") from error


def _commit(publication: Publication, token: str) -> Commit:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard

    try:
        ModelCard(publication.files[CARD].decode()).validate(repo_type="model")
    except ValueError as error:
        raise BrokenFileError(CARD, f"is refused by the Hub: {_one_line(str(error))}") from error
    api = HfApi(token=token)  # uses constants.ENDPOINT, like the card's validation
    repo = api.create_repo(publication.repo, private=publication.private, repo_type="model", exist_ok=True).repo_id
    before = api.model_info(repo)
    if publication.private and not before.private:
        raise HubError(
            f"{repo} could not be published: it exists and is public, and --private applies only to new repos;"
            " make it private in its settings, or omit --private."
        )
    there = {each.rfilename for each in before.siblings or ()}
    additions = [CommitOperationAdd(name, content) for name, content in publication.files.items()]
    deleted = tuple(name for name in publication.outdated if name in there)
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("ignore")  # such as deprecation warnings between libraries
        warnings.filterwarnings("always", "Warnings while validating metadata", UserWarning)
        # With a .gitignore in the repo, huggingface_hub would silently skip files.
        api.preupload_lfs_files(repo, additions, gitignore_content="!*\n", free_memory=False)
        commit = api.create_commit(
            repo,
            [*additions, *(CommitOperationDelete(name, is_folder=False) for name in deleted)],
            commit_message=publication.message,
            parent_commit=before.sha,  # rejects the commit if the repo has changed since
        )
    return Commit(
        url=commit.commit_url,
        made=commit.oid != before.sha,
        deleted=deleted,
        remarks=tuple(_one_line(str(each.message)) for each in remarks),
    )


def _error_message(error: BaseException) -> str:
    """Cause of an error, and advice."""
    import httpx2  # huggingface_hub's own HTTP client
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, RuntimeError) and error.__cause__:  # "Error while uploading", without the reason
        return _error_message(error.__cause__)
    match error:
        case HfHubHTTPError():
            status = error.response.status_code
            refused = ("the Hub refuses the request", "check the name")
            unknown = ("the Hub has an internal error", "try again later") if status >= 500 else refused
            what, advice = STATUS_MESSAGES.get(status, unknown)
            said = f": {_one_line(error.server_message).rstrip('.')}" if error.server_message else ""
            return f"{what} ({status}{said}); {advice}"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set; unset it"
        case httpx2.TimeoutException():
            return "the request timed out; try again later"
        case httpx2.TransportError() | httpx2.InvalidURL():
            where = f"the Hub cannot be reached at {constants.ENDPOINT} ({_one_line(str(error))})"
            return f"{where}; check the connection, and HF_ENDPOINT if it is set"
        case _:
            return f"unexpected {type(error).__name__}: {_one_line(str(error)).rstrip('.')}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
