"""What is on the page: the accordion, the tab, the axes of the plot."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tests.a1111_extension.fake import gradio
from tome_core.presets import preset_words, save_preset, speed_preset
from tome_core.settings import Choices, Number, Switch
from tome_core.speed import SpeedConfig


@pytest.fixture
def page(script):
    script.after_component(gradio.Component("a red book and a yellow vase"), elem_id="txt2img_prompt")
    return script.ui(False)


@pytest.fixture
def button(page):
    def find(label):
        (found,) = [made for made in gradio.Component.made if label in (made.value, made.given.get("value"))]
        return found

    return find


def test_there_is_a_widget_for_each_field_in_the_order_of_the_api(part, page):
    fields = part("fields").FIELDS
    assert [widget.value for widget in page] == [part("fields").shown(field, field.default) for field in fields]
    for field, widget in zip(fields, page, strict=True):
        assert widget.given["label"] == field.label
        kind = type(widget).__name__
        match field.kind:
            case Switch():
                assert kind in ("Checkbox", "InputAccordion")
            case Choices():
                assert kind == "Dropdown" and widget.value in widget.given["choices"]
            case Number(optional=False, least=least, most=most):
                assert (kind, widget.given["minimum"], widget.given["maximum"]) == ("Slider", least, most)


def test_every_combination_that_is_offered_can_be_chosen(part, page):
    widgets = dict(zip((field.name for field in part("fields").FIELDS), page, strict=True))
    for words in widgets["speed.parts"].given["choices"]:
        assert SpeedConfig(parts=part("fields").read_value(part("fields").BY_NAME["speed.parts"], words))


def test_both_tabs_have_the_same_arguments(script, page):
    script.is_img2img = True
    assert [w.given["label"] for w in script.ui(True)] == [w.given["label"] for w in page]


def test_the_groups_of_the_prompt_are_shown_where_binding_is_on(page, button):
    read = button("Read the prompt")
    assert read.fire() == ""
    page[0].value = page[4].value = True
    assert read.fire() == ("ToMe binds <span><b>book</b> red</span> <span><b>vase</b> yellow</span>")


def test_a_mistake_in_the_prompt_is_shown_and_no_markup_of_the_prompts_gets_into_the_page(part):
    found = part("ui").found_groups("a cat", "<i>dog</i>: red", True, True)
    assert found.startswith("ToMe: ") and "&lt;i&gt;dog" in found and "<i>" not in found
    assert part("ui").found_groups("cats", "", True, True).startswith("ToMe: no thing")


def test_a_preset_can_be_copied_into_the_knobs(part, page, button):
    names = [field.name for field in part("fields").SPEED_KNOBS]
    word, *knobs = next(made for made in gradio.Component.made if "Copy the preset" in str(made.value)).fire()
    assert word == "custom"
    read = part("fields").read_value
    values = {
        name.removeprefix("speed."): read(part("fields").BY_NAME[name], x) for name, x in zip(names, knobs, strict=True)
    }
    assert SpeedConfig(**values) == speed_preset("balanced")


def test_what_is_set_is_saved_as_the_users_preset_and_offered_at_once(part, page, button, presets_folder):
    widgets = dict(zip((field.name for field in part("fields").FIELDS), page, strict=True))
    widgets["speed_preset"].value, widgets["speed.ratio"].value = "custom", 0.3
    (name,) = [made for made in gradio.Component.made if made.given.get("label") == "Name of my preset"]
    name.value = "mine"
    said, *lists = button("Save as my preset").fire()
    assert str(presets_folder) in said and all("mine" in chosen["choices"] for chosen in lists[:2])
    assert speed_preset("mine") == SpeedConfig(ratio=0.3)
    name.value = "../mine"
    assert button("Save as my preset").fire()[0].startswith("Not saved: ")
    assert preset_words("speed")[-1] == "mine"


def test_what_a_picture_says_goes_along_to_the_other_tab(script, page):
    names = [reader for _, reader in script.infotext_fields]
    script.is_img2img = True
    script.ui(True)
    assert [reader for _, reader in script.infotext_fields] == names == script.paste_field_names


def test_who_reaches_the_page_from_elsewhere_changes_no_file(part, page, button, webui, presets_folder):
    webui.cmd_opts.disable_extension_access = True
    next(made for made in gradio.Component.made if made.given.get("label") == "Name of my preset").value = "mine"
    assert "Not saved" in button("Save as my preset").fire()[0] and not presets_folder.exists()
    assert part("tab")._delete("mine")[0].startswith("Not deleted: others")
    assert str(presets_folder) not in part("tab").presets_html()


class TestTab:
    def test_it_shows_what_was_said_and_the_presets(self, part, webui, script):
        (make,) = webui.on_tabs
        ((_, title, ident),) = make()
        assert (title, ident) == ("ToMe", "tome")
        webui.run(script, (True, "fast"))
        assert "model calls" in part("tab").report_html()
        assert all(word in part("tab").presets_html() for word in preset_words("speed"))

    def test_a_file_of_the_users_that_is_refused_is_named_with_the_reason(self, part, presets_folder):
        presets_folder.mkdir(parents=True)
        (presets_folder / "bad.json").write_text("{", "utf-8")
        assert "bad" in part("tab").presets_html()

    def test_a_preset_of_the_users_is_deleted_and_none_of_the_suites(self, part, presets_folder):
        save_preset("mine", speed=SpeedConfig(ratio=0.3))
        assert part("tab")._delete("mine")[0] == "Deleted mine."
        assert part("tab")._delete("fast")[0].startswith("Not deleted")
        assert preset_words("speed") == ("off", "gentle", "balanced", "fast")


class TestPlot:
    @pytest.fixture
    def plot(self, script):
        class Option(SimpleNamespace):
            def __init__(self, label, type, apply, confirm=None, choices=None):
                super().__init__(label=label, type=type, apply=apply, confirm=confirm, choices=choices)

        plot = SimpleNamespace(axis_options=[Option("Nothing", str, None)], AxisOption=Option)
        grid = type("Script", (), {"__module__": "xyz_grid.py"})
        sys.modules["modules.scripts"].scripts_data.append(SimpleNamespace(script_class=grid, module=plot))
        return plot

    def test_there_is_an_axis_for_each_field_and_none_twice(self, part, plot):
        part("xyz").add_axes()
        part("xyz").add_axes()
        labels = [option.label for option in plot.axis_options]
        assert len(labels) == len(part("fields").FIELDS) + 1 and len(set(labels)) == len(labels)

    def test_an_axis_acts_on_the_job_it_is_given_alone(self, part, plot, webui, script):
        part("xyz").add_axes()
        by_label = {option.label: option for option in plot.axis_options}
        axis = by_label["[ToMe] Speed preset"]
        assert axis.choices() == [*preset_words("speed"), "custom"]
        first = SimpleNamespace()
        axis.confirm(first, ["off", "fast"])
        axis.apply(first, "fast", [])
        by_label["[ToMe] Speed ratio"].apply(first, 0.25, [])
        p = webui.run(script, (False,), **vars(first))
        assert p.extra_generation_params["ToMe ratio"] == 0.25
        assert webui.run(script, (False,)).extra_generation_params == {}

    def test_a_value_that_no_picture_could_be_made_with_is_refused_before_the_first(self, part, plot):
        part("xyz").add_axes()
        by_label = {option.label: option for option in plot.axis_options}
        with pytest.raises(RuntimeError, match="Speed preset must be one of"):
            by_label["[ToMe] Speed preset"].confirm(None, ["quick"])
        with pytest.raises(ValueError, match="Speed ratio must be"):
            by_label["[ToMe] Speed ratio"].confirm(None, [2.0])


def test_a_second_load_registers_everything_again(webui, load, script):
    webui.on_denoiser.clear()  # as Reload UI does
    again = load(webui)
    assert len(webui.on_denoiser) == 1
    assert any("model calls" in line for line in webui.run(again, (True, "fast")).comments)


def test_a_host_that_lacks_what_the_script_needs_is_told_so_in_one_sentence(webui, load, capsys, monkeypatch):
    from tests.a1111_extension.fake import webui as fake

    monkeypatch.delattr(fake.Script, "process_before_every_sampling")
    with pytest.raises(AttributeError, match="ToMe"):
        load(webui)
    assert capsys.readouterr().out.count("ToMe") == 1
