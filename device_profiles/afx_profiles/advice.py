"""Which profiles this machine can serve, and the command that mends what is missing."""

import sys
from dataclasses import dataclass
from typing import Literal

from afx_profiles.loader import list_profiles, load_profile
from afx_profiles.machine import FAMILIES, Machine
from afx_profiles.model import Profile

State = Literal["ready", "conflict", "package missing", "broken", "no device", "other system"]

# ONNX Runtime GenAI's names of providers, and ONNX Runtime's.
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "dml": "DmlExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nvtensorrtrtx": "NvTensorRTRTXExecutionProvider",
}
# Published for Windows only.
_WINDOWS_ONLY = ("onnxruntime-genai-winml", "onnxruntime-genai-directml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileState:
    """One profile on this machine. `mend` is a command for a shell; "" when nothing helps."""

    profile: str
    provider: str
    extra: str
    state: State
    why: str
    mend: str = ""


def profile_states(machine: Machine) -> tuple[ProfileState, ...]:
    """Judge every shipped profile."""
    return tuple(judge(load_profile(name), machine) for name in list_profiles())


def judge(profile: Profile, machine: Machine) -> ProfileState:
    """Say whether this machine can serve bundles of a profile, and what it lacks."""
    state, why, mend = _judge(profile, machine)
    return ProfileState(
        profile=profile.name,
        provider=profile.provider,
        extra=profile.extra,
        state=state,
        why=why,
        mend=mend,
    )


def _judge(profile: Profile, machine: Machine) -> tuple[State, str, str]:
    names = {package.name for package in machine.packages}
    if sys.platform != "win32" and any(p in _WINDOWS_ONLY for p in profile.packages):
        return "other system", "its runtime is published for Windows only", ""
    mend = mend_command(profile, machine)
    if machine.conflicts:
        group = " and ".join(machine.conflicts[0])
        return "conflict", f"{group} overwrite each other's files", mend
    if missing := [package for package in profile.packages if package not in names]:
        return "package missing", f"{', '.join(missing)} is not installed", mend
    if foreign := _foreign(profile, names):
        return "conflict", f"{', '.join(foreign)} belongs to another profile", mend
    if machine.devices_error and not machine.devices:
        return (
            "broken",
            machine.devices_error,
            f"pip install --force-reinstall {' '.join(sorted(names))}",
        )
    wanted = ep_name(profile.provider)
    if wanted.lower() not in {device.provider.lower() for device in machine.devices}:
        return "no device", f"{wanted} found no device here", ""
    return "ready", "", ""


def ep_name(provider: str) -> str:
    """Return ONNX Runtime's name of a provider that ONNX Runtime GenAI names shortly."""
    return _PROVIDERS.get(provider.lower(), provider)


def mend_command(profile: Profile, machine: Machine) -> str:
    """Return the command that makes this environment serve a profile.

    Packages that own the same files are all removed first: removing only one of two would take
    files of the other with it.
    """
    names = {package.name for package in machine.packages}
    broken = {name for group in machine.conflicts for name in group}
    remove = sorted(broken | set(_foreign(profile, names)))
    install = f"pip install 'agentflux-edge[{profile.extra}]'"
    return f"pip uninstall -y {' '.join(remove)} && {install}" if remove else install


def _foreign(profile: Profile, names: set[str]) -> list[str]:
    """List installed packages that must not stand beside the profile's own."""
    own = set(profile.packages)
    foreign: list[str] = []
    for family in FAMILIES.values():
        # onnxruntime itself comes with every onnxruntime-genai that names no other build of it.
        wanted = [name for name in family if name in own] or ["onnxruntime"]
        foreign += [name for name in family if name in names and name not in wanted]
    return foreign
