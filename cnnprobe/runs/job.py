"""One run to do, as the command line requests it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Job:
    """One run to do.

    Args:
        command: e.g. "topk".
        config: checked, see `config.schema.checked`.
        words: the overrides as typed.
        resume: folder of a stopped run to go on with.
        sweep: name of the sweep it belongs to.
        device: options of the block device to compute with; None: those of `config`.
        rerun: folder of a run that is done once more.
        home: working directory to do it in, see `store.run_json.home`; None: this one.
        places: folders in which runs that a resumed run reads are looked for as well, by what they hold.
    """

    command: str
    config: dict[str, Any]
    words: tuple[str, ...] = ()
    resume: Path | None = None
    sweep: str | None = None
    device: dict[str, Any] | None = None
    rerun: Path | None = None
    home: Path | None = None
    places: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run's folder: as given, else <model>-<dataset>."""
        return self.config["name"] or f"{self.config['model']['name']}-{self.config['dataset']['name']}"


def as_yaml(config: dict[str, Any]) -> str:
    """Write a configuration as YAML, keys in their own order."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=10**6)
