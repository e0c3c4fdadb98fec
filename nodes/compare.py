"""ToMe Compare: how much two images differ, in a picture and in two figures."""

from typing import Any

from comfy_api.latest import io, ui

from ..tome_core.metrics import compare_pictures
from .node_text import text_output
from .schema import CATEGORY, schema


class ToMeCompare(io.ComfyNode):
    """Gives the difference picture of two images, PSNR and SSIM."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return schema(
            node_id="ToMeCompare",
            display_name="ToMe Compare",
            category=CATEGORY,
            search_aliases=["image difference", "compare images", "PSNR", "SSIM", "A/B", "quality"],
            description=(
                "Shows where two images differ and how much: PSNR in dB and SSIM, higher is closer. Below about 20 dB "
                "whole objects have moved; equal images give infinity and 1."
            ),
            inputs=[
                io.Image.Input("image_a", tooltip="The image to judge, such as one made with token merging."),
                io.Image.Input("image_b", tooltip="The image it should be like, such as one made without."),
                io.Float.Input(
                    "gain",
                    default=4.0,
                    min=1.0,
                    max=50.0,
                    step=1.0,
                    tooltip="How much brighter than the true difference the difference picture is.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="difference", tooltip="Where the images differ; black where they do not."),
                io.Float.Output(display_name="psnr", tooltip="Peak signal-to-noise ratio in dB, mean of the batch."),
                io.Float.Output(display_name="ssim", tooltip="Structural similarity, 1 at most, mean of the batch."),
                io.String.Output(display_name="report", tooltip="Both figures in a sentence, for each image."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image_a: Any, image_b: Any, gain: float) -> io.NodeOutput:
        """Compare the images; two that cannot be compared stop what hangs on this node alone, and it says why."""
        node_id = cls.hidden.unique_id
        try:
            found = compare_pictures(image_a, image_b, gain=gain)
        except ValueError as problem:
            shown = {"images": (), "animated": (False,)} | text_output(node_id, f"Not compared: {problem}")
            nothing = (None,) * len(cls.define_schema().outputs)  # the host blocks outputs that are there alone
            return io.NodeOutput(*nothing, block_execution=f"ToMe Compare: {problem}", ui=shown)
        shown = ui.PreviewImage(found.difference, cls=cls).as_dict() | text_output(node_id, str(found))
        return io.NodeOutput(found.difference, found.mean_psnr, found.mean_ssim, str(found), ui=shown)
