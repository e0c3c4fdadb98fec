"""The accordion, built from the fields: gradio 3 (A1111) and gradio 4 (Forge) alike."""

import re
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr
from modules import shared
from modules.ui_components import FormRow, InputAccordion

from tome_core.binding import BindingConfig, phrases
from tome_core.presets import read_preset, save_preset
from tome_core.settings import Choice as Words
from tome_core.settings import Choices, Number, Switch, Whole, accepted_choices
from tome_core.speed import SpeedConfig

from .choice import Choice, default_values
from .fields import BINDING_KNOBS, BY_NAME, CUSTOM, FIELDS, SPEED_KNOBS, Field, PresetWord, Text, read_values, shown

_CONFIGS: dict[str, type] = {"speed": SpeedConfig, "binding": BindingConfig}
_KNOBS = {"speed": SPEED_KNOBS, "binding": BINDING_KNOBS}
_PRESET_WIDGETS = ("speed_preset", "hires_preset", "binding_preset")
_MOST_ON_A_SLIDER = 64
_CUSTOM_HELP = "The settings below, under “every setting”."
_UNSET = "not set"
_SCHEDULE = re.compile(r"\[[^\[\]]*[:|][^\[\]]*\]")
_SCHEDULES = " the words of each part of a schedule, as its steps come."
_HIDDEN = ["tome-hidden"]  # by style.css: the page's script clicks it, and gradio 4 leaves out what is not visible


class Accordion:
    """The widgets of one tab.

    Args:
        elem_id: from a name to an id of the page.
        tab: "txt2img" or "img2img", which has no hires pass.
        prompt: the prompt's component; None where the host has not shown it.
        family: of the model that is loaded when it is called; None for one that is not known.
    """

    def __init__(self, elem_id: Callable[[str], str], tab: str, prompt: Any, family: Callable[[], str | None]) -> None:
        self._elem_id, self._tab, self._prompt, self._family = elem_id, tab, prompt, family
        self._widgets: dict[str, Any] = {}
        with InputAccordion(False, label="ToMe", elem_id=elem_id("enabled")) as switch:
            self._widgets["enabled"] = switch
            self._add_speed()
            self._add_binding()
            self._add_knobs("speed", "Every setting of speed")
            self._add_knobs("binding", "Every setting of binding")
            self._add_saving()

    @property
    def components(self) -> list[Any]:
        """The widgets in the order of the fields."""
        return [self._widgets[field.name] for field in FIELDS]

    def _add(self, name: str, **more: Any) -> Any:
        widget = make_widget(BY_NAME[name], self._elem_id(name.replace(".", "_")), **more)
        self._widgets[name] = widget
        return widget

    def _add_speed(self) -> None:
        with FormRow():
            self._add("speed_preset")
            self._add("speed_strength")
            self._add("hires_preset", visible=self._tab == "txt2img")
        self._add_help("speed_preset")

    def _add_binding(self) -> None:
        with FormRow():
            self._add("binding")
            self._add("maps")
        with FormRow():
            self._add("binding_preset")
            self._add("binding_strength")
        self._add_help("binding_preset")
        groups = self._add("groups", placeholder=BY_NAME["groups"].kind.help)
        found = gr.HTML(elem_id=f"tome_{self._tab}_found", elem_classes=["tome-found"])
        button = gr.Button("Read the prompt", elem_id=f"tome_{self._tab}_read", elem_classes=_HIDDEN)
        if self._prompt is not None:
            asked = [self._prompt, groups, self._widgets["enabled"], self._widgets["binding"]]
            button.click(fn=found_groups, inputs=asked, outputs=[found], show_progress=False)

    def _add_help(self, name: str) -> None:
        """Add the help of the chosen preset, which follows the choice."""
        line = gr.HTML(preset_help(name, BY_NAME[name].default), elem_classes=["tome-help"])
        self._widgets[name].change(
            fn=lambda word: preset_help(name, word), inputs=[self._widgets[name]], outputs=[line], show_progress=False
        )

    def _add_knobs(self, system: str, label: str) -> None:
        names = [field.name for field in _KNOBS[system]]
        main = [self._widgets[f"{system}_preset"], self._widgets[f"{system}_strength"]]
        with gr.Accordion(label, open=False, elem_id=self._elem_id(f"{system}_knobs")):
            gr.HTML(f"They count where the preset is “{CUSTOM}”.", elem_classes=["tome-help"])
            copy = gr.Button(f"Copy the preset here, and make it “{CUSTOM}”", elem_id=self._elem_id(f"{system}_copy"))
            for pair in zip(names[::2], [*names[1::2], None], strict=False):
                with FormRow():
                    for name in filter(None, pair):
                        self._add(name)
        knobs = [self._widgets[name] for name in names]
        copy.click(
            fn=lambda *given: copy_preset(system, self._family(), *given),
            inputs=[*main, *knobs],
            outputs=[main[0], *knobs],
            show_progress=False,
        )

    def _add_saving(self) -> None:
        with FormRow():
            name = gr.Textbox(label="Name of my preset", max_lines=1, elem_id=self._elem_id("save_name"))
            replace = gr.Checkbox(False, label="Replace mine of that name", elem_id=self._elem_id("save_replace"))
            name.do_not_save_to_config = replace.do_not_save_to_config = True
        with FormRow():
            save = gr.Button("Save as my preset", elem_id=self._elem_id("save"))
            refresh = gr.Button("Look for new presets", elem_id=self._elem_id("refresh"))
        answer = gr.HTML(elem_classes=["tome-help"])
        presets = [self._widgets[name] for name in _PRESET_WIDGETS]
        inputs = [name, replace, *self.components]
        save.click(fn=lambda *given: save_as_mine(self._family(), *given), inputs=inputs, outputs=[answer, *presets])
        refresh.click(fn=offered_presets, inputs=[], outputs=presets, show_progress=False)


def is_shared() -> bool:
    """Return whether others reach this webui, who must not change files: as the host decides it for extensions."""
    return bool(getattr(shared.cmd_opts, "disable_extension_access", False))


def make_widget(field: Field, elem_id: str, **more: Any) -> Any:
    """Return the widget of a field's kind."""
    given = {"label": field.label, "elem_id": elem_id, "value": shown(field, field.default)} | more
    if field.setting:
        given["info"] = field.kind.help.replace("None", _UNSET.capitalize())
    match field.kind:
        case Switch():
            return gr.Checkbox(**given)
        case PresetWord() as kind:
            return gr.Dropdown(choices=list(kind.choices), **given)
        case Choices():
            some = accepted_choices(_CONFIGS[field.section], field.setting)
            return gr.Dropdown(choices=[shown(field, words) for words in some], **given)
        case Words(choices=choices):
            return gr.Dropdown(choices=list(choices), **given)
        case Number(optional=False, least=least, most=most, step=step):
            return gr.Slider(minimum=least, maximum=most, step=step, **given)
        case Whole(optional=False, least=least, most=most, step=step) if most - least <= _MOST_ON_A_SLIDER:
            return gr.Slider(minimum=least, maximum=most, step=step, **given)
        case Whole(optional=False):
            return gr.Number(precision=0, **given)
        case Text():
            return gr.Textbox(max_lines=1, **given)
        case kind:
            optional = getattr(kind, "optional", False)
            return gr.Textbox(max_lines=1, placeholder=_UNSET if optional else kind.rule, **given)


def preset_help(name: str, word: str) -> str:
    """Return what a preset is for, as HTML."""
    kind = BY_NAME[name].kind
    if word == CUSTOM or not isinstance(kind, PresetWord):
        return escape(_CUSTOM_HELP)
    try:
        return escape(read_preset(kind.system, word).help)
    except ValueError as mistake:
        return escape(str(mistake))


def found_groups(prompt: str, groups: str, is_on: bool, binds: bool) -> str:
    """Return the things in a prompt and what is bound to each, as HTML; nothing where binding is off."""
    if not (is_on and binds) or not prompt.strip():
        return ""
    try:
        parse = phrases(prompt, groups or "")
    except ValueError as mistake:
        return f"ToMe: {escape(str(mistake))}."
    if not parse.groups and _SCHEDULE.search(prompt):
        return f"ToMe binds{_SCHEDULES}"
    if not parse.groups:
        return "ToMe: no thing with words of its own found. Mark one: ~a red cat~, or name it under “Groups”."
    pairs = zip(parse.labels, map(parse.modifiers, parse.groups), strict=True)
    chips = " ".join(f"<span><b>{escape(label)}</b> {escape(words)}</span>" for label, words in pairs)
    return f"ToMe binds {chips}{_SCHEDULES if _SCHEDULE.search(prompt) else ''}"


def copy_preset(system: str, family: str | None, word: str, strength: float, *knobs: Any) -> list[Any]:
    """Return the word for custom, and the knobs of a system as a preset has them; as they are where it is custom."""
    if word == CUSTOM:
        return [word, *knobs]
    named = {"binding": True, f"{system}_preset": word, f"{system}_strength": strength}
    choice = Choice(default_values() | named)
    config = choice.binding() if system == "binding" else choice.speed(family)
    return [CUSTOM, *(shown(field, getattr(config, field.setting)) for field in _KNOBS[system])]


def offered_presets() -> list[Any]:
    """Return what each list of presets offers now."""
    kinds = [BY_NAME[name].kind for name in _PRESET_WIDGETS]
    return [gr.update(choices=list(kind.choices)) for kind in kinds if isinstance(kind, PresetWord)]


def save_as_mine(family: str | None, name: str, replace: bool, *given: Any) -> list[Any]:
    """Save what is set as the user's preset; return what to say, and what each list of presets offers now."""
    try:
        if is_shared():
            raise ValueError("others can reach this webui, see --enable-insecure-extension-access")
        choice = Choice(read_values(given))
        speed = choice.speed(family)
        path = save_preset(name, speed=None if speed.is_neutral else speed, binding=choice.binding(), replace=replace)
        answer = f"Saved as {path}. ComfyUI, other webuis and the command line offer it as well."
    except (ValueError, OSError) as mistake:
        answer = f"Not saved: {mistake}"
    return [escape(answer), *offered_presets()]
