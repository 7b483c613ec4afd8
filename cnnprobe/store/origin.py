"""What the results of a run come from, as one digest: it ties what lies beside a store to it.

Checkpoints, the state of a training and unfinished work are written before there are checksums of the whole run. Two
runs of the same network, images, options and seed have the same digest, whatever they are called and wherever they lie:
what one of them has written is what the other would have.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError
from cnnprobe.store.reader import Recording

ATTRIBUTE = "origin"
"""Of the root of a store, and the name under which it stands in what lies beside it."""
ELSEWHERE = ("name", "out", "device", "weights")
"""Parts of a configuration that say where and how a run was made; its weights have a digest of their own."""
PLACED = ("weights", "config", ATTRIBUTE)
"""Attributes that hold such parts, and the digest itself."""


def origin_of(attributes: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the digest.

    Args:
        attributes: of the root of the store.
        config: of the run.
    """
    own = {name: value for name, value in attributes.items() if name not in PLACED}
    own["config"] = {name: value for name, value in config.items() if name not in ELSEWHERE}
    return hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()


def recorded(store: Path) -> str | None:
    """Return the digest that a store has; None where there is none, or no store that can be read."""
    try:
        found = Recording(store).attributes.get(ATTRIBUTE) if store.is_file() else None
    except UserError:
        return None
    return found if isinstance(found, str) else None
