"""A publication on its way to the hub, by huggingface_hub: large files first, then all of them in one commit.

A reader of the repository sees the whole model or none of it. Large files are known to the hub by their
content as soon as they are there: a run that was killed goes on with those that are missing. A repository is
made private, and opened, where that is wanted, when all is there.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from omr.errors import OmrError, RequestError, listing
from omr.files import human
from omr.models import hub
from omr.models.final import card
from omr.models.transfer import HubFile, retry
from omr.progress import Progress
from omr.recipe import Pin
from omr.reports.publishing.publication import Item, Publication

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# What may stand in a repository whatever model it is for.
ANY_MODELS = (".gitattributes", ".gitignore", card.FILE, "LICENSE*")
ADVICE = "see whether its token may write there"


@dataclass(frozen=True)
class Remote:
    """A repository as it is now."""

    private: bool
    commit: str
    files: Mapping[str, HubFile]

    def has(self, item: Item) -> bool:
        """Whether it has a file with these bytes."""
        file = self.files.get(item.name)
        return file is not None and file.size == item.size and _same(file, item)

    def foreign(self, items: list[Item]) -> list[str]:
        """Names of what it has of another model than these files are of."""
        ours = {item.name for item in items if self.has(item)}
        return sorted(
            name
            for name in self.files
            if name not in ours and not any(fnmatchcase(name, p) for p in ANY_MODELS)
        )


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    url: str
    sent: int  # files that the commit brought; 0: all were there
    private: bool


def publish(publication: Publication, public: bool = False, force: bool = False) -> Outcome:
    """Bring the files to the hub. With `force` they replace the model that the repository has.

    A RequestError for a repository with another model, or one that is open without `public`; an OmrError says
    what the hub answered.
    """
    from huggingface_hub import HfApi

    repo = publication.repo
    if hub.offline():
        raise RequestError("HF_HUB_OFFLINE=1 forbids to ask the hub; unset it to publish")
    hub.silence()
    api = HfApi()
    remote = _remote(api, repo) or _create(api, repo)
    if not remote.private and not public:
        raise RequestError(f"{repo}: is open to everybody; add PUBLIC=1 to publish there")
    foreign = remote.foreign(publication.items)
    if foreign and not force:
        raise RequestError(
            f"{repo}: has another model ({listing(foreign[:3], 'and')}); choose another REPO=,"
            " or FORCE=1 puts this one in its place"
        )
    todo = [item for item in publication.items if not remote.has(item)]
    gone = sorted({*foreign} - {item.name for item in publication.items})
    if todo or gone:
        _commit(api, publication, remote, todo, gone)
        remote = _proved(api, publication)
    if public and remote.private:
        retry(lambda: api.update_repo_settings(repo, private=False), repo, ADVICE)
    return Outcome(f"{api.endpoint}/{repo}", len(todo), not public)


def _remote(api: "HfApi", repo: str) -> Remote | None:
    """The repository as it is now, None where there is none."""
    from huggingface_hub import errors

    def ask() -> Remote | None:
        try:
            info = api.model_info(repo)
        except errors.GatedRepoError:
            raise
        except errors.RepositoryNotFoundError:
            return None
        found = hub.listing(Pin(repo, info.sha), "model", ("*",))
        return Remote(bool(info.private), info.sha, {file.path: file for file in found})

    return retry(ask, repo, ADVICE)


def _create(api: "HfApi", repo: str) -> Remote:
    """A new private repository."""
    retry(lambda: api.create_repo(repo, private=True, exist_ok=True), repo, ADVICE)
    if (made := _remote(api, repo)) is None:
        raise OmrError(f"{repo}: was made and cannot be read; set HF_TOKEN to one that may read it")
    return made


def _same(file: HubFile, item: Item) -> bool:
    """Whether the bytes are the same; the hub lists a small file by its git blob hash."""
    if file.sha256:
        return file.sha256 == item.sha256
    data = item.source if isinstance(item.source, bytes) else item.source.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == file.blob


def _commit(
    api: "HfApi", publication: Publication, remote: Remote, todo: list[Item], gone: list[str]
) -> None:
    """Send what is missing, and make one commit of it all; it fails where another came between."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    repo = publication.repo
    progress = Progress(f"publishing {repo}", sum(item.size for item in todo))
    additions = [
        CommitOperationAdd(item.name, item.source if isinstance(item.source, bytes) else str(item.source))
        for item in todo
    ]
    try:
        for item, addition in zip(todo, additions, strict=True):
            what = f"{item.name} for {repo}"
            retry(lambda one=addition: api.preupload_lfs_files(repo, [one], free_memory=False), what, ADVICE)
            progress.add(item.size)
        operations = [*additions, *(CommitOperationDelete(name) for name in gone)]
        message = f"{publication.title}: {len(todo)} files, {human(publication.size)}"
        # No patience: an answer that was lost may be that of a commit that was made.
        retry(
            lambda: api.create_commit(repo, operations, commit_message=message, parent_commit=remote.commit),
            *(repo, ADVICE),
            tries=1,
        )
    except ValueError as error:  # the client's own, of a card or an answer that it does not understand
        raise OmrError(f"{repo}: {' '.join(str(error).split())}") from None
    finally:
        progress.close()


def _proved(api: "HfApi", publication: Publication) -> Remote:
    """The repository after the commit; an OmrError if it does not list every file as it is here."""
    remote = _remote(api, publication.repo)
    missing = [item.name for item in publication.items if not (remote and remote.has(item))]
    if remote is None or missing:
        raise OmrError(
            f"{publication.repo}: lists other bytes than were sent ({listing(missing[:3], 'and')});"
            " were files changed meanwhile? run again"
        )
    return remote
