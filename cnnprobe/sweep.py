"""A sweep: every combination of the values given, one run each, and one table of them all.

Hydra expands the combinations and, with `hydra/launcher=joblib` or `submitit_slurm`, spreads them.
Each job is a run folder of its own and leaves a line in the sweep's folder; the parent joins the lines.
"""

import csv
import io
import json
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from cnnprobe import catalogue, compose, drawing, files, run, runs, terminal
from cnnprobe.errors import UserError

if TYPE_CHECKING:
    from cnnprobe.cli import Request


def main(request: "Request") -> int:
    """Run a sweep and return the worst exit status of its jobs."""
    words = compose.overrides(request)
    first = run.Job(request.command, compose.first_job(request))
    try:
        folder = files.claim(Path(first.config["out"]) / request.command / first.name, "sweep-")
    except OSError as error:
        raise runs.unwritable(Path(first.config["out"]), error) from None
    (folder / "jobs").mkdir()
    settings = [
        "hydra.output_subdir=null",
        "hydra.run.dir=.",
        "hydra.sweep.subdir=.",
        f"hydra.sweep.dir='{folder.resolve()}'",
        "hydra.job.chdir=false",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
        f"+sweep='{folder.resolve()}'",
    ]
    extra = [f"hydra.searchpath=[{','.join(f'file://{path.resolve()}' for path in request.config_dirs)}]"]
    before = sys.argv
    sys.argv = ["cnnprobe", "--multirun", *settings, *(extra if request.config_dirs else []), *words]
    stopped = 0
    try:
        hydra.main(version_base="1.3", config_path=str(catalogue.configs_dir()), config_name="config")(task)()
    except SystemExit as end:  # a signal came: the jobs behind this one are not begun
        stopped = int(end.code or 0)
    finally:
        sys.argv = before
    status = summary(folder)
    figures(folder, request.command)
    return max(stopped, status)


def task(config: DictConfig) -> str:
    """Do one job of a sweep, in whatever process it was launched; never raises for a failed job."""
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    folder = Path(plain.pop("sweep"))
    number = HydraConfig.get().job.num
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith(("+sweep=", "method="))]
    command = catalogue.command_name(plain["method"]["name"])
    line: dict[str, Any] = {"job": number, "overrides": words, "status": "failed", "version": "", "reason": ""}
    try:
        job = run.Job(command, compose.checked(plain, command), tuple(words), sweep=folder.name)
        job.explicit_model = any(word.startswith("model=") for word in words)
        status, where = run.execute(job)
        about = runs.info(where)
        line |= {"status": about["status"], "version": runs.short(where, job.config["out"]), "folder": str(where)}
        line["headline"] = about.get("headline", {})
        if status:
            files.write_json(folder / "jobs" / f"{number}.json", line)
            raise SystemExit(status)
    except UserError as error:
        line["reason"] = str(error)
        terminal.say(f"cnnprobe {command}: job {number}: {error}", stream=sys.stderr)
    except Exception as error:
        line |= {"reason": f"{type(error).__name__}: {error}", "bug": True}
        traceback.print_exc()
    files.write_json(folder / "jobs" / f"{number}.json", line)
    return line["version"]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Return what the jobs of a sweep have left, in their order."""
    lines = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "jobs").glob("*.json")]
    return sorted(lines, key=lambda line: line["job"])


def figures(folder: Path, command: str) -> int:
    """Draw what a method has to say of all runs of a sweep together, into `figures`; return how many there are."""
    done = [line for line in lines_of(folder) if line["status"] == "complete" and line.get("folder")]
    overrides = [line["overrides"] for line in done]
    return drawing.compare(command, [Path(line["folder"]) for line in done], overrides, folder / "figures")


def summary(folder: Path) -> int:
    """Join the jobs' lines into `runs.csv` and a table on the terminal; return the exit status.

    Raises:
        UserError: the sweep had no jobs.
    """
    lines = lines_of(folder)
    if not lines:
        raise UserError("the sweep has no jobs: a list of values is empty")
    figures = list(dict.fromkeys(key for line in lines for key in line.get("headline", {})))
    columns = ["job", "overrides", "version", "status", *figures, "reason"]
    rows = []
    for line in lines:
        values = {key: line.get("headline", {}).get(key, "") for key in figures}
        own = {key: line[key] for key in ("job", "version", "status", "reason")}
        rows.append(own | values | {"overrides": " ".join(line["overrides"])})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_safe(row[column]) for column in columns] for row in rows)
    files.write(folder / "runs.csv", text.getvalue().encode())
    done = sum(line["status"] == "complete" for line in lines)
    shown = [column for column in columns if any(row[column] != "" for row in rows)]
    terminal.table({column: [_cell(row[column]) for row in rows] for column in shown})
    terminal.say(f"sweep: {done} of {len(lines)} jobs done")
    terminal.say(str(folder))
    if any(line.get("bug") for line in lines):
        return 1
    return 0 if done == len(lines) else 2


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _safe(value: Any) -> Any:
    """Keep a spreadsheet from reading a text as a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
