"""Models of other libraries: read into this one's form and written in theirs."""

from diffusion.interop.folder import Imported, from_diffusers, to_diffusers

__all__ = ["Imported", "from_diffusers", "to_diffusers"]
