"""The frame of the report: markup with places to fill, and the script that draws the plots in the page's colours."""

import json
from typing import Any

import plotly.graph_objects as go

MARKUP = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title – cryoloom report</title>
<style>
$style
</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p>$subtitle</p>
$numbers
$alarms
</header>
$sections
<footer>Made by cryoloom $version from the files of this run.</footer>
</main>
$plotly
$script
</body>
</html>
"""

SCRIPT = """
const narrow = window.matchMedia("(max-width: 640px)");
function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const colour = name => style.getPropertyValue(name).trim();
  const themed = {...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    font: {family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft")},
    hoverlabel: {bgcolor: colour("--card"), bordercolor: colour("--line"), font: {color: colour("--ink")}}};
  for (const key of Object.keys(themed).filter(k => /^[xy]axis/.test(k)))
    themed[key] = {...themed[key], gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false,
      automargin: true};
  if (themed.updatemenus) themed.updatemenus = themed.updatemenus.map(menu => ({...menu,
    bgcolor: "#dfe5ea", bordercolor: colour("--line"), font: {color: "#1d2329"}}));  // plotly's active button is white
  return themed;
}
function draw() {
  for (const [id, plot] of Object.entries(plots)) {
    Plotly.react(document.getElementById(id), plot.data, themed(plot.layout),
      {responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: id === "surface" && !narrow.matches});
  }
}
draw();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
"""


class Page:
    """Sections of the page in order, and the plots that the script draws into them."""

    def __init__(self) -> None:
        self.sections: list[str] = []
        self.plots: dict[str, Any] = {}

    def plot(self, name: str, figure: go.Figure) -> str:
        self.plots[name] = json.loads(figure.to_json() or "{}")
        height = int(figure.layout.height or 320)  # pyright: ignore[reportAttributeAccessIssue]
        return f'<div class="plot" id="{name}" style="height:{height}px"></div>'

    def section(self, name: str, title: str, lead: str, body: str) -> None:
        lead = f'<p class="lead">{lead}</p>' if lead else ""
        self.sections.append(f'<section id="{name}"><h2>{title}</h2>{lead}{body}</section>')
