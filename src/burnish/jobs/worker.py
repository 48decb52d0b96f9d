"""A plan, opened again from the folder of its job by another process, maybe elsewhere."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import read_json
from burnish.jobs.job import PLAN
from burnish.jobs.options import IN_PYTHON
from burnish.jobs.plan import Plan
from burnish.refinement.settings import RefineSettings
from burnish.schema import read


def open_plan(folder: Path) -> Plan:
    """Return the plan of a job, ready to make its shards.

    Relative paths are those of the process that began the job.

    Args:
        folder: Of the job.

    Raises:
        InputError: Something that the plan needs is not here, or has changed.
    """
    values = read_json(folder / PLAN)
    os.chdir(str(values.get("cwd", ".")))
    kinds = {"refine": _refine, "sample": _sample, "evaluate": _evaluate}
    try:
        plan = kinds[values["kind"]](values, Path(values["out"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / PLAN} is damaged ({error}); --restart begins anew") from error
    return plan.adopt(values, folder)


def _refine(values: dict[str, Any], out: Path) -> Plan:
    from burnish.jobs.refine import plan_refine

    settings = read(RefineSettings, values["settings"], "settings")
    plan = plan_refine(
        values["input"], values["guide"], out, settings=settings, tile=values["tile"],
        padding=values["padding"], flat=values["flat"],
        labels=values["own_labels"] or values["labels"],
        device=values["device"], refiner=values.get("refiner"), job=IN_PYTHON,
        **{name: None if (text := values.get(name)) is None else Path(text)
           for name in ("prompts", "captions")}, template=values.get("template"),
    )  # fmt: skip
    return dataclasses.replace(plan, choice=values.get("choice"))


def _sample(values: dict[str, Any], out: Path) -> Plan:
    from burnish.jobs.sample import plan_sample

    names = ("num_steps", "solver", "label", "batch_size", "device", "flat", "timesteps",
             "num_train_timesteps", "truncation", "precision", "family", "labels")  # fmt: skip
    return plan_sample(
        values["generator"], values["seeds"], out, job=IN_PYTHON,
        **{name: values[name] for name in names if name in values},
    )  # fmt: skip


def _evaluate(values: dict[str, Any], out: Path) -> Plan:
    from burnish.jobs.evaluate import plan_evaluate

    names = ("protocol", "num_neighbors", "seed", "batch_size", "device", "tile", "padding",
             "validation", "cache")  # fmt: skip
    return plan_evaluate(
        values["generated"], values["reference"], values["features"], out=out, job=IN_PYTHON,
        fid_infinity=values.get("extrapolate", False),
        **{name: values[name] for name in names if name in values},
    )  # fmt: skip
