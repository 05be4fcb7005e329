"""The platform's API for code inside a job: paths of inputs and outputs, parameters, and progress reports.

    import ocdl

    table = ocdl.inputs("train.npz")          # a path below the read-only folder of inputs
    seed = ocdl.parameters().get("seed", 0)
    ocdl.progress(1, 3, "fitting")
    ocdl.outputs("model.onnx").write_bytes(model)
"""

import json
import os
from pathlib import Path
from typing import Any

from ocdl.names import checked_name, checked_path

__all__ = ["inputs", "outputs", "parameters", "progress"]


def inputs(name: str) -> Path:
    """The path of the input with this name; an optional input may not exist."""
    return _folder("OCDL_INPUTS") / checked_path(name)


def outputs(name: str) -> Path:
    """The path to which the job writes the output with this name."""
    return _folder("OCDL_OUTPUTS") / checked_name(name)


def parameters() -> dict[str, Any]:
    """The job's parameters, including `seed`; empty if the job was started without any."""
    path = os.environ.get("OCDL_PARAMETERS")
    if path is None:
        return {}
    value = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path}: parameters must be a JSON object, not {type(value).__name__}")
    return value


def progress(done: int, total: int, message: str = "") -> None:
    """Reports progress to the platform: prints one line on standard output, which the console shows."""
    line = json.dumps({"done": done, "total": total, "message": message}, separators=(",", ":"))
    print(f"::progress {line}", flush=True)


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if path is None:
        raise RuntimeError(f"{variable} is not set: run this code inside a job, or set it to a folder")
    return Path(path)
