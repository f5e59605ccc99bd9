"""A cache of checkpoints that failed to load, so that none is loaded again and again in vain."""

import errno
import pickle
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.embedding.checkpoint_files import REMEDY, amount, fp32_bytes
from shared.embedding.checkpoints import files_of
from shared.embedding.towers import is_out_of_memory
from shared.errors import ConfigError, ImageSearchError, ItemError, ModelUnavailable, Unavailable

REFUSAL_TTL_SECONDS = 600.0
# The error numbers of a file that is missing or not this user's: they last until the files change.
_LASTING = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP)

_MOST_OF_A_REASON = 240  # characters
_SMALLER = "take a smaller model, such as openai/clip-vit-base-patch32"

_refused: dict[tuple[str, ...], tuple[str, object, float]] = {}


@contextmanager
def caching_failures(model: str, *how: str) -> Iterator[None]:
    """Run a block that loads or tries a checkpoint; whatever it raises becomes ModelUnavailable.

    A failure that is not `passing` is raised again, without running the block, until the checkpoint's files
    change or REFUSAL_TTL_SECONDS have passed. A ConfigError of another kind is raised as it is.
    """
    detail, files, until = _refused.get((model, *how), ("", None, 0.0))
    if time.monotonic() < until and files == files_of(model):
        raise ModelUnavailable(detail)
    try:
        yield
    except Exception as error:  # safetensors, pickle, json, torch and transformers each raise their own
        refusal = _refusal(model, error)
        if not (isinstance(refusal, ModelUnavailable) and refusal.passing):
            _refused[model, *how] = (refusal.detail, files_of(model), time.monotonic() + REFUSAL_TTL_SECONDS)
        if refusal is error:
            raise
        raise refusal from error


def check_memory(model: str, folder: Path) -> None:
    """Raise ModelUnavailable for weights that cannot fit into the memory, all of it, of this machine.

    They are read in fp32, whatever they are computed in. What is free just now is not asked: it changes.
    """
    needed, most = fp32_bytes(folder), most_memory()
    if most is not None and needed > most:
        raise ModelUnavailable(
            f"The model {model} cannot be loaded: its weights take {amount(needed)} of memory, and this "
            f"machine or container has {amount(most)}; {_SMALLER}."
        )


def most_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory and swap that this process can have at most; None where nothing says so.

    That is the machine's, or what a control group (of a container, or of a systemd unit) leaves of it.
    """
    with suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        sizes = {
            name: 1024 * int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)
        }
        swap = sizes.get("SwapTotal", 0)
        limits = [limit + swap for limit in _group_limits(root)]
        return min([sizes["MemTotal"] + swap, *limits])
    return None


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limits of this process's control groups and of all that these are in, of both versions."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        group = top / path.lstrip("/")
        for folder in (top, group, *group.parents):  # the group may be out of sight, but top is in sight
            for name in ("memory.max", "memory.limit_in_bytes"):
                with suppress(OSError, ValueError):  # "max" is no number
                    yield int((folder / name).read_text())


def _refusal(model: str, error: Exception) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    if isinstance(error, ItemError):
        return ModelUnavailable(
            f"The model {model} cannot be used: its vectors are not finite, even of a plain picture and a "
            f"short text; set IMAGE_SEARCH_PRECISION to fp32, or {REMEDY}."
        )
    if isinstance(error, ImageSearchError):
        return ModelUnavailable(error.detail, passing=isinstance(error, Unavailable))
    if is_out_of_memory(error):
        whose = "the GPU" if re.search("cuda|gpu|hip|mps", str(error), re.IGNORECASE) else "this machine"
        return ModelUnavailable(
            f"The model {model} cannot be loaded: the memory that {whose} has free does not suffice; it is "
            f"tried again, but free some, or {_SMALLER}.",
            passing=True,
        )
    reason = _reason(error)
    # A GPU that others use up says "CUDA error", too.
    passing = "CUDA error" in reason or (isinstance(error, OSError) and error.errno not in _LASTING)
    remedy = "it is tried again" if passing else f"repair its files, or {REMEDY}"
    return ModelUnavailable(f"The model {model} cannot be loaded: {reason}; {remedy}.", passing=passing)


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's own advice is to run what the file holds
        return (
            "its pytorch_model.bin is damaged, or holds more than the plain tensors that are read of a pickle"
        )
    first, _, rest = str(error).strip().partition("\n")
    if first.endswith(":"):
        first += " " + rest.strip().partition("\n")[0]
    reason = first[:_MOST_OF_A_REASON].rstrip(".") or type(error).__name__
    if isinstance(error, (OSError, ValueError, RuntimeError)):
        return reason
    return f"what its files say makes no sense ({type(error).__name__}: {reason})"
