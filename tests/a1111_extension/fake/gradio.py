"""As much of gradio as the extension shows itself with: components remember what they were made with."""

from __future__ import annotations

from types import ModuleType
from typing import Any


class Component:
    """Any widget, row or tab."""

    made: list[Component] = []  # noqa: RUF012 (of one page; the loader empties it)

    def __init__(self, value: Any = None, **given: Any) -> None:
        self.value, self.given = value, given
        self.events: list[tuple[str, dict[str, Any]]] = []
        Component.made.append(self)

    def __enter__(self) -> Component:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def click(self, **event: Any) -> None:
        """Remember what a click does."""
        self.events.append(("click", event))

    def change(self, **event: Any) -> None:
        """Remember what a change does."""
        self.events.append(("change", event))

    def fire(self) -> Any:
        """Do what the one event does, with the values of its inputs."""
        ((_, event),) = self.events
        return event["fn"](*(widget.value for widget in event["inputs"]))


KINDS = ("Checkbox", "Slider", "Number", "Textbox", "HTML", "Button", "Row", "Column", "Accordion", "Blocks")


class Dropdown(Component):
    """A list, whose first argument is what it offers."""

    def __init__(self, choices: Any = None, value: Any = None, **given: Any) -> None:
        super().__init__(value, choices=choices, **given)


def update(**given: Any) -> dict[str, Any]:
    """Return what a component is changed by."""
    return given


def module() -> ModuleType:
    """Return the module that a host imports as gradio."""
    made = ModuleType("gradio")
    vars(made).update({name: type(name, (Component,), {}) for name in KINDS}, Dropdown=Dropdown, update=update)
    return made
