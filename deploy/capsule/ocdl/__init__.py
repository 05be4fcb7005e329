"""What a job's own code needs of the platform: where its inputs, outputs and parameters are, and how to tell progress.

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
    """The path of the input with this name; it may not exist when the input is an optional one."""
    return _folder("OCDL_INPUTS") / checked_path(name)


def outputs(name: str) -> Path:
    """The path at which the job leaves the output with this name."""
    return _folder("OCDL_OUTPUTS") / checked_name(name)


def parameters() -> dict[str, Any]:
    """The job's parameters, `seed` among them; none where the job was started without."""
    path = os.environ.get("OCDL_PARAMETERS")
    if path is None:
        return {}
    value = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path}: parameters are a JSON object, not {type(value).__name__}")
    return value


def progress(done: int, total: int, message: str = "") -> None:
    """Tells the platform how far the job is: one line on standard output, shown in the console."""
    line = json.dumps({"done": done, "total": total, "message": message}, separators=(",", ":"))
    print(f"::progress {line}", flush=True)


def _folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if path is None:
        raise RuntimeError(f"{variable} is not set: this code runs inside a job, which sets it to a folder")
    return Path(path)
