"""ToMe Demo Model: something to try the suite with before any checkpoint is there."""

from comfy_api.latest import io

from .schema import CATEGORY, schema


class ToMeDemoModel(io.ComfyNode):
    """Gives the embedded model's MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeDemoModel",
            display_name="ToMe Demo Model",
            category=CATEGORY,
            search_aliases=["token merging demo", "test model", "tiny model", "no checkpoint", "sample model"],
            description=(
                "A small model that comes with tome-suite, to try it without a checkpoint. It draws one or two of: "
                "circle, square, triangle, cross, star, in red, yellow, green, blue, purple or black. 256 x 256 "
                "pixels, 20 steps or more, cfg 3, sampler dpmpp_2m_sde, scheduler normal."
            ),
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The denoiser, of Stable Diffusion 1.5's form."),
                io.Clip.Output(display_name="clip", tooltip="The text encoder, for CLIP Text Encode."),
                io.Vae.Output(display_name="vae", tooltip="The autoencoder, for VAE Decode."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        """Load the three parts."""
        from .demo_model import load_demo_model

        return io.NodeOutput(*load_demo_model())
