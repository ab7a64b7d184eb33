"""Device profiles: what a kind of device needs of a bundle, one commented TOML file each."""

from afx_profiles.loader import ProfileError, list_profiles, load_profile
from afx_profiles.model import AdapterMode, Builder, Precision, Profile, Quantization, Session
from afx_profiles.table import describe_profiles

__all__ = [
    "AdapterMode",
    "Builder",
    "Precision",
    "Profile",
    "ProfileError",
    "Quantization",
    "Session",
    "describe_profiles",
    "list_profiles",
    "load_profile",
]
