"""Where AUTOMATIC1111 and Forge find the suite: they load each file in scripts/, and look for a Script in it."""

from modules import scripts

if hasattr(scripts.Script, "process_before_every_sampling"):
    from a1111_extension import script
    from a1111_extension.register import register

    class ToMe(script.ToMeScript):
        """The class of this load, as the host wants it."""

    register()
else:
    print("ToMe: this webui is not supported. Supported are AUTOMATIC1111 1.10, Forge, reForge and Forge Neo.")
