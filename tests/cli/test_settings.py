"""Terminal arguments from the fields of a config."""

from dataclasses import fields

import pytest

from tome_core.cli.settings import new_config
from tome_core.settings import Switch, kind_of, kinds
from tome_core.speed import SpeedConfig

WRITTEN = {
    "ratio": ("0.3", 0.3),
    "levels": ("1+2", (1, 2)),
    "parts": ("attention,cross_attention", ("attention", "cross_attention")),
    "stride": ("4x2", (4, 2)),
    "matching": ("window", "window"),
    "metric": ("latent", "latent"),
    "seed": ("7", 7),
    "start_percent": ("0.1", 0.1),
    "end_percent": (".9", 0.9),
    "cross_attention_ratio": ("0.2", 0.2),
    "mlp_ratio": ("0", 0.0),
    "kv_ratio": ("0.75", 0.75),
    "kv_downsample": ("1", 1),
    "proportional": ("on", True),
    "refresh": ("5", 5),
    "min_tokens": ("256", 256),
}


def test_every_field_can_be_written_as_a_user_would():
    assert set(WRITTEN) == set(kinds(SpeedConfig))
    config = new_config({name: kinds(SpeedConfig)[name].parse(text) for name, (text, _) in WRITTEN.items()})
    assert config == SpeedConfig(**{name: value for name, (_, value) in WRITTEN.items()})


def test_what_is_not_given_keeps_its_default():
    assert new_config({"ratio": 0.3, "levels": None}) == SpeedConfig(ratio=0.3)


@pytest.mark.parametrize(
    "setting", [field for field in fields(SpeedConfig) if field.name != "seed"], ids=lambda f: f.name
)
def test_the_help_of_a_field_is_the_help_of_its_argument(tome, setting, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # no word is broken at a hyphen
    told = " ".join(tome("generate", "--help").out.split())
    kind = kind_of(setting)
    assert f"--{setting.name.replace('_', '-')} {'off|on' if isinstance(kind, Switch) else ''}" in told
    assert f"{kind.help} {kind.bounds} Default {kind.format(setting.default)}." in told
