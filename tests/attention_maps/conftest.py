"""The pipelines of the binding tests, on which maps are recorded as well."""

from tests.binding.conftest import _pipelines, latents, pipeline, sd15

__all__ = ["_pipelines", "latents", "pipeline", "sd15"]
