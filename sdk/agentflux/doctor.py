"""`afx doctor`: what this machine can run, proved by running it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from afx_profiles.advice import ProfileState, profile_states
from afx_profiles.machine import Machine, read_machine
from agentflux.contracts.bundle import MANIFEST, read_manifest
from agentflux.contracts.cache import cache_folder
from agentflux.errors import BundleError

_TRIAL_SECONDS = 300
_TINY = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A profile's micro-run: figures, or the error. `bundle` None: nothing to run was at hand."""

    bundle: str | None
    error: str = ""
    load_ms: float | None = None
    decode_ms_per_token: float | None = None
    switched: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that `afx doctor` found. asked: the profile of the bundle that was given."""

    machine: Machine
    profiles: tuple[ProfileState, ...]
    trials: dict[str, Tried]
    asked: str = ""

    @property
    def healthy(self) -> bool:
        """Whether no packages conflict, and some profile ran; that of a given bundle, if any."""
        asked = [self.trials[self.asked]] if self.asked else self.trials.values()
        ran = any(trial.bundle and not trial.error for trial in asked)
        return ran and not self.machine.conflicts

    def to_json(self) -> str:
        """Serialize for programs."""
        data = {
            "healthy": self.healthy,
            "machine": asdict(self.machine),
            "profiles": [
                {
                    **asdict(state),
                    "trial": asdict(self.trials[state.profile])
                    if state.profile in self.trials
                    else None,
                }
                for state in self.profiles
            ],
            "asked": asdict(self.trials[self.asked]) if self.asked else None,
        }
        return json.dumps(data, indent=2)


def diagnose(bundle: Path | None = None) -> Diagnosis:
    """Look at the machine and run what it can serve.

    bundle: run this one, whatever its profile; for the others a bundle of the cache folder, or for
    CPU profiles the tiny model that ships with the package.

    Raises:
        BundleError: the given bundle's manifest cannot be read.
    """
    machine = read_machine()
    states = profile_states(machine)
    bundles = dict(_cached_bundles())
    targets = {s.profile: _target(s, bundles) for s in states if s.state == "ready"}
    asked = read_manifest(bundle).runtime.profile if bundle is not None else ""
    if asked:
        targets[asked] = str(bundle)
    tried = {target: _try(target) for target in sorted(set(targets.values()))}
    return Diagnosis(
        machine=machine,
        profiles=states,
        trials={profile: tried[target] for profile, target in targets.items()},
        asked=asked,
    )


def _cached_bundles() -> Iterable[tuple[str, Path]]:
    """Return bundles of the cache folder by profile, the newest last."""
    found = (cache_folder() / "bundles").glob(f"*/{MANIFEST}")
    for path in sorted(found, key=lambda path: path.stat().st_mtime):
        try:
            yield read_manifest(path.parent).runtime.profile, path.parent
        except BundleError:
            continue


def _target(state: ProfileState, bundles: dict[str, Path]) -> str:
    """Choose what to run for a profile; "" when nothing is at hand."""
    return str(bundles.get(state.profile, _TINY if state.provider == "cpu" else ""))


def _try(target: str) -> Tried:
    """Run a bundle in a process of its own: a crash is an answer."""
    if not target:
        return Tried(bundle=None)
    command = [sys.executable, "-P", "-m", "agentflux.engines.trial", target]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Tried(bundle=target, error=f"no answer within {_TRIAL_SECONDS} s")
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Tried(bundle=target, error=f"the runtime crashed (status {done.returncode})")
    if answer["error"]:
        return Tried(bundle=target, error=answer["error"])
    trial = answer["trial"]
    return Tried(
        bundle=target,
        load_ms=trial["load_ms"],
        decode_ms_per_token=trial["decode_ms_per_token"],
        switched=trial["switched"],
    )


def render(diagnosis: Diagnosis) -> str:
    """Write a diagnosis for a person."""
    machine = diagnosis.machine
    gigabytes = f"{machine.available_bytes / 1e9:.1f} of {machine.memory_bytes / 1e9:.1f} GB free"
    packages = ", ".join(f"{p.name} {p.version}" for p in machine.packages) or "none"
    devices = ", ".join(f"{d.provider} ({d.kind})" for d in machine.devices)
    lines = [
        f"system     {machine.system}, Python {machine.python}, {machine.cores} cores",
        f"memory     {gigabytes}",
        f"packages   {packages}",
        f"devices    {devices or 'none'}",
    ]
    if machine.devices_error:
        lines.append(f"ERROR      {machine.devices_error}")
    if machine.nvidia:
        lines.append("hardware   an NVIDIA driver is loaded")
    lines += [f"CONFLICT   {' and '.join(group)}" for group in machine.conflicts]
    lines += ["", *(_profile_line(state, diagnosis) for state in diagnosis.profiles)]
    if diagnosis.asked not in {"", *(state.profile for state in diagnosis.profiles)}:
        lines.append(f"{diagnosis.asked:<16} {_trial_words(diagnosis.trials[diagnosis.asked])}")
    return "\n".join(lines) + "\n"


def _profile_line(state: ProfileState, diagnosis: Diagnosis) -> str:
    trial = diagnosis.trials.get(state.profile)
    said = f"{state.state}: {state.why}" if state.why else state.state
    if trial is not None:
        said = _trial_words(trial)
    mend = f"\n{'':17}{state.mend}" if state.mend else ""
    return f"{state.profile:<16} {said}{mend}"


def _trial_words(trial: Tried) -> str:
    if trial.bundle is None:
        return "ready, not tried: give a bundle of this profile (afx doctor BUNDLE)"
    name = "the tiny test model" if trial.bundle == _TINY else Path(trial.bundle).name
    if trial.error:
        return f"FAILED with {name}: {trial.error}"
    switch = "adapter switched and back" if trial.switched else "no adapter to switch"
    return (
        f"works: {name} loaded in {trial.load_ms:.0f} ms, "
        f"{trial.decode_ms_per_token:.1f} ms a token, {switch}"
    )
