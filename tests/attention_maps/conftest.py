"""The pipelines of the binding tests, on which maps are recorded as well."""

from tests.binding.conftest import latents, pipeline, sd15

__all__ = ["latents", "pipeline", "sd15"]
