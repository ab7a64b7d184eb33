"""Exports a decoder with optimum. Runs in optimum's own environment, by this file's path.

optimum-onnx 0.1.0 needs transformers < 4.58, the rest of afx-export 5.x, so the two never share a
process. Usage: python -I optimum_worker.py MODEL OUT. Imports nothing of afx_export.
"""

import json
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = "pip install 'agentflux-edge[optimum]' into an environment of its own"


def main() -> None:
    """Export the model folder that the command line names."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    check_environment()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for path in source.iterdir():
            if path.is_file() and path.name != "config.json":
                (copy / path.name).symlink_to(path.resolve())
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        (copy / "config.json").write_text(json.dumps(before_5(config)), encoding="utf-8")
        from optimum.exporters.onnx import main_export  # type: ignore[import-not-found]

        main_export(
            str(copy),
            str(out),
            task="text-generation-with-past",
            do_validation=False,
            no_post_process=True,
            local_files_only=True,
        )
    shutil.rmtree(out / "__pycache__", ignore_errors=True)


def check_environment() -> None:
    """Exit with status 3 and one line when this environment cannot export."""
    try:
        optimum, transformers = version("optimum-onnx"), version("transformers")
    except PackageNotFoundError as error:
        sys.exit(_refusal(f"it lacks {error.name}; {NEEDED}"))
    major, minor = (int(part) for part in transformers.split(".")[:2])
    if (major, minor) >= (4, 58):
        sys.exit(
            _refusal(
                f"it mixes optimum-onnx {optimum} with transformers {transformers}, which must be "
                f"older than 4.58 there; {NEEDED}"
            )
        )


def before_5(config: dict[str, object]) -> dict[str, object]:
    """Write RoPE parameters as transformers 4 reads them; it ignores the newer form silently."""
    parameters = config.get("rope_parameters")
    if not isinstance(parameters, dict) or "rope_type" not in parameters:
        return config
    old = {key: value for key, value in config.items() if key != "rope_parameters"}
    rest = dict(parameters)
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in rest:
            old[key] = rest.pop(key)
    if rest["rope_type"] != "default":
        old["rope_scaling"] = rest
    return old


def _refusal(message: str) -> int:
    sys.stderr.write(message + "\n")
    return 3


if __name__ == "__main__":
    main()
