"""Device profiles: what a kind of device needs of a bundle, one commented TOML file each."""

from afx_profiles.loader import ProfileError, list_profiles, load_profile
from afx_profiles.model import AdapterMode, Builder, Precision, Profile, Quantization, Session

__all__ = [
    "AdapterMode",
    "Builder",
    "Precision",
    "Profile",
    "ProfileError",
    "Quantization",
    "Session",
    "list_profiles",
    "load_profile",
]
