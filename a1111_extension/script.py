"""The always-visible script: the host's calls around a job, each of which may fail without costing the picture."""

import importlib.util
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Final

from modules import scripts

from . import infotext
from .choice import read_choice
from .fields import FIELDS
from .job import Job
from .tab import REPORTS
from .ui import Accordion

IS_FORGE: Final = importlib.util.find_spec("modules_forge") is not None
if IS_FORGE:
    from .forge import PatcherSpeed as HostSpeed
    from .forge import clear, family
else:
    from .webui import ModuleSpeed as HostSpeed
    from .webui import clear, family

TITLE: Final = "ToMe"  # by which the API calls the script
AXES: Final = "tome_axes"  # of a job: values that an XYZ grid sets, by the name of a widget
_JOB: Final = "tome_job"


def harmless(act: Callable[..., None]) -> Callable[..., None]:
    """Return a call of the host that cannot fail: what goes wrong ends ToMe for the job, and is said in one line."""

    @wraps(act)
    def call(self: "ToMeScript", p: Any, *args: Any, **kwargs: Any) -> None:
        try:
            act(self, p, *args, **kwargs)
        except Exception as error:
            give_up(p, error)

    return call


class ToMeScript(scripts.Script):
    """Speed and binding behind one checkbox. What a job does is kept on the job."""

    def __init__(self) -> None:
        super().__init__()
        self._prompt: Any = None

    def title(self) -> str:
        """Return the name by which the host and its API know the script."""
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        """Return that the script is always there."""
        return scripts.AlwaysVisible

    def after_component(self, component: Any, **named: Any) -> None:
        """Keep the component of the prompt, which is shown before the scripts."""
        if named.get("elem_id") in ("txt2img_prompt", "img2img_prompt"):
            self._prompt = component

    def ui(self, is_img2img: bool) -> list[Any]:
        """Return the widgets in the order of the API's arguments."""
        tab = "img2img" if is_img2img else "txt2img"
        accordion = Accordion(self.elem_id, tab, self._prompt, family)
        pairs = list(zip(accordion.components, FIELDS, strict=True))
        self.infotext_fields = [(component, infotext.reader(field)) for component, field in pairs]
        self.paste_field_names = [reader for _, reader in self.infotext_fields]  # by which "Send to" finds them
        return accordion.components

    @harmless
    def process(self, p: Any, *args: Any) -> None:
        """Read what the job is to do, before anything is encoded; clear what a failed one has left."""
        clear()
        setattr(p, _JOB, None)
        choice, written = None, dict[str, Any]()
        try:
            choice = read_choice(args, getattr(p, AXES, {}))
        except ValueError as mistake:
            say(p, f"Nothing done: {mistake}.")
        if choice is not None:
            setattr(p, _JOB, Job(p, choice, HostSpeed()))
            written = infotext.write(choice, has_hires=bool(getattr(p, "enable_hr", False)), family=family())
        p.extra_generation_params = rewritten(p, lambda own: written)  # a new one: the cells of a grid share theirs

    @harmless
    def process_batch(self, p: Any, *args: Any, **named: Any) -> None:
        """Take our marks out of the prompts; after this the host encodes them."""
        job = job_of(p)
        if job is not None:
            job.before_encoding(p)

    @harmless
    def process_before_every_sampling(self, p: Any, *args: Any, **named: Any) -> None:
        """Patch the model for a pass."""
        job = job_of(p)
        if job is not None:
            job.start_pass(p, named.get("c"))

    @harmless
    def post_sample(self, p: Any, *args: Any) -> None:
        """Take the patches off and say what they did."""
        job = job_of(p)
        if job is not None:
            say(p, *job.end_passes(p))
            effects = partial(infotext.only_effects, has_merged=job.has_merged, has_bound=job.has_bound)
            p.extra_generation_params = rewritten(p, effects)

    @harmless
    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        """Keep a picture, over which maps are laid."""
        job = job_of(p)
        if job is not None:
            job.add_picture(pp.image)

    @harmless
    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """Add the sheets to the gallery."""
        job = job_of(p)
        if job is not None:
            for number, sheet in job.take_sheets():
                processed.images.append(sheet)
                processed.infotexts.append(processed.infotexts[processed.index_of_first_image + number])
            notes = job.new_notes()
            say(p, *notes)
            processed.comments += "".join(f"\nToMe: {note}" for note in notes)
            setattr(p, _JOB, None)


def before_step(params: Any) -> None:
    """Act before a step of a job, as the host's `on_cfg_denoiser` callback."""
    p = params.denoiser.p
    job = job_of(p)
    if job is None:
        return
    try:
        job.step(params)
    except Exception as error:
        give_up(p, error)


def job_of(p: Any) -> Job | None:
    """Return what ToMe does in a job; None where it is off, and for a copy of a job."""
    job = getattr(p, _JOB, None)
    return job if job is not None and job.belongs_to(p) else None


def rewritten(p: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return what the text of a job's pictures says, with our part of it changed."""
    own = {key: value for key, value in p.extra_generation_params.items() if key in infotext.KEYS}
    others = {key: value for key, value in p.extra_generation_params.items() if key not in own}
    return others | change(own)


def give_up(p: Any, error: Exception) -> None:
    """End ToMe for a job, which goes on as if it were off, and say why."""
    job = job_of(p)
    setattr(p, _JOB, None)
    try:
        if job is not None:
            job.abort(p)
            p.extra_generation_params = rewritten(p, lambda own: {})
    finally:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(p, f"gave up, and the rest of the job runs without it. {reason} ({where.name})")


def say(p: Any, *sentences: str) -> None:
    """Say sentences in the console, below the picture, and in the tab."""
    for sentence in sentences:
        p.comment(f"ToMe: {sentence}")
    if sentences:
        REPORTS.append(sentences)
    for sentence in sentences:
        with suppress(OSError, ValueError):  # a console that lacks its letters, or is gone
            print(f"ToMe: {sentence}")
