"""The tab: what the last jobs did, and the user's presets."""

from collections import deque
from html import escape
from typing import Any, Final

import gradio as gr

from tome_core.presets import delete_preset, preset_words, user_folder, user_presets

from .ui import is_shared, preset_help

REPORTS: Final = deque[tuple[str, ...]](maxlen=20)
"""What was said of the last jobs, for people to read. Nothing is decided by it."""

_NO_REPORT: Final = "Nothing yet. Open ToMe below the seed, which ticks it, and make a picture."


def make_tab() -> list[tuple[Any, str, str]]:
    """Return the tab as the host's `on_ui_tabs` callback."""
    with gr.Blocks(analytics_enabled=False) as tab:
        with gr.Row():
            with gr.Column():
                report = gr.HTML(report_html(), elem_id="tome_report")
                show = gr.Button("Show what the last pictures were made with", elem_id="tome_show_report")
            with gr.Column():
                presets = gr.HTML(presets_html(), elem_id="tome_presets")
                with gr.Row():
                    name = gr.Dropdown(_own_words(), label="My preset", elem_id="tome_delete_name")
                    delete = gr.Button("Delete", elem_id="tome_delete")
                    refresh = gr.Button("Look again", elem_id="tome_refresh")
                answer = gr.HTML(elem_classes=["tome-help"])
        show.click(fn=report_html, inputs=[], outputs=[report])
        refresh.click(fn=_look_again, inputs=[], outputs=[presets, name])
        delete.click(fn=_delete, inputs=[name], outputs=[answer, presets, name])
    return [(tab, "ToMe", "tome")]


def report_html() -> str:
    """Return what was said of the last jobs, the newest first, as HTML."""
    jobs = ["".join(f"{escape(sentence)}<br>" for sentence in said) for said in list(REPORTS)[::-1] if said]
    return f"<h3>The last pictures</h3>{'<hr>'.join(jobs) or _NO_REPORT}"


def presets_html() -> str:
    """Return all presets with what they are for, and why a file of the user's is refused, as HTML."""
    parts = []
    for system in ("speed", "binding"):
        rows = ((word, preset_help(f"{system}_preset", word)) for word in preset_words(system))
        cells = "".join(f"<tr><td><b>{escape(word)}</b></td><td>{text}</td></tr>" for word, text in rows)
        parts.append(f"<h3>Presets of {system}</h3><table>{cells}</table>")
    refused = [f"<li>{escape(found.refused)}</li>" for found in user_presets() if found.refused]
    if not is_shared():
        parts.append(f"<p>Mine are in {escape(str(user_folder()))}.</p>")
    if refused:
        parts.append(f"<p>Refused:</p><ul>{''.join(refused)}</ul>")
    return "".join(parts)


def _own_words() -> list[str]:
    return [found.word for found in user_presets()]


def _look_again() -> list[Any]:
    return [presets_html(), gr.update(choices=_own_words())]


def _delete(word: str | None) -> list[Any]:
    if not word:
        return ["Choose one of mine first.", *_look_again()]
    try:
        if is_shared():
            raise ValueError("others can reach this webui, see --enable-insecure-extension-access")
        delete_preset(word)
        answer = f"Deleted {word}."
    except (ValueError, OSError) as problem:
        answer = f"Not deleted: {problem}"
    return [escape(answer), presets_html(), gr.update(choices=_own_words(), value=None)]
