"""A self-contained HTML page: `page` has its sections and tables, `plots` its figures, `scales` their axes.

A browser fetches nothing to show one, and needs no script. Values go in and are escaped; page.css says how
all of it looks.
"""

from omr.reports.pages.page import Bar, Command, Link, Section, render
from omr.reports.pages.plots import Figure, Rule, Series, error_bars, histogram, line_plot

__all__ = [
    "Bar",
    "Command",
    "Figure",
    "Link",
    "Rule",
    "Section",
    "Series",
    "error_bars",
    "histogram",
    "line_plot",
    "render",
]
