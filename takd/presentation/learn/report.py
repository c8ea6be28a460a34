"""What somebody guessed in the lesson and what was measured, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment
from markupsafe import Markup

from takd.presentation import charts
from takd.presentation.exports import chart_bytes
from takd.presentation.learn.lesson import wrong_labels
from takd.presentation.study import Study, assistant_rows

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TAKD lesson</title>
<style>
body { font-family: sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; } td, th { border: 1px solid #c9cfd9; padding: .4rem .6rem; text-align: left; }
svg { max-width: 100%; height: auto; }
</style></head><body>
<h1>Does a bigger teacher help, and does an assistant?</h1>
<p>{{ headline }}</p><p>{{ origin }}</p>{% if labels %}<p>{{ labels }}</p>{% endif %}
<h2>Guessed and measured</h2>
<table><tr><th>step</th><th>guessed</th><th>measured</th><th>in words</th></tr>
{% for row in rows %}<tr>{% for value in row.values() %}<td>{{ value }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% for figure in figures %}<figure>{{ figure }}</figure>
{% endfor %}</body></html>
"""


def report(shown: Study, rows: Sequence[dict[str, str]], origin: str) -> bytes:
    """The report; figures are drawn into it as SVG. Texts are escaped."""
    dots, summary = assistant_rows(shown)
    pictures = [chart_bytes(charts.gap_chart(shown.gap, shown.gap_seeds), "svg", "Capacity gap", origin)]
    if len(summary):
        pictures.append(chart_bytes(charts.assistants_chart(dots, summary), "svg", "Gain of each assistant", origin))
    figures = [Markup(picture.decode()) for picture in pictures]  # made here, by vl-convert, which escapes text
    page = Environment(autoescape=True).from_string(_PAGE)
    labels = wrong_labels(shown)
    return page.render(headline=shown.headline, origin=origin, labels=labels, rows=rows, figures=figures).encode()
