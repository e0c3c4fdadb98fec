"""What is public for ever: the order of arguments, labels, infotext keys; and that pasting restores every widget."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tome_core.binding import BindingConfig
from tome_core.speed import SpeedConfig

ORDER = """enabled speed_preset speed_strength hires_preset binding binding_preset binding_strength groups maps
    speed.ratio speed.levels speed.parts speed.stride speed.matching speed.metric speed.seed speed.start_percent
    speed.end_percent speed.cross_attention_ratio speed.mlp_ratio speed.kv_ratio speed.kv_downsample speed.proportional
    speed.refresh speed.min_tokens binding.noun_weight binding.modifier_weight binding.norm binding.removed
    binding.ends""".split()
KEYS = """ToMe preset|ToMe strength|ToMe hires preset|ToMe binding|ToMe binding strength|ToMe groups|ToMe maps
    |ToMe ratio|ToMe levels|ToMe parts|ToMe stride|ToMe matching|ToMe metric|ToMe seed|ToMe start percent
    |ToMe end percent
    |ToMe cross attention ratio|ToMe mlp ratio|ToMe kv ratio|ToMe kv downsample|ToMe proportional|ToMe refresh
    |ToMe min tokens|ToMe binding noun weight|ToMe binding modifier weight|ToMe binding norm|ToMe binding removed
    |ToMe binding ends"""
CUSTOM = {
    "enabled": True,
    "speed_preset": "custom",
    "hires_preset": "fast",
    "speed_strength": 0.35,
    "binding": True,
    "binding_preset": "custom",
    "binding_strength": 0.5,
    "groups": 'cat: red, "wearing" a hat; dog: black',
    "maps": True,
    "speed.ratio": 0.4,
    "speed.levels": "1,2",
    "speed.parts": "attention + mlp",
    "speed.stride": "2x3",
    "speed.matching": "window",
    "speed.metric": "latent",
    "speed.seed": "7",
    "speed.start_percent": 0.2,
    "speed.end_percent": 0.9,
    "speed.cross_attention_ratio": "",
    "speed.mlp_ratio": "0.25",
    "speed.kv_ratio": "0.75",
    "speed.kv_downsample": 1,
    "speed.proportional": True,
    "speed.refresh": 3,
    "speed.min_tokens": 64,
    "binding.noun_weight": 1.2,
    "binding.modifier_weight": 0.8,
    "binding.norm": "noun",
    "binding.removed": "zero",
    "binding.ends": "off",
}


def as_host_writes(info):
    """Return an infotext's last line by the host's rules: quoted where a comma, colon or newline is in a value."""
    assert all(isinstance(value, str | int | float) for value in info.values())
    quoted = {k: json.dumps(str(v), ensure_ascii=False) if re.search(r"[,:\n]", str(v)) else v for k, v in info.items()}
    return ", ".join(k if k == v else f"{k}: {v}" for k, v in quoted.items())


def as_host_reads(line):
    """Return what the host's own pattern finds in a line; a size is taken apart."""
    found = {}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line):
        if re.match(r"^(\d+)x(\d+)$", value):
            key, value = f"{key}-1", "a size"
        found[key] = json.loads(value) if value.startswith('"') else value
    return found


@pytest.fixture
def fields(part):
    return part("fields")


def args_of(fields, values):
    return tuple(values.get(field.name, fields.shown(field, field.default)) for field in fields.FIELDS)


def read_all(part, line):
    info = as_host_reads(line)
    return {field.name: part("infotext").reader(field)(info) for field in part("fields").FIELDS}


def test_order_and_keys_are_those_that_users_rely_on(fields):
    assert [field.name for field in fields.FIELDS] == ORDER
    keys = [" ".join(key.split()) for key in KEYS.split("|")]
    assert [field.key for field in fields.FIELDS if field.key] == keys
    assert all(re.fullmatch(r"\w[\w \-/]+", key) for key in keys)


def test_no_setting_is_without_a_widget(fields):
    assert len(fields.FIELDS) == len(fields.BY_NAME) == len(fields.MAIN + fields.SPEED_KNOBS + fields.BINDING_KNOBS)


def test_the_page_of_the_docs_has_the_arguments_in_their_order(fields):
    page = Path(__file__).parents[2].joinpath("docs", "webui.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*?) \| `(.*?)` \|$", page, re.MULTILINE)
    names = [x.label if x.section == "main" else f"{x.section}: `{x.setting}`" for x in fields.FIELDS]
    defaults = [json.dumps(fields.shown(x, x.default)) for x in fields.FIELDS]
    assert rows == [(str(number), *row) for number, row in enumerate(zip(names, defaults, strict=True), 1)]


def test_every_label_is_one_key_of_the_hosts_settings(fields):
    labels = [field.label for field in fields.FIELDS]
    assert len(set(labels)) == len(labels)


def test_every_knob_is_a_setting_with_its_default(fields):
    for knobs, config in ((fields.SPEED_KNOBS, SpeedConfig()), (fields.BINDING_KNOBS, BindingConfig())):
        assert {knob.setting: knob.default for knob in knobs}.items() <= vars(config).items()


def test_whole_numbers_may_come_as_the_page_sends_them(fields):
    field = fields.BY_NAME["speed.min_tokens"]
    assert fields.read_value(field, 64.0) == 64
    with pytest.raises(ValueError, match="Speed min tokens must be"):
        fields.read_value(field, 64.5)


def test_untouched_widgets_are_off(fields, part):
    given = args_of(fields, {})
    assert part("choice").read_choice(given, {}) is None
    assert part("choice").read_choice((), {}) is None


def test_pasting_restores_every_widget_of_a_job_set_by_hand(fields, part):
    choice = part("choice").read_choice(args_of(fields, CUSTOM), {})
    line = as_host_writes(part("infotext").write(choice, has_hires=True))
    assert read_all(part, line) == CUSTOM


@pytest.mark.parametrize("name", ORDER[9:])
def test_a_knob_alone_comes_back(fields, part, name):
    base = {"enabled": True, "speed_preset": "custom", "binding": True, "binding_preset": "custom"}
    values = {field.name: fields.shown(field, field.default) for field in fields.FIELDS} | base | {name: CUSTOM[name]}
    choice = part("choice").read_choice(args_of(fields, values), {})
    line = as_host_writes(part("infotext").write(choice, has_hires=False))
    assert read_all(part, line) == values


def test_a_preset_is_written_by_its_word_and_what_has_no_effect_is_not_written(fields, part):
    given = args_of(fields, CUSTOM | {"speed_preset": "fast", "hires_preset": "same", "binding": False})
    info = part("infotext").write(part("choice").read_choice(given, {}), has_hires=False)
    assert info == {"ToMe preset": "fast", "ToMe strength": 0.35}


def test_a_picture_without_tome_switches_it_off_again(part, fields):
    found = read_all(part, "Steps: 20, Sampler: Euler, Seed: 1")
    assert found == {field.name: fields.shown(field, field.default) for field in fields.FIELDS}
    assert found["enabled"] is False and found["binding"] is False


def test_a_pasted_value_that_breaks_its_rule_is_left_at_its_default(part):
    found = read_all(part, "ToMe preset: custom, ToMe ratio: lots, ToMe levels: one")
    assert (found["speed.ratio"], found["speed.levels"], found["enabled"]) == (0.5, "1", True)


def test_the_api_may_give_true_values_or_text(fields, part):
    read = part("choice").read_choice
    texts = args_of(fields, {key: str(value) for key, value in CUSTOM.items()})
    lists = args_of(
        fields, CUSTOM | {"speed.levels": [1, 2], "speed.parts": ["attention", "mlp"], "speed.stride": [2, 3]}
    )
    expected = read(args_of(fields, CUSTOM), {})
    for given in (texts, lists):
        assert read(given, {}).speed() == expected.speed()
        assert read(given, {}).binding() == expected.binding()


class TestAxes:
    def test_an_axis_switches_on_what_it_is_about(self, part):
        choice = part("choice").read_choice((False,), {"binding_strength": "0.5"})
        assert choice.binding().strength == 0.5 and choice.speed().is_neutral
        assert part("choice").read_choice((False,), {"groups": "cat: red"}).binding() is not None
        choice = part("choice").read_choice((False, "off", 1, "fast", True), {"speed.ratio": 0.25})
        assert choice.binding() is None and choice.speed().ratio == 0.25
        assert part("choice").read_choice((True,), {"enabled": "False"}) is None

    def test_the_axis_of_a_knob_stands_above_the_preset(self, part):
        choice = part("choice").read_choice((True, "fast"), {"speed.ratio": 0.25})
        assert choice.speed() == SpeedConfig(ratio=0.25, levels=(1, 2), parts="block", start_percent=0.3, min_tokens=64)

    @pytest.mark.parametrize("hires", ["same", "gentle", "custom"])
    @pytest.mark.parametrize("strength", [1.0, 0.5])
    def test_its_picture_comes_back_without_the_axis(self, part, fields, hires, strength):
        choice = part("choice").read_choice((True, "fast", strength, hires), {"speed.ratio": 0.25})
        line = as_host_writes(part("infotext").write(choice, has_hires=True))
        again = part("choice").read_choice(args_of(fields, read_all(part, line)), {})
        assert again.speed() == choice.speed() and again.speed(None, "hires") == choice.speed(None, "hires")
